"""A directory as the index keeps it: name and lstat of all that is in it, packed, to be compared at once."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Mapping
from operator import attrgetter
from typing import NamedTuple

Row = bytes
"""What lstat told of a path, packed: see `Fields`."""

Listing = list[bytes]
"""What is in one directory: `packed` members, in ascending order."""

ROOT_PARENT = b""
"""The directory of the root's own row, which is named b"." there."""

INODE_BYTES = 16
"""A row begins with inode and device."""

_ROW = struct.Struct("<QQqqqIII")
_TIME_MAX = (1 << 63) - 1
_told = attrgetter("st_ino", "st_dev", "st_size", "st_mtime_ns", "st_ctime_ns", "st_mode", "st_uid", "st_gid")


class Fields(NamedTuple):
    """A row unpacked. `mode` is with the type."""

    inode: int
    device: int
    size: int
    mtime_ns: int
    ctime_ns: int
    mode: int
    uid: int
    gid: int


def row_of(found: os.stat_result) -> Row:
    """Times beyond the year 2262, which no desired file has, become that one's end."""
    try:
        return _ROW.pack(*_told(found))
    except struct.error:
        fields = Fields._make(_told(found))
        mtime_ns, ctime_ns = (max(-_TIME_MAX, min(time, _TIME_MAX)) for time in (fields.mtime_ns, fields.ctime_ns))
        return _ROW.pack(*fields._replace(mtime_ns=mtime_ns, ctime_ns=ctime_ns))


def fields_of(row: Row) -> Fields:
    return Fields._make(_ROW.unpack(row))


def is_same_inode(row: Row, other: Row) -> bool:
    return row[:INODE_BYTES] == other[:INODE_BYTES]


def differs_in_time_only(row: Row, other: Row) -> bool:
    """Or in size; whether what is left of inode, type, mode and owner is the same."""
    return row[:INODE_BYTES] == other[:INODE_BYTES] and row[40:] == other[40:]


def packed(name: bytes, row: Row) -> bytes:
    """One member of a listing."""
    return name + b"\0" + row


def unpacked(member: bytes) -> tuple[bytes, Row]:
    """The name and the row of a member."""
    return member[: -_ROW.size - 1], member[-_ROW.size :]


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
    """Rows by path as listings by directory; of every one of `directories`, be it an empty one."""
    listings: dict[bytes, Listing] = {directory: [] for directory in directories}
    for path, row in rows.items():
        directory, name = place_of(path)
        listings.setdefault(directory, []).append(packed(name, row))
    for members in listings.values():
        members.sort()
    return listings
