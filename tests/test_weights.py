"""The weights file: it comes back as it went, damage is noticed, a failed save harms nothing, hostility is refused."""

import hashlib
import io
import json
import os
import re
import resource
import socket
import time

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from benchmarks.reliability.disk_faults import change_every_bit, load_mutants, loaded_from_memory, measure_bombs, sealed
from minicnn import Adam, Dense, Flatten, Sequential, Sigmoid, weights
from minicnn.errors import CheckpointError, InputError, NonFiniteError, WeightsError
from tests.support.fence import survives
from tests.support.laws import assert_same_bits

TENSORS = {"conv/kernel": np.arange(12, dtype=np.float32).reshape(2, 3, 2), "t": np.array(7, np.int64)}
METADATA = {"format": "test 1", "classes": '["negative", "positive"]'}
DTYPES = [np.float32, np.float64, np.int64, np.uint64, np.uint8]
SHAPES = array_shapes(min_dims=0, max_dims=8, min_side=0, max_side=3)
FINITE = {"allow_nan": False, "allow_infinity": False}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "w.safetensors"


@pytest.fixture
def good(path):
    weights.save(path, TENSORS, METADATA)
    return path


def litter(path):
    """Return what lies in the folder beside the file itself."""
    return sorted(set(os.listdir(path.parent)) - {path.name})


# ---- Round trips -----------------------------------------------------------------------------------------------------

@settings(max_examples=50)
@given(st.dictionaries(st.text(max_size=8).filter(lambda name: name != "__metadata__"),
                       st.sampled_from(DTYPES).flatmap(lambda dtype: arrays(dtype, SHAPES, elements=FINITE)),
                       max_size=4),
       st.dictionaries(st.text(max_size=5).filter(lambda name: name != "sha256"), st.text(max_size=9), max_size=3))
def test_what_was_saved_is_loaded(tmp_path_factory, tensors, metadata):
    path = tmp_path_factory.getbasetemp() / "round.safetensors"
    weights.save(path, tensors, metadata)
    loaded, described = weights.load(path)
    assert described == metadata and list(loaded) == list(tensors)
    for name, array in tensors.items():
        assert_same_bits(loaded[name], array)
        assert loaded[name].flags.writeable and loaded[name].dtype.isnative


@pytest.mark.parametrize("form", [np.asfortranarray, lambda a: a.astype(a.dtype.newbyteorder(">")),
                                  lambda a: a[::2, ::-1], lambda a: a.view(np.ma.MaskedArray), lambda a: a[1:1]])
def test_any_memory_form_is_saved_by_its_values(path, form):
    array = form(np.arange(24.0).reshape(4, 6))
    before = array.tobytes()
    weights.save(path, {"a": array}, {})
    assert_same_bits(weights.load(path)[0]["a"], np.array(array, np.float64))
    assert array.tobytes() == before


def test_equal_content_is_equal_bytes(tmp_path):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    weights.save(tmp_path / "a", TENSORS, METADATA)
    time.sleep(0.01)
    weights.save(folder / "b", {name: a.copy() for name, a in TENSORS.items()}, dict(reversed(METADATA.items())))
    assert (tmp_path / "a").read_bytes() == (folder / "b").read_bytes()
    weights.save(tmp_path / "a", TENSORS, METADATA | {"format": "test 2"})
    assert (tmp_path / "a").read_bytes() != (folder / "b").read_bytes()


def test_the_format_is_safetensors(good, content):
    from safetensors import safe_open
    from safetensors.numpy import load_file
    for name, array in load_file(good).items():
        assert_same_bits(array, TENSORS[name])
    with safe_open(good, "numpy") as file:
        described = file.metadata()
    assert described.pop("sha256") and described == METADATA
    (good.parent / "checkpoint").write_bytes(content)
    ours = weights.load(good.parent / "checkpoint")[0]
    theirs = load_file(good.parent / "checkpoint")
    assert theirs.keys() == ours.keys() and all(theirs[name].tobytes() == a.tobytes() for name, a in ours.items())


def test_the_digest_is_of_the_file_itself(good):
    content = good.read_bytes()
    header = json.loads(content[8:8 + int.from_bytes(content[:8], "little")])
    digest = header["__metadata__"]["sha256"]
    assert hashlib.sha256(content.replace(digest.encode(), b"0" * 64)).hexdigest() == digest
    assert int.from_bytes(content[:8], "little") % 8 == 0            # arrays begin at a multiple of 8


