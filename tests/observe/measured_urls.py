"""The pages of the Django app in `measured_apps`."""

from __future__ import annotations

import os

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from sessionsweep.observe.prometheus import exposed


def file(request: HttpRequest) -> JsonResponse:
    """Writes one."""
    with request.session.resources.new_file(purpose="test") as f:
        f.write(b"x" * 10)
    return JsonResponse({"pid": os.getpid()})


def metrics(request: HttpRequest) -> HttpResponse:
    """Of all processes."""
    return HttpResponse(generate_latest(exposed()), content_type=CONTENT_TYPE_LATEST)


urlpatterns = [path("file", file), path("metrics", metrics)]
