"""Collections of synthetic radiographs in which flaws were planted, and what was planted: for tests of the audit."""

import csv
import io
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageFilter

from minicnn.data import phantom
from minicnn.data.split import groups, split_groups

PARTS = ("training", "validation", "test")


@dataclass
class Planted:
    """A manifest, and the flaws in it by name of file or of patient."""

    manifest: object
    copies: dict = field(default_factory=dict)      # the copy: (the original, how)
    corrupt: str = ""
    deep: str = ""
    lateral: str = ""
    slice: str = ""
    torn: str = ""                                  # a patient in two parts
    torn_copy: str = ""


def clean(folder, n=200, seed=5, size=96):
    """Write a collection without a flaw; return the path of its manifest."""
    return phantom.write(folder, n=n, seed=seed, size=size)


def saved_as_jpeg(picture):
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=40)
    return Image.open(file)


def brighter(picture):
    return picture.point([min(255, round(255 * (v / 255) ** 0.7)) for v in range(256)])


def cropped(picture):
    width, height = picture.size
    by = max(1, round(0.01 * width))
    return picture.crop((by, by, width - by, height - by))


def mirrored(picture):
    return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


# Six ways in which a copy comes about; the files they are saved as.
ALTERED = {"jpeg": saved_as_jpeg, "half": lambda picture: picture.resize((picture.width // 2, picture.height // 2)),
           "brighter": brighter, "blurred": lambda picture: picture.filter(ImageFilter.GaussianBlur(0.8)),
           "cropped": cropped, "darker": lambda picture: picture.point([round(0.7 * v) for v in range(256)])}


def flawed(folder, n=200, seed=5, size=96):
    """Write a collection with every flaw that the audit must find; return a Planted."""
    manifest = clean(folder, n, seed, size)
    with open(manifest, newline="") as file:
        rows = [row | {"modality": "X-ray"} for row in csv.DictReader(file)]
    for row in rows:
        if row["label"] == "covid":
            _tag(folder / row["path"])
    _split(rows)
    planted = Planted(manifest)
    lone = [row for row in rows if sum(other["patient_id"] == row["patient_id"] for other in rows) == 1]
    several = [row for row in rows if sum(other["patient_id"] == row["patient_id"] for other in rows) > 1]
    _copies(folder, rows, lone[:7], planted)
    _damage(folder / lone[7]["path"])
    _deepen(folder / lone[8]["path"])
    lone[9]["view"], lone[10]["modality"] = "L", "CT"
    several[0]["split"] = PARTS[(PARTS.index(several[0]["split"]) + 1) % 3]
    planted.corrupt, planted.deep, planted.lateral, planted.slice = (row["path"] for row in lone[7:11])
    planted.torn = several[0]["patient_id"]
    with open(manifest, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return planted


def _tag(path):
    """Put a bright letter into the corner of a file: what a hospital may do with its patients."""
    pixels = np.array(Image.open(path))
    size = len(pixels) // 12
    pixels[2:2 + size, -2 - size:-2] = 250
    Image.fromarray(pixels).save(path, "PNG", compress_level=0)


def _split(rows):
    group = groups([row["patient_id"] for row in rows])
    part = split_groups(group, np.array([row["label"] == "covid" for row in rows], int), (0.6, 0.2, 0.2), seed=1)
    for row, number in zip(rows, part):
        row["split"] = PARTS[number]


def _copies(folder, rows, originals, planted):
    """Add a copy of each original under another patient's name: six altered, one mirrored; one lies in another part."""
    for (how, change), row in zip({**ALTERED, "mirrored": mirrored}.items(), originals, strict=True):
        name = f"images/copy-{how}.{'jpg' if how == 'jpeg' else 'png'}"
        picture = change(Image.open(folder / row["path"]))
        picture.save(folder / name, **({"quality": 40} if how == "jpeg" else {"compress_level": 0}))
        copy = row | {"path": name, "patient_id": f"another-{how}"}
        if how == "half":
            copy["split"], planted.torn_copy = PARTS[(PARTS.index(row["split"]) + 1) % 3], name
        rows.append(copy)
        planted.copies[name] = row["path"], "mirrored" if how == "mirrored" else "near"


def _damage(path):
    content = path.read_bytes()
    path.write_bytes(content[:len(content) // 2])


def _deepen(path):
    Image.fromarray(np.array(Image.open(path)).astype(np.uint16) * 257).save(path)
