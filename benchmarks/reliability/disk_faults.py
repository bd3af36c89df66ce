"""Faults of files: a failing disk, a power failure, a killed process, changed bytes.

Each function causes one kind of fault many times and returns counts, and under "bad" the list of wrong outcomes. Tests
require that list to be empty; benchmarks print the counts.
"""

import contextlib
import ctypes
import errno
import functools
import hashlib
import io
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from unittest import mock

import numpy as np

from benchmarks.reliability.children import fork
from minicnn import weights
from minicnn.core import files
from minicnn.errors import CheckpointError, WeightsError

__all__ = ["Disk", "fail_every_operation", "power_loss_states", "kill_while_saving", "mount_small_disk", "mutated",
           "forged", "sealed", "load_mutants", "change_every_bit", "bombs", "memory_of_loading", "loaded_from_memory"]

LAST, PREVIOUS = "last.safetensors", "previous.safetensors"
CODES = (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS)


# ---- What is saved ---------------------------------------------------------------------------------------------------

def checkpoint(number, size=200):
    """Return (tensors, metadata) of a small checkpoint with a number."""
    return {"number": np.array(number), "weights": np.full(size, number % 251, np.uint8)}, {"format": "crash 1"}


def number_of(path):
    """Return the number of the checkpoint at `path`, "none" where there is no file, or "damaged"."""
    if not path.exists():
        return "none"
    try:
        tensors, _ = weights.load(path)
    except WeightsError:
        return "damaged"
    number = int(tensors["number"])
    return number if (tensors["weights"] == number % 251).all() else "damaged"


def save(folder):
    weights.save(folder / LAST, *checkpoint(2))


def rotate(folder):
    """Save as training does: the last file becomes the previous one."""
    files.keep_as(folder / LAST, folder / PREVIOUS)
    save(folder)


# The operation, and the numbers of the files before it, during it (where the fault happens), and after it.
SAVES = {
    "first": (save, {}, {LAST: {"none", 2}}, {LAST: {2}}),
    "over the old one": (save, {LAST: 1}, {LAST: {1, 2}}, {LAST: {2}}),
    "rotation": (rotate, {PREVIOUS: 0, LAST: 1}, {PREVIOUS: {0, 1}, LAST: {1, 2}}, {PREVIOUS: {1}, LAST: {2}}),
    "first rotation": (rotate, {LAST: 1}, {PREVIOUS: {"none", 1}, LAST: {1, 2}}, {PREVIOUS: {1}, LAST: {2}}),
    # A process died between the two steps: both names are one file's.
    "second rotation": (rotate, {PREVIOUS: LAST, LAST: 1}, {PREVIOUS: {1}, LAST: {1, 2}}, {PREVIOUS: {1}, LAST: {2}}),
}


def prepare(folder, before):
    """Empty the folder, then put checkpoints of these numbers into it; a name in place of a number is a hard link's."""
    for path in folder.iterdir():
        path.unlink()
    for name, number in reversed(before.items()):
        if isinstance(number, str):
            os.link(folder / number, folder / name)
        else:
            (folder / name).write_bytes(content_of(number))


@functools.cache
def content_of(number):
    return b"".join(weights._encode(*checkpoint(number)))


# ---- Failing disks ---------------------------------------------------------------------------------------------------

