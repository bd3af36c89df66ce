"""Untrusted input, and what minicnn does with it: damaged images, bombs, drawn manifests, forged models, odd names.

The generators are deterministic. Each `measure_...` feeds one kind to minicnn and returns values: tests use few files,
the promises of benchmarks/reliability many. Counts that must be 0 are `untyped` (an error that is no MiniCNNError, or
one with raw control characters) and `wrong` (a result that breaks a promise). Crashes and hangs raise: the work runs in
a child that an alarm ends.
"""

import csv
import io
import json
import os
import random
import resource
import struct
import sys
import time
import warnings
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.processes import measure_process
from benchmarks.reliability.children import outcomes
from minicnn.data import Manifest
from minicnn.data.preprocessing import decode
from minicnn.errors import ImageError, ManifestError

__all__ = ["IMAGES", "PAYLOADS", "FORGERIES", "in_child", "is_plain", "saved", "chunk", "dicom", "damaged", "sized", "bombs",
           "hostile_folder", "drawn_manifest", "forged", "forbid_effects", "measure_images", "measure_bombs",
           "measure_manifests", "measure_rows", "measure_rows_alone"]

_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"iCCP", b"eXIf", b"zTXt", b"acTL", b"fcTL", b"IDAT")
_EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def in_child(work, seconds=120):
    """Return the JSON value that work() returns, computed in a forked child that is killed after `seconds`.

    Raises AssertionError if the child crashed or hung, RuntimeError if it ended by an exception.
    """
    said, = outcomes(lambda _: json.dumps(work()), 1, seconds)
    assert said not in ("crashed", "hung"), f"the child {said}"
    return json.loads(said)


def is_plain(text):
    """Return whether a text is safe for a terminal: lines of printable characters."""
    return all(line.isprintable() for line in text.split("\n"))


def _peak():
    """Return the peak memory of this process, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _silent():
    """Silence warnings, and stderr: libtiff, in C, writes there by itself."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    warnings.simplefilter("ignore")


def _tally(cases, handle, refusal, plain=str.isprintable):
    """Return {"refused", "untyped", "worst_seconds"} and how often handle(case) returned each other word.

    An error of type `refusal` whose text is `plain` counts as refused, any other error as untyped.
    """
    counts, worst = Counter(refused=0, untyped=0), 0.0
    for case in cases:
        began = time.perf_counter()
        try:
            counts[handle(case)] += 1
        except refusal as error:
            counts["refused" if plain(str(error)) else "untyped"] += 1
        except Exception:
            counts["untyped"] += 1
        worst = max(worst, time.perf_counter() - began)
    return counts | {"worst_seconds": worst}


# ---- Images ----------------------------------------------------------------------------------------------------------

def saved(image, format_, **options):
    """Return the bytes of an image file that Pillow wrote, from an array or an image."""
    file = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(file, format_, **options)
    return file.getvalue()


