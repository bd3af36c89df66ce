"""What `python -m benchmarks.robust` tries: techniques one by one, and together where each alone did well."""

from dataclasses import asdict, dataclass

from minicnn.data.augmentation import Augmentation
from minicnn.data.preprocessing import Preprocessing
from minicnn.experiment.recipes import RECIPES, Recipe

__all__ = ["AVERAGE", "Candidate", "CANDIDATES", "described"]

AVERAGE = 0.8           # decay of the mean of the weights, where a recipe does not name one


@dataclass(frozen=True)
class Candidate:
    """A recipe to try, and its augmentation where that is none of Augmentation's own."""

    recipe: Recipe = Recipe()
    augmentation: Augmentation = Augmentation.honest()

    @property
    def reading(self):
        """Which weights of a training are judged."""
        return "mean" if self.recipe.average else "best"

    def digest(self):
        """Return what tells this training from others: the weights that are judged are chosen afterwards."""
        described = asdict(self.recipe) | {"augmentation": asdict(self.augmentation)}   # whatever its name
        described["average"] = described["average"] or AVERAGE
        return {key: value for key, value in described.items() if value}


def _bordered(equalize=False, share=1 / 8):
    return Preprocessing(border=share, equalize=equalize)


_CURVES = asdict(Augmentation.honest()) | {"intensity": 0.2, "contrast": 0.4, "gamma": 0.8}
_STRONG = Augmentation.strong()

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
}


def described(candidate):
    """Return in what a candidate differs from the paper's recipe under the honest protocol, as words."""
    plain, words = Candidate(), []
    for mine, theirs in ((candidate.recipe.preprocessing, plain.recipe.preprocessing), (candidate.recipe, plain.recipe),
                         (candidate.augmentation, plain.augmentation)):
        words += [f"{field} {value:g}" if not isinstance(value, bool) else ("" if value else "no ") + field
                  for field, value in asdict(mine).items()
                  if value != getattr(theirs, field) and isinstance(value, (bool, int, float))]
    return ", ".join(words).replace("_", " ")