def test_files_are_for_their_owner(good):
    assert good.stat().st_mode & 0o777 == 0o600


# ---- Damage ----------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """The bytes of a real checkpoint of about 2 KB: weights, Adam's state, history, architecture."""
    model = Sequential([Flatten(), Dense(1), Sigmoid()], input_shape=(2, 2, 1), seed=7, engine="reference")
    model.compile(Adam(learning_rate=0.1), loss="binary_crossentropy")
    x = np.array([0.0, 1.0]).reshape(2, 1, 1, 1) * np.ones((2, 2, 2, 1))
    model.fit(x, [0, 1], validation=(x, [0, 1]), epochs=2, progress=False)
    path = tmp_path_factory.mktemp("checkpoint") / "w.safetensors"
    model.save(path)
    return path.read_bytes()


def test_every_flipped_bit_and_every_truncation_is_noticed(content):
    assert 1500 < len(content) < 3000
    tensors, metadata = loaded_from_memory(content)
    assert "optimizer/t" in tensors and len(json.loads(metadata["history"])) == 2
    result = change_every_bit(content)
    assert result["flips"] == 8 * len(content) and result["truncations"] == len(content)
    assert result["bad"] == [] and result["worst seconds"] < 1


def test_any_addition_is_noticed(good):
    content = good.read_bytes()
    for more in (b"\0", b" ", content):
        with pytest.raises(WeightsError, match="damaged: its arrays need 56 bytes"):
            loaded_from_memory(content + more)


def test_a_damaged_file_is_noticed_on_the_disk_too(good):
    content = good.read_bytes()
    for damaged in (content[:-1], content + b"\0", content[:-1] + bytes([content[-1] ^ 1])):
        good.write_bytes(damaged)
        with pytest.raises(WeightsError, match="damaged"):
            weights.load(good)


def test_a_loader_that_trusts_its_header_would_be_noticed(good):
    # The test of the test: without the digest a flipped bit in the data comes through.
    content = bytearray(good.read_bytes())
    content[-1] ^= 1
    length = int.from_bytes(content[:8], "little")
    assert np.frombuffer(content[8 + length:][:48], "<f4").tolist() == list(range(12))
    good.write_bytes(content)
    with pytest.raises(WeightsError, match="damaged: its content does not match its SHA-256. Use another copy of it"):
        weights.load(good)


@pytest.mark.parametrize("n", [50_000, pytest.param(500_000, marks=pytest.mark.soak)])
def test_mutants_are_refused_in_words(content, n):
    result = load_mutants(content, n)
    assert result["bad"] == [] and result["worst seconds"] < 1         # milliseconds, in truth
    assert result["refused"] == result["mutants"] > 0.99 * n
    assert result["forgeries"] == n // 10 > result["forgeries refused"] > 0.5 * n // 10


def test_a_loader_that_is_not_careful_would_be_noticed(content, monkeypatch):
    # The test of the test: without the digest, or with an error of another type, there are bad ones.
    monkeypatch.setattr(weights.hashlib, "sha256", lambda data: _Credulous(content))
    assert any("accepted" in sentence for sentence in load_mutants(content, 200)["bad"])
    assert any("accepted" in sentence for sentence in change_every_bit(content[:-1] + b"\0")["bad"])
    monkeypatch.setattr(weights, "_check_layout", lambda *_: {}["x"])
    assert any("untyped" in sentence for sentence in load_mutants(content, 200)["bad"])


class _Credulous:
    """A digest that is always the one that the file `content` names."""

    def __init__(self, content):
        self.digest = re.search(rb'"sha256":"([0-9a-f]{64})"', content)[1].decode()

    def update(self, data):
        pass

    def hexdigest(self):
        return self.digest


# ---- Hostile headers: the digest is right, the rest is not -----------------------------------------------------------

def entry(**changes):
    return {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes}


EIGHT = bytes(8)
META = '{"__metadata__": {"sha256": "' + "0" * 64 + '"}'


def test_the_forger_can_make_a_good_file(path):
    path.write_bytes(sealed(entry(), EIGHT))
    assert weights.load(path)[0]["a"].tolist() == [0, 0]