def chunk(name, data):
    """Return one chunk of a PNG, its checksum right."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


_SYNTAX = "1.2.840.10008.1.2."


def element(group, number, kind, value, length=None):
    """Return one element of a DICOM file, explicit VR and little-endian; `length` is what it says of its own."""
    is_long = kind in (b"OB", b"OW", b"SQ", b"UN", b"UT")
    value += b"" if len(value) % 2 == 0 else b"\0" if kind in (b"OB", b"UI", b"OW") else b" "
    length = len(value) if length is None else length
    return struct.pack("<HH2s2xL" if is_long else "<HH2sH", group, number, kind, length) + value


def dicom(pixels, size, syntax="1", samples=1, bits=16, color=b"MONOCHROME2", more=b"", before=b"", megabytes=0):
    """Return a DICOM file of `size` (columns, rows) by hand.

    `pixels` are its values, or the codestream of the transfer syntax that ends with `syntax`. `more` are elements of group 0028 after
    Pixel Representation, `before` those in front of it all. Of a deflated file so many megabytes of zeros follow.
    """
    def word(number, value):
        return element(0x28, number, b"US", struct.pack("<H", value))

    uid = (_SYNTAX + syntax).encode()
    meta = element(2, 0x10, b"UI", uid)
    head = before + element(8, 0x60, b"CS", b"DX") + word(2, samples) + element(0x28, 4, b"CS", color)
    head += (word(6, 0) if samples > 1 else b"") + word(0x10, size[1] & 0xFFFF) + word(0x11, size[0] & 0xFFFF)
    head += word(0x100, bits) + word(0x101, bits) + word(0x102, bits - 1) + word(0x103, 0) + more
    if syntax in ("1", "1.99"):
        dataset = head + element(0x7FE0, 0x10, b"OW", pixels)
    else:
        item = struct.pack("<HHL", 0xFFFE, 0xE000, len(pixels) + len(pixels) % 2) + pixels + bytes(len(pixels) % 2)
        end = struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
        dataset = head + element(0x7FE0, 0x10, b"OB", struct.pack("<HHL", 0xFFFE, 0xE000, 0) + item + end, 2**32 - 1)
    if syntax == "1.99":
        deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
        dataset = b"".join([deflate.compress(part) for part in (dataset, *[bytes(2**20)] * megabytes)] + [deflate.flush()])
    group = element(2, 0, b"UL", struct.pack("<L", len(meta)))
    return bytes(128) + b"DICM" + group + meta + dataset


def _run_lengths(plane):
    """Return bytes as run lengths: literals of 128, an odd end padded."""
    parts = b"".join(bytes([len(plane[i:i + 128]) - 1]) + plane[i:i + 128] for i in range(0, len(plane), 128))
    return parts + bytes(len(parts) % 2)


def _dicom_images(colour, deep):
    size, window = (24, 20), element(0x28, 0x1050, b"DS", b"32768") + element(0x28, 0x1051, b"DS", b"65536")
    planes = [_run_lengths(part.tobytes()) for part in ((deep >> 8).astype(np.uint8), (deep & 255).astype(np.uint8))]
    header = struct.pack("<16L", 2, 64, 64 + len(planes[0]), *[0] * 13)
    jpeg_2000 = saved(Image.fromarray(deep), "JPEG2000", irreversible=False, no_jp2=True)
    return {"DICOM": dicom(deep.tobytes(), size, more=window), "DICOM deflated": dicom(deep.tobytes(), size, "1.99"),
            "DICOM RLE": dicom(header + b"".join(planes), size, "5"),
            "DICOM JPEG": dicom(saved(colour, "JPEG"), size, "4.50", 3, 8, b"YBR_FULL_422"),
            "DICOM J2K": dicom(jpeg_2000, size, "4.90")}


def _images():
    noise = np.random.default_rng(5).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    deep = np.random.default_rng(6).integers(0, 65536, (20, 24), dtype=np.uint16)
    few = Image.fromarray(noise).quantize(16)
    return {"PNG": saved(noise, "PNG"), "PNG16": saved(deep, "PNG"), "palette": saved(few, "PNG"),
            "JPEG": saved(noise, "JPEG"), "BMP": saved(noise, "BMP"), "GIF": saved(few, "GIF"),
            "TIFF": saved(noise, "TIFF", compression="tiff_lzw"), "WEBP": saved(noise, "WEBP"), **_dicom_images(noise, deep)}


# One good file of each kind that is mutated. GIF is refused for what it is, and so is every mutant of it.
IMAGES = _images()


def _flip_bits(data, draw):
    for _ in range(draw.randint(1, 8)):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)


def _cut(data, draw):
    del data[draw.randrange(len(data)):]


def _move(data, draw):
    """Delete a slice, or put it in a second time elsewhere."""
    first, last = sorted((draw.randrange(len(data)), draw.randrange(len(data))))
    if draw.random() < 0.5:
        del data[first:last]
    else:
        at = draw.randrange(len(data))
        data[at:at] = data[first:last]


def _change_number(data, draw):
    """Put an extreme number where a header or a directory of tags has its sizes, lengths and offsets."""
    start = 128 if data[128:132] == b"DICM" else 0
    if data[:2] in (b"II", b"MM") and draw.random() < 0.8:
        start = int.from_bytes(data[4:8], "little")
    width = draw.choice((1, 2, 4))
    at = min(start + draw.randrange(160), max(len(data) - width, 0))
    value = draw.choice(_EXTREMES) & (256**width - 1)
    data[at:at + width] = value.to_bytes(width, draw.choice(("little", "big")))


def _change_chunk(data, draw):
    """Edit, drop or repeat a chunk of a PNG, its checksum right, so that the edit counts; else change a number."""
    if not data.startswith(b"\x89PNG"):
        return _change_number(data, draw)
    chunks, at = [], 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at:at + 4], "big")
        chunks.append((bytes(data[at + 4:at + 8]), bytearray(data[at + 8:at + 8 + length])))
        at += 12 + length
    if chunks:
        i = draw.randrange(len(chunks))
        name, content = chunks[i]
        kind = draw.randrange(5)
        if kind == 0:
            del chunks[i]
        elif kind == 1:
            chunks.insert(draw.randrange(len(chunks) + 1), chunks[i])
        elif kind == 2:
            chunks[i] = draw.choice(_CHUNKS), content
        elif content:
            width = draw.choice((1, 2, 4))
            at = draw.randrange(len(content))
            content[at:at + width] = (draw.choice(_EXTREMES) & (256**width - 1)).to_bytes(width, "big")
        data[8:] = b"".join(chunk(*pair) for pair in chunks)


def damaged(n, seed=0):
    """Yield n pairs (kind, bytes): the images of `IMAGES` in turn, each with one to three faults."""
    draw, kinds = random.Random(seed), list(IMAGES)
    for i in range(n):
        data = bytearray(IMAGES[kinds[i % len(kinds)]])
        for _ in range(draw.randint(1, 3)):
            if data:
                draw.choice((_flip_bits, _cut, _move, _change_number, _change_chunk, _change_chunk))(data, draw)
        yield kinds[i % len(kinds)], bytes(data)


def sized(kind, width, height):
    """Return the file of `IMAGES` that claims to have another size; WebP's largest is 16,384."""
    data = bytearray(IMAGES[kind])
    if kind in ("PNG", "PNG16", "palette"):
        header = chunk(b"IHDR", struct.pack(">II", width, height) + bytes(data[24:29]))
        return bytes(data[:8]) + header + bytes(data[33:])
    if kind.startswith("DICOM"):
        return dicom(b"", (width, height), {"DICOM": "1", "DICOM deflated": "1.99", "DICOM RLE": "5", "DICOM JPEG": "4.50",
                                            "DICOM J2K": "4.90"}[kind])
    if kind == "JPEG":
        at = data.index(b"\xff\xc0")
        data[at + 5:at + 9] = struct.pack(">HH", height, width)
    elif kind == "BMP":
        data[18:26] = struct.pack("<ii", width, height)
    elif kind == "GIF":
        data[6:10] = struct.pack("<HH", width, height)
    elif kind == "WEBP":
        at = data.index(b"\x9d\x01\x2a") + 3
        data[at:at + 4] = struct.pack("<HH", min(width, 16383), min(height, 16383))
    else:
        at = int.from_bytes(data[4:8], "little") + 2
        while True:
            tag = int.from_bytes(data[at:at + 2], "little")
            if tag not in (256, 257):
                break
            data[at + 2:at + 12] = struct.pack("<HII", 4, 1, width if tag == 256 else height)
            at += 12
    return bytes(data)


