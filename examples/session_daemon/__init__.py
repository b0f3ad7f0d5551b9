"""A WebSocket daemon without a web framework: every message keeps its session alive, silence ends it."""
