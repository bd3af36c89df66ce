"""Recipes: how a network is trained. The paper's, one that generalizes better to held-out sources, two of other papers, one for all."""

from dataclasses import dataclass

from minicnn.callbacks import ReduceLROnPlateau, WeightAverage
from minicnn.data.preprocessing import Preprocessing
from minicnn.layers import BatchNormalization
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
    augmentation : str or None; the name of a classmethod of Augmentation, unless the config of the run names another; None: "honest"
    dropout : float in [0, 1); rate before each dense layer of the head; 0: what the network has by itself
    weight_decay : float in [0, 1); decoupled (AdamW)
    smoothing : float in [0, 1); of labels, in training alone (losses.py)
    average : float in [0, 1); decay of the average of the weights after each epoch (callbacks.WeightAverage). If it is
        above 0, the honest protocol evaluates this average, not the epoch with the lowest validation loss
    amsgrad : bool; of Adam
    reduce_rate : float in [0, 1); the learning rate is multiplied by it after five epochs whose validation loss is not lower by
        0.01, down to 1e-6 (callbacks.ReduceLROnPlateau); 0: it is constant
    class_weight : "balanced" or None, as for Model.fit
    momentum : float in [0, 1), at most, of batch normalizations: with that of published networks, 0.99 or 0.999, their moving
        statistics are still near their beginning after a short training; None: the network's own
    """

    preprocessing: Preprocessing = Preprocessing()
    augmentation: str | None = None
    dropout: float = 0.0
    weight_decay: float = 0.0
    smoothing: float = 0.0
    average: float = 0.0
    amsgrad: bool = False
    reduce_rate: float = 0.0
    class_weight: str | None = None
    momentum: float | None = None

    def model(self, seed, classes, learning_rate=1e-3, network="cov19net", **options):
        """Return a network of NETWORKS for these classes, compiled; `options` are arguments of it.

        The network that ends in capsules has no dense layers, so no dropout, and is trained with the margin loss.
        """
        options = {"input_shape": self.preprocessing.shape, "classes": classes, "seed": seed} | options
        if self.dropout and network != "covid_caps":
            options["dropout"] = self.dropout
        model = NETWORKS[network](**options)
        for layer in model.layers:
            if self.momentum is not None and isinstance(layer, BatchNormalization):
                layer.momentum = min(layer.momentum, self.momentum)
        optimizer = AdamW(learning_rate, self.weight_decay) if self.weight_decay else Adam(learning_rate, amsgrad=self.amsgrad)
        loss = "margin" if network == "covid_caps" else "binary_crossentropy" if len(classes) == 2 else "categorical_crossentropy"
        model.compile(optimizer, loss=f"{loss}(smoothing={self.smoothing})" if self.smoothing else loss)
        return model

    def callbacks(self):
        """Return new callbacks for training."""
        average = [WeightAverage(self.average)] if self.average else []
        return average + ([ReduceLROnPlateau(factor=self.reduce_rate, patience=5, min_delta=1e-2, min_lr=1e-6)] if self.reduce_rate else [])


# "robust" did best for COV-19Net in leave-one-source-out validation of all candidates in benchmarks/ROBUST.md, which has the
# metrics, also on the external set. Of other networks EfficientNet-lite0 does better there, with the same recipe: with weights for
# ImageNet, first its head alone, then all but the normalizations (CHOSEN of benchmarks/robust_candidates.py; README has the commands).
#
# "covid-net" is that of its authors' Keras branch (covidnet.py), with classes of equal weight in the loss in the place of batches in
# which one of eight images is positive and counts 25 times: those were for data with few positives. "covid-caps" is that of
# https://github.com/ShahinSHH/COVID-CAPS, whose class weights, one minus the frequency, are the balanced ones of two classes.
# "common" is the paper's with the honest augmentation, for short trainings of any network (`minicnn comparators`).
RECIPES = {"paper": Recipe(), "common": Recipe(augmentation="honest", momentum=0.9), "robust": Recipe(dropout=0.5, smoothing=0.2, average=0.8),
           "covid-net": Recipe(augmentation="covid_net", amsgrad=True, reduce_rate=0.7, class_weight="balanced"),
           "covid-caps": Recipe(augmentation="none", class_weight="balanced")}