def _tiff(tags, data):
    """Return a little-endian TIFF with these (tag, type, count, value), and data behind them."""
    entries = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4) + data


def _grey_tiff(width, height, strips, *more):
    """Return a grey TIFF of one row a strip whose `strips` offsets and lengths are all the same."""
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 4, 1, 8), (259, 4, 1, 1), (262, 4, 1, 1), (277, 4, 1, 1),
            (278, 4, 1, 1), *more]
    at = 8 + 2 + 12 * (len(tags) + 2) + 4
    return _tiff(tags + [(273, 4, strips, at), (279, 4, strips, at)], struct.pack("<I", at) * min(strips, 400_000))


def bombs():
    """Return {name: bytes} of small files that would cost minutes or gigabytes; each must be an ImageError at once."""
    png, jpeg = IMAGES["PNG"], IMAGES["JPEG"]
    zeros = zlib.compress(bytes(100 * 2**20), 9)

    def segment(marker, content):
        return b"\xff" + bytes([marker]) + struct.pack(">H", len(content) + 2) + content

    def riff(name, content):
        content = name + struct.pack("<I", len(content)) + content
        return b"RIFF" + struct.pack("<I", len(content) + 4) + b"WEBP" + content

    flat = saved(np.zeros((4000, 4000), np.uint8), "JPEG", progressive=True)
    scan = flat[flat.rindex(b"\xff\xda"):-2]
    side = (20_000 - 1).to_bytes(3, "little")
    return {
        "PNG, text of 100 MB in a chunk": png[:33] + chunk(b"zTXt", b"a\0\0" + zeros) + png[33:],
        "PNG, international text": png[:33] + chunk(b"iTXt", b"a\0\1\0\0\0" + zeros) + png[33:],
        "PNG, profile of 100 MB": png[:33] + chunk(b"iCCP", b"a\0\0" + zeros) + png[33:],
        "PNG, 100 texts of 1 MB": png[:33] + 100 * chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**6))) + png[33:],
        "JPEG, 10,000 scans": flat[:-2] + scan * 10_000 + flat[-2:],
        "JPEG, EXIF in 400,000 parts": jpeg[:2] + segment(0xE1, b"Exif\0\0x") * 400_000 + jpeg[2:],
        "TIFF, 400,000 strips": _grey_tiff(1, 400_000, 400_000),
        "TIFF, 400,000 strips for 9 rows": _grey_tiff(9, 9, 400_000),
        "TIFF, 2**32 - 1 strips": _grey_tiff(9, 9, 2**32 - 1),
        "TIFF, 60,000 tags": _grey_tiff(9, 9, 9, *[(60000, 4, 1, 0)] * 60_000),
        "TIFF, sizes of 2**31": _grey_tiff(2**31 - 1, 2**31 - 1, 1),
        **_dicom_bombs(),
        "WebP, a canvas of 20,000": riff(b"VP8X", bytes(4) + side * 2),
        "WebP, lossless of 16,384": riff(b"VP8L", b"\x2f" + struct.pack("<I", 2**28 - 1) + bytes(50)),
    }


