"""Addresses of the photo drop."""

from __future__ import annotations

from django.core.wsgi import get_wsgi_application
from django.urls import include, path

from django_photos import views

urlpatterns = [
    path("", views.page),
    path("photos", views.drop),
    path("photos/<rid>", views.photo),
    path("photos/<rid>/delete", views.delete),
    path("leave", views.leave),
    path("healthz", views.healthz),
    path("style.css", views.style),
    path("sessionsweep/", include("sessionsweep.integrations.django.urls")),
]

application = get_wsgi_application()