class Disk:
    """Replace the module `os` in files.py: record the operations on files, and fail at one of them. Its fsync does
    nothing, because there is no power failure here.

    Parameters
    ----------
    at : int, the number of the operation that fails, from 1; 0 for none
    code : int, the errno
    lasting : bool, whether all operations after that one fail as well
    short : bool, whether a write takes at most 100 bytes, and a failing one 50
    links : bool, whether the disk has hard links
    watch : callable without arguments, called after each operation
    """

    OPERATIONS = ("open", "write", "fsync", "close", "link", "replace", "unlink", "statvfs")

    def __init__(self, at=0, code=errno.EIO, lasting=False, short=False, links=True, watch=lambda: None):
        self.at, self.code, self.lasting, self.short, self.links, self.watch = at, code, lasting, short, links, watch
        self.calls, self.failed = [], []

    def __getattr__(self, name):
        real = getattr(os, name)
        return functools.partial(self._operate, name, real) if name in self.OPERATIONS else real

    def _operate(self, name, real, *arguments):
        self.calls.append(name)
        try:
            if len(self.calls) == self.at or self.lasting and len(self.calls) > self.at > 0:
                self.failed.append(name)
                self._leave_traces(name, real, arguments)
                raise OSError(self.code, os.strerror(self.code))
            if name == "link" and not self.links:
                raise OSError(errno.EPERM, os.strerror(errno.EPERM))
            if name == "write" and self.short:
                arguments = arguments[0], arguments[1][:100]
            return self.done(name, arguments, real(*arguments) if name != "fsync" else None)
        finally:
            self.watch()

    def _leave_traces(self, name, real, arguments):
        if name == "close":
            real(*arguments)        # the number is free even where close reports an error
        elif name == "write" and self.short:
            real(arguments[0], arguments[1][:50])

    def done(self, name, arguments, result):
        """Return the result of an operation that succeeded."""
        return result

    def mounted(self):
        """Return a context in which files.py uses this disk."""
        return mock.patch.object(files, "os", self)


def fail_every_operation(folder, codes=CODES):
    """Let each operation of each way of saving fail, in turn and in each manner: at any moment, the old or the new
    content is there, complete; the error is typed; nothing else is left.

    Returns
    -------
    dict: "runs", "errors" (runs that ended in a CheckpointError), "bad" (list of str)
    """
    result = {"runs": 0, "errors": 0, "bad": []}
    yes_no = (False, True)
    for way, links, code, lasting, short in itertools.product(SAVES, yes_no, codes, yes_no, yes_no):
        for at in itertools.count(1):
            disk = Disk(at, code, lasting, short, links)
            result["runs"] += 1
            error, wrong = _save_with(disk, folder, way)
            result["errors"] += error is not None
            where = f"{way}, {'' if links else 'no links, '}{errno.errorcode[code]} {disk.failed} at operation {at}"
            result["bad"] += [f"{where}: {sentence}" for sentence in wrong]
            if not disk.failed:
                break       # there are fewer operations
    return result


def _save_with(disk, folder, way):
    """Save once; return (the CheckpointError or None, [what is wrong])."""
    work, before, between, after = SAVES[way]
    known = {content_of(number): number for number in range(3)}
    wrong, error = [], None

    def look():
        for name, allowed in between.items():
            path = folder / name
            found = known.get(path.read_bytes(), "damaged") if path.exists() else "none"
            if found not in allowed:
                wrong.append(f"{name} was {found} after operation {len(disk.calls)}")
    prepare(folder, before)
    disk.watch = look
    with disk.mounted():
        try:
            work(folder)
        except CheckpointError as caught:
            error = caught
        except Exception as caught:
            wrong.append(f"untyped: {caught!r}")
    for name, allowed in (between if error else after).items():
        found = number_of(folder / name)
        if found not in allowed:
            wrong.append(f"{name} is {found} at the end, with {error}")
    if error and LAST in str(error) and "not written" in str(error) and number_of(folder / LAST) == 2:
        wrong.append(f"it was written, although the error denies it: {error}")
    if "unlink" in disk.failed:
        files.remove_leftovers(folder)      # the failed unlink could not clean up
    left = set(os.listdir(folder)) - set(between)
    return error, wrong + ([f"left behind: {left}"] if left else [])


# ---- Power failures --------------------------------------------------------------------------------------------------

