"""One end of a delta: a version with all that is needed to find its content, or the nothing a new node begins with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sis.image.delta import NOTHING, Stretch
from sis.image.documents import codec
from sis.image.documents.tables import Location, chunk_locations
from sis.image.model import HOLE, ChunkTable, Manifest, Version
from sis.image.store import VERSION_BYTES_MAX, LocalStore


class Piece(NamedTuple):
    """A stretch of one stored chunk, or of a hole (`location` None)."""

    pack: str
    location: Location | None
    start: int
    end: int


class Side:
    """A version of `store`; of NOTHING `version` is None, manifest and table are empty. Raises NotFound, Corrupt."""

    def __init__(self, store: LocalStore, version_id: str) -> None:
        self.store = store
        self.id = version_id
        self.version: Version | None = None
        self.manifest, self.table = Manifest(()), ChunkTable((), b"")
        if version_id != NOTHING:
            self.version = store.version(version_id)
            self.manifest = store.manifest(self.version.manifest)
            self.table = store.table(self.version.table)
        self.locations = chunk_locations(self.manifest, self.table)
        self._packs = [pack.digest.hex() for pack in self.table.packs]

    @property
    def name(self) -> str:
        """As people name it: compute@11; "nothing"."""
        return f"{self.version.image}@{self.version.generation}" if self.version else "nothing"

    def record(self) -> bytes:
        """The bytes of the version's record, fields this program does not know included."""
        if self.version is None:
            return b""
        data = self.store.whole(f"versions/{self.id}", VERSION_BYTES_MAX)
        assert data is not None
        return data

    def manifest_bytes(self) -> bytes:
        """The manifest's canonical bytes."""
        return codec.encode_manifest(self.manifest) if self.version else b""

    def stretch(self, stretch: Stretch) -> Iterator[Piece]:
        """The pieces of the chunks a stretch of a file lies in."""
        at = 0
        start, end = stretch.offset, stretch.offset + stretch.length
        for digest, size in self.manifest.entries[stretch.entry].each_chunk():
            if at < end and at + size > start:
                yield self.piece(digest, max(start - at, 0), min(end - at, size))
            at += size

    def piece(self, digest: bytes, start: int, end: int) -> Piece:
        """Bytes of one chunk."""
        if digest == HOLE:
            return Piece("", None, start, end)
        location = self.locations[digest]
        return Piece(self._packs[location.pack], location, start, end)
