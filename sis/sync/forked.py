"""Work that a second process does meanwhile, so that two cores are used for what is Python; its answer is bytes."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable

SHARED_FROM = 8192
"""Entries from which on a walk or a look at every file is shared by two processes."""

_END = b"."


def is_worth_it(count: int) -> bool:
    """Never in a process with threads: a lock one of them holds would stay held in the child."""
    return count >= SHARED_FROM and (os.cpu_count() or 1) > 1 and threading.active_count() == 1


class Forked:
    """A child process that does `work` and ends. It must touch nothing but what it reads."""

    def __init__(self, work: Callable[[], bytes]) -> None:
        self._pipe, end = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                gc.disable()
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