class RecordingDisk(Disk):
    """Record what the operations do to files and names: ("write", file, bytes), ("names", {name: file or None}),
    ("sync", file), where a file is a number and a folder None. Files in `names` were there before.

    `forget` names a kind of fsync that this disk reports but does not do: "file" or "folder".
    """

    def __init__(self, names, links=True, short=False, forget=None):
        super().__init__(links=links, short=short)
        self.log, self.names, self.forget = [], dict(names), forget
        self._open, self._new = {}, itertools.count(100)

    def done(self, name, arguments, result):
        if name == "open":
            is_new = arguments[1] & os.O_CREAT
            file = next(self._new) if is_new else self.names.get(Path(arguments[0]).name)
            self._open[result] = file
            if is_new:
                self._rename({Path(arguments[0]).name: file})
        elif name == "write":
            self.log.append(("write", self._open[arguments[0]], bytes(arguments[1][:result])))
        elif name == "fsync":
            file = self._open[arguments[0]]
            if self.forget != ("folder" if file is None else "file"):
                self.log.append(("sync", file))
        elif name in ("link", "replace"):
            source, target = (Path(path).name for path in arguments)
            same = self.names[source] == self.names.get(target)
            # As POSIX has it, renaming one name of a file to another of its names does nothing.
            changes = {target: self.names[source]} | ({source: None} if name == "replace" and not same else {})
            self._rename(changes)
        elif name == "unlink":
            self._rename({Path(arguments[0]).name: None})
        return result

    def _rename(self, changes):
        self.names |= changes
        self.log.append(("names", changes))


def power_loss_states(folder, forget=None):
    """Save in each way and cut the power after each operation: in every possible state of the disk the old or the new
    file is there, and after the save has returned, the new one.

    Unsynced data may be lost, truncated, or zeros; any change of names since the folder was synced may be lost. With
    `forget` ("file" or "folder") the disk skips one kind of fsync, and some states must be bad.

    Returns
    -------
    dict: "states", "bad" (list of str)
    """
    result = {"states": 0, "bad": []}
    for way, links, short in itertools.product(SAVES, (True, False), (False, True)):
        work, before, between, after = SAVES[way]
        prepare(folder, before)
        names = {name: before.get(number, number) for name, number in before.items()}
        disk = RecordingDisk(names, links, short, forget)
        with disk.mounted():
            work(folder)
        for length in range(len(disk.log) + 1):
            # Forgetting the last fsync leaves a log that ends, as the save did, before it.
            allowed = after if length == len(disk.log) else between
            for state in _states(names, disk.log[:length]):
                result["states"] += 1
                found = {name: _number_in(state.get(name)) for name in allowed}
                if any(found[name] not in allowed[name] for name in allowed):
                    result["bad"].append(f"{way}, after {length} of {len(disk.log)} operations: {found}")
    return result


def _states(names, log):
    """Yield {name: content} of every possible state of a disk after this log and a power failure."""
    durable_names, pending = dict(names), []
    synced = {file: content_of(file) for file in names.values()}
    written = dict(synced)
    for kind, file, *data in log:
        if kind == "names":
            pending.append(file)
        elif kind == "write":
            written[file] = written.get(file, b"") + data[0]
        elif file is None:
            for changes in pending:
                durable_names |= changes
            pending = []
        else:
            synced[file] = written[file]
    for kept in itertools.product((False, True), repeat=len(pending)):
        found = dict(durable_names)
        for changes in itertools.compress(pending, kept):
            found |= changes
        found = {name: file for name, file in found.items() if file is not None}
        choices = [_after_loss(synced.get(file, b""), written.get(file, b"")) for file in found.values()]
        for contents in itertools.product(*choices):
            yield dict(zip(found, contents))


def _after_loss(synced, written):
    """Return the possible contents of a file: all of it, the synced part, some of the rest, or zeros instead."""
    rest = written[len(synced):]
    at = len(rest) // 2
    return {synced + part for part in (rest, b"", rest[:at], bytes(len(rest)), rest[:at] + bytes(len(rest) - at),
                                       bytes(at) + rest[at:])}


@functools.cache
def _number_in(content):
    """Return `number_of` for a file with this content; None is no file."""
    if content is None:
        return "none"
    try:
        return int(loaded_from_memory(content)[0]["number"])
    except WeightsError:
        return "damaged"


# ---- Killed processes ------------------------------------------------------------------------------------------------

