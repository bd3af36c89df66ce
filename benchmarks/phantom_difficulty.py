"""How hard the synthetic radiographs are, and whether they have confounders.

For each seed: train on the training set (70/15/15 by patient) of the 820 images of that seed, then measure the AUC on
2,000 new images of another seed. A task that logistic regression solves would not need a network; one that the image
border or the file header solves would teach a network a shortcut.

    python benchmarks/phantom_difficulty.py --seeds 1 2 3

needs scikit-learn (`pip install "minicnn[test]"`) and takes about five minutes for each seed. Exits with 1
where a value is out of its bounds.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from minicnn import Adam, cov19net
from minicnn.data import Augmentation, Manifest
from minicnn.data.synthetic import phantom

BOUNDS = {"logistic regression, 64x64 pixels": (0, 0.85), "logistic regression, 8x8 pixels": (0, 0.85),
          "COV-19Net": (0.95, 0.995), "COV-19Net, honest augmentation": (0.95, 0.995),
          "border, logistic regression": (0.45, 0.55), "border, gradient boosting": (0.45, 0.55),
          "file and header, gradient boosting": (0.45, 0.55)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--fresh", type=int, default=2000)
    parser.add_argument("--skip-network", action="store_true", help="skip what needs a network: a minute")
    options = parser.parse_args()
    print("seed  AUC    within          seconds  what")
    good = True
    for seed in options.seeds:
        start = time.perf_counter()
        for what, auc in measure(seed, options.fresh, options.skip_network):
            low, high = BOUNDS[what]
            within = low <= auc <= high
            good &= within
            seconds, start = time.perf_counter() - start, time.perf_counter()
            print(f"{seed:4}  {auc:.3f}  {low:.3f} - {high:.3f} {'  ' if within else '!!'}  {seconds:6.0f}  {what}",
                  flush=True)
    return 0 if good else 1


def measure(seed, fresh, skip_network):
    """Yield (what, AUC on new images)."""
    made, new = phantom.generate(seed=seed), phantom.generate(n=fresh, seed=seed + 1000)
    manifest = Manifest.from_arrays(made.images, made.labels, made.classes, patients=made.patients, names=made.names)
    train, validation, _ = manifest.split(0.70, 0.15, 0.15, seed=seed)
    sets = [(made.images[rows], made.labels[rows]) for rows in map(_rows, (train, validation))]

    for what, features in (("64x64", _flat), ("8x8", lambda images: _flat(_shrunk(images)))):
        yield f"logistic regression, {what} pixels", _regression(features, *sets, new)
    yield "border, logistic regression", _regression(_border, *sets, new)
    yield "border, gradient boosting", _boosting(_border(made.images), made.labels, _border(new.images), new.labels)
    with tempfile.TemporaryDirectory() as folder:
        a = _headers(phantom.write(Path(folder) / "a", seed=seed).parent, made)
        b = _headers(phantom.write(Path(folder) / "b", n=fresh, seed=seed + 1000).parent, new)
    yield "file and header, gradient boosting", _boosting(a, made.labels, b, new.labels)
    if skip_network:
        return
    augmented = train.augment(Augmentation.honest())
    for what, data in (("COV-19Net", train), ("COV-19Net, honest augmentation", augmented)):
        model = cov19net(seed=seed)
        model.compile(Adam(learning_rate=1e-3), loss="binary_crossentropy")
        model.fit(data, epochs=20, batch_size=32, steps_per_epoch=100, progress=False)
        yield what, roc_auc_score(new.labels, model.predict(new.images).ravel())


def _regression(features, train, validation, new):
    """L2 logistic regression, its strength chosen on the validation set."""
    x, checked = features(train[0]), features(validation[0])
    best = (-1, None)
    for strength in 10.0 ** np.arange(-6, 2):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))
        model.fit(x, train[1])
        auc = roc_auc_score(validation[1], model.decision_function(checked))
        best = max(best, (auc, model), key=lambda pair: pair[0])
    return roc_auc_score(new.labels, best[1].decision_function(features(new.images)))


def _boosting(x, t, new_x, new_t):
    model = HistGradientBoostingClassifier(max_iter=100, random_state=0).fit(x, t)
    return roc_auc_score(new_t, model.predict_proba(new_x)[:, 1])


def _rows(manifest):
    return [int(Path(path).stem) for path in manifest.paths]


def _flat(images):
    return images.reshape(len(images), -1).astype(np.float64)


def _shrunk(images):
    return images.reshape(len(images), 8, 8, 8, 8).mean(axis=(2, 4))


def _border(images):
    """The outer eighth of each side."""
    edge = images.shape[1] // 8
    mask = np.ones(images.shape[1:], bool)
    mask[edge:-edge, edge:-edge] = False
    return images[:, mask].astype(np.float64)


def _headers(folder, made):
    """Features of each file without decoding it: size, dimensions, mode, first bytes, place in the list."""
    rows = []
    for place, name in enumerate(made.names):
        path = folder / "images" / name
        with Image.open(path) as image:
            rows.append([path.stat().st_size, *image.size, len(image.mode), len(image.info), place,
                         *path.read_bytes()[:48]])
    return np.array(rows, float)


if __name__ == "__main__":
    sys.exit(main())
