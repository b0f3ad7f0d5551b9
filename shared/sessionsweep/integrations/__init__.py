"""Web frameworks: each module binds sessions to one framework's requests; the core imports none of them."""
