"""A directory as the index keeps it: name and lstat of all that is in it, packed, to be compared at once."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter

Row = tuple[int, int, int, int, int, int, int, int]
"""inode, device, size, mtime_ns, ctime_ns, mode with type, uid, gid"""

Listing = list[bytes]
"""What is in one directory: `packed` members, in ascending order."""

ROOT_PARENT = b""
"""The directory of the root's own row, which is named b"." there."""

_ROW = struct.Struct("<QQqqqIII")

row_of: Callable[[os.stat_result], Row] = attrgetter(
    "st_ino", "st_dev", "st_size", "st_mtime_ns", "st_ctime_ns", "st_mode", "st_uid", "st_gid"
)


def packed(name: bytes, row: Row) -> bytes:
    """One member. Raises struct.error for a time beyond the year 2262, which no desired file has."""
    return name + b"\0" + _ROW.pack(*row)


def unpacked(member: bytes) -> tuple[bytes, Row]:
    """The name and the row of a member."""
    ino, dev, size, mtime_ns, ctime_ns, mode, uid, gid = _ROW.unpack_from(member, len(member) - _ROW.size)
    return member[: -_ROW.size - 1], (ino, dev, size, mtime_ns, ctime_ns, mode, uid, gid)


def place_of(path: bytes) -> tuple[bytes, bytes]:
    """The directory a path's row is kept in, and its name there."""
    if path == b".":
        return ROOT_PARENT, path
    parent, _, name = path.rpartition(b"/")
    return parent or b".", name


def path_of(directory: bytes, name: bytes) -> bytes:
    """The reverse of `place_of`."""
    return name if directory in (b".", ROOT_PARENT) else directory + b"/" + name


def listed(rows: Mapping[bytes, Row], directories: Iterable[bytes] = ()) -> dict[bytes, Listing]:
    """Rows by path as listings by directory; of every one of `directories`, be it an empty one.

    Rows that cannot be packed are left out: what they are of is looked at again.
    """
    listings: dict[bytes, Listing] = {directory: [] for directory in directories}
    for path, row in rows.items():
        directory, name = place_of(path)
        try:
            listings.setdefault(directory, []).append(packed(name, row))
        except struct.error:
            continue
    for members in listings.values():
        members.sort()
    return listings