def _dicom_bombs():
    small, pixels = (24, 20), bytes(960)
    rows = element(0x28, 0x10, b"UL", struct.pack("<L", 2**31))
    nested = b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff" * 100_000
    j2k = b"\xff\x4f\xff\x51" + struct.pack(">HH8LH", 41, 0, 2**31, 2**31, 0, 0, 2**31, 2**31, 0, 0, 1) + bytes(9)
    return {
        "DICOM, 2**31 rows": dicom(pixels, small, more=rows),
        "DICOM, 65,535 x 65,535": dicom(pixels, (65535, 65535)),
        "DICOM, 3 samples of 60,000 x 60,000": dicom(pixels, (60_000, 60_000), samples=3, color=b"RGB"),
        "DICOM, 2**31 frames": dicom(pixels, small, more=element(0x28, 8, b"IS", b"2147483647")),
        "DICOM, 300 MB deflated": dicom(pixels, small, "1.99", megabytes=300),
        "DICOM, 2,000,000 elements": dicom(pixels, small, before=element(8, 0, b"LO", b"") * 2_000_000),
        "DICOM, sequences 100,000 deep": dicom(pixels, small, before=nested),
        "DICOM, a character set of 8 MB": dicom(pixels, small, before=element(8, 5, b"UT", b"a\\" * 2**22)),
        "DICOM, 100,000 character sets": dicom(pixels, small, before=element(8, 5, b"CS", b"a\\" * 60) * 100_000),
        "DICOM, an element of 4 GB": dicom(pixels, small, before=element(8, 0x20, b"UT", b"a", 2**32 - 2), color=b""),
        "DICOM, a window of 8 MB": dicom(pixels, small, more=element(0x28, 0x1050, b"UT", b"1\\" * 2**22)),
        "DICOM, a slope that is no number": dicom(pixels, small, more=b"".join(
            element(0x28, number, b"DS", word) for number, word in ((0x1052, b"0"), (0x1053, b"x")))),
        "DICOM, 1,000,000 fragments": dicom((b"\xfe\xff\0\xe0" + bytes(4)) * 1_000_000, small, "5"),
        "DICOM, J2K of 2**31": dicom(j2k, small, "4.90"),
        "DICOM, JPEG of 65,535": dicom(sized("JPEG", 65535, 65535), small, "4.50", 3, 8, b"YBR_FULL_422"),
        "DICOM, run lengths of 30 MB": dicom(struct.pack("<16L", 2, 64, 64, *[0] * 13) + b"\x81\0" * 15_000_000, small, "5"),
        "DICOM, pixels cut off": dicom(pixels[:100], small),
    }


