"""The nouns of an image version: Entry, Manifest, ChunkTable, Version, Ref. Frozen values, canonical bytes.

Wire and disk form is MessagePack of arrays (msgspec, `array_like`), so that equal values have equal bytes; a
manifest's name is the BLAKE3-256 digest of those bytes. docs/format.md is the specification; FORMAT is its number.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import Literal, NamedTuple

import msgspec

FORMAT = 1
DIGEST_BYTES = 32
HOLE = bytes(DIGEST_BYTES)
"""The digest that stands for a run of zero bytes that is not stored and is written as a hole."""

RUN = struct.Struct(f"<{DIGEST_BYTES}sQ")
"""One run of `Entry.chunks`: digest, bytes."""

RUN_BYTES = RUN.size
TABLE_ROW = struct.Struct("<IQII")
"""One row of `ChunkTable.rows`: pack number, offset, stored bytes, bytes."""

ANY_MTIME = -1
"""`mtime_ns` of an entry whose modification time is not held (files of a node's own layer)."""

PolicyVerb = Literal["enforce", "report", "ignore", "node"]


class Kind(IntEnum):
    FILE = 1
    DIR = 2
    SYMLINK = 3
    CHAR = 4
    BLOCK = 5
    FIFO = 6


TYPE_OF_KIND = {
    Kind.FILE: stat.S_IFREG,
    Kind.DIR: stat.S_IFDIR,
    Kind.SYMLINK: stat.S_IFLNK,
    Kind.CHAR: stat.S_IFCHR,
    Kind.BLOCK: stat.S_IFBLK,
    Kind.FIFO: stat.S_IFIFO,
}
"""The type bits of `st_mode`."""

KIND_OF_TYPE = {bits: kind for kind, bits in TYPE_OF_KIND.items()}
"""The reverse; a socket is no kind."""


class Chunk(NamedTuple):
    """A run of a file's content: its BLAKE3-256 digest (or HOLE) and its length in bytes."""

    digest: bytes
    size_bytes: int


class Entry(msgspec.Struct, frozen=True, array_like=True, omit_defaults=False, gc=False):
    """One path of a tree.

    path      relative to the root, raw bytes, "/"-separated, no leading slash; the root itself is b"."
    mode      permission bits, 0..0o7777
    size      bytes of a file's content; 0 for other kinds
    chunks    RUNs covering the content in order; b"" if empty
    target    of a symlink, raw bytes
    rdev      (major, minor) of a device
    xattrs    sorted (name, value) pairs, POSIX ACLs and file capabilities among them
    link      hard-link group: the same non-zero number in every entry that is one inode; else 0
    """

    path: bytes
    kind: Kind
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int = 0
    chunks: bytes = b""
    target: bytes = b""
    rdev: tuple[int, int] = (0, 0)
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    link: int = 0

    def each_chunk(self) -> Iterator[Chunk]:
        """The runs of the content in order, holes included."""
        return map(Chunk._make, RUN.iter_unpack(self.chunks))


def pack_chunks(chunks: list[Chunk]) -> bytes:
    """The `Entry.chunks` form of a list of runs."""
    return b"".join(RUN.pack(*chunk) for chunk in chunks)


class Manifest(msgspec.Struct, frozen=True, array_like=True):
    """A whole tree: entries in ascending order of `path` bytes, the root b"." among them, each path once."""

    entries: tuple[Entry, ...]
    format: int = FORMAT


class PackRef(msgspec.Struct, frozen=True, array_like=True):
    """A pack a version uses: its BLAKE3 name, its size in bytes, and the digest of its zstd dictionary (or b"")."""

    digest: bytes
    size: int
    dictionary: bytes = b""


class ChunkTable(msgspec.Struct, frozen=True, array_like=True):
    """Where each chunk of one manifest lies.

    `rows` has one TABLE_ROW for each distinct non-hole chunk, in order of first appearance in the manifest
    (docs/format.md §4).
    """

    packs: tuple[PackRef, ...]
    rows: bytes
    format: int = FORMAT

    def each_row(self) -> Iterator[tuple[int, int, int, int]]:
        """(pack number, offset, stored bytes, bytes) of each row, in order."""
        return TABLE_ROW.iter_unpack(self.rows)


class Version(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """The record of one committed version; its id is the BLAKE3 hex digest of its canonical JSON bytes.

    `manifest`, `table`, `parent` are hex digests; `created` is UTC, RFC 3339; `policy` maps a path pattern to a
    verb, in order; `lock` is the exact packages ("name" → "version"); `os` what a node needs to know without the
    manifest (kernel release, architecture, python).
    """

    format: int = FORMAT
    image: str
    generation: int
    parent: str | None
    manifest: str
    table: str
    created: str
    entries: int
    content_bytes: int
    stored_bytes: int
    policy: tuple[tuple[str, str], ...] = ()
    lock: dict[str, str] = {}
    os: dict[str, str] = {}
    spec: str | None = None
    note: str = ""


class Ref(msgspec.Struct, frozen=True, kw_only=True):
    """The one mutable thing: an image's generations and channels, by version id. Moved by one rename, signed.

    `history` holds, for each channel, the versions it named before, newest first: where `rollback` goes.
    """

    format: int = FORMAT
    image: str
    sequence: int
    updated: str
    expires: str | None = None
    generations: dict[str, str]
    channels: dict[str, str]
    history: dict[str, tuple[str, ...]] = {}
