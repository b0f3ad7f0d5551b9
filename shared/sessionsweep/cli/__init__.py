"""The command line `sessionsweep`; the extra `cli` installs what it needs."""
