"""The API reference: `python -m docs` builds it from the docstrings."""
