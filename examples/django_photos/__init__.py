"""Photo drop: a small Django project on sessionsweep."""
