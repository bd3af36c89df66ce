"""Read a folder with one folder for each class into columns; what is no class is left out and counted, or refused.

Left out, and said: what minicnn itself wrote (run folders, studies, explanations), masks, maps and thumbnails, images
beside the class folders, and files that are not images. Refused, with the folders that could be meant: splits and
copies of the collection among the class folders, for there labels or sets would be guessed.
"""

import os
import re
from collections import Counter

from minicnn.core.untrusted import raising
from minicnn.data.file_kinds import counted, is_image, kind_of_file
from minicnn.data.labels import is_split
from minicnn.data.manifest_reader import Table
from minicnn.data.paths import ALLOW, Paths
from minicnn.errors import ManifestError, printable

__all__ = ["read_folder", "images_in"]

# What systems put beside files; names that begin with a dot are hidden too.
_HIDDEN = ("__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found")
# A folder that holds all names of one of these was written by minicnn: a run, a study, a run that is going on.
_OWN = [{"config.json", "environment.json"}, {"config.json", "split.csv"}, {"environment.json", "split.csv"},
        {"results.json", "report.html"}, {"phantoms", "runs"}, {"run.lock"}]
_OWN_IMAGE = re.compile(r".+-(gradcam|hirescam|occlusion)\.png")
_ASIDE = {"masks": "mask masks seg segmentation segmentations annotation annotations overlay overlays contour contours",
          "maps": "map maps heatmap heatmaps gradcam cam cams saliency explanation explanations",
          "thumbnails": "thumb thumbs thumbnail thumbnails preview previews"}
_ASIDE = {word: what for what, words in _ASIDE.items() for word in words.split()}
_WORDS = "|".join(_ASIDE)
_BESIDE = re.compile(rf"(?P<stem>.+?)[-_. ]+(?P<end>{_WORDS})|(?P<begin>{_WORDS})[-_. ]+(?P<rest>.+)")
# Words that say what files are, and not what is seen in them: "images_002", "stage 1 train images".
_GENERIC = set("image images img imgs png jpg jpeg tif tiff cxr xray xrays set data dataset split splits fold folds "
               "part parts batch stage archive subset".split())
_NEGATIVE = {"normal", "healthy", "negative"}
_DIAGNOSES = {*_NEGATIVE, "positive", "abnormal", "covid", "pneumonia", "viral", "bacterial", "tuberculosis", "opacity"}
_RESULTS, _LOOSE = "images of minicnn's own results", "images beside the class folders"
_ONE = {what: re.sub(r"s\b", "", what, count=1) for what in (*_ASIDE.values(), _RESULTS, _LOOSE)}
_MOST_SNIFFED, _MOST_SEARCHED, _MOST_CHOICES = 200, 200, 6


def read_folder(root, allow_outside_root, problems, classes=None):
    """Read a folder with one folder for each class; images may lie deeper inside.

    Hidden files are skipped. Links to folders are followed only as class folders, and only with `allow_outside_root`.
    A folder that bears the name of one of `classes` is one.

    Raises
    ------
    ManifestError : there is no folder, or some are splits or copies of others; it lists the folders that could be meant
    """
    root = os.path.realpath(root)
    with raising(ManifestError, root):
        entries = sorted(os.scandir(root), key=lambda entry: entry.name)
    table = Table(root, {"path": [], "label": []}, lambda row: printable(names[row]))
    paths, names, left, others = Paths(root, allow_outside_root), [], [], []
    loose = [entry.name for entry in entries if not _is_hidden(entry.name) and entry.is_file() and is_image(entry.path)]

    def report(error):
        problems.add(f"cannot be read ({error.strerror}).", printable(error.filename))

    for label in _class_folders(root, entries, loose, problems, allow_outside_root, classes or ()):
        before = len(names), len(left), len(others)
        for folder, inner, files in os.walk(os.path.join(root, label), onerror=report):
            at = os.path.relpath(folder, root)
            inner[:] = sorted(name for name in inner if not _is_hidden(name))
            files = sorted(name for name in files if not _is_hidden(name))
            if (what := _aside(at, inner, files, classes or ())) is not None:
                left.append((what, at, _count(folder)))
                inner.clear()
                continue
            images = {name for name in files if is_image(os.path.join(folder, name))}
            stems = {name.rpartition(".")[0].lower() for name in images}
            for name in files:
                what, is_other = _beside(name, stems), name not in images
                name = os.path.join(at, name)
                if is_other:
                    others.append(os.path.join(root, name))
                elif what is not None:
                    left.append((what, name, 1))
                else:
                    try:
                        table.columns["path"].append(paths.find(name))
                    except ManifestError as error:
                        problems.add(str(error), kind=str(error).replace(printable(name), ""))
                        continue
                    names.append(name)
                    table.columns["label"].append(label)
        if len(names) == before[0] and not any(what == _RESULTS or at == label for what, at, _ in left[before[1]:]):
            found = filter(None, [_in_words(left[before[1]:]), _kinds(others[before[2]:])])
            found = ", ".join(found).rstrip(".")
            problems.add(f"the class folder {printable(label)} holds no images" + (f", but {found}." if found else
                         ". If it is no class, move it elsewhere, or begin its name with a dot."),
                         kind=f"a class folder holds no images{found}")
    if loose:
        left.append((_LOOSE, loose[0], len(loose)))
    table.others, table.kinds, table.left_out = len(others), _kinds(others), _in_words(left)
    return table


