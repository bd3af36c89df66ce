"""What training measured."""

__all__ = ["History", "in_words"]


class History:
    """What training measured, epoch by epoch.

    Attributes
    ----------
    rows : list of dict, one an epoch: epoch, loss, accuracy, val_loss, val_accuracy, val_auc (where measured)

    >>> history = History([{"epoch": 1, "loss": 0.7}, {"epoch": 2, "loss": 0.5}])
    >>> history.epochs, history.metrics
    ([1, 2], {'loss': [0.7, 0.5]})
    """

    def __init__(self, rows):
        self.rows = rows

    @property
    def epochs(self):
        """The numbers of the epochs, from 1."""
        return [row["epoch"] for row in self.rows]

    @property
    def epoch(self):
        """The numbers of the epochs from 0, as in Keras."""
        return [number - 1 for number in self.epochs]

    @property
    def history(self):
        """`metrics`, as Keras calls them."""
        return self.metrics

    @property
    def metrics(self):
        """{name: [value of each epoch]}."""
        names = list(dict.fromkeys(name for row in self.rows for name in row if name != "epoch"))
        return {name: [row.get(name) for row in self.rows] for name in names}

    def plot(self, path):
        """Draw loss and accuracy by epoch (Figs 7 and 8 of the paper) into the image file `path`."""
        from minicnn.plotting.run import curves
        return curves(self.rows, path)

    def __repr__(self):
        return "History(\n" + "".join(f"  epoch {row['epoch']}  {in_words(row)}\n" for row in self.rows) + ")"


def in_words(row):
    """Return an epoch's metrics as a line.

    >>> in_words({"epoch": 1, "loss": 0.25, "learning_rate": 2e-5})
    'loss 0.2500  learning_rate 2e-05'
    """
    return "  ".join(f"{name} {'undefined' if value is None else f'{value:.3g}' if name == 'learning_rate' else f'{value:.4f}'}"
                     for name, value in row.items() if name != "epoch")
