"""Recipes: how COV-19Net is trained. The paper's, and one that holds up better on sources it has never seen."""

from dataclasses import dataclass

from minicnn.callbacks import WeightAverage
from minicnn.data.preprocessing import Preprocessing
from minicnn.networks import cov19net
from minicnn.optimizers import Adam, AdamW

__all__ = ["Recipe", "RECIPES"]


@dataclass(frozen=True)
class Recipe:
    """What a run trains, and on what.

    Parameters
    ----------
    preprocessing : Preprocessing; how pictures become input
    augmentation : str or None; the name of one of Augmentation's, where a run asks for no other; None: that of the
        protocol
    dropout : float in [0, 1); rate before each dense layer (networks/cov19.py)
    weight_decay : float in [0, 1); decoupled (AdamW)
    smoothing : float in [0, 1); of labels, in training alone (losses.py)
    average : float in [0, 1); decay of the mean of the weights after each epoch (callbacks.WeightAverage). Where it is
        above 0, that mean is what the honest protocol judges, instead of the epoch with the lowest validation loss
    """

    preprocessing: Preprocessing = Preprocessing()
    augmentation: str | None = None
    dropout: float = 0.0
    weight_decay: float = 0.0
    smoothing: float = 0.0
    average: float = 0.0

    def model(self, seed, classes, learning_rate=1e-3):
        """Return COV-19Net for these classes, compiled."""
        model = cov19net(seed, classes=classes, input_shape=self.preprocessing.shape, dropout=self.dropout)
        optimizer = AdamW(learning_rate, self.weight_decay) if self.weight_decay else Adam(learning_rate)
        loss = "binary_crossentropy" if len(classes) == 2 else "categorical_crossentropy"
        model.compile(optimizer, loss=f"{loss}(smoothing={self.smoothing})" if self.smoothing else loss)
        return model

    def callbacks(self):
        """Return the callbacks that training needs, new ones."""
        return [WeightAverage(self.average)] if self.average else []


# "robust" is what did best on sources that it had never seen, out of all that is listed in benchmarks/ROBUST.md, with
# the figures, and with those of both on the external set.
RECIPES = {"paper": Recipe(), "robust": Recipe(dropout=0.5, smoothing=0.2, average=0.8)}
