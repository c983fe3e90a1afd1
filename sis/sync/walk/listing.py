"""A directory as the index keeps it: name and lstat of all that is in it, packed, to be compared at once."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from operator import attrgetter
from typing import NamedTuple

Row = bytes
"""What lstat told of a path, packed: see `Fields`."""

Listing = bytes
"""What is in one directory: `packed` members in ascending order, one after another."""

ROOT_PARENT = b""
"""The directory of the root's own row, which is named b"." there."""

INODE_BYTES = 16
"""A row begins with inode and device."""

_ROW = struct.Struct("<QQqqqIII")
_CTIME = struct.Struct("<q")
_CTIME_AT = 32
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


def ctime_ns_of(row: Row) -> int:
    (ctime_ns,) = _CTIME.unpack_from(row, _CTIME_AT)
    return int(ctime_ns)


def is_same_inode(row: Row, other: Row) -> bool:
    return row[:INODE_BYTES] == other[:INODE_BYTES]


def differs_in_time_only(row: Row, other: Row) -> bool:
    """Or in size; whether what is left of inode, type, mode and owner is the same."""
    return row[:INODE_BYTES] == other[:INODE_BYTES] and row[40:] == other[40:]


def packed(name: bytes, row: Row) -> bytes:
    """One member of a listing."""
    return name + b"\0" + row


def joined(members: list[bytes]) -> Listing:
    """`packed` members, in any order, as a listing."""
    members.sort()
    return b"".join(members)


def listing_of(members: Iterable[tuple[bytes, os.stat_result]]) -> Listing:
    """Names and lstats as a listing."""
    return joined([packed(name, row_of(status)) for name, status in members])


def unpacked(listing: Listing) -> Iterator[tuple[bytes, Row]]:
    """The name and the row of each member, in order. A listing that is cut off loses its last one."""
    at, end = 0, len(listing) - _ROW.size
    while at < end:
        zero = listing.find(b"\0", at, end)
        if zero < 0:
            return
        after = zero + 1 + _ROW.size
        yield listing[at:zero], listing[zero + 1 : after]
        at = after


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
    members: dict[bytes, list[bytes]] = {directory: [] for directory in directories}
    for path in rows:
        members.setdefault(place_of(path)[0], []).append(path)
    return {
        directory: joined([packed(place_of(path)[1], rows[path]) for path in inside])
        for directory, inside in members.items()
    }


class ListedRows:
    """The rows of listings by path; a directory is unfolded when it is asked for."""

    def __init__(self, listings: Mapping[bytes, Listing]) -> None:
        self._listings = listings
        self._unfolded: dict[bytes, dict[bytes, Row]] = {}

    def get(self, path: bytes) -> Row | None:
        directory, name = place_of(path)
        return self.within(directory).get(name)

    def within(self, directory: bytes) -> Mapping[bytes, Row]:
        """By name, what a listing has."""
        if directory not in self._unfolded:
            self._unfolded[directory] = dict(unpacked(self._listings.get(directory, b"")))
        return self._unfolded[directory]
