"""How the sites' parameters become the next global model: one rule to a file."""
