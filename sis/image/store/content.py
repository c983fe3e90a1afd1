"""The bytes of single files of a version, read from the packs of a store that lies here."""

from __future__ import annotations

import functools

from sis.image.documents.tables import chunk_locations
from sis.image.model import HOLE, Entry, Manifest, Version
from sis.image.store.packs import decode
from sis.image.store.reader import Store


class Contents:
    """Reads files of one version. What it knows of the packs takes some 200 bytes a chunk: let it go when done."""

    def __init__(self, store: Store, version: Version, manifest: Manifest) -> None:
        self._store = store
        self._table = store.table(version.table)
        self._locations = chunk_locations(manifest, self._table)
        self._dictionary = functools.cache(self._read_dictionary)

    def read(self, entry: Entry, limit: int) -> bytes | None:
        """A file's bytes, each chunk proved by its digest; None for a longer one. Raises Corrupt."""
        if entry.size > limit:
            return None
        return b"".join(
            bytes(chunk.size_bytes) if chunk.digest == HOLE else self._chunk(chunk.digest)
            for chunk in entry.each_chunk()
        )

    def _chunk(self, digest: bytes) -> bytes:
        location = self._locations[digest]
        pack = self._table.packs[location.pack]
        stored = b"".join(self._store.read(f"packs/{pack.digest.hex()}", location.offset, location.stored))
        return decode(stored, location, self._dictionary(pack.dictionary), pack=pack.digest.hex())

    def _read_dictionary(self, digest: bytes) -> bytes:
        return self._store.dictionary(digest) if digest else b""
