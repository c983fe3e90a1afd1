"""What lies at a path of a scanned tree: its entry, and the identity by which its inode is known again."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from sis.errors import SisError
from sis.image.model import ANY_MTIME, Entry, Kind
from sis.image.names import show_path
from sis.system.files import Xattrs

IDENTITY = struct.Struct("<QQQqq")
"""What tells that an inode is unchanged: device, inode, size, mtime_ns, ctime_ns."""

UNKNOWN = bytes(IDENTITY.size)
"""The row of an inode that changed too short a time ago to be trusted."""


@dataclass(frozen=True)
class ScanCache:
    """What the last scan of a tree found: its entries, and the identity each path's inode had then."""

    entries: Sequence[Entry]
    identities: bytes
    """IDENTITY rows in the order of `entries`, UNKNOWN among them."""

    def positions(self) -> dict[bytes, int]:
        return {entry.path: at for at, entry in enumerate(self.entries)}


@dataclass(slots=True)
class Found:
    """One path on the way to its entry. `runs` collects the content of a file that has to be read.

    A path that is as it was, with one name, is its entry from the start: a million of them should cost little.
    """

    entry: Entry
    identity: bytes
    settled: bool
    inode: tuple[int, int] | None
    runs: bytes | bytearray | None = None


TO_READ = b""
"""The runs of a file whose content has not been read yet."""


def path_of(found: Entry | Found) -> bytes:
    return found.path if isinstance(found, Entry) else found.entry.path


def entry_of(path: bytes, kind: Kind, status: os.stat_result, target: bytes, xattrs: Xattrs) -> Entry:
    """The entry of a path, its content and hard links left out."""
    device = kind in (Kind.CHAR, Kind.BLOCK)
    mode = stat.S_IMODE(status.st_mode)
    return Entry(
        path=path,
        kind=kind,
        mode=_modes.setdefault(mode, mode),
        uid=status.st_uid,
        gid=status.st_gid,
        mtime_ns=status.st_mtime_ns if status.st_mtime_ns != ANY_MTIME else 0,
        size=status.st_size if kind is Kind.FILE else 0,
        target=target,
        rdev=(os.major(status.st_rdev), os.minor(status.st_rdev)) if device else (0, 0),
        xattrs=xattrs,
    )


_modes: dict[int, int] = {}
"""The numbers themselves: a million entries share a few of them."""


def identity_of(status: os.stat_result) -> bytes:
    """The IDENTITY row of an inode."""
    return IDENTITY.pack(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def vanished(path: bytes) -> SisError:
    """The fault to raise where a path no longer is what it was a moment ago."""
    return SisError(
        f"{show_path(path)} vanished or changed its type while the tree was read",
        hint="commit a tree nobody is writing to",
    )
