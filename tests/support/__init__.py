"""Classes that tests share; `tests/` is on the path, so they are imported as `support.<module>`."""
