"""Deltas: what one version's content takes when another version's is at hand (docs/format.md §9). The format, strictly.

A delta holds the *novel* chunks of a manifest, those no file of the other manifest has, in order of first appearance
and cut into items. An item's bytes are made from its payload and from stretches of files of the older version, its
base; what comes out is cut into chunks, and each is checked against its digest in the manifest.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import NamedTuple

import msgspec
import zstandard
from blake3 import blake3

from sis.errors import Corrupt, TooNew
from sis.image.deltas import patches
from sis.image.documents import wellformed
from sis.image.documents.rows import Rows
from sis.image.documents.tables import Novel, build_table, novel_chunks, rows_by_digest
from sis.image.model import DIGEST_BYTES, FORMAT, TABLE_ROW, ChunkTable, Entry, Kind, Manifest, PackRef
from sis.image.names import show_path

MAGIC = b"SISDELT\n"
HEADER = struct.Struct("<8sII32s32sQQ32s32s32s")
"""magic, format, 0, from, to, stored bytes of the head, bytes of all items, digest of the head, digest of the items,
digest of the header up to here"""

HEAD_BYTES_MAX = 64 << 20
PATCHED_BYTES_MAX = 120 << 20
"""A version or manifest longer than this travels whole, not as a patch: patching holds both in memory. A million small
files take some 95 MB."""

TABLE_BYTES_MAX = 32 << 20
"""A chunk table whose rows are longer does not travel in a delta."""

NOTHING = "0" * 64
"""The id that stands for no version: a delta from it holds all of a version, for nodes that have nothing yet."""

CHECK_BYTES = 16
"""Bytes of the digest of an item's payload that the head holds."""

_HEAD_INFLATION_MAX = 1024
_HEAD_INFLATION_FREE = 1 << 20
_HEAD_LEVEL = 19


class Stretch(NamedTuple):
    """Bytes of a file of the older version: number of its entry, offset, length."""

    entry: int
    offset: int
    length: int


