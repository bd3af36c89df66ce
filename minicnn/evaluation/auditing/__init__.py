"""Whether a collection is fit to learn from."""
