"""What happens, told to whoever watches: events to logs and hooks, and what a process measures of itself."""
