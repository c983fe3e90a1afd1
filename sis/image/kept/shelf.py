"""Files that are kept between runs in a folder or, as long as there is none, in memory: losing one costs a fetch."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

from sis.system.files import atomic_write, make_dirs, read_at_most

FOLDERS = ("versions", "manifests", "tables", "parts", "dictionaries")
"""Those whose files can be had again; what is beside them is written durably."""

_FILES_MAX = 12
"""Kept files a folder; when there are more, as after checks against many versions, the oldest go."""

_FORGOTTEN_BYTES_MAX = 1 << 30

log = logging.getLogger(__name__)


class Shelf:
    """Files by name ("manifests/<hex>", "applied"); what cannot be written is told in the log, and not kept."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._memory: dict[str, bytes] = {}

    def move_to(self, folder: Path) -> None:
        """Keep what is in memory in a folder, and everything else there from here on."""
        self.folder = folder
        memory, self._memory = self._memory, {}
        for name, data in memory.items():
            self.put(name, data)

    def get(self, name: str, limit: int) -> bytes | None:
        """A kept file of at most `limit` bytes."""
        if self.folder is None:
            return self._memory.get(name)
        try:
            return read_at_most(self.folder / name, limit)
        except OSError:
            return None

    def put(self, name: str, data: bytes) -> None:
        if self.folder is None:
            self._memory[name] = data
            return
        path = self.folder / name
        try:
            make_dirs(path.parent, mode=0o700)
            self._make_room(path.parent)
            atomic_write(path, data, mode=0o600, durable=name.partition("/")[0] not in FOLDERS)
        except OSError as error:
            log.warning("%s cannot be kept (%s): it is fetched again next time", path, error.strerror)

    def has(self, name: str) -> bool:
        return name in self._memory if self.folder is None else (self.folder / name).is_file()

    def names(self) -> list[str]:
        """What is kept in FOLDERS."""
        if self.folder is None:
            return [name for name in self._memory if name.partition("/")[0] in FOLDERS]
        return [f"{folder}/{path.name}" for folder in FOLDERS for path in (self.folder / folder).glob("*")]

    def drop(self, name: str) -> None:
        self._memory.pop(name, None)
        if self.folder is not None:
            with contextlib.suppress(OSError):
                (self.folder / name).unlink()

    def forget(self, name: str) -> bool:
        """Drop a kept file that turned out to be damaged. False if there was none."""
        was_kept = self.get(name, _FORGOTTEN_BYTES_MAX) is not None
        self.drop(name)
        return was_kept

    def _make_room(self, folder: Path) -> None:
        if folder == self.folder:
            return
        by_age = []
        for path in folder.iterdir():
            # Processes that work together keep things at the same time.
            with contextlib.suppress(FileNotFoundError):
                by_age.append((path.stat().st_mtime_ns, path))
        for _, path in sorted(by_age)[: max(0, len(by_age) - _FILES_MAX + 1)]:
            path.unlink(missing_ok=True)
