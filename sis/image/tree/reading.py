"""The content of one file cut into chunks, read with care: others may write to the tree meanwhile."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from sis.errors import SisError
from sis.image.model import Kind
from sis.image.names import show_path
from sis.image.tree import chunk
from sis.image.tree.found import Found, entry_of, identity_of, vanished
from sis.system.files import Run, open_beneath, read_xattrs, runs_of

WHOLE_BYTES = 1 << 20
"""A stretch up to this length is read at once; a longer one a window at a time."""

_ATTEMPTS = 3


class Piece(NamedTuple):
    """A run of a file's content: data, or None for a hole. `runs` is where its digest will go."""

    runs: bytearray
    data: memoryview | None
    size: int


@contextmanager
def opened(root: int, path: bytes) -> Iterator[int]:
    """A file beneath `root`, to be read: no link followed, its time of access kept where possible. Raises SisError."""
    flags = os.O_RDONLY | os.O_NONBLOCK
    try:
        try:
            handle = open_beneath(root, path, flags | os.O_NOATIME)
        except PermissionError:
            handle = open_beneath(root, path, flags)
    except PermissionError as error:
        raise SisError(f"{show_path(path)} cannot be read: {error.strerror}", hint="commit as root") from error
    except OSError as error:
        raise vanished(path) from error
    try:
        yield handle
    finally:
        os.close(handle)


def attempts(found: Found, handle: int) -> Iterator[bytearray]:
    """Gives a place for the runs of a file whose content the caller then reads; again if it changed meanwhile.

    In the end `found` is the file as it was read. Raises SisError if it never holds still.
    """
    path = found.entry.path
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(0.05 * attempt)
        before = os.fstat(handle)
        if not stat.S_ISREG(before.st_mode):
            raise vanished(path)
        runs = bytearray()
        yield runs
        after = os.fstat(handle)
        identity = identity_of(after)
        if identity_of(before) != identity:
            continue
        found.runs = runs
        if identity != found.identity:
            found.entry = entry_of(path, Kind.FILE, after, b"", read_xattrs(handle))
            found.identity = identity
            found.settled = False
        return
    raise SisError(
        f"{show_path(path)} changed while it was read, {_ATTEMPTS} times",
        hint="commit a tree nobody is writing to",
    )


def pieces(handle: int, runs: bytearray) -> Iterator[Piece]:
    """The content of a file, cut; whatever the size, a window at a time. Ends early if the file does."""
    status = os.fstat(handle)
    size = status.st_size
    stretches: Iterable[Run] = (Run(0, size, hole=False),)
    if status.st_blocks * 512 < size:
        stretches = runs_of(handle, size)
    for offset, length, hole in stretches:
        if hole:
            yield Piece(runs, None, length)
        elif length <= WHOLE_BYTES:
            for data in chunk.cut(os.pread(handle, length, offset)):
                yield Piece(runs, data, len(data))
        else:
            for data in chunk.cut_stream(_Reader(handle, offset, length).read):
                yield Piece(runs, data, len(data))


@dataclass
class _Reader:
    handle: int
    at: int
    rest: int

    def read(self, count: int) -> bytes:
        data = os.pread(self.handle, min(count, self.rest), self.at)
        self.at += len(data)
        self.rest -= len(data)
        return data
