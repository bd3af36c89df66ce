"""DICOM files that tests make with pydicom, and those that come with pydicom and pydicom-data."""

import io
from pathlib import Path

import numpy as np

__all__ = ["made", "shipped"]


def made(pixels, bits=None, color="MONOCHROME2", syntax="1.2.840.10008.1.2.1", preamble=True, compressed=False, **tags):
    """Return the bytes of a DICOM file.

    Parameters
    ----------
    pixels : ndarray, shape (H, W), or (H, W, 3), of 8, 16 or 32 bits, signed or not
    bits : int, Bits Stored; all by default
    syntax : the UID of an uncompressed transfer syntax
    preamble : bool; False leaves out the preamble and the group 2
    compressed : bool; as RLE
    tags : keywords of DICOM with their values; None leaves one out that is written otherwise
    """
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UID, RLELossless

    ds, syntax = Dataset(), UID(syntax)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = "1.2.840.10008.5.1.4.1.1.1.1", "1.2.3", "DX"
    allocated = 8 * pixels.dtype.itemsize
    ds.Rows, ds.Columns = pixels.shape[:2]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = (3 if pixels.ndim == 3 else 1), color
    if pixels.ndim == 3:
        ds.PlanarConfiguration = 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = allocated, bits or allocated, (bits or allocated) - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    order = "<" if syntax.is_little_endian else ">"
    ds.PixelData = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    ds["PixelData"].VR = "OW" if allocated > 8 else "OB"
    for keyword, value in tags.items():
        if value is None:
            del ds[keyword]
        else:
            setattr(ds, keyword, value)
    if compressed:
        ds.compress(RLELossless, generate_instance_uid=False)
    file = io.BytesIO()
    if preamble:
        ds.save_as(file, enforce_file_format=True)
    else:
        ds.save_as(file, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian)
        data = file.getvalue()
        start = data.index(np.array([8, 0x16], order + "u2").tobytes())        # SOP Class UID, the first element
        return data[start:]
    return file.getvalue()


def shipped():
    """Return {name: path} of all files of pydicom and pydicom-data that are DICOM by their content."""
    import data_store
    import pydicom

    from minicnn.data.file_kinds import is_dicom

    found = {}
    for root in (Path(pydicom.__file__).parent / "data", Path(data_store.__file__).parent / "data"):
        for path in sorted(root.rglob("*")):
            if path.is_file() and path.suffix not in (".py", ".pyc", ".json"):
                with open(path, "rb") as file:
                    if is_dicom(file.read(512)):
                        found[path.relative_to(root).as_posix()] = path
    return found
