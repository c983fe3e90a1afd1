"""From the version a node has to the next one without the whole of either: what differs, and tables left for later."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from sis.errors import Corrupt
from sis.image.delta import TablePart, join_table
from sis.image.delta_read import Delta, OpenDelta, must_be
from sis.image.documents import codec
from sis.image.documents.rows import CHANGES_MAX, RowChanges, Rows, row_changes
from sis.image.model import ChunkTable, Manifest


class Step(NamedTuple):
    """The way from the version applied to another one, by what differs alone.

    before  digest of the manifest applied
    """

    before: str
    changes: RowChanges
    delta: Delta

    def cost(self, digest: bytes) -> int:
        """What fetching a novel chunk takes."""
        return self.delta.stored.get(digest, 0)


class Part(msgspec.Struct, frozen=True, array_like=True):
    """A chunk table that is not made yet: what it has more than an older one, and the manifests of both."""

    table: str
    manifest: str
    newer_manifest: str
    more: TablePart


_part_decoder = msgspec.msgpack.Decoder(Part)


def is_small(opened: OpenDelta) -> bool:
    """Whether a delta may be a step: by the number of novel chunks it says it has."""
    return opened.has_table and opened.novel_chunks <= CHANGES_MAX


def step_between(opened: OpenDelta, before: str, old: bytes, new: bytes) -> Step | None:
    """The step between two manifests, whose bytes are proved; None where there is more to look at. Raises Corrupt."""
    changes = row_changes(Rows(old), Rows(new))
    delta = None if changes is None else opened.bound_by(changes)
    if changes is None or delta is None:
        return None
    return Step(before, changes, delta)


def decode_part(data: bytes) -> Part:
    """Raises Corrupt."""
    try:
        return _part_decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError, OverflowError) as error:
        raise Corrupt(f"part of a chunk table: {error}") from error


def encode_part(part: Part) -> bytes:
    return msgspec.msgpack.encode(part)


def table_of(part: Part, before: ChunkTable, manifests: tuple[Manifest, Manifest], digest: str) -> ChunkTable:
    """The table that has this digest. Raises Corrupt if it does not come out."""
    table = join_table(part.more, before, manifests)
    must_be(codec.encode_table(table, checked=True), digest, "the chunk table")
    return table
