"""Convert: a FastAPI example of sessionsweep, whose background jobs keep the session alive that they work for."""
