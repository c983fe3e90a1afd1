"""Writing to the disk while more is being staged."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable

from sis.sync.walk.observe import Area
from sis.system.beneath import Beneath

FLUSHED_EVERY_BYTES = 32 << 20


class Flusher:
    """Has the kernel write to the disk what was staged while more is being staged, so that the barrier is short."""

    def __init__(self, tree: Beneath, areas: Iterable[Area]) -> None:
        self._tree = tree
        self._mounts = [area.mount for area in areas]
        self._unwritten = 0
        self._wake = threading.Event()
        self._ended = False
        self._thread: threading.Thread | None = None

    def written(self, size: int) -> None:
        self._unwritten += size
        if self._unwritten >= FLUSHED_EVERY_BYTES:
            self._unwritten = 0
            if self._thread is None:
                self._thread = threading.Thread(target=self._flush, name="flush", daemon=True)
                self._thread.start()
            self._wake.set()

    def end(self) -> None:
        self._ended = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def _flush(self) -> None:
        while self._wake.wait() and not self._ended:
            self._wake.clear()
            with contextlib.suppress(OSError):  # the barrier tells
                for mount in self._mounts:
                    self._tree.sync_filesystem(mount)
