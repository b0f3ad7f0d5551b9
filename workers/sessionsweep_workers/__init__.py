"""The Celery side of sessionsweep."""
