"""Voice notes: the example app of sessionsweep, recordings that live as long as their session."""
