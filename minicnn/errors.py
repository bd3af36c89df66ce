"""The typed errors of minicnn, and the words they share.

Every error that a user can cause is one of these. Its sentence names who complains (the layer, the file, the row, the
argument), what was expected, what came, and what to do about it. `assert` is kept for bugs of our own.
"""

import difflib

__all__ = ["MiniCNNError", "ShapeError", "InputError", "DTypeError", "ImageError", "ManifestError", "WeightsError",
           "CheckpointError", "NonFiniteError", "RunLockedError", "DistributedError", "MissingExtraError", "printable", "nearest"]


class MiniCNNError(Exception):
    """Base of every error that minicnn raises on purpose."""


class ShapeError(MiniCNNError, ValueError):
    """An array or a network whose sizes do not fit."""


class InputError(MiniCNNError, ValueError):
    """A value or an argument that cannot be used."""


class DTypeError(MiniCNNError, TypeError):
    """An array whose element type cannot be used."""


class ImageError(MiniCNNError, ValueError):
    """An image file that cannot be read, or is not an image we accept."""


class ManifestError(MiniCNNError, ValueError):
    """A manifest or an image folder with problems; the message lists them."""


class WeightsError(MiniCNNError, ValueError):
    """A weights or checkpoint file that is damaged or not ours."""


class CheckpointError(MiniCNNError, OSError):
    """A checkpoint that could not be saved: the disk, the folder, the permissions."""


class NonFiniteError(MiniCNNError, ArithmeticError):
    """A NaN or an infinity where training must not go on."""


class RunLockedError(MiniCNNError, OSError):
    """A run folder that another process is using."""


class DistributedError(MiniCNNError, RuntimeError):
    """Processes that train together have lost each other, or no longer have the same weights."""


class MissingExtraError(MiniCNNError, ImportError):
    """An optional library that is not installed.

    >>> print(MissingExtraError("drawing curves", "matplotlib", "app"))
    drawing curves needs matplotlib, which is not installed. Install it with: pip install "minicnn[app]"
    """

    def __init__(self, purpose, library, extra, state="is not installed"):
        super().__init__(f'{purpose} needs {library}, which {state}. '
                         f'Install it with: pip install "minicnn[{extra}]"')


def printable(text):
    r"""Return `text` with control and direction characters escaped, fit for a terminal line.

    File names and labels are untrusted: an escape sequence or a right-to-left mark must not reach the terminal.

    >>> printable("scan\n\x1b[2J.png")
    'scan\\n\\x1b[2J.png'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") if not _is_lone_surrogate(c)
                   else f"\\x{ord(c) & 0xFF:02x}" for c in str(text))


def _is_lone_surrogate(character):
    # os.fsdecode keeps undecodable bytes of a file name as U+DC80..U+DCFF.
    return "\udc80" <= character <= "\udcff"


def nearest(word, choices):
    """Return `" Did you mean 'x'?"` for the choice nearest to `word`, or an empty string.

    >>> nearest("covd", ["covid", "normal"])
    " Did you mean 'covid'?"
    """
    lowered = {str(choice).lower(): choice for choice in choices}
    close = difflib.get_close_matches(str(word).lower(), list(lowered), n=1)
    return f" Did you mean {lowered[close[0]]!r}?" if close else ""
