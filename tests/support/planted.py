"""Datasets of synthetic radiographs with planted flaws, and the list of these flaws: for tests of the audit."""

import csv
import io
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageFilter

from minicnn.data.split import groups, split_groups
from minicnn.data.synthetic import phantom

SPLITS = ("training", "validation", "test")


@dataclass
class Planted:
    """A manifest, and the flaws in it by name of file or of patient."""

    manifest: object
    copies: dict = field(default_factory=dict)      # the copy: (the original, how)
    corrupt: str = ""
    deep: str = ""
    lateral: str = ""
    slice: str = ""
    torn: str = ""                                  # a patient in two splits
    torn_copy: str = ""


@dataclass
class Tag:
    """A confounder: a bright square in a corner, as a hospital may mark its images."""

    corner: tuple = (0, 1)      # down, right
    share: float = 1 / 12       # of the side of the image
    shade: int = 250


def clean(folder, n=200, seed=5, size=96, form="png"):
    """Write a dataset without flaws, as PNG or JPEG files; return the path of its manifest."""
    manifest = phantom.write(folder, n=n, seed=seed, size=size)
    if form == "jpeg":
        for path in sorted((folder / "images").iterdir()):
            Image.open(path).save(path.with_suffix(".jpg"), quality=90)
            path.unlink()
        manifest.write_text(manifest.read_text().replace(".png,", ".jpg,"))
    return manifest


def saved_as_jpeg(image, quality=40):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file)


def halved(image):
    return image.resize((image.width // 2, image.height // 2))


def with_gamma(gamma):
    return lambda image: image.point([round(255 * (v / 255) ** gamma) for v in range(256)])


def cropped(left, upper, right, lower):
    """Return a function that crops an image by these shares of its sides."""
    def cut(image):
        width, height = image.size
        return image.crop((round(left * width), round(upper * height), width - round(right * width),
                             height - round(lower * height)))
    return cut


def paler(image):
    return image.point([round(90 + 0.5 * v) for v in range(256)])


def turned(image):
    return image.rotate(-3, Image.Resampling.BILINEAR)


def mirrored(image):
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


# Two sets of six transformations that make a near-duplicate, by name. Every set is used with a mirrored copy.
ALTERED = [{"jpeg": saved_as_jpeg, "half": halved, "brighter": with_gamma(0.7),
            "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(0.8)),
            "cropped": cropped(0.01, 0.01, 0.01, 0.01), "darker": lambda image: image.point([round(0.7 * v) for v in range(256)])},
           {"jpeg": lambda image: saved_as_jpeg(cropped(0.02, 0.02, 0.02, 0.02)(image), 75), "half": halved,
            "turned": turned, "cropped": cropped(0.04, 0.04, 0.04, 0.04), "uneven": cropped(0.03, 0, 0.01, 0.03),
            "paler": paler}]


def flawed(folder, n=200, seed=5, size=96, form="png", tag=Tag(), altered=0):
    """Write a dataset with every flaw that the audit must find; return a Planted.

    Parameters
    ----------
    folder, n, seed, size, form : as for `clean`
    tag : Tag
    altered : int, the index in ALTERED
    """
    manifest = clean(folder, n, seed, size, form)
    with open(manifest, newline="") as file:
        rows = [row | {"modality": "X-ray"} for row in csv.DictReader(file)]
    for row in rows:
        if row["label"] == "covid":
            _tag(folder / row["path"], tag)
    _split(rows)
    planted = Planted(manifest)
    lone = [row for row in rows if sum(other["patient_id"] == row["patient_id"] for other in rows) == 1]
    several = [row for row in rows if sum(other["patient_id"] == row["patient_id"] for other in rows) > 1]
    _copies(folder, rows, lone[:7], planted, ALTERED[altered])
    _damage(folder / lone[7]["path"])
    _deepen(folder, lone[8])
    lone[9]["view"], lone[10]["modality"] = "L", "CT"
    several[0]["split"] = SPLITS[(SPLITS.index(several[0]["split"]) + 1) % 3]
    planted.corrupt, planted.deep, planted.lateral, planted.slice = (row["path"] for row in lone[7:11])
    planted.torn = several[0]["patient_id"]
    with open(manifest, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return planted


def _tag(path, tag):
    pixels = np.array(Image.open(path))
    side, size, edge = len(pixels), max(3, round(tag.share * len(pixels))), 2
    rows, columns = (slice(side - size - edge, side - edge) if far else slice(edge, edge + size) for far in tag.corner)
    pixels[rows, columns] = tag.shade
    _save(Image.fromarray(pixels), path)


def _save(image, path):
    """Save an image in the format of the others."""
    image.save(path, **({"quality": 90} if path.suffix == ".jpg" else {"compress_level": 0}))


def _split(rows):
    group = groups([row["patient_id"] for row in rows])
    split = split_groups(group, np.array([row["label"] == "covid" for row in rows], int), (0.6, 0.2, 0.2), seed=1)
    for row, number in zip(rows, split):
        row["split"] = SPLITS[number]


def _copies(folder, rows, originals, planted, altered):
    """Add a copy of each original with another patient ID: six altered, one mirrored; one is in another split."""
    for (how, change), row in zip({**altered, "mirrored": mirrored}.items(), originals, strict=True):
        name = f"images/copy-{how}.jpg" if how == "jpeg" else f"images/copy-{how}{row['path'][-4:]}"
        image = change(Image.open(folder / row["path"]))
        image.save(folder / name, quality=75) if how == "jpeg" else _save(image, folder / name)
        copy = row | {"path": name, "patient_id": f"another-{how}"}
        if how == "half":
            copy["split"], planted.torn_copy = SPLITS[(SPLITS.index(row["split"]) + 1) % 3], name
        rows.append(copy)
        planted.copies[name] = row["path"], "mirrored" if how == "mirrored" else "near"


def _damage(path):
    content = path.read_bytes()
    path.write_bytes(content[:len(content) // 2])


def _deepen(folder, row):
    """Replace a file by a 16-bit PNG."""
    path = folder / row["path"]
    pixels = np.array(Image.open(path)).astype(np.uint16) * 257
    path.unlink()
    row["path"] = row["path"][:-4] + ".png"
    Image.fromarray(pixels).save(folder / row["path"])
