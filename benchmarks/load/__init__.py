"""Load and soak: a whole deployment under open-loop traffic and seeded faults, judged from the outside."""
