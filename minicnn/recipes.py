"""Recipes: how COV-19Net is trained. The paper's, and one that holds up better on sources it has never seen."""

from dataclasses import dataclass

from minicnn.data.images import Preprocessing
from minicnn.networks import cov19net
from minicnn.optimizers import Adam

__all__ = ["Recipe", "RECIPES"]


@dataclass(frozen=True)
class Recipe:
    """What a run trains, and on what.

    Parameters
    ----------
    preprocessing : Preprocessing; how pictures become input
    augmentation : str or None; "honest", "paper" or "none", where a run asks for no other; None: that of the protocol
    """

    preprocessing: Preprocessing = Preprocessing()
    augmentation: str | None = None

    def model(self, seed, classes, learning_rate=1e-3):
        """Return COV-19Net for these classes, compiled."""
        model = cov19net(seed, classes=classes)
        model.compile(Adam(learning_rate),
                      loss="binary_crossentropy" if len(classes) == 2 else "categorical_crossentropy")
        return model

    def callbacks(self):
        """Return the callbacks that training needs, new ones."""
        return []


RECIPES = {"paper": Recipe()}