class Item(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """`chunks` novel chunks in a row, from a payload of `stored` bytes and `base`, the stretches one after another."""

    chunks: int
    method: int
    stored: int
    check: bytes
    base: tuple[Stretch, ...] = ()


class TablePart(msgspec.Struct, frozen=True, array_like=True):
    """The chunk table's rows of the novel chunks, in their order, numbered into `packs`."""

    packs: tuple[PackRef, ...]
    rows: bytes


class Head(msgspec.Struct, frozen=True, array_like=True):
    """Everything of a delta but the items' payloads. `version`, `manifest`: patches against the older ones, or b""."""

    version: bytes
    manifest: bytes
    table: TablePart
    items: tuple[Item, ...]
    format: int = FORMAT


class Header(NamedTuple):
    """The fixed beginning of a delta."""

    before: bytes
    after: bytes
    head_bytes: int
    items_bytes: int
    head_digest: bytes
    items_digest: bytes

    @property
    def items_offset(self) -> int:
        return HEADER.size + self.head_bytes

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return self.items_offset + self.items_bytes


class Placed(NamedTuple):
    """An item with its place in the file, its output and its base bounded by what the manifests say."""

    item: Item
    offset: int
    chunks: tuple[Novel, ...]
    size: int


_head_decoder = msgspec.msgpack.Decoder(Head)
_encoder = msgspec.msgpack.Encoder()


def name_of(before: str, after: str) -> str:
    """The file of a store that holds the delta from one version id to another."""
    return f"deltas/{before}-{after}"


def encode_head(head: Head) -> bytes:
    """The stored form: one zstd frame of the canonical bytes."""
    data = _encoder.encode(head)
    if len(data) > HEAD_BYTES_MAX:
        raise Corrupt(f"a delta's head of {len(data)} bytes")
    return zstandard.ZstdCompressor(level=_HEAD_LEVEL, write_content_size=True, write_checksum=False).compress(data)


def encode_header(before: str, after: str, head: bytes, items_bytes: int, items_digest: bytes) -> bytes:
    fields = HEADER.pack(
        MAGIC,
        FORMAT,
        0,
        bytes.fromhex(before),
        bytes.fromhex(after),
        len(head),
        items_bytes,
        blake3(head).digest(),
        items_digest,
        bytes(DIGEST_BYTES),
    )[:-DIGEST_BYTES]
    return fields + blake3(fields).digest()


def decode_header(data: bytes, before: str, after: str, size_bytes: int) -> Header:
    """The header of the delta between two versions; `size_bytes` is the whole file's. Raises Corrupt."""
    what = f"the delta from {before[:12]} to {after[:12]}"
    if len(data) < HEADER.size:
        raise Corrupt(f"{what} is cut off: {len(data)} bytes")
    magic, number, zero, old, new, head_bytes, items_bytes, head_digest, items_digest, check = HEADER.unpack_from(data)
    if magic != MAGIC:
        raise Corrupt(f"{what} does not begin like a delta")
    if number > FORMAT:
        raise TooNew(f"{what} has format {number}; this program reads format {FORMAT}")
    if number != FORMAT or zero or blake3(data[: HEADER.size - DIGEST_BYTES]).digest() != check:
        raise Corrupt(f"{what} is damaged: its header does not match its digest")
    if (old.hex(), new.hex()) != (before, after):
        raise Corrupt(f"{what} is in truth from {old.hex()[:12]} to {new.hex()[:12]}")
    header = Header(old, new, head_bytes, items_bytes, head_digest, items_digest)
    if head_bytes > HEAD_BYTES_MAX or header.size != size_bytes:
        raise Corrupt(f"{what} is {size_bytes} bytes long, not {header.size}")
    return header


def decode_head(stored: bytes, header: Header) -> Head:
    """The head of a delta. That it fits its manifests is for `place` to say. Raises Corrupt."""
    if len(stored) != header.head_bytes or blake3(stored).digest() != header.head_digest:
        raise Corrupt("the delta's head does not match its digest")
    limit = min(HEAD_BYTES_MAX, max(_HEAD_INFLATION_FREE, len(stored) * _HEAD_INFLATION_MAX))
    data = patches.inflate(stored, limit, "the delta's head")
    try:
        head = _head_decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError, OverflowError) as error:
        raise Corrupt(f"the delta's head is malformed: {error}") from error
    if head.format != FORMAT:
        raise Corrupt(f"the delta's head has format {head.format}; this program reads format {FORMAT}")
    if _encoder.encode(head) != data:
        raise Corrupt("the delta's head is not in its canonical form")
    total = 0
    last = 0
    for number, item in enumerate(head.items):
        _check_item(number, item)
        if item.method == patches.CONTINUED and last not in patches.SOLID_METHODS:
            raise Corrupt(f"item {number} of the delta continues nothing")
        last = item.method
        total += item.stored
    if total != header.items_bytes:
        raise Corrupt(f"the delta's items are {total} bytes together, not {header.items_bytes}")
    if len(head.table.rows) % TABLE_ROW.size:
        raise Corrupt("the delta's head: half a row of the chunk table")
    return head


def _check_item(number: int, item: Item) -> None:
    if item.chunks < 1 or item.stored < 1 or len(item.check) != CHECK_BYTES:
        raise Corrupt(f"item {number} of the delta is malformed")
    if item.method not in patches.METHODS:
        known = f"{patches.METHODS[0]} to {patches.METHODS[-1]}"
        raise Corrupt(f"item {number} of the delta has method {item.method}; this program knows {known}")
    if (item.method in patches.WITHOUT_BASE) != (not item.base):
        raise Corrupt(f"item {number} of the delta: its method does not go with its base")
    total = 0
    for entry, offset, length in item.base:
        if entry < 0 or offset < 0 or length < 1:
            raise Corrupt(f"item {number} of the delta: its base is malformed")
        total += length
    if total > patches.BASE_BYTES_MAX:
        raise Corrupt(f"item {number} of the delta: a base of {total} bytes")


