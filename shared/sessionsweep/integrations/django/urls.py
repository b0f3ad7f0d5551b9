"""A session's time left, its renewal, the user's other sessions: `path("sessionsweep/", include(<this>))`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseForbidden, JsonResponse
from django.urls import path
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_POST, require_safe

from sessionsweep.integrations import timeleft
from sessionsweep.integrations.paths import no_activity

app_name = "sessionsweep"


def time_left(request: HttpRequest) -> JsonResponse:
    """Seconds until the session is over, null without one; asking renews nothing."""
    return JsonResponse(timeleft.body(request.session.time_left()))


def extend(request: HttpRequest) -> HttpResponse:
    """Renews the session, as any save does, and answers its time left. Makes none; other sites are refused."""
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        return HttpResponseForbidden()
    if request.session.time_left() is not None:
        request.session.save()
        request.session.modified = True  # the cookie gets its new age too
    return JsonResponse(timeleft.body(request.session.time_left()))


def script(request: HttpRequest) -> HttpResponse:
    """The script that warns before the end."""
    return HttpResponse(timeleft.script(), content_type=timeleft.SCRIPT_TYPE)


def others(request: HttpRequest) -> JsonResponse:
    """The user's other sessions, by public id."""
    found = request.session.others() if _is_logged_in(request) else []
    return JsonResponse({"sessions": [asdict(one) for one in found]})


def end_others(request: HttpRequest) -> JsonResponse:
    """Ends all of them; how many."""
    return JsonResponse({"ended": request.session.log_out_others() if _is_logged_in(request) else 0})


def end_other(request: HttpRequest, session_id: str) -> HttpResponse:
    """Ends one of them; 404 where it is none of them."""
    if not (_is_logged_in(request) and request.session.end_other(session_id)):
        raise Http404
    return HttpResponse(status=204)


def _is_logged_in(request: HttpRequest) -> bool:
    """As `login_required` sees it: a session from before the user's new password is nobody's, and is ended here."""
    user = getattr(request, "user", None)
    return user is not None and bool(user.is_authenticated)


_PREFIX = timeleft.TIME_LEFT_PATH.rpartition("/")[0] + "/"


def _at(full: str, view: Any, name: str) -> Any:
    return path(full.removeprefix(_PREFIX), view, name=name)


urlpatterns = [
    _at(timeleft.TIME_LEFT_PATH, no_activity(never_cache(require_safe(time_left))), "time-left"),
    # exempt: the script has no token to send, and this changes nothing but the time
    _at(timeleft.EXTEND_PATH, csrf_exempt(never_cache(require_POST(extend))), "extend"),
    _at(timeleft.SCRIPT_PATH, no_activity(require_safe(script)), "warning-script"),
    path("others", no_activity(never_cache(require_safe(others))), name="others"),
    path("others/end", csrf_protect(never_cache(require_POST(end_others))), name="end-others"),
    path("others/<session_id>/end", csrf_protect(never_cache(require_POST(end_other))), name="end-other"),
]
