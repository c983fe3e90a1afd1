"""Open the delta between two versions in a store: its head checked, version, manifest and table made from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from blake3 import blake3

from sis.errors import Corrupt
from sis.image.deltas import delta, document_patch, patches, solid
from sis.image.deltas.delta import HEADER, PATCHED_BYTES_MAX, Head, Header, Placed, name_of
from sis.image.documents.rows import RowChanges, Rows
from sis.image.documents.stored import INFLATION_MAX
from sis.image.documents.tables import Novel, novel_chunks
from sis.image.model import TABLE_ROW, Entry, Manifest
from sis.image.names import digest_of
from sis.image.store.reader import DocumentStore

BEGINNING_BYTES = 32 << 10
"""What is asked for first: all of the delta of an ordinary night, the head of many another."""


@dataclass(frozen=True)
class OpenDelta:
    """A delta whose header and head are checked. `beginning` is what of the file came with them."""

    store: DocumentStore = field(repr=False)
    name: str
    header: Header
    head: Head
    beginning: bytes = field(repr=False)

    @property
    def bytes_read(self) -> int:
        return len(self.beginning)

    def version_bytes(self, before: bytes) -> bytes | None:
        """The newer version's record, of the older one's bytes; None if it does not travel here. To be checked."""
        return _patched(self.head.version, before, "the version in the delta")

    def manifest_bytes(self, before: bytes) -> bytes | None:
        """The newer manifest's canonical bytes, of the older one's; None if it does not travel here. To be checked."""
        return _patched(self.head.manifest, before, "the manifest in the delta")

    @property
    def has_table(self) -> bool:
        """Whether what the newer chunk table has more travels here."""
        return len(self.head.table.rows) == self.novel_chunks * TABLE_ROW.size

    @property
    def novel_chunks(self) -> int:
        """How many chunks the newer version has and the older has not."""
        return sum(item.chunks for item in self.head.items)

    def prove_items(self) -> None:
        """Read all of it. Raises Corrupt unless it is what was written."""
        hasher = blake3()
        for piece in self.store.read(self.name, self.header.items_offset, self.header.items_bytes):
            hasher.update(piece)
        if hasher.digest() != self.header.items_digest:
            raise Corrupt("its items do not match their digest")

    def bound(self, before: Manifest, after: Manifest) -> Delta:
        """The delta with its items placed between two manifests. Raises Corrupt if it is not theirs."""
        return self.placed(before.entries, novel_chunks(before, after))

    def bound_by(self, changes: RowChanges) -> Delta | None:
        """`bound`, from what differs; None where decoding both manifests is quicker. Raises Corrupt."""
        novel = changes.novel(self.novel_chunks)
        return None if novel is None else self.placed(changes.before, novel)

    def placed(self, before: Sequence[Entry] | Rows, novel: tuple[Novel, ...]) -> Delta:
        """`bound`, from the older entries and the novel chunks. Raises Corrupt if it is not theirs."""
        items = delta.place(self.head, self.header, before, novel)
        numbers = {stretch.entry for placed in items for stretch in placed.item.base}
        return Delta(self, {number: before[number] for number in numbers}, items)


@dataclass(frozen=True)
class Delta:
    """A delta ready to be used: its items in the order they lie in the file, and the older version's entries that are
    their bases, by number."""

    opened: OpenDelta
    entries: Mapping[int, Entry] = field(repr=False)
    items: tuple[Placed, ...] = field(repr=False)

    @cached_property
    def number_of(self) -> dict[bytes, int]:
        """By chunk digest, the number of the item it comes out of."""
        return {chunk.digest: number for number, placed in enumerate(self.items) for chunk in placed.chunks}

    @cached_property
    def stored(self) -> Mapping[bytes, int]:
        """What each chunk that comes out of it takes in its pack; nothing where that does not travel here."""
        if not self.opened.has_table:
            return {}
        rows = TABLE_ROW.iter_unpack(self.opened.head.table.rows)
        return {digest: stored for digest, (_, _, stored, _) in zip(self.number_of, rows, strict=True)}

    def read(self, offset: int, length: int) -> Iterator[bytes]:
        """A range of the file; what came with its head is not fetched again."""
        held = self.opened.beginning[offset : offset + length]
        if held:
            yield held
        if len(held) < length:
            yield from self.opened.store.read(self.opened.name, offset + len(held), length - len(held))


def open_delta(store: DocumentStore, before: str, after: str) -> OpenDelta | None:
    """The delta between two version ids; None if the store has none. Raises Corrupt, Unreachable."""
    name = name_of(before, after)
    found = store.begin(name, BEGINNING_BYTES)
    if found is None:
        return None
    header = delta.decode_header(found.data, before, after, found.size_bytes)
    beginning = found.data
    if len(beginning) < header.items_offset:
        beginning += b"".join(store.read(name, len(beginning), header.items_offset - len(beginning)))
    head = delta.decode_head(beginning[HEADER.size : header.items_offset], header)
    return OpenDelta(store, name, header, head, beginning)


def decode_item(placed: Placed, payload: bytes, base: bytes) -> list[tuple[bytes, memoryview]]:
    """The (digest, chunk) pairs of an item, each proved by its digest. Raises Corrupt."""
    delta.check_payload(placed, payload)
    return delta.split(placed, patches.decode(placed.item.method, payload, base, placed.size))


def inflate_item(placed: Placed, payload: bytes, run: solid.Inflating) -> bytes:
    """What is in the next item of a solid run, for `delta.split` to prove. Raises Corrupt."""
    delta.check_payload(placed, payload)
    return run.item(payload, placed.size)


def _patched(patch: bytes, before: bytes, what: str) -> bytes | None:
    if not patch:
        return None
    limit = min(PATCHED_BYTES_MAX, 2 * len(before) + INFLATION_MAX * len(patch))
    return document_patch.applied(patch, before, limit, what)


def must_be(data: bytes, digest: str, what: str) -> bytes:
    """`data`, if it has this digest. Raises Corrupt."""
    if digest_of(data) != digest:
        raise Corrupt(f"{what} in the delta is damaged: it does not come out as {digest[:12]}")
    return data