@pytest.mark.parametrize("content, sentence", [
    (b"", r"too short for a weights file \(0 bytes\)"),
    (bytes(7), r"too short for a weights file \(7 bytes\)"),
    (bytes(8), "its header cannot be read"),
    ((2**64 - 1).to_bytes(8, "little") + EIGHT, "not a weights file of minicnn, or cut off: its header would be 1844674407370"),
    (b"\x89HDF\r\n\x1a\n" + EIGHT, "but an HDF5 file, as Keras writes: minicnn.interop.keras reads it"),
    (b"PK\3\4" + EIGHT, "but an archive, as Keras and PyTorch write"),
    (b"\x08\x08\x12\x07minicnn" + EIGHT, "but an ONNX file, or damaged: minicnn.interop.onnx"),
    (sealed(META + ', "a": [' + "[]," * 65_536 + "0]}"), r"its header cannot be read \(too many parts\)"),
    (sealed(META + ', "a": [' + '"",' * 32_768 + "0]}"), r"its header cannot be read \(too many parts\)"),
    (sealed(entry(dtype="F64", shape=[0, 2**31, 2**31], data_offsets=[0, 0])), "the entry of array 'a' is wrong"),
    (sealed("{}" + " " * 2**20), "its header would be 1048578 bytes long"),
    (sealed("[" * 100_000 + "]" * 100_000), "its header cannot be read"),
    (sealed(META[:-1] + ', "n": "' + '"}, "x":' + "[" * 100_000), "its header cannot be read"),
    (sealed("[]"), "its header is no.* at most 4096 arrays"),
    (sealed("7"), "its header is no"),
    (sealed({str(i): {} for i in range(4097)}), "its header is no.* at most 4096 arrays"),
    (sealed(META + ', "a": {}, "a": {}}'), r"its header cannot be read \(the same name twice\)"),
    (sealed(META + ', "a": {"dtype": "F32", "shape": [NaN], "data_offsets": [0, 8]}}', EIGHT), "NaN is not a number"),
    (sealed(META + ', "a": {"dtype": "F32", "shape": [-Infinity], "data_offsets": [0, 8]}}'), "-Infinity is not a n"),
    (sealed(META + ', "a": ' + "9" * 5000 + "}"), "its header cannot be read"),
    (sealed(b"\xff\xfe{}"), "its header cannot be read"),
    (sealed("\ufeff" + META + "}"), "its header cannot be read"),
    (sealed('{"a": {}}'), "not a minicnn file"),
    (sealed('{"__metadata__": []}'), "not a minicnn file"),
    (sealed('{"__metadata__": {"sha256": "' + "0" * 64 + '", "k": 1}}'), "not a minicnn file"),
    (sealed('{"__metadata__": {}}'), "it has no SHA-256 of itself"),
    (sealed('{"__metadata__": {"sha256": "00"}}'), "it has no SHA-256 of itself"),
    (sealed('{"__metadata__": {"sha256": "' + "A" * 64 + '"}}'), "it has no SHA-256 of itself"),
    (sealed('{"__metadata__": {"sha256": "' + "é" * 64 + '"}}'), "it has no SHA-256 of itself"),
    (sealed('{"__metadata__": {"sha256": "' + "1" * 64 + '"}}'), "damaged: its content does not match its SHA-256"),
    (sealed('{"__metadata__": {"sha256": "' + "\\u0061" * 64 + '"}}'), "does not match its SHA-256"),
    (sealed(entry(dtype="F16"), EIGHT), "the entry of array 'a' is wrong"),
    (sealed(entry(dtype=["F32"]), EIGHT), "the entry of array 'a' is wrong"),
    (sealed(entry(shape=[3]), EIGHT), "the entry of array 'a' is wrong"),
    (sealed(entry(shape=2), EIGHT), "the entry of array 'a' is wrong"),
    (sealed(entry(shape="2"), EIGHT), "the entry of array 'a' is wrong"),
    (sealed(entry(shape={"2": 1}), EIGHT), "the entry of array 'a' is wrong"),
    (sealed(entry(shape=[2.0]), EIGHT), "the entry of array 'a' is wrong"),
    (sealed(entry(shape=[True, 2]), EIGHT), "the entry of array 'a' is wrong"),
    (sealed(entry(shape=[-1, -2]), EIGHT), "the entry of array 'a' is wrong"),
    (sealed(entry(shape=[1] * 8 + [2]), EIGHT), "the entry of array 'a' is wrong"),
    (sealed(entry(shape=[2**32, 0], data_offsets=[0, 0])), "the entry of array 'a' is wrong"),
    (sealed(entry(shape=[2**31] * 4), EIGHT), "the entry of array 'a' is wrong"),
    (sealed(entry(shape=[2**31, 2**24], data_offsets=[0, 2**57])), f"its arrays need {2**57} bytes, it has 0"),
    (sealed(entry(shape=[2**31, 2**31, 4], data_offsets=[0, 2**66])), "the entry of array 'a' is wrong"),
    (sealed(entry(data_offsets=[0]), EIGHT), "the entry of array 'a' is wrong"),
    (sealed(entry(data_offsets=[0, 8, 8]), EIGHT), "the entry of array 'a' is wrong"),
    (sealed(entry(data_offsets=[8, 0]), EIGHT), "the entry of array 'a' is wrong"),
    (sealed(entry(data_offsets=[-8, 0]), EIGHT), "the entry of array 'a' is wrong"),
    (sealed(entry(data_offsets=[8, 16]), 2 * EIGHT), "the entry of array 'a' is wrong"),
    (sealed(entry(data_offsets=None), EIGHT), "the entry of array 'a' is wrong"),
    (sealed(entry(more=1), EIGHT), "the entry of array 'a' is wrong"),
    (sealed({"a": None}), "the entry of array 'a' is wrong"),
    (sealed({"a": "dtype"}), "the entry of array 'a' is wrong"),
    (sealed({"a": ["F32", [2], [0, 8]]}, EIGHT), "the entry of array 'a' is wrong"),
    (sealed({"a": {}}), "the entry of array 'a' is wrong"),
    (sealed(entry() | {"b": entry()["a"]}, EIGHT), "the entry of array 'b' is wrong"),                     # overlap
    (sealed(entry() | {"b": entry(data_offsets=[12, 20])["a"]}, bytes(20)), "array 'b' is wrong"),    # a hole
    (sealed(entry(), bytes(9)), "damaged: its arrays need 8 bytes, it has 9"),
    (sealed(entry(), bytes(7)), "damaged: its arrays need 8 bytes, it has 7"),
    (sealed({"\x1b[2J\u202e": {}}), r"the entry of array '\\\\x1b\[2J\\\\u202e' is wrong"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_hostile_files_are_refused_in_words(path, content, sentence):
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=f"w.safetensors: .*{sentence}"):
        weights.load(path)


def test_bombs_cost_little_memory(tmp_path):
    measured = measure_bombs(tmp_path)
    assert all(grown <= bound for _, grown, bound in measured.values()), measured
    assert measured["a file of 8 MB"][1] > 2**23             # the measure measures


def test_more_bytes_than_memory_are_refused_in_words(path):
    header = sealed({"a": {"dtype": "U8", "shape": [2**31], "data_offsets": [0, 2**31]}})
    path.write_bytes(header)
    os.truncate(path, len(header) + 2**31)                  # zeros that take no room on the disk

    def work(say):
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, used + 2**28))
        with pytest.raises(WeightsError, match="it holds 2,147,483,[0-9]* bytes, more than there is memory for"):
            weights.load(path)
    alive, said = survives(work, path.parent / "log")
    assert alive, said