def _class_folders(root, entries, loose, problems, allow_links, classes):
    """Return the names of the class folders, or raise a ManifestError that says what is there instead."""
    files = [entry.name for entry in entries if not _is_hidden(entry.name) and not entry.is_dir()]
    folders = []
    for entry in entries:
        if entry.is_dir() and not _is_hidden(entry.name):
            if entry.is_symlink() and not allow_links:
                problems.add(f"the class folder {printable(entry.name)} is a link, which may lead outside. {ALLOW}",
                             kind="a class folder is a link")
            else:
                folders.append(entry.name)
    name = printable(root)
    if _is_own([*folders, *files]):
        raise ManifestError(f"{name}: is a folder of minicnn's own results, not of radiographs. Name the folder or "
                            "the CSV file of the radiographs.")
    if not folders:
        problems.raise_any()
    expected = "Expected one folder for each class, or a CSV file"
    tables = [printable(file) for file in files if file.lower().endswith(".csv")]
    expected += f"; did you mean {tables[0]}?" if tables else ", which may have a split column."
    if not folders:
        kinds = _kinds([os.path.join(root, file) for file in files if file not in loose])
        there = f", but {len(loose):,} images, whose classes are not known" if loose else f", but {kinds}" * bool(kinds)
        raise ManifestError(f"{name}: holds no folder{there.rstrip('.')}. {expected}")
    if doubts := _doubts(root, folders, classes):
        meant = [f"{printable(path)} ({', '.join(map(printable, found))})" for path, found in _choices(root, folders)]
        meant.insert(0, "These could be meant:" if meant else "Move what is no class elsewhere.")
        raise ManifestError("\n  ".join([f"{name}: holds {doubts}. {expected}", *meant]))
    return folders


def _doubts(root, folders, classes):
    """Return what is against taking all of these folders for classes, as the end of "holds ...", or an empty string."""
    folders = [folder for folder in folders if _aside(folder, (), (), classes) is None]
    seen = [folder for folder in folders if folder not in classes]
    parts = _not_own(root, filter(_is_part, seen))
    if parts:
        return f"{', '.join(map(printable, parts))}: splits or parts, not classes"
    inside = {folder: _folders(os.path.join(root, folder)) for folder in folders}
    lower = {folder.lower() for folder in folders}
    for folder, inner in inside.items():
        path = os.path.join(root, folder)
        again = _not_own(path, (name for name in inner if name.lower() in lower - {folder.lower()}))
        splits = _not_own(path, filter(is_split, inner))
        diagnoses = _not_own(path, (name for name in inner if _DIAGNOSES & {*_tokens(name)}))
        is_above = len(diagnoses) > 1 and any(_NEGATIVE & {*_tokens(name)} for name in diagnoses)
        if again:
            return f"{printable(folder)}, in which {', '.join(map(printable, again))} are again: a copy, not a class"
        if splits:
            return (f"{', '.join(map(printable, splits))} in {printable(folder)}: splits inside a class, which would "
                    "not be kept")
        if folder in seen and is_above and not _DIAGNOSES & {*_tokens(folder)}:
            return f"{printable(folder)}, in which there are {', '.join(map(printable, diagnoses))}: not a class"
    return ""


def _choices(root, folders):
    """Return (path, names of its folders) of the folders under `root` that look like one folder for each class."""
    found, waiting = [], [os.path.join(root, folder) for folder in folders]
    for folder in waiting:      # it grows: breadth first
        inner = _folders(folder)
        here = [name for name in inner if not _is_part(name) and _aside(name, (), ()) is None]
        if len(here) > 1 and len(found) < _MOST_CHOICES and len(_not_own(folder, here[:2])) > 1 \
                and not _doubts(folder, here, ()):
            found.append((folder, here[:_MOST_CHOICES]))
        elif len(waiting) < _MOST_SEARCHED:
            waiting += [os.path.join(folder, name) for name in inner]
    return found


