"""Addresses for Django's tests: one thing each."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import alogin, login, logout
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt

from sessionsweep.integrations.paths import no_activity


def untouched(request: HttpRequest) -> HttpResponse:
    return HttpResponse("nothing read")


def read(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"data": dict(request.session.items()), "id": request.session.id})


def write(request: HttpRequest, key: str, value: str) -> HttpResponse:
    request.session[key] = value
    return HttpResponse("ok", headers={"Cache-Control": "public, max-age=600"})


def count(request: HttpRequest) -> JsonResponse:
    request.session["count"] = request.session.get("count", 0) + 1
    request.session.save()  # it has an id from here on
    return JsonResponse({"count": request.session["count"], "id": request.session.id})


def clear(request: HttpRequest) -> HttpResponse:
    request.session.clear()
    return HttpResponse("ok")


def flush(request: HttpRequest) -> HttpResponse:
    request.session.flush()
    return HttpResponse("ok")


def fail(request: HttpRequest) -> HttpResponse:
    request.session["failed"] = True
    return HttpResponse("no", status=500)


def expiry(request: HttpRequest, seconds: int) -> HttpResponse:
    request.session.set_expiry(seconds)
    return HttpResponse("ok")


def end_elsewhere(request: HttpRequest) -> HttpResponse:
    request.session["late"] = 1
    type(request.session)(request.session.session_key).delete()
    return HttpResponse("ok")


def log_in(request: HttpRequest, name: str) -> HttpResponse:
    login(request, User.objects.get(username=name), backend="django.contrib.auth.backends.ModelBackend")
    return HttpResponse("ok")


async def alog_in(request: HttpRequest, name: str) -> HttpResponse:
    user = await User.objects.aget(username=name)
    await alogin(request, user, backend="django.contrib.auth.backends.ModelBackend")
    return HttpResponse("ok")


def log_out(request: HttpRequest) -> HttpResponse:
    logout(request)
    return HttpResponse("ok")


def upload(request: HttpRequest) -> JsonResponse:
    with request.session.resources.new_file(purpose="photo", suffix=".txt") as f:
        f.copy_from(request.FILES["photo"])
    if "fail" in request.GET:
        raise ZeroDivisionError
    return JsonResponse({"id": f.id, "size": f.size})


async def aupload(request: HttpRequest) -> JsonResponse:
    async with request.session.resources.anew_file(purpose="photo", suffix=".txt") as f:
        await f.copy_from(request.FILES["photo"])
    return JsonResponse({"id": f.id, "size": f.size})


def files(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"files": [one.id for one in request.session.resources.list()]})


def file(request: HttpRequest, rid: str) -> HttpResponse:
    if request.method == "DELETE":
        request.session.resources.delete(rid)
        return HttpResponse("ok")
    with request.session.resources.open_file(rid) as f:
        return HttpResponse(f.read())


async def aread(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"data": dict(await request.session.aitems())})


async def awrite(request: HttpRequest, key: str, value: str) -> HttpResponse:
    await request.session.aset(key, value)
    return HttpResponse("ok")


@no_activity
def poll(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"left": request.session.time_left()})


def client(request: HttpRequest) -> JsonResponse:
    owner = request.session.resources.require()
    return JsonResponse({"ip": owner.ip, "agent": owner.user_agent})


def stream(request: HttpRequest) -> StreamingHttpResponse:
    request.session["streamed"] = True
    return StreamingHttpResponse(iter([b"a", b"b"]))


def who(request: HttpRequest) -> JsonResponse:
    answer: dict[str, Any] = {"user": request.user.username, "authenticated": request.user.is_authenticated}
    return JsonResponse(answer)


urlpatterns = [
    path("untouched", untouched),
    path("read", read),
    path("write/<key>/<value>", write),
    path("count", count),
    path("clear", clear),
    path("flush", flush),
    path("fail", fail),
    path("expiry/<int:seconds>", expiry),
    path("end-elsewhere", end_elsewhere),
    path("login/<name>", log_in),
    path("alogin/<name>", alog_in),
    path("logout", log_out),
    path("upload", csrf_exempt(upload)),
    path("aupload", csrf_exempt(aupload)),
    path("files", files),
    path("file/<rid>", csrf_exempt(file)),
    path("aread", aread),
    path("awrite/<key>/<value>", awrite),
    path("poll", poll),
    path("polling/all", read),
    path("client", client),
    path("stream", stream),
    path("who", who),
    path("sessionsweep/", include("sessionsweep.integrations.django.urls")),
]