def measure_images(n, seed=0):
    """Decode n damaged images; return counts and the worst time.

    Returns
    -------
    dict : files, decoded, refused, untyped, wrong (pixels that are not in 0 .. 255), worst_seconds
    """
    def handle(case):
        kind, data = case
        pixels = decode(data)
        good = np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= 255 and kind != "GIF"
        return "decoded" if good else "wrong"

    def work():
        _silent()
        return {"files": n, "decoded": 0, "wrong": 0} | _tally(damaged(n, seed), handle, ImageError)
    return in_child(work, 60 + n // 100)


def measure_bombs():
    """Decode every bomb, and every kind of image that claims 20,000 x 20,000 pixels.

    Returns
    -------
    dict : files, refused, untyped, wrong (names of those that were decoded), worst_seconds, grown_bytes
    """
    files = bombs() | {f"{kind} of 20,000 x 20,000": sized(kind, 20_000, 20_000) for kind in IMAGES}

    def work():
        _silent()
        before, decoded = _peak(), []

        def handle(name):
            decode(files[name])
            decoded.append(name)
            return "decoded"

        counts = _tally(files, handle, ImageError)
        return counts | {"files": len(files), "wrong": decoded, "grown_bytes": _peak() - before}
    return in_child(work)


# ---- Manifests -------------------------------------------------------------------------------------------------------

_CELLS = ["a.png", "b.png", "./a.png", "sub/../b.png", "none.png", "../a.png", "/etc/passwd", "/dev/zero", "pipe.png",
          "out.png", "loop.png", "sub", "", "normal", "covid", "covdi", "train", "test", "=1+1", "-1",
          "\x1b[2J", "\u202e", "\0", "e\u0301.png", "x" * 300, '"', ",", "\n", "\r", "a\r\nb", ";", "\ufeff", "99"]
_HEADS = [*["path,label"] * 8, "path,label,split", "label,path,patient_id", "path,label,patient_id,source,view,split",
          "path;label", "path", "", "path,label,label", "\ufeffpath,label", "PATH,LABEL", '"path","label"']


def hostile_folder(root):
    """Make the files that drawn manifests name: two images, a FIFO, links that lead outside and in circles."""
    (root / "sub").mkdir(parents=True)
    for name in ("a.png", "b.png"):
        (root / name).write_bytes(b"x")
    os.mkfifo(root / "pipe.png")
    (root.parent / "secret.png").write_bytes(b"x")
    (root / "out.png").symlink_to("../secret.png")
    (root / "loop.png").symlink_to("loop.png")


def drawn_manifest(draw):
    """Return the bytes of a CSV file: mostly good rows, some of anything, and at times raw bytes between."""
    out = io.StringIO()
    end = draw.choice(("\n", "\n", "\r\n", "\r"))
    quoting = draw.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL))
    writer = csv.writer(out, lineterminator=end, quoting=quoting, escapechar="\\")
    head = draw.choice(_HEADS)
    out.write(head + end)
    odd = draw.choice((0, 0, 0.4))
    for _ in range(draw.randrange(8)):
        good = list(draw.choice((("a.png", "normal"), ("b.png", "covid"))))
        row = good if draw.random() >= odd else [draw.choice(_CELLS) for _ in range(draw.randint(1, 6))]
        writer.writerow(row + [draw.choice(_CELLS) for _ in range(max(head.count(",") - 1, 0))] * (row is good))
    data = bytearray(out.getvalue(), "utf-8")
    if draw.random() < 0.3 and data:
        at = draw.randrange(len(data))
        data[at:at] = draw.choice((b"\xff", b"\0", b"\xc3", b"\r", b'"', b"\xff\xfe", draw.randbytes(9)))
    return bytes(data) if draw.random() < 0.97 else out.getvalue().encode("utf-16")