def test_a_file_that_shrinks_or_fails_while_it_is_read(good, monkeypatch):
    content = good.read_bytes()
    monkeypatch.setattr(weights, "open_regular", lambda path: (io.BytesIO(content[:-1]), len(content)))
    with pytest.raises(WeightsError, match="changed while it was read. Try again"):
        weights.load(good)

    class Failing(io.BytesIO):
        def readinto(self, buffer):
            raise OSError(5, "Input/output error")
    monkeypatch.setattr(weights, "open_regular", lambda path: (Failing(content), len(content)))
    with pytest.raises(WeightsError, match="w.safetensors: cannot be read .Input/output error"):
        weights.load(good)


def test_the_expected_file_and_no_other(good):
    digest = hashlib.sha256(good.read_bytes()).hexdigest()
    for expect in (digest, digest.upper()):
        assert_same_bits(weights.load(good, expect=expect)[0]["conv/kernel"], TENSORS["conv/kernel"])
    weights.save(good, TENSORS, METADATA | {"format": "forged"})
    found = hashlib.sha256(good.read_bytes()).hexdigest()
    with pytest.raises(WeightsError, match=f"not the file that was expected: its SHA-256 is {found}, not {digest}"):
        weights.load(good, expect=digest)
    for expect in ("", "abc", "g" * 64, b"0" * 64):
        with pytest.raises(InputError, match="its expected SHA-256 must be 64 hexadecimal digits, as sha256sum prints"):
            weights.load(good, expect=expect)