def kill_while_saving(folder, n, seed=0):
    """Kill (-9) a process that saves checkpoint after checkpoint, n times at random moments; it resumes from the last.

    Each checkpoint is acknowledged once its save has returned. After each kill the last file loads and is no older than
    the last acknowledged, the previous one loads, and `remove_leftovers` leaves nothing else. The disk takes 100 bytes
    at a time, so that much of the time goes into writing, whatever disk the folder is on.

    Returns
    -------
    dict: "kills", "saves" (acknowledged), "mid_write" (kills that left a file half written), "bad" (list of str)
    """
    rng, first = random.Random(seed), 0
    result = {"kills": n, "saves": 0, "mid_write": 0, "bad": []}
    for kill in range(n):
        acknowledged = _saved_until_killed(folder, first, rng.uniform(0, 0.02))
        result["saves"] += acknowledged - first
        result["mid_write"] += any(name.startswith(f".{LAST}.") for name in os.listdir(folder))
        files.remove_leftovers(folder)
        found = [number_of(folder / name) for name in (PREVIOUS, LAST)]
        expected = [[number - 1, number] for number in (acknowledged, acknowledged + 1)]
        # Between the two steps of a rotation both are one file; before the first rotation there is only one.
        expected += [[acknowledged, acknowledged]] + [["none", 1]] * (acknowledged == 1)
        if found not in expected or set(os.listdir(folder)) - {LAST, PREVIOUS}:
            result["bad"].append(f"kill {kill}: {acknowledged} was acknowledged, found {found}, {os.listdir(folder)}")
        first = found[1] if isinstance(found[1], int) else acknowledged
    return result


def _saved_until_killed(folder, first, seconds):
    """Save first + 1, first + 2, ... in a child, kill it so long after the first; return the last acknowledged."""
    reading, writing = os.pipe()
    child = fork()
    if child == 0:
        try:
            os.close(reading)
            with Disk(short=True).mounted():
                for number in itertools.count(first + 1):
                    if (folder / LAST).exists():
                        files.keep_as(folder / LAST, folder / PREVIOUS)
                    weights.save(folder / LAST, *checkpoint(number, size=100_000))
                    os.write(writing, number.to_bytes(8, "little"))
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(writing)
    with open(reading, "rb", buffering=0) as pipe:
        acknowledgements = pipe.read(8)
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        while more := pipe.read(2**16):
            acknowledgements += more
    assert os.WIFSIGNALED(status), "the child ended by itself; its error is on stderr"
    return int.from_bytes(acknowledgements[-8:], "little")


# ---- Full disks ------------------------------------------------------------------------------------------------------

_NEW_USER, _NEW_MOUNTS = 0x10000000, 0x00020000        # CLONE_NEWUSER, CLONE_NEWNS


def mount_small_disk(folder, megabytes):
    """Mount a disk of this size at `folder`, for this process only; return whether that is allowed here.

    For forked children only: the process gets a user namespace of its own.
    """
    libc, user, group = ctypes.CDLL(None, use_errno=True), os.geteuid(), os.getegid()
    if not hasattr(libc, "unshare") or libc.unshare(_NEW_USER | _NEW_MOUNTS):
        return False
    try:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    except OSError:
        return False
    options = f"size={megabytes}m".encode()
    return libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, options) == 0


# ---- Changed bytes ---------------------------------------------------------------------------------------------------

def loaded_from_memory(content, name="w.safetensors"):
    """Return `weights.load` of a file with this content, without a disk."""
    with mock.patch.object(weights, "open_regular", lambda path: (io.BytesIO(content), len(content))):
        return weights.load(name)


def mutated(content, rng):
    """Return a file with one to three faults: bytes, moved slices, replaced numbers of the header."""
    content = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        kind, i, j = rng.randrange(5), rng.randrange(len(content)), rng.randrange(len(content))
        if kind == 0:
            content[i] = rng.randrange(256)
        elif kind == 1:
            content[min(i, j):max(i, j)] = b""
        elif kind == 2:
            content[i:i] = content[min(i, j):max(i, j)][:50]
        elif kind == 3:
            content[:8] = rng.choice([0, 1, 2**20, 2**20 + 1, 2**63, 2**64 - 1, len(content)]).to_bytes(8, "little")
        else:
            digits = [k for k, byte in enumerate(content[:300]) if chr(byte).isdigit()]
            if digits:
                k = rng.choice(digits)
                content[k:k + 1] = rng.choice([b"-1", b"1e9", b"99999999999999999999", b"true", b"[]"])
    return bytes(content)


