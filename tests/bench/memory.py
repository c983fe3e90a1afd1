"""Memory that is there when a program asks for it, as on a machine of its own.

The host of a virtual machine may take back what is free in it (free page reporting, balloons), and gives a page again
when it is first touched. Writing 2 GB of files took 0.4 s with memory that was there and up to 4 s without, whoever
wrote, and it depended on what had been done minutes before.
"""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Self

_MADV_POPULATE_WRITE = 23
"""Linux 5.14, include/uapi/asm-generic/mman-common.h; Python 3.11 has no name for it."""


class Held:
    """So many bytes, or a third of what is available, held while the block runs and given to whom is measured."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._memory: mmap.mmap | None = None

    def __enter__(self) -> Self:
        self._count = min(self._count, _available() // 3)
        self._take()
        return self

    def __exit__(self, *_: object) -> None:
        self._give()

    @contextlib.contextmanager
    def given(self) -> Iterator[None]:
        """What is held is free, and there, when the block begins."""
        self._give()
        try:
            yield
        finally:
            self._take()

    def _take(self) -> None:
        if self._count:
            self._memory = mmap.mmap(-1, self._count, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            with contextlib.suppress(OSError):  # a kernel without large pages, or older: it is touched as it is used
                self._memory.madvise(mmap.MADV_HUGEPAGE)
                self._memory.madvise(_MADV_POPULATE_WRITE)

    def _give(self) -> None:
        if self._memory is not None:
            self._memory.close()
            self._memory = None


def _available() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable"))
