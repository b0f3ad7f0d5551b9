"""What `sessionsweep up` runs on one machine: an embedded server, a supervisor and the programs under it.

Nothing in this package imports Celery: tests start the embedded server alone.
"""
