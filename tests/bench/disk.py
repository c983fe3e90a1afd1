"""The disk nodes live on: file systems like theirs, with a journal and freshly made, in a file beside the rest.

On the head's own file system the past would be measured: without a journal, ext4 searches long for an inode for each
new file within minutes of a great removal, and with `discard` every unlink waits. Every block of the file is written
before: the first write to a block of a sparse file takes about twice as long as any other, which a disk does not know.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from sis.errors import NoSpace
from sis.system import process

KIND = "ext4 with a journal, in a file whose blocks are there"

_MADE_NOW = "nodiscard,lazy_itable_init=0,lazy_journal_init=0"
"""Else the kernel writes tables of inodes while the first works are measured."""

_PIECE = 4 << 20
_LEFT_FREE = 2 << 30


@dataclass(frozen=True)
class Disk:
    """Use within `with`: then it is mounted at `folder`; nothing of it is left afterwards.

    image  the file it is in
    size   its length in bytes, a multiple of 4 MiB; so much room is taken
    """

    image: Path
    folder: Path
    size: int

    def must_fit(self) -> None:
        """Raises NoSpace where there is not so much room."""
        self.image.parent.mkdir(parents=True, exist_ok=True)
        free = os.statvfs(self.image.parent)
        taken = self.image.stat().st_blocks * 512 if self.image.exists() else 0
        if free.f_bavail * free.f_frsize + taken < self.size + _LEFT_FREE:
            raise NoSpace(
                f"the nodes' disk takes {self.size >> 30} GiB beside the trees, and there is not so much room",
                hint="make room below BENCH_DIR, or name another folder by it",
            )

    def __enter__(self) -> Self:
        self._leave()
        self.must_fit()
        try:
            self._write_all()
            self._mount(self.folder, 0, self.size)
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._leave()

    @contextlib.contextmanager
    def divided(self, folders: Sequence[Path]) -> Iterator[None]:
        """As many file systems of their own, mounted there in place of the one, while the block runs.

        What is on it is lost, and so is what is on them.
        """
        self._unmount(self.folder)
        size = self.size // len(folders) // _PIECE * _PIECE
        try:
            for number, folder in enumerate(folders):
                self._mount(folder, number * size, size)
            yield
        finally:
            for folder in folders:
                self._unmount(folder)
            self._mount(self.folder, 0, self.size)

    def _write_all(self) -> None:
        """Data that does not go through the page cache, and that no device below takes for empty."""
        handle = os.open(self.image, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_DIRECT, 0o600)
        try:
            os.posix_fallocate(handle, 0, self.size)
            with mmap.mmap(-1, _PIECE) as piece:
                piece[:] = os.urandom(_PIECE)
                for _ in range(0, self.size, _PIECE):
                    os.write(handle, piece)
            os.fsync(handle)
        finally:
            os.close(handle)

    def _mount(self, folder: Path, offset: int, size: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        where = ["--offset", str(offset), "--sizelimit", str(size)]
        words = ["losetup", "--direct-io=on", *where, "--show", "--find", str(self.image)]
        device = process.run(words).stdout.strip()
        process.run(["mkfs.ext4", "-q", "-F", "-E", _MADE_NOW, device])
        process.run(["mount", "-o", "nodiscard", device, str(folder)])

    def _unmount(self, folder: Path) -> None:
        device = process.run(["findmnt", "-n", "-o", "SOURCE", str(folder)], check=False).stdout.strip()
        if device:
            process.run(["umount", str(folder)])
            process.run(["losetup", "--detach", device])

    def _leave(self) -> None:
        """End what there is of it, of a run that was killed too."""
        words = ["losetup", "--list", "--noheadings", "--output", "NAME", "-j", str(self.image)]
        for device in process.run(words).stdout.split():
            process.run(["umount", "--quiet", "--all-targets", device], check=False)
            process.run(["losetup", "--detach", device])
        self.image.unlink(missing_ok=True)


def forget(besides: Path) -> None:
    """Have nothing of any disk in memory but one tree: a node that did other things meanwhile, and a head at work."""
    Path("/proc/sys/vm/drop_caches").write_text("3")
    for folder, _, names in os.walk(besides):
        for name in names:
            path = Path(folder, name)
            if stat.S_ISREG(path.lstat().st_mode):
                path.read_bytes()
