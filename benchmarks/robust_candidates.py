"""What `python -m benchmarks.robust` tries: techniques one by one, and together where each alone did well; other networks."""

from dataclasses import asdict, dataclass, field, replace

from minicnn.data.augmentation import Augmentation
from minicnn.data.preprocessing import Preprocessing
from minicnn.experiment.recipes import RECIPES, Recipe

__all__ = ["AVERAGE", "Candidate", "CANDIDATES", "CHOSEN", "described"]

AVERAGE = 0.8           # decay of the mean of the weights, where a recipe does not name one


@dataclass(frozen=True)
class Candidate:
    """A training to try.

    Parameters
    ----------
    recipe : Recipe
    augmentation : Augmentation, of the training images
    options : dict, options of its Config that are not the default: network, size, weights, freeze, head; epochs and learning rate
    first : Candidate that is trained before, whose weights this one begins with
    """

    recipe: Recipe = Recipe()
    augmentation: Augmentation = Augmentation.honest()
    options: dict = field(default_factory=dict)
    first: "Candidate | None" = None

    @property
    def reading(self):
        """Which weights of a training are judged."""
        return "mean" if self.recipe.average else "best"

    @property
    def network(self):
        """The name of its network, in NETWORKS."""
        return self.options.get("network", "cov19net")

    def digest(self):
        """Return what tells this training from others: the weights that are judged are chosen afterwards."""
        described = asdict(self.recipe) | {"augmentation": asdict(self.augmentation)}   # whatever its name
        described["average"] = described["average"] or AVERAGE
        described["options"] = self.options
        if self.first is not None:
            described["first"] = self.first.digest() | {"reading": self.first.reading}
        return {key: value for key, value in described.items() if value}


def _bordered(equalize=False, share=1 / 8):
    return Preprocessing(border=share, equalize=equalize)


def _lite0(size, recipe=RECIPES["robust"], **options):
    """Return EfficientNet-lite0 with the weights for ImageNet, of which the head alone is trained, on features computed once."""
    frozen = {"network": "efficientnet_lite0", "size": size, "weights": "imagenet", "freeze": "trunk"}
    return Candidate(recipe, Augmentation.none(), frozen | options)


def _tuned(first):
    """Return a candidate that goes on with another, and trains all of it but the batch normalizations.

    Rate and length are those that did well on the ordinary split by patient; no others were tried.
    """
    tuned = {"freeze": "normalization", "learning_rate": 1e-4, "epochs": 6, "steps_per_epoch": 20}
    return Candidate(first.recipe, Augmentation.honest(), first.options | tuned, first)


_CURVES = asdict(Augmentation.honest()) | {"intensity": 0.2, "contrast": 0.4, "gamma": 0.8}
_STRONG = Augmentation.strong()

_FROZEN = _lite0(160)
CANDIDATES = {
    "paper": Candidate(),
    "paper's augmentation": Candidate(augmentation=Augmentation.paper()),
    "no augmentation": Candidate(augmentation=Augmentation.none()),
    "border": Candidate(Recipe(_bordered())),
    "equalize": Candidate(Recipe(Preprocessing(equalize=True))),
    "border, equalize": Candidate(Recipe(_bordered(True))),
    "curves": Candidate(augmentation=Augmentation(**_CURVES)),
    "strong augmentation": Candidate(augmentation=_STRONG),
    "smoothing 0.1": Candidate(Recipe(smoothing=0.1)),
    "weight decay 0.5": Candidate(Recipe(weight_decay=0.5)),
    "dropout 0.5": Candidate(Recipe(dropout=0.5)),
    "smoothing 0.1, average": Candidate(Recipe(smoothing=0.1, average=AVERAGE)),
    "average": Candidate(Recipe(average=AVERAGE)),
    "dropout 0.5, average": Candidate(Recipe(dropout=0.5, average=AVERAGE)),
    "dropout 0.7, average": Candidate(Recipe(dropout=0.7, average=AVERAGE)),
    "dropout 0.5, strong augmentation, average": Candidate(Recipe(dropout=0.5, average=AVERAGE), _STRONG),
    "dropout 0.5, smoothing, average": Candidate(Recipe(dropout=0.5, smoothing=0.1, average=AVERAGE)),
    "dropout 0.5, smoothing 0.3, average": Candidate(Recipe(dropout=0.5, smoothing=0.3, average=AVERAGE)),
    "dropout 0.5, smoothing, border, average": Candidate(Recipe(_bordered(), dropout=0.5, smoothing=0.1,
                                                                average=AVERAGE)),
    "dropout 0.5, smoothing, strong augmentation, average": Candidate(Recipe(dropout=0.5, smoothing=0.1,
                                                                             average=AVERAGE), _STRONG),
    "robust": Candidate(RECIPES["robust"], getattr(Augmentation, RECIPES["robust"].augmentation or "honest")()),
    "lite0 96": _lite0(96),
    "lite0 160": _FROZEN,
    "lite0 224": _lite0(224),
    "lite0 160, plain": _lite0(160, Recipe()),
    "lite0 160, weight decay": _lite0(160, replace(RECIPES["robust"], weight_decay=0.5)),
    "lite0 160, head 256": _lite0(160, head=[256]),
    "lite0 160, border": _lite0(160, replace(RECIPES["robust"], preprocessing=_bordered())),
    "lite0 160, equalize": _lite0(160, replace(RECIPES["robust"], preprocessing=Preprocessing(equalize=True))),
    "lite0 160, tuned": _tuned(_FROZEN),
}
CHOSEN = "lite0 160, tuned"       # by the held-out sources alone, before the external set was used


def described(candidate):
    """Return in what a candidate differs from the paper's recipe under the honest protocol, as words."""
    first, honest = candidate.first, Augmentation.honest()
    plain, before = (first.recipe, first.options) if first else (Recipe(), {})
    words = [f"{name} {' '.join(map(str, value)) if isinstance(value, list) else value}"
             for name, value in candidate.options.items() if value != before.get(name)]
    named = {Augmentation.none(): "no augmentation"} | ({honest: "honest augmentation"} if first else {})
    drawn = honest if candidate.augmentation in named else candidate.augmentation
    for mine, theirs in ((candidate.recipe.preprocessing, plain.preprocessing), (candidate.recipe, plain), (drawn, honest)):
        words += [f"{field} {value:g}" if not isinstance(value, bool) else ("" if value else "no ") + field
                  for field, value in asdict(mine).items()
                  if value != getattr(theirs, field) and isinstance(value, (bool, int, float))]
    words += [named[candidate.augmentation]] if candidate.augmentation in named else []
    text = ", ".join(words).replace("_", " ")
    return f"{described(first)}; then {text}" if first else text