def test_a_file_of_another_program_is_refused(path):
    from safetensors.numpy import save_file
    save_file({"a": np.ones(2, np.float32)}, path)
    with pytest.raises(WeightsError, match="not a minicnn file"):
        weights.load(path)


# ---- Odd places ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("make, sentence", [
    (lambda path: None, "cannot be read .No such file or directory"),
    (lambda path: path.mkdir(), "cannot be read .not a regular file"),
    (lambda path: os.mkfifo(path), "cannot be read .not a regular file"),
    (lambda path: path.symlink_to("/dev/zero"), "cannot be read .not a regular file"),
    (lambda path: path.symlink_to(path), "cannot be read .Too many levels of symbolic links"),
    (lambda path: path.symlink_to("missing"), "cannot be read .No such file"),
])
def test_places_that_are_no_file_are_refused_without_waiting(path, make, sentence):
    make(path)
    with pytest.raises(WeightsError, match=sentence):      # opening a FIFO for reading would wait for ever
        weights.load(path)


def test_a_socket_is_refused(path, monkeypatch):
    monkeypatch.chdir(path.parent)                         # socket paths are short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path.name)
        with pytest.raises(WeightsError, match="cannot be read"):
            weights.load(path.name)


def test_the_names_of_files_reach_no_terminal_raw(tmp_path):
    with pytest.raises(WeightsError, match=r"\\x1b\[2J\.safetensors: cannot be read"):
        weights.load(tmp_path / "\x1b[2J.safetensors")


def test_a_link_is_replaced_and_not_followed(path):
    precious = path.parent / "precious"
    precious.write_text("mine")
    path.symlink_to(precious)
    weights.save(path, TENSORS, METADATA)
    assert precious.read_text() == "mine" and not path.is_symlink()
    assert set(weights.load(path)[0]) == set(TENSORS)


def test_a_link_is_read(good):
    link = good.parent / "link"
    link.symlink_to(good)
    assert set(weights.load(link)[0]) == set(TENSORS)


# ---- What cannot be saved --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("make, sentence", [
    (lambda path: path.parent / "missing" / "w", "not written.*No such file or directory. Create the folder first"),
    (lambda path: path.parent, "not written.*directory"),
])
def test_places_that_cannot_be_written(path, make, sentence):
    with pytest.raises(CheckpointError, match=sentence):
        weights.save(make(path), TENSORS, {})
    assert litter(path) == []


@pytest.mark.parametrize("tensors, metadata, sentence", [
    ({"a": np.zeros(2, np.float16)}, {}, "array 'a': expected float32, float64, int64, uint64, uint8 with at most 8 "
                                         "axes, got float16 with 1"),
    ({"a": np.zeros(2, object)}, {}, "array 'a': expected .* got object with 1"),
    ({"a": np.zeros((1,) * 9)}, {}, "array 'a': expected .* got float64 with 9"),
    ({"__metadata__": np.zeros(1)}, {}, "array '__metadata__': expected"),
    ({str(i): np.zeros(0) for i in range(4097)}, {}, "4,097 arrays are too many: .* 4,096"),
    ({}, {"a": 1}, "metadata must be strings under any name but sha256, got {'a': 1}"),
    ({}, {"sha256": "x"}, "metadata must be strings under any name but sha256"),
    ({}, {str(i): "" for i in range(20_000)}, "the header would be .* bytes long, .* or of too many strings"),
    ({}, {"a": "x" * 2**20}, "the header would be .* bytes long, more than 1048576"),
])
def test_what_could_not_be_loaded_is_not_saved(path, tensors, metadata, sentence):
    with pytest.raises(WeightsError, match=sentence):
        weights.save(path, tensors, metadata)
    assert not path.exists() and litter(path) == []


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["<f4", ">f8"])
def test_what_is_not_finite_is_never_saved(good, dtype, value):
    old, array = good.read_bytes(), np.zeros((2, 3), dtype)
    array[1, 2] = value
    with pytest.raises(NonFiniteError, match="save: optimizer/m/x holds NaN or infinity; such weights are never saved"):
        weights.save(good, TENSORS | {"optimizer/m/x": array}, METADATA)
    assert good.read_bytes() == old and litter(good) == []


def test_the_most_that_can_be_saved_can_be_loaded(path):
    weights.save(path, {str(i): np.zeros((0,) * 8, np.uint8) for i in range(4096)}, {"a": "\"[{," * 2**17})
    assert len(weights.load(path)[0]) == 4096