def forged(content, rng):
    """Return a file whose header is changed in one place, with a valid digest."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8:8 + length])
    header["__metadata__"]["sha256"] = "0" * 64
    name = rng.choice([name for name in header if name != "__metadata__"])
    number = rng.choice([-1, 0, 1, 2, 3, 2**31, 2**31 + 1, 2**63, 2**64, 1.5, None, True, "1", [1]])
    kind = rng.randrange(6)
    if kind == 0:
        shape = header[name]["shape"]
        header[name]["shape"] = rng.choice([[number], shape + [number], number, [0, 2**31, 2**31, 2**31]])
    elif kind == 1:
        header[name]["data_offsets"][rng.randrange(2)] = number
    elif kind == 2:
        header[name]["dtype"] = rng.choice(["F32", "F64", "I64", "U64", "U8", "BF16", "object", "", number])
    elif kind == 3:
        del header[name][rng.choice(list(header[name]))]
    elif kind == 4:
        header[rng.choice(["x", "\ud800", "../x", "\x1b[2J", name])] = header.pop(name)
    else:
        header["__metadata__"][rng.choice(list(header["__metadata__"]))] = rng.choice([number, "", "0" * 64])
    return sealed(json.dumps(header), content[8 + length:])


def sealed(header, data=b""):
    """Return a file with this header, a dict or JSON text (with 64 zeros for its digest), and a valid digest."""
    if isinstance(header, dict):
        header = json.dumps({"__metadata__": {"sha256": "0" * 64}} | header)
    text = header.encode() if isinstance(header, str) else header
    content = len(text).to_bytes(8, "little") + text + data
    return content.replace(b"0" * 64, hashlib.sha256(content).hexdigest().encode(), 1)


def load_mutants(content, n, seed=0):
    """Load n mutants of a file: none is accepted. Load n // 10 forgeries: an accepted one holds what its header says.
    All others are refused with a WeightsError.

    Returns
    -------
    dict: "mutants", "refused", "forgeries", "forgeries refused", "worst seconds", "bad" (list of str)
    """
    rng = random.Random(seed)
    result = {"mutants": 0, "refused": 0, "forgeries": n // 10, "forgeries refused": 0, "worst seconds": 0.0, "bad": []}
    for i in range(n):
        mutant = mutated(content, rng)
        if mutant != content:
            result["mutants"] += 1
            tensors = _loaded_or_refused(mutant, f"mutant {i} of seed {seed}", result)
            result["refused"] += tensors is None
            if tensors is not None:
                result["bad"].append(f"mutant {i} of seed {seed}: accepted")
    for i in range(n // 10):
        forgery = forged(content, rng)
        tensors = _loaded_or_refused(forgery, f"forgery {i} of seed {seed}", result)
        result["forgeries refused"] += tensors is None
        length = int.from_bytes(forgery[:8], "little")
        if tensors is not None and b"".join(a.tobytes() for a in tensors.values()) != forgery[8 + length:]:
            result["bad"].append(f"forgery {i} of seed {seed}: its arrays are not its bytes")
    return result


def _loaded_or_refused(content, what, result):
    """Return the arrays of a file, or None for a WeightsError; record the time, and any other error."""
    start = time.perf_counter()
    try:
        return loaded_from_memory(content)[0]
    except WeightsError:
        return None
    except Exception as error:
        result["bad"].append(f"{what}: untyped: {error!r}")
        return None
    finally:
        result["worst seconds"] = max(result["worst seconds"], time.perf_counter() - start)


def change_every_bit(content):
    """Load a file with each of its bits flipped in turn, then truncated at each length: none is accepted.

    Returns
    -------
    dict: "flips", "truncations", "worst seconds", "bad" (list of str)
    """
    result = {"flips": 8 * len(content), "truncations": len(content), "worst seconds": 0.0, "bad": []}
    changed = bytearray(content)
    for i, bit in itertools.product(range(len(content)), range(8)):
        changed[i] ^= 1 << bit
        if _loaded_or_refused(bytes(changed), f"bit {bit} of byte {i}", result) is not None:
            result["bad"].append(f"bit {bit} of byte {i}: accepted")
        changed[i] ^= 1 << bit
    for length in range(len(content)):
        if _loaded_or_refused(content[:length], f"truncated at {length}", result) is not None:
            result["bad"].append(f"truncated at {length}: accepted")
    return result


def bombs():
    """Return {name: content} of files that would take much time or memory, with headers of the largest size."""
    def repeated(item, opening="[", closing="]"):
        return opening + ",".join([item] * ((2**20 - 200) // (len(item.encode()) + 1))) + closing

    def numbered(form):
        return ",".join(form % i for i in range((2**20 - 200) // (len(form) + 5)))
    def array(dtype, shape, begin, end):
        return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    start = '{"__metadata__": {"sha256": "' + "0" * 64 + '"'
    most, large = {str(i): array("U8", [1] * 8, i, i + 1) for i in range(4096)}, 2**23
    return {"empty lists": sealed(start + '}, "a": ' + repeated("[]") + "}"),
            "empty tables": sealed(start + '}, "a": ' + repeated("{}") + "}"),
            "short strings": sealed(start + '}, "a": [' + numbered('"%x"') + "]}"),
            "wide strings": sealed(start + '}, "a": ' + repeated('"\U0001f600"') + "}"),
            "fractions": sealed(start + '}, "a": ' + repeated("1.5") + "}"),
            "long numbers": sealed(start + '}, "a": ' + repeated("9" * 4299) + "}"),
            "longer numbers": sealed(start + '}, "a": ' + "9" * 10**6 + "}"),
            "many arrays": sealed(start + "}, " + numbered('"%x": 0') + "}"),
            "much metadata": sealed(start + ", " + numbered('"%x": ""') + "}}"),
            "one wide string": sealed(start + ', "a": "\U0001f600' + "x" * 10**6 + '"}}'),
            "escaped quotes": sealed(start + ', "a": "' + '\\"' * 500_000 + '"}}'),
            "escapes outside": sealed(start + '}, "a": [' + '\\"' * 500_000 + "]}"),
            "lists in lists": sealed(start + '}, "a": ' + "[" * 60_000 + "]" * 60_000 + "}"),
            "spaces": sealed(start + "}}" + " " * 10**6),
            "a long header": (2**62).to_bytes(8, "little") + bytes(100),
            "a large array": sealed({"a": array("U8", [2**31], 0, 2**31)}),
            "a large array of nothing": sealed({"a": array("F64", [0] + [2**31] * 7, 0, 0)}),
            "as many arrays as may be": sealed(most, bytes(4096)),
            "a file of 8 MB": sealed({"a": array("U8", [large], 0, large)}, bytes(large))}


_MEASURE = """
import os, resource, sys
from benchmarks.reliability.children import fork
from minicnn import weights
from minicnn.errors import WeightsError
unit = 1 if sys.platform == "darwin" else 1024
for path in sys.argv[1:]:
    child = os.fork()
    if child == 0:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            weights.load(path)
        except WeightsError:
            pass
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit, flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""


def memory_of_loading(paths):
    """Return by how many bytes the memory of a new process grows when it loads each of these files; a list of int."""
    command = [sys.executable, "-c", _MEASURE, *map(str, paths)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [int(line) for line in done.stdout.split()]


def measure_bombs(folder):
    """Load each of `bombs()`; return {name: (seconds, growth in bytes, its limit)}."""
    files, seconds = [], []
    for name, content in bombs().items():
        files.append(folder / name)
        files[-1].write_bytes(content)
        began = time.perf_counter()
        with contextlib.suppress(WeightsError):
            weights.load(files[-1])
        seconds.append(time.perf_counter() - began)
    return {file.name: (spent, grown, 2 * file.stat().st_size + 2**24)
            for file, spent, grown in zip(files, seconds, memory_of_loading(files), strict=True)}