def place(head: Head, header: Header, before: Sequence[Entry] | Rows, novel: tuple[Novel, ...]) -> tuple[Placed, ...]:
    """The items with the chunks that come out of them, in the order they lie in the file. Raises Corrupt.

    `before` are the older version's entries, `novel` the chunks that it has not and the newer one has.
    """
    ends = tuple(accumulate(item.chunks for item in head.items))
    if (ends[-1] if ends else 0) != len(novel):
        raise Corrupt(f"the delta's items hold {ends[-1] if ends else 0} chunks, its versions differ by {len(novel)}")
    placed = []
    offset = header.items_offset
    for number, (item, end) in enumerate(zip(head.items, ends, strict=True)):
        chunks = novel[end - item.chunks : end]
        size = sum(chunk.size for chunk in chunks)
        if size > patches.OUTPUT_BYTES_MAX:
            raise Corrupt(f"item {number} of the delta: {size} bytes come out of it")
        if item.stored > patches.stored_bytes_max(size):
            raise Corrupt(f"item {number} of the delta: {size} bytes in {item.stored}")
        for stretch in item.base:
            _check_stretch(number, stretch, before)
        placed.append(Placed(item, offset, chunks, size))
        offset += item.stored
    return tuple(placed)


def _check_stretch(number: int, stretch: Stretch, entries: Sequence[Entry] | Rows) -> None:
    if stretch.entry >= len(entries):
        raise Corrupt(f"item {number} of the delta: its base is no file of the older version")
    entry = entries[stretch.entry]
    if entry.kind is not Kind.FILE or stretch.offset + stretch.length > entry.size:
        raise Corrupt(f"item {number} of the delta: its base lies outside {show_path(entry.path)}")


def table_part(after: ChunkTable, numbers: Iterable[int]) -> TablePart:
    """What `join_table` needs to make `after` of an older table; `numbers` are those of the novel chunks' rows."""
    rows = bytearray()
    renumbered: dict[int, int] = {}
    packs: list[PackRef] = []
    for row in numbers:
        pack, offset, stored, size = TABLE_ROW.unpack_from(after.rows, row * TABLE_ROW.size)
        number = renumbered.setdefault(pack, len(packs))
        if number == len(packs):
            packs.append(after.packs[pack])
        rows += TABLE_ROW.pack(number, offset, stored, size)
    return TablePart(tuple(packs), bytes(rows))


def join_table(part: TablePart, before: ChunkTable, manifests: tuple[Manifest, Manifest]) -> ChunkTable:
    """The newer chunk table, of the older and the novel rows. Checked by its digest, not here. Raises Corrupt."""
    novel = novel_chunks(*manifests)
    if len(part.rows) != len(novel) * TABLE_ROW.size:
        raise Corrupt("the delta's rows of the chunk table are not those of its novel chunks")
    packs = [*before.packs, *(pack for pack in part.packs if pack not in before.packs)]
    position = {pack: number for number, pack in enumerate(packs)}
    index = rows_by_digest(manifests[0], before)
    for chunk, (number, offset, stored, size) in zip(novel, TABLE_ROW.iter_unpack(part.rows), strict=True):
        if number >= len(part.packs):
            raise Corrupt("the delta's rows of the chunk table name a pack that is not there")
        index[chunk.digest] = TABLE_ROW.pack(position[part.packs[number]], offset, stored, size)
    table = build_table(manifests[1], index, packs)
    wellformed.check_table(table)
    return table


def check_payload(placed: Placed, payload: bytes) -> None:
    """Raise Corrupt unless an item's payload is what the head says it is."""
    if len(payload) != placed.item.stored or blake3(payload).digest(CHECK_BYTES) != placed.item.check:
        raise Corrupt(f"the delta is damaged: the item at {placed.offset} does not match its digest")


def split(placed: Placed, output: bytes) -> list[tuple[bytes, memoryview]]:
    """An item's output as (digest, chunk) pairs, each proved by its digest; nothing is copied. Raises Corrupt."""
    pairs = []
    at = 0
    view = memoryview(output)
    for digest, size in placed.chunks:
        data = view[at : at + size]
        if blake3(data).digest() != digest:
            raise Corrupt(f"the delta's item at {placed.offset} does not come out as chunk {digest.hex()[:12]}")
        pairs.append((digest, data))
        at += size
    return pairs
