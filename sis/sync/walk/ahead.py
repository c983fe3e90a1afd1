"""Having the disk read many files at once, where they are not in memory."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

_BATCH = 128
_EACH_BYTES = 1 << 20
"""The kernel reads ahead by itself where more of a file is read."""

OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""How to open what was a file a moment ago: what it may have become is neither followed nor waited for."""

_T = TypeVar("_T")


class Ahead:
    """Asks for files before they are read one by one, as long as what comes before them had to be read from a disk.

    A disk has many requests done in the time of one; what is in memory costs a call for each batch and no more.
    """

    def __init__(self) -> None:
        self._blocks = _blocks_read()

    def of(
        self, directory: int, members: Iterable[_T], file_of: Callable[[_T], tuple[int, bytes | str] | None]
    ) -> Iterator[_T]:
        """All members of an open directory, each after it was asked for.

        `file_of` tells inode and name of one that is a file. Of what is not there any more whoever reads it tells.
        """
        rest = iter(members)
        while batch := list(islice(rest, _BATCH)):
            before, self._blocks = self._blocks, _blocks_read()
            if self._blocks > before:
                for _, name in sorted(filter(None, map(file_of, batch)), key=_inode):
                    _ask(directory, name)
            yield from batch


def _ask(directory: int, name: bytes | str) -> None:
    with contextlib.suppress(OSError):
        handle = os.open(name, OPEN, dir_fd=directory)
        try:
            os.posix_fadvise(handle, 0, _EACH_BYTES, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(handle)


def _inode(file: tuple[int, bytes | str]) -> int:
    return file[0]


def _blocks_read() -> int:
    """Of 512 bytes, by this process and from disks of its own; what is in memory does not count."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_inblock
