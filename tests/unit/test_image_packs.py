from __future__ import annotations

import random
from pathlib import Path

import pytest
from blake3 import blake3

from sis.errors import Corrupt
from sis.image.documents.tables import Location, build_table, chunk_locations
from sis.image.model import HOLE, TABLE_ROW, Chunk, Entry, Kind, Manifest, PackRef, pack_chunks
from sis.image.store.index import ChunkIndex
from sis.image.store.local import LocalStore
from sis.image.store.packs import PackWriter, decode, encode, read_footer
from tests.image_trees import noise


def location_of(data: bytes, stored: bytes) -> Location:
    return Location(0, 0, len(stored), len(data), blake3(data).digest())


@pytest.mark.parametrize("data", [b"x", b"text " * 5000, noise("raw", 5000), bytes(100_000)])
def test_a_chunk_is_compressed_only_if_that_is_smaller(data: bytes) -> None:
    stored = encode(memoryview(data))
    assert len(stored) <= len(data)
    assert (stored == data) is (len(stored) == len(data))
    assert decode(stored, location_of(data, stored)) == data


def test_a_dictionary_is_needed_to_read_what_was_made_with_it(tmp_path: Path) -> None:
    dictionary = noise("words", 4000)
    data = dictionary[1000:3000]
    stored = encode(data, dictionary)
    assert len(stored) < 100 < len(encode(data))
    location = location_of(data, stored)
    assert decode(stored, location, dictionary) == data
    for wrong in (b"", noise("other words", 4000)):
        with pytest.raises(Corrupt, match=r"does not decompress|does not match its digest"):
            decode(stored, location, wrong)
    store = LocalStore(tmp_path / "store")
    store.prepare()
    digest = blake3(dictionary).digest()
    (store.path / "dictionaries" / digest.hex()).write_bytes(dictionary)
    assert store.dictionary(digest) == dictionary
    writer = PackWriter(tmp_path / "pack", digest)
    row = writer.add(location.digest, len(data), stored)
    assert writer.finish().dictionary == digest
    assert read_footer(tmp_path / "pack").dictionary == digest
    assert read_footer(tmp_path / "pack").rows == (row,)
    (store.path / "dictionaries" / digest.hex()).write_bytes(dictionary[1:])
    with pytest.raises(Corrupt, match="does not match its name"):
        store.dictionary(digest)


def test_a_pack_says_itself_what_it_holds(tmp_path: Path) -> None:
    rng = random.Random(3)
    datas = [rng.randbytes(rng.randrange(1, 60_000)) for _ in range(60)]
    writer = PackWriter(tmp_path / "pack")
    rows = [writer.add(blake3(data).digest(), len(data), encode(data)) for data in datas]
    done = writer.finish()
    raw = (tmp_path / "pack").read_bytes()
    assert done == PackRef(blake3(raw).digest(), len(raw))
    assert list(read_footer(tmp_path / "pack").rows) == rows
    for row, data in zip(rows, datas, strict=True):
        location = Location(0, row.offset, row.stored, row.size, row.digest)
        assert decode(raw[row.offset : row.offset + row.stored], location) == data


def test_a_table_lists_packs_and_chunks_in_the_order_of_the_manifest() -> None:
    a, b, c = (blake3(name).digest() for name in (b"a", b"b", b"c"))

    def file(path: bytes, *runs: Chunk) -> Entry:
        return Entry(path, Kind.FILE, 0, 0, 0, 0, sum(r.size_bytes for r in runs), pack_chunks(list(runs)))

    manifest = Manifest((
        Entry(b".", Kind.DIR, 0, 0, 0, 0),
        file(b"1", Chunk(c, 3), Chunk(HOLE, 4096)),
        file(b"2", Chunk(a, 1), Chunk(c, 3)),
        file(b"3", Chunk(b, 2)),
    ))  # fmt: skip
    packs = [PackRef(bytes([number]) * 32, 1000) for number in (7, 8, 9)]
    index = {a: TABLE_ROW.pack(0, 10, 1, 1), b: TABLE_ROW.pack(0, 11, 2, 2), c: TABLE_ROW.pack(2, 50, 3, 3)}
    table = build_table(manifest, index, packs)
    assert table.packs == (packs[2], packs[0])
    found = chunk_locations(manifest, table)
    assert found == {c: (0, 50, 3, 3, c), a: (1, 10, 1, 1, a), b: (1, 11, 2, 2, b)}


def test_an_index_leaves_damaged_packs_out(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    store.prepare()
    digests = []
    for number in range(2):
        writer = store.new_pack(number)
        data = noise(str(number), 500)
        digests.append(blake3(data).digest())
        writer.add(digests[-1], len(data), encode(data))
        store.place_pack(writer)
    first = min(store.names("packs"))
    path = store.path / "packs" / first
    (row,) = read_footer(path).rows
    path.write_bytes(path.read_bytes()[:-1])
    assert set(ChunkIndex.of(store)) == set(digests) - {row.digest}