def measure_manifests(n, folder, seed=0):
    """Read n drawn manifests in `folder`.

    Returns
    -------
    dict : files, read, refused, untyped, wrong (a manifest with a file from outside of its root), worst_seconds
    """
    root = Path(folder) / "root"
    hostile_folder(root)

    draw = random.Random(seed)

    def cases():
        for _ in range(n):
            (root / "index.csv").write_bytes(drawn_manifest(draw))
            yield draw.choice((None, None, ["normal", "covid"]))

    def handle(classes):
        manifest = Manifest.read(root / "index.csv", classes=classes)
        return "read" if set(manifest.names) <= {"a.png", "b.png", "index.csv"} else "wrong"

    def work():
        warnings.simplefilter("ignore")
        return {"files": n, "read": 0, "wrong": 0} | _tally(cases(), handle, ManifestError, is_plain)
    return in_child(work, 60 + n // 50)


def measure_rows(n, folder):
    """Read a manifest of n rows, each with a file of its own, in this process, whose peak memory is measured.

    Returns
    -------
    dict : rows, seconds, peak_bytes (of the whole process)
    """
    root = Path(folder)
    for i in range(0, n, 1000):
        (root / f"{i // 1000:04d}").mkdir()
    with open(root / "index.csv", "w", encoding="utf-8") as file:
        file.write("path,label,patient_id,source,view\n")
        for i in range(n):
            name = f"{i // 1000:04d}/image{i:07d}.png"
            os.close(os.open(root / name, os.O_CREAT | os.O_WRONLY, 0o600))
            file.write(f"{name},{'covid' if i % 3 else 'normal'},patient-{i // 2},{'abc'[i % 3]},PA\n")
    began = time.perf_counter()
    manifest = Manifest.read(root / "index.csv")
    seconds = time.perf_counter() - began
    assert len(manifest) == n and manifest.labels.sum() == n - -(-n // 3)
    assert manifest.patients[-1] == f"patient-{(n - 1) // 2}"
    return {"rows": n, "seconds": seconds, "peak_bytes": _peak()}


def measure_rows_alone(n, folder):
    """Return what `measure_rows` returns in a new process."""
    return measure_process("-c", "import json, sys; from benchmarks.reliability.hostile_files import measure_rows; "
                           "print(json.dumps(measure_rows(int(sys.argv[1]), sys.argv[2])))", n, folder)["output"]


# ---- Names -----------------------------------------------------------------------------------------------------------

def _payloads():
    """Return 200 names with a meaning for a browser, a spreadsheet, a template, a terminal or a shell."""
    seeds = ['"><img src=x onerror=alert(1)>', "</script><script>alert(1)</script>", "</title></style><svg onload=x>",
             "' onmouseover='x", "javascript:alert(1)", "<iframe src=//x.test>", "<!--", "]]>", "&lt;b&gt;",
             "<base href=//x>",
             "<meta http-equiv=refresh content=0>", "${7*7}{{7*7}}{% raw %}", "{{ config }}", "{%", "#{7*7}", "%s%n{0}",
             "=1+1", "+1", "-1", "@x", "\t=1", "\r=1", "\n=1", '=cmd|" /C calc"!A0', "url(http://x.test/)",
             "`id`;$(id)|&",
             "a\x1b[31m", "\x1b]0;t\x07", "\x9b2J", "\u202egnp.exe", "\u2066x", "\u200b", "\x00", "\x7f", "\ud800",
             "\udcff",
             "| a | b |\n|---|---|", "**b** [x](javascript:1)", "$\\frac{", "nul\\con"]
    draw, made = random.Random(7), list(seeds)
    while len(made) < 200:
        between = draw.choice(("", " ", '"', "'", ">", "\n", "abc"))
        made.append(draw.choice(seeds) + between + draw.choice(seeds))
    return made


PAYLOADS = _payloads()


# ---- Forged models ---------------------------------------------------------------------------------------------------

def _dense(**changes):
    return lambda a: a | {"layers": [a["layers"][0], a["layers"][1] | changes, *a["layers"][2:]]}


def _nested(n):
    return json.loads("[" * n + "]" * n)


# What is forged in the description of a model (a Flatten, a Dense of 1 unit, a Sigmoid; (2, 2, 1)): the name of the
# entry, and a function from what it is to what it becomes, or its new JSON text. The file around it is whole and its
# digest right.
FORGERIES = {
    **{f"units {value!r}"[:40]: ("architecture", _dense(units=value))
       for value in (2**31, 2**31 - 1, 10**30, -1, 0, 1.5, "1", None, True, [1], {}, float("nan"))},
    **{f"type {value!r}": ("architecture", _dense(type=value))
       for value in ("Lambda", "os.system", "__class__", [], None)},
    **{f"name {value!r}"[:40]: ("architecture", _dense(name=value)) for value in ("\x1b[2J", "a" * 65, [], 7, "../x")},
    "an argument that is none": ("architecture", _dense(**{"\x1b[2J\u202e": 1})),
    "an initializer that is code": ("architecture", _dense(kernel_initializer="os.system")),
    **{f"input_shape {value!r}"[:40]: ("architecture", lambda a, value=value: a | {"input_shape": value})
       for value in ([], [2**31, 1, 1], [2**31 - 1] * 3, "abc", None, [2.5, 2, 1], [-2, 2, 1], {"2": 1}, 7)},
    **{f"seed {value!r}": ("architecture", lambda a, value=value: a | {"seed": value})
       for value in ("x", -1, 2**64, None, [])},
    **{f"dtype {value!r}": ("architecture", lambda a, value=value: a | {"dtype": value})
       for value in ("float16", "object", [], {"a": 1})},
    **{f"layers {value!r}": ("architecture", lambda a, value=value: a | {"layers": value})
       for value in (None, {}, [], [1], "abc")},
    "5,000 layers": ("architecture", lambda a: a | {
        "layers": a["layers"][:1] + [{"type": "ReLU", "name": None}] * 5000 + a["layers"][1:]}),
    "an outsized padded pool": ("architecture", lambda a: a | {"input_shape": [65536, 65536, 1], "layers": [
        {"type": "MaxPool2D", "name": "p", "pool_size": 2, "strides": 1, "padding": "same"}, *a["layers"]]}),
    **{f"architecture {text[:20]}": ("architecture", text) for text in ("[]", "null", "{", "NaN", "[" * 100_000)},
    "nested 900 deep": ("architecture", lambda a: _nested(900)),
    **{f"classes {text}": ("classes", text) for text in (
        '["=1", "b"]', '["\\u001b[2J", "b"]', '["a", "a"]', "[]", '["a"]', "7", '"ab"', "[null, {}]",
        '["a", "b", "c", "d"]',
        '{"a": 1}')},
    "classes nested 900 deep": ("classes", lambda _: [_nested(900), "b"]),
    **{f"history {text}": ("history", text) for text in (
        "[1]", "7", "null", "{}", '[{"epoch": "x"}]', '[{"epoch": 1, "loss": NaN}]', '[{"epoch": 1, "loss": "nan"}]',
        '[{"epoch": 1, "loss": 1e400}]', '[{"epoch": 1, "loss": [1]}]', "[{}]",
        '[{"epoch": 1, "\\u001b[2J": 1.0}]', '[{"epoch": 1, "=1": 1.0}]', '[{"epoch": -3}]')},
    **{f"preprocessing {text}": ("preprocessing", text) for text in (
        "[]", "7", '{"height": 64}',
        '{"height": 4096, "width": 4096, "channels": 3, "color": "grey", "resample": "bilinear", "decoder": 1}')},
    **{f"optimizer {text}": ("optimizer", text) for text in (
        '{"type": "os"}', '{"type": []}', "[]", "7", '{"type": "SGD"}', '{"type": "Adam", "learning_rate": NaN}',
        '{"type": "Adam", "learning_rate": -1}', '{"type": "Adam", "x": 1}')},
    **{f"loss {text}": ("loss", text) for text in ('"x"', "7", "[]", '"categorical_crossentropy"')},
    "the step count -5": ("optimizer/t", np.array(-5)),
    "the step count three times": ("optimizer/t", np.zeros(3, np.int64)),
    "a slot of another dtype": ("optimizer/m/dense_1/kernel", np.zeros((4, 1), np.uint8)),
    "a slot of another shape": ("optimizer/m/dense_1/kernel", np.zeros(3, np.float32)),
    "a negative second moment": ("optimizer/v/dense_1/kernel", np.full((4, 1), -1, np.float32)),
    "weights of another shape": ("dense_1/kernel", np.zeros((1, 4), np.float32)),
    "digests of another shape": ("training_images", np.zeros(3, np.uint8)),
    "digests that are floats": ("training_images", np.zeros((3, 32), np.float32)),
}


def forged(name, tensors, metadata):
    """Return (tensors, metadata) of a model file with one entry forged."""
    key, change = FORGERIES[name]
    if isinstance(change, np.ndarray):
        return tensors | {key: change}, metadata
    text = change if isinstance(change, str) else json.dumps(change(json.loads(metadata[key])))
    return tensors, metadata | {key: text}


# ---- Effects ---------------------------------------------------------------------------------------------------------

_FORBIDDEN = ("exec", "compile", "import", "marshal.", "pickle.", "code.", "ctypes.", "os.system", "os.exec", "os.fork",
              "os.posix_spawn", "os.spawn", "subprocess.", "pty.", "cpython.run", "socket.", "urllib.", "http.",
              "ftplib.", "smtplib.", "webbrowser.", "os.remove", "os.rename", "os.link", "os.symlink",
              "os.mkdir", "os.rmdir", "os.chmod", "os.chown", "os.truncate", "shutil.", "tempfile.")


def forbid_effects():
    """From here on, running code, importing, connecting or writing raises an AssertionError; return a list of what did.

    An audit hook stays for the rest of the process: call this in a child.
    """
    seen = []

    def forbid(event, arguments):
        flags = arguments[2] if event == "open" and isinstance(arguments[2], int) else 0
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) or event.startswith(_FORBIDDEN):
            seen.append(f"{event} {arguments}"[:200])
            raise AssertionError(seen[-1])

    sys.addaudithook(forbid)
    return seen
