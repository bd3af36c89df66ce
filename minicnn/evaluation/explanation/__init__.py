"""Where in a radiograph an answer comes from."""
