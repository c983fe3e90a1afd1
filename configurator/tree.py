"""What lies at the paths of a tree, on disk or in a listing, and where its links lead: never out of it."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal, NamedTuple

Kind = Literal["file", "dir", "symlink", "other"]

_KINDS: dict[int, Kind] = {stat.S_IFREG: "file", stat.S_IFDIR: "dir"}
_MOST_LINKS = 40
_LARGEST_FILE = 64 << 20


class Found(NamedTuple):
    """What lies at one path, itself, no link followed. `target` is that of a symlink."""

    kind: Kind
    target: str = ""


Lookup = Callable[[str], Found | None]
"""Absolute path → what lies there, or None."""
Names = Callable[[str], Iterable[str]]
"""Absolute path of a directory → the names in it; empty where there is none."""
Read = Callable[[str], bytes | None]
"""Absolute path of a file, no link on the way → its bytes; None where it is none or cannot be read."""


def lookup_of(root: Path) -> Lookup:
    """What lies at a path below `root`, no link followed at its end."""

    def lookup(path: str) -> Found | None:
        try:
            full = f"{os.fspath(root)}/{path}"
            mode = os.lstat(full).st_mode
            return (
                Found("symlink", os.readlink(full))
                if stat.S_ISLNK(mode)
                else Found(_KINDS.get(stat.S_IFMT(mode), "other"))
            )
        except OSError:
            return None

    return lookup


def reader_of(root: Path) -> Read:
    """Reads the files below `root`, following no link at their end."""

    def read(path: str) -> bytes | None:
        try:
            handle = os.open(f"{os.fspath(root)}/{path}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        with open(handle, "rb") as file:
            return file.read(_LARGEST_FILE) if stat.S_ISREG(os.fstat(handle).st_mode) else None

    return read


def read_nothing(_path: str) -> bytes | None:
    """For listings: no file can be read."""
    return None


class Tree:
    """Questions about a tree, links followed inside it only, ".." stopping at its root as chroot has it."""

    def __init__(self, lookup: Lookup, names: Names, read: Read) -> None:
        self._lookup = lookup
        self._names = names
        self._read = read

    def resolve(self, path: str) -> str | None:
        """The path with every link followed, or None when it leads nowhere."""
        done = "/"
        todo = [part for part in reversed(path.split("/")) if part]
        links = 0
        while todo:
            part = todo.pop()
            if part in (".", ".."):
                done = posixpath.dirname(done) if part == ".." else done
                continue
            here = posixpath.join(done, part)
            found = self._lookup(here)
            if found is None:
                return None
            if found.kind == "symlink":
                links += 1
                if links > _MOST_LINKS:
                    return None
                if found.target.startswith("/"):
                    done = "/"
                todo.extend(part for part in reversed(found.target.split("/")) if part)
            else:
                done = here
        return done

    def has(self, *paths: str) -> bool:
        """Whether any of the paths leads to something."""
        return any(self.resolve(path) is not None for path in paths)

    def kind(self, path: str) -> Kind | None:
        """What a path leads to."""
        real = self.resolve(path)
        found = self._lookup(real) if real is not None and real != "/" else None
        return found.kind if found is not None else None

    def text(self, path: str) -> str | None:
        """A file's text; bytes that are not UTF-8 come back as they were when it is encoded again."""
        real = self.resolve(path)
        data = self._read(real) if real is not None else None
        return data.decode("utf-8", "surrogateescape") if data is not None else None

    def names(self, path: str) -> list[str]:
        real = self.resolve(path)
        return sorted(self._names(real)) if real is not None else []

    def link(self, path: str) -> str | None:
        """The target of the link at `path` (its parents resolved), None when it is none."""
        parent = self.resolve(posixpath.dirname(path))
        found = self._lookup(posixpath.join(parent, posixpath.basename(path))) if parent is not None else None
        return found.target if found is not None and found.kind == "symlink" else None


def resolved(lookup: Lookup, path: str) -> str | None:
    """The path with every link followed inside the tree; parts that are not there stand as they are.

    None when a link on the way leads nowhere.
    """
    tree = Tree(lookup, lambda _path: (), read_nothing)
    done = "/"
    for part in path.split("/"):
        here = posixpath.join(done, part) if part else done
        found = lookup(here) if here != "/" else None
        if found is not None and found.kind == "symlink":
            real = tree.resolve(here)
            if real is None:
                return None
            here = real
        done = here
    return done
