"""sessionsweep: sessions, and everything a session leaves behind."""
