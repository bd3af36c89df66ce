"""Files of kinds that are not read: which kind one is, by its content or its name, and what to do with it."""

import os

from minicnn.core.files import open_regular

__all__ = ["kind_of", "kind_of_file", "counted"]

_CONVERT = "Convert it, for instance to PNG."
_UNPACK = "Unpack it first."
_DICOM = ("a DICOM file", "Convert it to PNG of 8 or 16 bits with a DICOM tool, such as dcmj2pnm of DCMTK or pydicom.")
_NIFTI = ("a NIfTI file", "It holds a volume, such as a CT, and no radiograph.")
_ARRAY = ("an array file", "Save each image as a PNG, or pass the array to fit in Python.")
_VOLUME = ("a NRRD or MetaImage file", _CONVERT)
_JPEG_2000, _HEIC = ("a JPEG 2000 file", _CONVERT), ("a HEIC or AVIF file, or a film", _CONVERT)
_SHEET = ("a spreadsheet", "Save the sheet as a CSV file in UTF-8.")

# (position, bytes there): the kind and the way. More telling ones come first.
_CONTENT = {
    (128, b"DICM"): _DICOM, (344, b"n+1\0"): _NIFTI, (344, b"ni1\0"): _NIFTI,
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
    ".dcm": _DICOM, ".dicom": _DICOM, ".dic": _DICOM, ".ima": _DICOM, ".nii": _NIFTI, ".nii.gz": _NIFTI,
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


def kind_of(data):
    """Return (what data is that is not read, such as "a GIF"; what to do about it) by its first 512 bytes, or None.

    >>> kind_of(bytes(128) + b"DICM")[0], kind_of(b"hello")
    ('a DICOM file', None)
    """
    data = data[:512]
    begin = data.lstrip()
    for (at, magic), kind in _CONTENT.items():
        if data[at:at + len(magic)] == magic or at == 0 and begin.startswith(magic):
            return kind
    # DICOM without its preamble begins with a tag of group 2 or 8 and, mostly, two capitals that name its type.
    if data[:2] in (b"\2\0", b"\x08\0") and data[3:4] == b"\0" and data[4:6].isalpha() and data[4:6].isupper():
        return _DICOM
    return None


def kind_of_file(path, sniff=True):
    """Return the kind of a file as `kind_of` does, by its name or else, with `sniff`, its content; None if unknown.

    An image that is read, but is not named like one, has a kind too: the way is to rename it.
    """
    name = os.path.basename(path).lower()
    kind = next((kind for end, kind in _NAMES.items() if name.endswith(end)), None)
    if kind is not None or not sniff:
        return kind
    try:
        file, _ = open_regular(path)
        with file:
            data = file.read(512)
    except OSError:
        return None
    read = next((read for magic, read in _READ.items() if data.startswith(magic)), None)
    return (f"a {read} image", f"It is read where its name ends with .{read.lower()}.") if read else kind_of(data)


def counted(kinds):
    """Return what a Counter of kinds holds, in words, and then the way of each.

    >>> from collections import Counter
    >>> counted(Counter({("a GIF", "Convert it."): 2, ("a PDF", "Convert it."): 1}))
    '2 GIFs, 1 PDF. Convert it.'
    """
    words = [f"{count:,} {kind.partition(' ')[2]}{'s' * (count > 1)}" for (kind, _), count in kinds.most_common()]
    return f"{', '.join(words)}. {' '.join(dict.fromkeys(way for _, way in kinds))}".rstrip()
