"""The disks nodes live on: a file system like theirs, with a journal and freshly made, in a file beside the rest.

On the head's own file system the past would be measured: without a journal, ext4 searches long for an inode for each
new file within minutes of a great removal, and with `discard` every unlink waits.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from sis.system import process

KIND = "ext4 with a journal, in a file"
BYTES = 64 << 30
NODE_BYTES = 8 << 30
"""These are sparse files: this is not what they take."""

_MADE_NOW = "nodiscard,lazy_itable_init=0,lazy_journal_init=0"
"""Else the kernel writes tables of inodes while the first works are measured."""


@contextlib.contextmanager
def mounted(image: Path, folder: Path, size: int = BYTES) -> Iterator[None]:
    """Make the disk in the file `image` and mount it at `folder` while the block runs; nothing of either is left."""
    _remove(image, folder)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with image.open("wb") as file:
            file.truncate(size)
        device = process.run(["losetup", "--direct-io=on", "--show", "--find", str(image)]).stdout.strip()
        process.run(["mkfs.ext4", "-q", "-E", _MADE_NOW, device])
        process.run(["mount", "-o", "nodiscard", device, str(folder)])
        yield
    finally:
        _remove(image, folder)


def trim(folder: Path) -> None:
    """Give back to the head's disk what nodes that are gone took."""
    process.run(["fstrim", str(folder)])


def forget(besides: Path) -> None:
    """Have nothing of any disk in memory but one tree: a node that did other things meanwhile, and a head at work."""
    Path("/proc/sys/vm/drop_caches").write_text("3")
    for folder, _, names in os.walk(besides):
        for name in names:
            path = Path(folder, name)
            if stat.S_ISREG(path.lstat().st_mode):
                path.read_bytes()


def _remove(image: Path, folder: Path) -> None:
    process.run(["umount", "--quiet", str(folder)], check=False)
    for line in process.run(["losetup", "--list", "--noheadings", "--output", "NAME", "-j", str(image)]).stdout.split():
        process.run(["losetup", "--detach", line])
    image.unlink(missing_ok=True)
