"""Nothing is lost: disks that fail or are full, power that goes, processes that are killed while they save."""

import errno
import os
import re
import resource
import stat
import subprocess
import sys

import pytest

from benchmarks.reliability.disk_faults import (LAST, PREVIOUS, Disk, checkpoint, content_of, fail_every_operation,
                                                kill_while_saving, mount_small_disk, number_of, power_loss_states,
                                                rotate, save)
from minicnn import weights
from minicnn.core import files
from minicnn.core.files import keep_as, remove_leftovers, write_atomic
from minicnn.errors import CheckpointError
from tests.support.fence import survives

ADVICE = {errno.ENOSPC: r" \([\d,]+ bytes free\)\. Free some space", errno.EIO: r"\. Choose another folder",
          errno.EDQUOT: r" \([\d,]+ bytes free\)\. Your disk quota", errno.EROFS: r"\. The disk is read-only",
          errno.EACCES: r"\. You have no permission", errno.ENOENT: r"\. Create the folder first"}


def write_in_place(path, parts, private=True):
    """The mutant: what most programs do. Any accident leaves half a file in the old one's place."""
    descriptor = files.os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        for part in parts:
            files._write_all(descriptor, memoryview(part).cast("B"))
    except OSError as error:
        raise CheckpointError("not written") from error
    finally:
        files.os.close(descriptor)


@pytest.fixture
def last(tmp_path):
    """A checkpoint, number 1, in a folder of its own."""
    (tmp_path / LAST).write_bytes(content_of(1))
    return tmp_path / LAST


# ---- Disks that fail -------------------------------------------------------------------------------------------------

def test_whatever_operation_fails_the_old_or_the_new_file_is_there_and_no_other(tmp_path):
    result = fail_every_operation(tmp_path)
    assert result["bad"] == [] and result["runs"] > result["errors"] > 2000


@pytest.mark.parametrize("place, mutant, sentence", [
    ((weights, "write_atomic"), write_in_place, f"{LAST} was damaged after operation"),
    ((files, "_remove"), lambda path: False, "left behind"),
    ((files, "_not_written"), lambda path, error, needed: error, "untyped: OSError"),
    ((files, "keep_as"), lambda path, other: os.replace(path, other), f"{LAST} was none after operation"),
])
def test_a_writer_that_is_not_careful_is_caught_by_the_disk(tmp_path, monkeypatch, place, mutant, sentence):
    monkeypatch.setattr(*place, mutant)
    assert any(sentence in bad for bad in fail_every_operation(tmp_path, [errno.EIO])["bad"])


@pytest.mark.parametrize("code", ADVICE, ids=errno.errorcode.get)
def test_the_error_says_what_was_needed_and_the_way_out(last, code):
    with Disk(at=2, code=code).mounted(), pytest.raises(CheckpointError) as caught:
        write_atomic(last, bytes(16_384))
    assert re.search(rf"{LAST}: not written, 16,384 bytes needed: {os.strerror(code)}{ADVICE[code]}.* intact\.$",
                     str(caught.value))


