"""Recipes: how a network is trained. The paper's, and one that generalizes better to held-out sources."""

from dataclasses import dataclass

from minicnn.callbacks import WeightAverage
from minicnn.data.preprocessing import Preprocessing
from minicnn.networks import NETWORKS
from minicnn.optimizers import Adam
from minicnn.optimizers.adaptive import AdamW

__all__ = ["Recipe", "RECIPES"]


@dataclass(frozen=True)
class Recipe:
    """Regularization and preprocessing of a run.

    Parameters
    ----------
    preprocessing : Preprocessing; how images become input
    augmentation : str or None; "honest", "paper" or "none", unless the config of the run names another; None: "honest"
    dropout : float in [0, 1); rate before each dense layer of the head; 0: what the network has by itself
    weight_decay : float in [0, 1); decoupled (AdamW)
    smoothing : float in [0, 1); of labels, in training alone (losses.py)
    average : float in [0, 1); decay of the average of the weights after each epoch (callbacks.WeightAverage). If it is
        above 0, the honest protocol evaluates this average, not the epoch with the lowest validation loss
    """

    preprocessing: Preprocessing = Preprocessing()
    augmentation: str | None = None
    dropout: float = 0.0
    weight_decay: float = 0.0
    smoothing: float = 0.0
    average: float = 0.0

    def model(self, seed, classes, learning_rate=1e-3, network="cov19net", **options):
        """Return a network of NETWORKS for these classes, compiled; `options` are arguments of it.

        The network that ends in capsules has no dense layers, so no dropout, and is trained with the margin loss.
        """
        options = {"input_shape": self.preprocessing.shape, "classes": classes, "seed": seed} | options
        if self.dropout and network != "covid_caps":
            options["dropout"] = self.dropout
        model = NETWORKS[network](**options)
        optimizer = AdamW(learning_rate, self.weight_decay) if self.weight_decay else Adam(learning_rate)
        loss = "margin" if network == "covid_caps" else "binary_crossentropy" if len(classes) == 2 else "categorical_crossentropy"
        model.compile(optimizer, loss=f"{loss}(smoothing={self.smoothing})" if self.smoothing else loss)
        return model

    def callbacks(self):
        """Return new callbacks for training."""
        return [WeightAverage(self.average)] if self.average else []


# "robust" did best for COV-19Net in leave-one-source-out validation of all candidates in benchmarks/ROBUST.md, which has the
# metrics, also on the external set. Of other networks EfficientNet-lite0 does better there, with the same recipe: with weights for
# ImageNet, first its head alone, then all but the normalizations (CHOSEN of benchmarks/robust_candidates.py; README has the commands).
RECIPES = {"paper": Recipe(), "robust": Recipe(dropout=0.5, smoothing=0.2, average=0.8)}
