"""Work that a second process does meanwhile, so that two cores are used for what is Python; its answer is bytes."""

from __future__ import annotations

import gc
import os
import struct
import threading
from collections.abc import Callable, Iterator

SHARED_FROM = 8192
"""Entries from which on a walk or a look at every file is shared by two processes."""

_END = b"."
_NUMBER = struct.Struct("<I")
_DEALS_MAX = 1024
"""A page of them, which any pipe holds without anyone reading."""


def is_worth_it(count: int) -> bool:
    """Whether a second process is possible, and there is enough for it to do."""
    return count >= SHARED_FROM and is_possible()


def is_possible() -> bool:
    """Never in a process with threads: a lock one of them holds would stay held in the child."""
    return (os.cpu_count() or 1) > 1 and threading.active_count() == 1


def fork() -> int:
    """`os.fork`; the child collects no garbage, which would only give it a copy of all it shares with its parent."""
    gc.freeze()
    pid = os.fork()
    if pid == 0:
        gc.disable()
    else:
        gc.unfreeze()
    return pid


class Forked:
    """A child process that does `work` and ends. It must touch nothing but what it reads."""

    def __init__(self, work: Callable[[], bytes]) -> None:
        self._pipe, end = os.pipe()
        self._pid = fork()
        if self._pid == 0:
            try:
                told = work() + _END
                while told:
                    told = told[os.write(end, told) :]
            finally:
                os._exit(0)
        os.close(end)

    def result(self) -> bytes | None:
        """What `work` gave; None if the child did not come to its end."""
        pieces = []
        while piece := os.read(self._pipe, 1 << 20):
            pieces.append(piece)
        os.close(self._pipe)
        os.waitpid(self._pid, 0)
        told = b"".join(pieces)
        return told.removesuffix(_END) if told.endswith(_END) else None


class Shared:
    """Work that a child begins at once, and that this process joins in when it has time for it (`joined`).

    Both are dealt of the numbers below `count` whenever they want some more.
    """

    def __init__(self, count: int, work: Callable[[Iterator[int]], bytes]) -> None:
        self._count = count
        self._stride = max(1, -(-count // _DEALS_MAX), min(8, count // 256))
        self._work = work
        self._deck, end = os.pipe()
        with open(end, "wb") as file:
            file.write(b"".join(map(_NUMBER.pack, range(0, count, self._stride))))
        self._helper = Forked(lambda: work(self._dealt()))

    def joined(self) -> tuple[bytes, bytes] | None:
        """What the work gave here and in the child. None if that did not come to its end: its part is not done."""
        try:
            mine = self._work(self._dealt())
        finally:
            theirs = self._end()
        return None if theirs is None else (mine, theirs)

    def drop(self) -> None:
        """Leave undone what is not begun."""
        while os.read(self._deck, _NUMBER.size * _DEALS_MAX):
            pass
        self._end()

    def _dealt(self) -> Iterator[int]:
        while card := os.read(self._deck, _NUMBER.size):
            (first,) = _NUMBER.unpack(card)
            yield from range(first, min(first + self._stride, self._count))

    def _end(self) -> bytes | None:
        os.close(self._deck)
        return self._helper.result()


def in_two(count: int, work: Callable[[Iterator[int]], bytes]) -> tuple[bytes, bytes] | None:
    """Do `work` on the numbers below `count` here and in a child; see `Shared`."""
    return Shared(count, work).joined()