def test_the_free_bytes_are_those_of_this_user(last, monkeypatch):
    disk = os.statvfs_result((4096, 512, 1000, 100, 7, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda folder: disk)
    with Disk(at=2, code=errno.ENOSPC).mounted(), pytest.raises(CheckpointError, match=r"\(3,584 bytes free\)"):
        save(last.parent)
    with Disk(at=2, code=errno.ENOSPC, lasting=True).mounted():         # not even that can be asked
        with pytest.raises(CheckpointError, match=r"No space left on device\. Free some"):
            save(last.parent)


def test_a_failed_fsync_is_not_tried_again(last):
    disk = Disk(at=5)
    with disk.mounted(), pytest.raises(CheckpointError, match="not written"):
        save(last.parent)
    assert disk.calls == ["open", "write", "write", "write", "fsync", "close", "unlink"] and number_of(last) == 1


def test_a_folder_that_could_not_be_synced(last, monkeypatch):
    def failing(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(code, os.strerror(code))
    monkeypatch.setattr(os, "fsync", failing)
    code = errno.EIO
    with pytest.raises(CheckpointError, match="written, but the folder .*Input/output error"):
        save(last.parent)
    assert number_of(last) == 2
    code = errno.EINVAL                         # the disk has no such thing
    save(last.parent)


def test_a_disk_that_takes_nothing_does_not_hang(last, monkeypatch):
    monkeypatch.setattr(os, "write", lambda descriptor, data: 0)
    with pytest.raises(CheckpointError, match="no more bytes"):
        save(last.parent)
    assert number_of(last) == 1 and os.listdir(last.parent) == [LAST]


@pytest.mark.parametrize("call", ["write", "fsync", "close", "replace"])
def test_an_interruption_leaves_nothing_and_goes_its_way(last, monkeypatch, call):
    def interrupted(*arguments):
        if call == "close":
            real(*arguments)
        raise KeyboardInterrupt
    real = getattr(os, call)
    with monkeypatch.context() as patch:
        patch.setattr(os, call, interrupted)
        with pytest.raises(KeyboardInterrupt):
            save(last.parent)
        if call == "replace":
            with pytest.raises(KeyboardInterrupt):
                keep_as(last, last.parent / PREVIOUS)
    assert number_of(last) == 1 and os.listdir(last.parent) == [LAST]


@pytest.mark.parametrize("name", ["x" * 255, "ä" * 127, "\udcff" * 255, ".safetensors", "a.1.00000000.tmp"])
def test_names_as_long_as_may_be(last, name):
    write_atomic(last.parent / name, b"whole")
    assert (last.parent / name).read_bytes() == b"whole"
    keep_as(last, last.parent / name)
    assert number_of(last.parent / name) == 1 and len(os.listdir(last.parent)) == 2


def test_a_longer_name_is_an_error_in_words(last):
    for work in (lambda path: write_atomic(path, b""), lambda path: keep_as(last, path)):
        with pytest.raises(CheckpointError, match="x: not written, .*File name too long. Choose a shorter name."):
            work(last.parent / ("x" * 256))
    assert os.listdir(last.parent) == [LAST]


# ---- A second name ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("links", [True, False])
def test_a_second_name_keeps_the_file(last, links):
    previous = last.parent / PREVIOUS
    with Disk(links=links).mounted():
        for number in range(1, 4):
            keep_as(last, previous)
            keep_as(last, previous)                             # once more changes nothing
            assert os.path.samefile(last, previous) == links
            weights.save(last, *checkpoint(number + 1))
            assert [number_of(previous), number_of(last)] == [number, number + 1]
            assert sorted(os.listdir(last.parent)) == [LAST, PREVIOUS]


def test_what_cannot_be_kept_is_an_error_in_words(last):
    with pytest.raises(CheckpointError, match="missing: cannot be kept as previous.safetensors: No such file"):
        keep_as(last.parent / "missing", last.parent / PREVIOUS)
    with pytest.raises(CheckpointError, match="folder/x: not written, .*Create the folder first"):
        keep_as(last, last.parent / "folder" / "x")
    (last.parent / PREVIOUS).mkdir()
    with pytest.raises(CheckpointError, match="previous.safetensors: not written, .*directory"):
        keep_as(last, last.parent / PREVIOUS)
    assert sorted(os.listdir(last.parent)) == [LAST, PREVIOUS] and number_of(last) == 1


# ---- Power that goes -------------------------------------------------------------------------------------------------

def test_whenever_the_power_goes_the_old_or_the_new_file_is_there(tmp_path):
    result = power_loss_states(tmp_path)
    assert result["bad"] == [] and result["states"] > 1000


def test_a_writer_without_fsync_is_caught_by_the_power(tmp_path):
    for forget, way, found in [("file", "over the old one", "damaged"), ("folder", "over the old one", f"'{LAST}': 1"),
                               ("folder", "rotation", f"'{PREVIOUS}': 0")]:
        result = power_loss_states(tmp_path, forget)
        assert any(bad.startswith(f"{way}, after") and found in bad for bad in result["bad"]), forget
        assert len(result["bad"]) < result["states"]


# ---- Processes that are killed ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("n", [100, pytest.param(500, marks=pytest.mark.soak)])
def test_killed_at_any_moment_the_last_acknowledged_checkpoint_is_there(tmp_path, n):
    result = kill_while_saving(tmp_path, n)
    assert result["bad"] == []
    assert result["mid_write"] >= 0.3 * n and result["saves"] >= n       # else the kills were not aimed


def test_a_writer_in_place_is_caught_by_the_kills(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "write_atomic", write_in_place)
    assert any("damaged" in bad for bad in kill_while_saving(tmp_path, 20)["bad"])


def test_leftovers_of_the_dead_are_removed_and_nothing_else(last, monkeypatch):
    dead, living = (subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
                    for _ in range(2))
    dead.communicate()
    gone = [f".{LAST}.{number}.0123abcd.tmp" for number in (dead.pid, os.getpid(), 999_999_999)]
    gone += [f".\n.{dead.pid}.00000000.tmp"]
    stays = [f".{LAST}.{living.pid}.0123abcd.tmp", f"{LAST}.{dead.pid}.0123abcd.tmp", f".{LAST}.{dead.pid}.0123abc.tmp",
             f".{LAST}.0.0123abcd.tmp", f".{LAST}.9999999999.0123abcd.tmp", f".{LAST}.{dead.pid}.0123abcd.tmp~",
             "x.tmp"]
    for name in gone + stays:
        (last.parent / name).write_bytes(b"half")
    (last.parent / f".folder.{dead.pid}.0123abcd.tmp").mkdir()
    (last.parent / f".link.{dead.pid}.0123abcd.tmp").symlink_to(LAST)
    stays += [f".folder.{dead.pid}.0123abcd.tmp", f".link.{dead.pid}.0123abcd.tmp", LAST]
    assert remove_leftovers(last.parent) == len(gone)
    assert sorted(os.listdir(last.parent)) == sorted(stays) and number_of(last) == 1

    def of_somebody_else(process, signal):
        raise PermissionError
    with monkeypatch.context() as patch:
        patch.setattr(os, "kill", of_somebody_else)
        assert remove_leftovers(last.parent) == 0
    living.communicate()
    assert remove_leftovers(last.parent) == 1


# ---- Disks that are full ---------------------------------------------------------------------------------------------

def test_a_full_disk_keeps_the_old_files_and_says_what_it_lacks(tmp_path):
    def work(say):
        if not mount_small_disk(folder, 3):
            say("not allowed")
            return
        weights.save(folder / LAST, *checkpoint(1, 10**6))
        keep_as(folder / LAST, folder / PREVIOUS)
        for _ in range(3):
            with pytest.raises(CheckpointError) as caught:
                weights.save(folder / LAST, *checkpoint(2, 4 * 10**6))
            found = re.search(rf"{LAST}: not written, ([\d,]+) bytes needed: No space left on device \(([\d,]+) "
                              r"bytes free\)\. Free some space, or choose another folder\. The old file is "
                              r"intact\.$", str(caught.value))
            needed, free = (int(digits.replace(",", "")) for digits in found.groups())
            assert needed > 4 * 10**6 and 1.5 * 10**6 < free < 3 * 2**20
            assert number_of(folder / LAST) == number_of(folder / PREVIOUS) == 1
            assert sorted(os.listdir(folder)) == [LAST, PREVIOUS]
        rotate(folder)                          # a smaller one finds room
        assert [number_of(folder / name) for name in (PREVIOUS, LAST)] == [1, 2]
        say("done")
    folder = tmp_path / "disk"
    folder.mkdir()
    alive, said = survives(work, tmp_path / "log")
    assert alive, said
    if said == "not allowed":
        pytest.skip("needs user namespaces to mount a small disk, which are not allowed here")
    assert said == "done" and os.listdir(folder) == []


def test_a_file_larger_than_the_limit_is_an_error_in_words(last):
    def work(say):
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        with pytest.raises(CheckpointError, match="not written, 80,.* bytes needed: File too large. Choose another f"):
            weights.save(last, *checkpoint(2, 80_000))
        assert sorted(os.listdir(last.parent)) == [LAST, "log"] and number_of(last) == 1
    alive, said = survives(work, last.parent / "log")
    assert alive, said


# ---- Who may read a file ---------------------------------------------------------------------------------------------

@pytest.fixture(params=[0o022, 0o027, 0o077], ids=oct)
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_that_the_user_names_obeys_the_umask_and_a_private_one_is_the_owners(tmp_path, umask):
    write_atomic(tmp_path / "named", b"1", private=False)
    write_atomic(tmp_path / "private", b"1")
    assert mode_of(tmp_path / "named") == 0o666 & ~umask and mode_of(tmp_path / "private") == 0o600
    for mode in (0o600, 0o640, 0o664, 0o444):           # whatever it was given since
        os.chmod(tmp_path / "named", mode)
        write_atomic(tmp_path / "named", b"2", private=False)
        assert mode_of(tmp_path / "named") == mode and (tmp_path / "named").read_bytes() == b"2"
    os.chmod(tmp_path / "private", 0o644)
    write_atomic(tmp_path / "private", b"2")
    assert mode_of(tmp_path / "private") == 0o600
    (tmp_path / "link").symlink_to(tmp_path / "private")        # replaced: the mode behind it is not its own
    write_atomic(tmp_path / "link", b"3", private=False)
    assert mode_of(tmp_path / "link") == 0o666 & ~umask and (tmp_path / "private").read_bytes() == b"2"


def test_no_thread_sees_another_umask(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("the umask belongs to all threads"))
    write_atomic(tmp_path / "named", b"1", private=False)


def test_what_is_replaced_is_never_more_open_than_it_was(tmp_path, monkeypatch):
    opened, open_ = [], os.open
    monkeypatch.setattr(files.os, "open", lambda path, flags, mode=0o777: opened.append(mode) or open_(path, flags, mode))
    (tmp_path / "secret").touch(0o600)
    write_atomic(tmp_path / "secret", b"1", private=False)
    assert opened[0] == 0o600
