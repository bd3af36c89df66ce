"""How good a network is, how sure that is, and what it looks at."""
