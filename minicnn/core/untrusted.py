"""What comes from strangers, in rows and files: all that is wrong with it, said at once."""

from minicnn.errors import ManifestError

__all__ = ["Problems"]


class Problems:
    """Collect what is wrong with many rows or files, to say it all at once: the first 20 sentences, and how many.

    >>> problems = Problems("index.csv")
    >>> problems.add("line 3: the label is empty.")
    >>> problems.raise_any()
    Traceback (most recent call last):
    minicnn.errors.ManifestError: index.csv: 1 problem
      line 3: the label is empty.
    """

    def __init__(self, where):
        self.where, self.count, self.first = where, 0, []

    def add(self, sentence):
        """Count a problem; `sentence` is a str, or a function that returns one where making it takes time.

        What comes from a stranger may be long: a sentence ends after 1,000 characters.
        """
        self.count += 1
        if len(self.first) < 20:
            sentence = sentence if isinstance(sentence, str) else sentence()
            self.first.append(sentence if len(sentence) <= 1000 else sentence[:1000] + " ...")

    def raise_any(self):
        """Raise a ManifestError if there is any problem."""
        if self.count:
            more = [f"... and {self.count - len(self.first):,} more"] if self.count > len(self.first) else []
            heading = f"{self.where}: {self.count:,} problem{'s' if self.count > 1 else ''}"
            raise ManifestError("\n  ".join([heading, *self.first, *more]))
