"""The engine: passes over the store and this node's volumes, plain Python, each `run_once(now) -> result`."""
