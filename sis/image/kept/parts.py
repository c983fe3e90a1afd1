"""Chunk tables that are made only when they are needed, each of an older one and what it has more."""

from __future__ import annotations

import contextlib

import msgspec

from sis.errors import Corrupt, NotFound
from sis.image.deltas.delta import TablePart, join_table
from sis.image.deltas.reading import must_be
from sis.image.documents import codec
from sis.image.documents.stored import DOCUMENT_BYTES_MAX
from sis.image.kept.shelf import Shelf
from sis.image.kept.ways import Ways
from sis.image.model import ChunkTable, Manifest
from sis.image.store.reader import Store

PARTS_MAX = 8
"""Chunk tables in a row that are kept as what the next has more; each keeps an older manifest."""


class Part(msgspec.Struct, frozen=True, array_like=True):
    """A chunk table that is not made yet: what it has more than an older one, and the manifests of both."""

    table: str
    manifest: str
    newer_manifest: str
    more: TablePart


_decoder = msgspec.msgpack.Decoder(Part)


class Parts:
    """The parts on a shelf, and those in the deltas that lead on; `store` is where other documents come from."""

    def __init__(self, shelf: Shelf, ways: Ways) -> None:
        self._shelf = shelf
        self._ways = ways
        self._known: dict[str, Part] = {}

    def table(self, digest: str, store: Store) -> tuple[ChunkTable, bytes] | None:
        """A chunk table with its bytes, proved by its digest; None if there is no part it can be made of."""
        part = self._part(digest, store)
        if part is None:
            return None
        try:
            before = store.table(part.table) if part.table else ChunkTable((), b"")
            older = store.manifest(part.manifest) if part.manifest else Manifest(())
            table = join_table(part.more, before, (older, store.manifest(part.newer_manifest)))
            return table, must_be(codec.encode_table(table, checked=True), digest, "the chunk table")
        except (Corrupt, NotFound) as error:
            self._known.pop(digest, None)
            self._shelf.drop(f"parts/{digest}")
            self._ways.refuse_document(digest, error)
            return None

    def keep(self, digest: str, store: Store) -> list[str] | None:
        """Keep all that a chunk table can be made of later, and name it; None if it is to be made now."""
        names: list[str] = []
        while digest and not self._shelf.has(f"tables/{digest}"):
            part = self._part(digest, store)
            older = [f"manifests/{part.manifest}"] if part is not None and part.manifest else []
            if part is None or len(names) >= 2 * PARTS_MAX or not all(map(self._shelf.has, older)):
                return None
            self._shelf.put(f"parts/{digest}", msgspec.msgpack.encode(part))
            names += [f"parts/{digest}", *older]
            digest = part.table
        return [*names, f"tables/{digest}"] if digest else names

    def _part(self, digest: str, store: Store) -> Part | None:
        """What a table can be made of: as it was kept, or as the delta that leads to it says."""
        if digest not in self._known:
            kept = self._shelf.get(f"parts/{digest}", DOCUMENT_BYTES_MAX)
            with contextlib.suppress(Corrupt, NotFound):
                part = self._by_delta(digest, store) if kept is None else _decoded(kept)
                if part is not None:
                    self._known[digest] = part
        return self._known.get(digest)

    def _by_delta(self, digest: str, store: Store) -> Part | None:
        opened = self._ways.to_document(digest)
        if opened is None or not opened.has_table:
            return None
        newer, before = store.version(opened.header.after.hex()), self._ways.applied
        older = store.version(before) if before is not None else None
        tables = (older.table, older.manifest) if older is not None else ("", "")
        return Part(*tables, newer.manifest, opened.head.table)


def _decoded(data: bytes) -> Part:
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError, OverflowError) as error:
        raise Corrupt(f"part of a chunk table: {error}") from error
