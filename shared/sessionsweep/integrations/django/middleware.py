"""Django's session middleware, with what an engine alone can't know: the client, what is activity, our errors."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib.sessions import middleware as djangos
from django.http import HttpRequest, HttpResponseBase, JsonResponse
from django.utils.cache import patch_cache_control, patch_vary_headers

from sessionsweep.errors import SessionSweepError
from sessionsweep.integrations import timeleft
from sessionsweep.integrations.answers import answer_to
from sessionsweep.integrations.client import request_client
from sessionsweep.integrations.cookies import cookie_value
from sessionsweep.integrations.django.configured import current, no_activity_paths, time_left_header
from sessionsweep.integrations.paths import is_no_activity

log = logging.getLogger(__name__)


class SessionMiddleware(djangos.SessionMiddleware):  # type: ignore[misc]
    """Stands in MIDDLEWARE where Django's own would, in its place."""

    def process_request(self, request: HttpRequest) -> None:
        """The request's session, and who sends the request."""
        meta, name = request.META, settings.SESSION_COOKIE_NAME
        # Django strips any blank of Unicode before a name, and takes the last of two cookies. Where the field is
        # empty, COOKIES holds what a test has put there.
        raw = meta.get("HTTP_COOKIE")
        request.session = self.SessionStore(cookie_value(raw, name) if raw else request.COOKIES.get(name))
        request.session.client = request_client(
            meta.get("REMOTE_ADDR"),
            meta.get("HTTP_X_FORWARDED_FOR", ""),
            meta.get("HTTP_USER_AGENT"),
            current().sessions.settings.trusted_proxies,
        )

    def process_view(self, request: HttpRequest, view: Callable[..., Any], args: object, kwargs: object) -> None:
        """Notes whether this request counts as activity where every request does."""
        passive = request.path_info in no_activity_paths() or is_no_activity(view)
        request.session.passive = passive or is_no_activity(getattr(view, "view_class", None))

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponseBase | None:
        """What a client is told of our errors; None: Django's own handling."""
        return _answer(exception) if isinstance(exception, SessionSweepError) else None

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        """Saves as Django does, and keeps what belongs to one client out of shared caches."""
        session = getattr(request, "session", None)
        try:
            if settings.SESSION_SAVE_EVERY_REQUEST and session is not None and session.passive and not session.modified:
                if session.accessed:
                    patch_vary_headers(response, ("Cookie",))
            else:
                response = super().process_response(request, response)
            if (header := time_left_header()) and session is not None and (left := session.time_left()) is not None:
                response.headers[header] = timeleft.header_value(left)
                patch_vary_headers(response, ("Cookie",))
        except SessionSweepError as error:
            answer = _answer(error)
            if answer is None:
                raise
            response = answer
        if settings.SESSION_COOKIE_NAME in response.cookies:
            # Over whatever the view said: a cache that kept this would hand one client's token to the next (Flask's
            # CVE-2023-30861). `Vary` is not enough: some caches ignore it, and a first request has no cookie.
            response.headers["Cache-Control"] = "private, no-store"
        elif session is not None and session.accessed and "Cache-Control" not in response.headers:
            patch_cache_control(response, private=True)
        return response


def _answer(error: SessionSweepError) -> JsonResponse | None:
    found = answer_to(error)
    if found is None:
        return None
    if found.status >= 500:
        log.error("%s: %s", type(error).__name__, error)
    return JsonResponse(dict(found.body), status=found.status, headers=dict(found.headers))
