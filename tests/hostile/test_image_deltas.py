"""Deltas made to mislead: every head that is not exactly right is refused, every payload is bounded and proved."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import zstandard
from blake3 import blake3

from sis.errors import Corrupt
from sis.image.commit import commit
from sis.image.deltas import delta, making, patches, reading
from sis.image.deltas.delta import Head, Header, Item, Stretch, TablePart
from sis.image.model import PackRef
from sis.image.store.local import LocalStore


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[LocalStore, str, str]:
    """A store with a delta of a few items: patched, plain, and one with two files for a base."""
    where = tmp_path_factory.mktemp("deltas")
    rng = random.Random(5)
    for number in (1, 2):
        tree = where / str(number)
        tree.mkdir()
        noise = random.Random(9)
        for name in ("a", "b"):
            (tree / name).write_bytes(noise.randbytes(6000) + bytes([number]) * 40)
        (tree / "c").write_bytes(noise.randbytes(90_000) + bytes([number]))
    (where / "2/z").write_bytes(rng.randbytes(140_000))
    store = LocalStore(where / "store")
    one, two = (commit(store, "image", where / str(number)).version_id for number in (1, 2))
    making.make(store, one, two, processes=1)
    return store, one, two


def head_of(made: tuple[LocalStore, str, str]) -> tuple[Head, bytes]:
    store, one, two = made
    opened = reading.open_delta(store, one, two)
    assert opened is not None
    raw = (store.path / opened.name).read_bytes()
    return opened.head, raw[opened.header.items_offset :]


def bind(made: tuple[LocalStore, str, str], head: Head | bytes, items: bytes) -> reading.Delta:
    """Write a delta with a right header around `head` and open it as a node does."""
    store, one, two = made
    stored = head if isinstance(head, bytes) else delta.encode_head(head)
    header = delta.encode_header(one, two, stored, len(items), blake3(items).digest())
    raw = header + stored + items
    decoded = delta.decode_header(raw[: delta.HEADER.size], one, two, len(raw))
    opened = reading.OpenDelta(store, "deltas/x", decoded, delta.decode_head(stored, decoded), raw)
    manifests = [store.manifest(store.version(each).manifest) for each in (one, two)]
    return opened.bound(*manifests)


def test_the_real_one_is_read(made: tuple[LocalStore, str, str]) -> None:
    head, items = head_of(made)
    assert len(head.items) >= 2
    assert {item.method for item in head.items} >= {patches.PLAIN, patches.PREFIX}
    assert any(len(item.base) > 1 for item in head.items)
    assert bind(made, head, items).items


def with_item(number: int, **fields: object) -> Callable[[Head], Head]:
    def change(head: Head) -> Head:
        items = list(head.items)
        items[number] = msgspec.structs.replace(items[number], **fields)
        return msgspec.structs.replace(head, items=tuple(items))

    return change


def with_fields(**fields: object) -> Callable[[Head], Head]:
    return lambda head: msgspec.structs.replace(head, **fields)


BIG = 1 << 62
HEADS: dict[str, tuple[Callable[[Head], Head], str]] = {
    "a chunk too many": (with_item(0, chunks=9), "chunks, its versions differ by"),
    "no chunk": (with_item(0, chunks=0), "malformed"),
    "chunks below zero": (with_item(0, chunks=-1), "malformed"),
    "chunks without end": (with_item(0, chunks=BIG), "chunks, its versions differ by"),
    "nothing stored": (with_item(0, stored=0), "malformed"),
    "stored below zero": (with_item(0, stored=-5), "malformed"),
    "stored without end": (with_item(0, stored=BIG), "bytes together"),
    "stored a byte more": (lambda head: with_item(0, stored=head.items[0].stored + 1)(head), "bytes together"),
    "no such method": (with_item(0, method=6), "has method 6; this program knows 1 to 5"),
    "a solid item with a base": (with_item(0, method=patches.SOLID), "does not go with its base"),
    "going on with nothing": (with_item(0, method=patches.CONTINUED, base=()), "continues nothing"),
    "method 0": (with_item(0, method=0), "has method 0"),
    "plain with a base": (with_item(0, method=patches.PLAIN), "does not go with its base"),
    "a patch without a base": (with_item(0, base=()), "does not go with its base"),
    "a short check": (with_item(0, check=b"x" * 15), "malformed"),
    "a long check": (with_item(0, check=b"x" * 32), "malformed"),
    "base: no such entry": (with_item(0, base=(Stretch(999, 0, 5),)), "no file of the older version"),
    "base: entry below zero": (with_item(0, base=(Stretch(-1, 0, 5),)), "malformed"),
    "base: a directory": (with_item(0, base=(Stretch(0, 0, 1),)), "lies outside"),
    "base: behind the end": (with_item(0, base=(Stretch(1, 6000, 100),)), "lies outside"),
    "base: offset below zero": (with_item(0, base=(Stretch(1, -1, 5),)), "malformed"),
    "base: no length": (with_item(0, base=(Stretch(1, 0, 0),)), "malformed"),
    "base: length below zero": (with_item(0, base=(Stretch(1, 5, -5),)), "malformed"),
    "base: without end": (with_item(0, base=(Stretch(1, 0, BIG),)), "a base of"),
    "base: a million times the same": (with_item(0, base=(Stretch(1, 0, 6040),) * 3000), "a base of"),
    "an item less": (lambda head: msgspec.structs.replace(head, items=head.items[:-1]), "bytes together"),
    "an item more": (lambda head: msgspec.structs.replace(head, items=(*head.items, head.items[-1])), "bytes together"),
    "no items": (with_fields(items=()), "bytes together"),
    "a higher format": (with_fields(format=2), "format 2"),
    "half a row": (with_fields(table=TablePart((), b"x" * 19)), "half a row"),
}


@pytest.mark.parametrize("what", HEADS)
def test_heads_that_are_not_right(made: tuple[LocalStore, str, str], what: str) -> None:
    head, items = head_of(made)
    change, said = HEADS[what]
    with pytest.raises(Corrupt, match=said):
        bind(made, change(head), items)


def canonical(head: Head) -> bytes:
    return msgspec.msgpack.encode(head)


def frame(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=1).compress(data)


STORED: dict[str, Callable[[Head], bytes]] = {
    "nothing": lambda head: b"",
    "no frame": lambda head: b"not a frame at all",
    "an empty frame": lambda head: frame(b""),
    "a bomb": lambda head: frame(bytes(90 << 20)),
    "a frame of no stated size": lambda head: zstandard.ZstdCompressor(write_content_size=False).compress(
        canonical(head)
    ),
    "two frames": lambda head: frame(canonical(head)) + frame(b"more"),
    "bytes behind the frame": lambda head: frame(canonical(head)) + b"x",
    "half a frame": lambda head: frame(canonical(head))[:-9],
    "bytes behind the value": lambda head: frame(canonical(head) + b"\0"),
    "a map": lambda head: frame(msgspec.msgpack.encode({"items": []})),
    "a number": lambda head: frame(b"\x07"),
    "deep arrays": lambda head: frame(b"\x91" * 100_000),
    "an array that claims four billion": lambda head: frame(b"\xdd\xff\xff\xff\xff"),
    "a long form of a small number": lambda head: frame(canonical(head)[:-1] + b"\xcc\x01"),
}


@pytest.mark.parametrize("what", STORED)
def test_bytes_that_are_no_head(made: tuple[LocalStore, str, str], what: str) -> None:
    head, items = head_of(made)
    with pytest.raises(Corrupt):
        bind(made, STORED[what](head), items)


def test_headers(made: tuple[LocalStore, str, str]) -> None:
    store, one, two = made
    raw = next((store.path / "deltas").iterdir()).read_bytes()
    for at in range(delta.HEADER.size):
        changed = bytearray(raw[: delta.HEADER.size])
        changed[at] ^= 1
        with pytest.raises(Corrupt):
            delta.decode_header(bytes(changed), one, two, len(raw))
    with pytest.raises(Corrupt, match="bytes long, not"):
        delta.decode_header(raw, one, two, len(raw) + 1)
    with pytest.raises(Corrupt, match="is in truth from"):
        delta.decode_header(raw, two, one, len(raw))
    with pytest.raises(Corrupt, match="is cut off: 100 bytes"):
        delta.decode_header(raw[:100], one, two, 100)


def test_a_swapped_payload_does_not_come_out(made: tuple[LocalStore, str, str]) -> None:
    head, items = head_of(made)
    placed = bind(made, head, items).items
    first = placed[0]
    start = first.offset - placed[0].offset
    payload = items[start : start + first.item.stored]
    with pytest.raises(Corrupt, match="does not match its digest"):
        reading.decode_item(first, payload[:-1] + bytes([payload[-1] ^ 1]), b"")
    with pytest.raises(Corrupt, match=r"does not come out as chunk|does not decompress"):
        reading.decode_item(first, payload, bytes(sum(stretch.length for stretch in first.item.base)))


def test_table_rows_that_are_not_right(made: tuple[LocalStore, str, str]) -> None:
    store, one, two = made
    head, _ = head_of(made)
    versions = [store.version(each) for each in (one, two)]
    manifests = store.manifest(versions[0].manifest), store.manifest(versions[1].manifest)
    before = store.table(versions[0].table)
    assert delta.join_table(head.table, before, manifests) == store.table(versions[1].table)
    rows = head.table.rows
    for part in (
        TablePart(head.table.packs, rows[:-20]),
        TablePart(head.table.packs, rows + rows[:20]),
        TablePart((), rows),
        TablePart(head.table.packs, b"\xff" * len(rows)),
        TablePart((PackRef(b"short", 5),), rows),
        TablePart((PackRef(bytes(32), 1),), rows),
    ):
        with pytest.raises(Corrupt):
            delta.join_table(part, before, manifests)


def steps(*rows: tuple[int, int, int]) -> bytes:
    def signed(number: int) -> bytes:
        return struct.pack("<Q", abs(number) | (1 << 63 if number < 0 else 0))

    control = b"".join(signed(number) for row in rows for number in row)
    return b"".join(control[at::24] for at in range(24))


def payload(columns: bytes, difference: bytes, extra: bytes, lengths: tuple[int, int] | None = None) -> bytes:
    told = lengths or (len(columns), len(difference))
    return frame(struct.pack("<II", *told) + columns + difference + extra)


BSDIFFS: dict[str, bytes] = {
    "right": payload(steps((50, 50, 0)), bytes(50), bytes(50)),
    "too few bytes": payload(steps((50, 49, 0)), bytes(50), bytes(49)),
    "too many bytes": payload(steps((50, 51, 0)), bytes(50), bytes(51)),
    "adds below zero": payload(steps((-50, 150, 0)), b"", bytes(150)),
    "copies below zero": payload(steps((150, -50, 0)), bytes(150), b""),
    "more than the difference": payload(steps((100, 0, 0)), bytes(50), bytes(50)),
    "more than the extra": payload(steps((0, 100, 0)), bytes(50), bytes(50)),
    "seeks without end": payload(steps((50, 0, BIG), (0, 50, 0)), bytes(50), bytes(50)),
    "seeks far before": payload(steps((50, 0, -BIG), (50, 0, 0)), bytes(100), b""),
    "drifts away": payload(steps(*[(0, 0, 190)] * 50, (100, 0, 0)), bytes(100), b""),
    "numbers without end": payload(steps((BIG, BIG, 0)), bytes(50), bytes(50)),
    "no steps": payload(b"", bytes(50), bytes(50)),
    "half a step": payload(steps((50, 50, 0))[:-1], bytes(50), bytes(51)),
    "lengths without end": payload(steps((50, 50, 0)), bytes(50), bytes(50), (0xFFFFFFF0, 50)),
    "difference longer than all": payload(steps((50, 50, 0)), bytes(50), bytes(50), (24, 5000)),
    "no header": frame(b"1234567"),
    "a bomb": frame(bytes(100 << 20)),
    "no frame": b"BSDIFF40" * 9,
}


@pytest.mark.parametrize("what", BSDIFFS)
def test_bsdiff_payloads(what: str) -> None:
    if what == "right":
        assert patches.decode(patches.BSDIFF, BSDIFFS[what], b"\1" * 100, 100) == b"\1" * 50 + bytes(50)
        return
    with pytest.raises(Corrupt):
        patches.decode(patches.BSDIFF, BSDIFFS[what], b"\1" * 100, 100)


@pytest.mark.parametrize("method", [patches.PLAIN, patches.PREFIX])
def test_frames_are_inflated_to_what_is_expected_and_no_further(method: int) -> None:
    for claimed in (99, 101, 90 << 20):
        with pytest.raises(Corrupt):
            patches.decode(method, frame(bytes(claimed)), b"base", 100)


def test_random_bytes_never_come_out_as_anything_else(made: tuple[LocalStore, str, str]) -> None:
    """Any payload either is refused, or gives exactly the number of bytes asked for, to be proved by digest."""
    rng = random.Random(3)
    base = rng.randbytes(5000)
    good = [patches.encode(base, rng.randbytes(100) + base[:3000]), (patches.BSDIFF, patches._bsdiff(base, base[::-1]))]
    for _ in range(400):
        method, data = rng.choice(good)
        changed = bytearray(data)
        for _ in range(rng.randrange(1, 4)):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        size = 3100 if method != patches.BSDIFF else 5000
        try:
            assert len(patches.decode(method, bytes(changed), base, size)) == size
        except Corrupt:
            continue


def test_names_and_sizes_of_a_header_are_what_it_says() -> None:
    header = Header(b"a" * 32, b"b" * 32, 10, 20, b"", b"")
    assert header.items_offset == delta.HEADER.size + 10
    assert header.size == delta.HEADER.size + 30
    assert delta.name_of("aa", "bb") == "deltas/aa-bb"
    assert Item(1, 2, 3, b"").base == ()


def test_a_store_without_that_delta(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    assert reading.open_delta(store, "00" * 32, "11" * 32) is None
