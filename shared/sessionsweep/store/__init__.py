"""The store: what the operations are, and the two stores that carry them out."""
