"""Synthetic chest radiographs, made in memory from a seed: a collection of them, and one at a time."""
