"""The goals of docs/performance.md as measurements: each is a ratio, both sides timed in turn within one run."""
