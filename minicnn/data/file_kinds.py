"""Kinds of files: which are images, by name or (DICOM) content; what others are, and what to do with them."""

import os
import re

from minicnn.core.files import open_regular

__all__ = ["EXTENSIONS", "is_image", "is_dicom", "kind_of", "kind_of_file", "counted"]

EXTENSIONS = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".dcm", ".dicom", ".dic", ".ima")

_CONVERT = "Convert it, for instance to PNG."
_UNPACK = "Unpack it first."
_DICOM = ("a DICOM file", "It is read where its name ends with .dcm, or has no extension.")
_DICOMDIR = ("a DICOMDIR", "The images that it lists are read without it.")
_NIFTI = ("a NIfTI file", "It holds a volume, such as a CT, and no radiograph.")
_ARRAY = ("an array file", "Save each image as a PNG, or pass the array to fit in Python.")
_VOLUME = ("a NRRD or MetaImage file", _CONVERT)
_JPEG_2000, _HEIC = ("a JPEG 2000 file", _CONVERT), ("a HEIC or AVIF file, or a film", _CONVERT)
_SHEET = ("a spreadsheet", "Save the sheet as a CSV file in UTF-8.")

# (position, bytes there): the kind and the way. More telling ones come first.
_CONTENT = {
    (344, b"n+1\0"): _NIFTI, (344, b"ni1\0"): _NIFTI,
    (257, b"ustar"): ("a tar archive", _UNPACK),
    (0, b"GIF8"): ("a GIF", _CONVERT), (0, b"%PDF"): ("a PDF", _CONVERT), (0, b"8BPS"): ("a Photoshop file", _CONVERT),
    (0, b"%!PS"): ("a PostScript file", _CONVERT), (0, b"\0\0\0\x0cjP  "): _JPEG_2000,
    (0, b"\xff\x4f\xff\x51"): _JPEG_2000,
    (0, b"PK\3\4"): ("a ZIP archive", _UNPACK), (0, b"\x1f\x8b"): ("a gzip archive", _UNPACK),
    (0, b"Rar!"): ("a RAR archive", _UNPACK), (0, b"7z\xbc\xaf"): ("a 7-Zip archive", _UNPACK),
    (0, b"BZh"): ("a bzip2 archive", _UNPACK), (0, b"\xfd7zXZ"): ("an xz archive", _UNPACK),
    (0, b"\x93NUMPY"): _ARRAY, (0, b"\x89HDF"): _ARRAY, (0, b"MATLAB 5"): _ARRAY, (0, b"NRRD"): _VOLUME,
    (0, b"ObjectType"): _VOLUME, (4, b"ftyp"): _HEIC, (0, b"<"): ("a web page or XML file", _CONVERT)}

_NAMES = {
    "dicomdir": _DICOMDIR, ".nii": _NIFTI, ".nii.gz": _NIFTI,
    ".gif": _CONTENT[0, b"GIF8"], ".pdf": _CONTENT[0, b"%PDF"], ".zip": _CONTENT[0, b"PK\3\4"],
    ".rar": _CONTENT[0, b"Rar!"], ".7z": _CONTENT[0, b"7z\xbc\xaf"], ".tar": _CONTENT[257, b"ustar"],
    ".tar.gz": _CONTENT[257, b"ustar"], ".tgz": _CONTENT[257, b"ustar"], ".gz": _CONTENT[0, b"\x1f\x8b"],
    ".bz2": _CONTENT[0, b"BZh"], ".xz": _CONTENT[0, b"\xfd7zXZ"], ".npy": _ARRAY, ".npz": _ARRAY, ".h5": _ARRAY,
    ".hdf5": _ARRAY, ".mat": _ARRAY, ".mha": _VOLUME, ".mhd": _VOLUME, ".nrrd": _VOLUME, ".jp2": _JPEG_2000,
    ".j2k": _JPEG_2000, ".heic": _HEIC, ".avif": _HEIC, ".mp4": _HEIC, ".avi": _HEIC, ".svg": ("an SVG file", _CONVERT),
    ".xlsx": _SHEET, ".xls": _SHEET, ".ods": _SHEET, ".pgm": ("a PGM file", _CONVERT),
    ".ppm": ("a PPM file", _CONVERT), ".tga": ("a TGA file", _CONVERT)}

# Images that are read, where their name does not say so.
_READ = {b"\x89PNG": "PNG", b"\xff\xd8\xff": "JPG", b"II*\0": "TIF", b"MM\0*": "TIF"}


def is_dicom(data):
    r"""Return whether the first 132 bytes of a file are those of a DICOM file, which may lack the preamble.

    >>> is_dicom(bytes(128) + b"DICM"), is_dicom(b"\x08\0\5\0CS\n\0ISO_IR 100"), is_dicom(b"BM\0\0")
    (True, True, False)
    """
    if data[128:132] == b"DICM":
        return True
    # Without it the file begins with an element of group 2 or 8: its number, two capitals that name its type or, without
    # them, its length, which is short.
    is_typed = data[4:6].isalpha() and data[4:6].isupper()
    if data[:2] in (b"\2\0", b"\x08\0"):
        return data[3:4] == b"\0" and (is_typed or len(data) > 8 and 0 < data[4] <= 64 and data[5:8] == bytes(3))
    return data[:3] in (b"\0\2\0", b"\0\x08\0") and is_typed


def is_image(path):
    """Return whether a file is an image by its name or, without an extension (as 1.2.840.1), a DICOM file by its content."""
    name = os.path.basename(path).lower()
    if name.endswith(EXTENSIONS) or re.search(r"\.[a-z][a-z0-9]*$", name) or name == "dicomdir":
        return name.endswith(EXTENSIONS)
    return is_dicom(_first_bytes(path))


def kind_of(data):
    """Return (what data is that is not read, such as "a GIF"; what to do about it) by its first 512 bytes, or None.

    >>> kind_of(b"GIF89a")[0], kind_of(b"hello")
    ('a GIF', None)
    """
    data = data[:512]
    begin = data.lstrip()
    for (at, magic), kind in _CONTENT.items():
        if data[at:at + len(magic)] == magic or at == 0 and begin.startswith(magic):
            return kind
    return _DICOM if is_dicom(data) else None


def kind_of_file(path, sniff=True):
    """Return the kind of a file as `kind_of` does, by its name or else, with `sniff`, its content; None if unknown.

    An image that is read, but is not named like one, has a kind too: the way is to rename it.
    """
    name = os.path.basename(path).lower()
    kind = next((kind for end, kind in _NAMES.items() if name.endswith(end)), None)
    if kind is not None or not sniff:
        return kind
    data = _first_bytes(path)
    read = next((read for magic, read in _READ.items() if data.startswith(magic)), None)
    return (f"a {read} image", f"It is read where its name ends with .{read.lower()}.") if read else kind_of(data)


def _first_bytes(path):
    """Return the first 512 bytes of a file; none where it cannot be read."""
    try:
        file, _ = open_regular(path)
        with file:
            return file.read(512)
    except OSError:
        return b""


def counted(kinds):
    """Return what a Counter of kinds holds, in words, and then the way of each.

    >>> from collections import Counter
    >>> counted(Counter({("a GIF", "Convert it."): 2, ("a PDF", "Convert it."): 1}))
    '2 GIFs, 1 PDF. Convert it.'
    """
    words = [f"{count:,} {kind.partition(' ')[2]}{'s' * (count > 1)}" for (kind, _), count in kinds.most_common()]
    return f"{', '.join(words)}. {' '.join(dict.fromkeys(way for _, way in kinds))}".rstrip()
