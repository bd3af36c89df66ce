"""What the words of a `view` or `modality` column mean: a frontal radiograph, a lateral one, or a slice of a CT."""

import re

__all__ = ["view_kind"]

# Whole words, in the spellings of Cohen's collection, NIH, CheXpert, PadChest and DICOM.
_CT = {"ct", "axial", "coronal", "sagittal", "tomography", "transverse", "hrct"}
_LATERAL = {"l", "ll", "lat", "lateral", "rl"}
_FRONTAL = {"pa", "ap", "frontal", "posteroanterior", "anteroposterior", "posterior", "anterior"}
_RADIOGRAPH = {"", "x", "xray", "ray", "cr", "dx", "rx", "cxr", "radiograph", "dr"}


def view_kind(view, modality=""):
    """Return what an image shows, as far as words say: "frontal", "lateral", "ct", "other", or "" where they do not.

    Parameters
    ----------
    view : str, such as "PA", "AP Supine", "L", "Axial", "Frontal"
    modality : str, such as "X-ray", "CT", "CR"; what it says weighs more

    >>> [view_kind(*words) for words in [("AP Supine",), ("L", "X-ray"), ("Axial",), ("PA", "CT"), ("", "MR"), ("",)]]
    ['frontal', 'lateral', 'ct', 'ct', 'other', '']
    """
    of_view, of_modality = _words(view), _words(modality)
    if (of_view | of_modality) & _CT:
        return "ct"
    if of_modality - _RADIOGRAPH:
        return "other"
    if of_view & _LATERAL:
        return "lateral"
    return "frontal" if of_view & _FRONTAL else ""


def _words(text):
    return set(re.findall(r"[a-z]+", text.lower()))
