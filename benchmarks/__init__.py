"""How fast minicnn is, measured beside what its users would take instead. See README.md in this folder.

Nothing here is imported by the library, and nothing here asserts a time: benchmarks print.
"""