def _not_own(path, names):
    """Return those of the folders with these names in a folder that are no results of minicnn."""
    return [name for name in names if not _is_own(_names(os.path.join(path, name)))]


def _is_own(names):
    return any(own <= {*names} for own in _OWN)


def _names(path):
    try:
        return os.listdir(path)
    except OSError:
        return []


def _folders(path):
    """Return the names of the folders in a folder, sorted; none where it cannot be read."""
    try:
        with os.scandir(path) as entries:
            return sorted(entry.name for entry in entries
                          if entry.is_dir(follow_symlinks=False) and not _is_hidden(entry.name))
    except OSError:
        return []


def images_in(folder):
    """Return (the paths of the images in a folder and its folders, sorted; what else was left out, in words, or "").

    Left out are links that lead outside, and files of a known kind that is not read, such as GIF.
    """
    real, files, others, links = os.path.realpath(folder), [], [], 0
    for place, inner, names in os.walk(folder):
        inner[:] = [name for name in inner if not _is_hidden(name)]
        for path in (os.path.join(place, name) for name in names if not _is_hidden(name)):
            if not is_image(path):
                others.append(path)
            elif os.path.islink(path) and os.path.commonpath([os.path.realpath(path), real]) != real:
                links += 1
            else:
                files.append(path)
    left_out = [f"{links:,} link{'s' * (links > 1)} to files outside of it. To read such a file, name it."] if links else []
    return sorted(files), " ".join([*left_out, *filter(None, [_kinds(others)])])


# ---- Names -----------------------------------------------------------------------------------------------------------

def _is_hidden(name):
    return name.startswith(".") or name.lower() in _HIDDEN


def _tokens(name):
    """Return the words and numbers in a name, in lower case.

    >>> _tokens("leftMask_2"), _tokens("CXR_png")
    (['left', 'mask', '2'], ['cxr', 'png'])
    """
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\dA-Z_]+|\d+", name)]


def _is_part(name):
    """Return whether a name is that of a split, or tells only that there are images and not what they show.

    >>> _is_part("Train"), _is_part("test_images"), _is_part("images_002"), _is_part("normal"), _is_part("1")
    (True, True, True, False, False)
    """
    words = [word for word in _tokens(name) if not word.isdecimal()]
    return is_split(name) or bool(words) and all(word in _GENERIC or is_split(word) for word in words)


def _aside(at, inner, files, classes=()):
    """Return what a folder holds instead of images of its class, such as "masks", or None.

    >>> _aside("covid/lung masks", [], []), _aside("with_mask", [], []), _aside("runs/1", [], ["run.lock"])
    ('masks', None, "images of minicnn's own results")
    """
    if _is_own([*inner, *files]):
        return _RESULTS
    name = os.path.basename(at)
    words = [word for word in _tokens(name) if word not in _GENERIC and not word.isdecimal()]
    is_none = not words or at in classes or words[0] in ("with", "without", "no", "not", "non")
    return None if is_none else _RESULTS if words == ["explanations"] else _ASIDE.get(words[-1])


def _beside(name, stems):
    """Return what an image is of another one beside it, whose stem is among `stems`, or None.

    >>> _beside("scan1_mask.png", {"scan1", "scan1_mask"}), _beside("scan2_mask.png", {"scan1"})
    ('masks', None)
    """
    if _OWN_IMAGE.fullmatch(name):
        return _RESULTS
    match = _BESIDE.fullmatch(name.rpartition(".")[0].lower())
    if match is None or (match["stem"] or match["rest"]) not in stems:
        return None
    return _ASIDE[match["end"] or match["begin"]]


# ---- What is said ----------------------------------------------------------------------------------------------------

def _count(folder):
    """Return how many images there are in a folder and under it."""
    return sum(is_image(os.path.join(place, name)) for place, _, files in os.walk(folder) for name in files)


def _in_words(left):
    """Return how many images were left out as what, and the first place of each; "" where there are none.

    >>> _in_words([("masks", "a/masks", 3), ("masks", "b/masks", 4)])
    '7 masks (a/masks, ...)'
    """
    places, counts = {}, Counter()
    for what, name, count in left:
        places.setdefault(what, []).append(name)
        counts[what] += count
    return ", ".join(f"{counts[what]:,} {what if counts[what] > 1 else _ONE[what]} "
                     f"({printable(names[0])}{', ...' * (len(names) > 1)})"
                     for what, names in places.items() if counts[what])


def _kinds(paths):
    """Return of which kinds files are that are not read, and the way of each; "" where none is known."""
    kinds, unknown = Counter(), 0
    for path in paths:
        kind = kind_of_file(path, sniff=unknown < _MOST_SNIFFED)
        unknown += kind is None
        kinds.update([kind] if kind else [])
    return counted(kinds) if kinds else ""
