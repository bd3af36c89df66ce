from typing import NamedTuple

import numpy as np

from minicnn import streams
from minicnn.data.radiograph import render

_PLAN=0
def _plan(n, patients, seed):
    P = streams.Stream.PHANTOM
    order = streams.permutation(seed, P, _PLAN, n)
    number = np.argsort(streams.words(seed, P, _PLAN, 1, patients), kind="stable")
    u = streams.uniforms(seed, P, _PLAN, 2, n)
    positives = n // 2
    p1 = max(1, patients * positives // n)
    labels = np.zeros(n, np.uint8)
    owner = np.zeros(n, np.int64)
    for label, count, first, ps in ((1, positives, 0, p1), (0, n - positives, p1, patients - p1)):
        who = first + np.where(np.arange(count) < ps, np.arange(count), (u[:count] * ps).astype(int))
        images = order[:positives] if label else order[positives:]
        u = u[count:]
        labels[images] = label
        owner[images] = number[who]
    return labels, owner


class Phantoms(NamedTuple):
    images: np.ndarray
    labels: np.ndarray
    patients: list
    names: list


def generate(n=820, patients=None, seed=0, size=64):
    patients = patients or round(n * 540 / 820)
    labels, owner = _plan(n, patients, seed)
    images = np.stack([render(seed, int(owner[i]), i, bool(labels[i]), size) for i in range(n)])
    return Phantoms(images, labels, [f"patient_{o:05d}" for o in owner], [f"{i:05d}.png" for i in range(n)])
