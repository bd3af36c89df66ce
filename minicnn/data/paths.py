"""The files that a list names: regular ones inside a root, also where they are spelled as on another system."""

import os
import stat
from contextlib import suppress
from unicodedata import normalize

from minicnn.errors import ManifestError, printable

__all__ = ["ALLOW", "Paths"]

ALLOW = "To allow it: allow_outside_root=True (--allow-outside-root)."


class Paths:
    """Check that files are regular and inside the root, with one system call for each folder and each file.

    A file that is not there under the name of a cell is found where one name of the folder differs from it only as
    between systems: backslashes, case, Unicode form, spaces around. `respelled` counts those.
    """

    def __init__(self, root, allow_outside_root=False):
        self.root, self._anywhere, self._folders = root, allow_outside_root, {}
        self.respelled, self._example, self._names, self._index = 0, None, {}, None
        self._found, self._told = False, None       # whether any cell was; the other root that was told last

    def find(self, cell):
        """Return the absolute path of a cell, or raise a ManifestError with the reason."""
        try:
            path = self._find(cell)
        except FileNotFoundError:
            other = self.respelled_as(cell)
            try:
                path = self._find(other or cell)
            except FileNotFoundError:
                raise ManifestError(f"there is no file {printable(cell)}.") from None
            self.respelled, self._example = self.respelled + 1, self._example or (other, cell)
        self._found = True
        return path

    def _find(self, cell):
        name = cell.rpartition("/")[2]
        folder = cell[:len(cell) - len(name)]
        try:
            if folder not in self._folders:
                real = os.path.realpath(os.path.join(self.root, folder))
                inside = self._is_inside(real)
                if inside:      # what is outside is not to be named
                    os.path.relpath(real, self.root).encode()
                self._folders[folder] = os.path.join(real, ""), inside
            real, inside = self._folders[folder]
            name.encode()
            path = real + name
            mode = os.lstat(path).st_mode if inside else 0
            if stat.S_ISLNK(mode):
                inside = self._is_inside(os.path.realpath(path))
                mode = os.stat(path).st_mode if inside else 0
        except FileNotFoundError:
            raise
        except UnicodeEncodeError:      # it could not be written into split.csv
            raise ManifestError(f"{printable(cell)}: its name is not UTF-8. Rename it.") from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ManifestError(f"{printable(cell)[:300]} cannot be read ({reason}).") from None
        if not inside:
            raise ManifestError(f"{printable(cell)} lies outside of {printable(self.root)}. {ALLOW}")
        if not stat.S_ISREG(mode):
            raise ManifestError(f"{printable(cell)} is no regular file." if cell else "the path is empty.")
        return path

    def _is_inside(self, real):
        return self._anywhere or os.path.commonpath([self.root, real]) == self.root

    def respelled_as(self, cell):
        """Return the cell as the disk spells it, or None; ManifestError where two files could be meant."""
        return self._respelled(cell) or self._respelled(cell.replace("\\", "/"))

    def _respelled(self, cell):
        inside, place = os.path.join(self.root, ""), ""
        for part in cell.removeprefix(inside).split("/"):
            if part in ("", "."):
                continue
            if part == ".." or cell.startswith("/") and not cell.startswith(inside) or len(part) > 255:
                return None
            folder = os.path.join(self.root, place)
            if folder not in self._names:
                self._names[folder] = names = {}
                with suppress(OSError):         # no folder, or one that may not be read
                    for name in os.listdir(folder) if self._is_inside(os.path.realpath(folder)) else ():
                        names.setdefault(_spelling(name), []).append(name)
            names = self._names[folder].get(_spelling(part), ())
            if part not in names and len(names) > 1:
                raise ManifestError(f"there is no file {printable(cell)}, but {printable(names[0])} and "
                                    f"{printable(names[1])}. Write the one that is meant.")
            if not names:
                return None
            place = os.path.join(place, part if part in names else names[0])
        return place

    def remark(self, list="the manifest"):
        """Return a sentence on the cells that were found under another spelling."""
        there, said = map(printable, self._example)
        return (f"{self.respelled:,} paths are spelled otherwise than on this disk, in case, Unicode form, backslashes "
                f"or spaces: there is {there[:200]}; {list} says {said[:200]}. They were read.")

    def hint(self, cell):
        """Return a sentence on where the file of a cell that was not found may be, or an empty one."""
        if os.path.lexists(os.path.join(self.root, cell)):
            return ""
        parts = cell.replace("\\", "/").rstrip("/").split("/")
        if self._index is None:
            self._index = _stems(self.root)
        found = self._index.get(_stem(parts[-1]), ())
        if not found:
            first, self._found = not self._found and parts[-1], True
            return (f" Paths are relative to {printable(self.root)}; another folder is named by root= (--root DIR)."
                    if first and not os.path.isabs(cell) else "")

        def shared(path):
            pairs = list(zip(reversed(path.split("/")), reversed(parts)))
            return next((i for i, (one, other) in enumerate(pairs) if _spelling(one) != _spelling(other)), len(pairs))
        best, said, folder = max(found, key=shared), "/".join(parts), None
        in_front = said.removesuffix(best) if said.endswith("/" + best) else ""
        if best.endswith("/" + said):
            folder = os.path.join(self.root, best.removesuffix("/" + said))
        elif in_front and (self.root + "/").endswith("/" + in_front):
            folder = (self.root + "/").removesuffix("/" + in_front) or "/"
        if folder is not None:
            known, self._told = self._told, folder
            return f" There is {printable(best)}" + ("." if folder == known else f": are the paths relative to "
                   f"{printable(folder)}? Then name it with root= (--root {printable(folder)}).")
        leave = f", with {printable(in_front)[:200]} in front. Leave that out" if in_front else ""
        return f" There is {printable(best)}; the manifest says {printable(cell)[:300]}{leave}."


def _spelling(name):
    """Return what the spellings of a file's name share on systems that know no case or another Unicode form."""
    return name.strip().casefold() if name.isascii() else normalize("NFC", normalize("NFC", name).casefold()).strip()


def _stem(name):
    return os.path.splitext(_spelling(name))[0]


def _stems(root, most=200_000):
    """Return {stem of a file's name: its paths relative to the root, up to 20}, of the first `most` files."""
    index, count = {}, 0
    for folder, inner, files in os.walk(root):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        for name in files:
            paths = index.setdefault(_stem(name), [])
            if len(paths) < 20:
                paths.append(os.path.relpath(os.path.join(folder, name), root))
        count += len(files)
        if count > most:
            break
    return index
