"""For any two versions of any files, a delta gives exactly the novel chunks, and the documents come out of it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from sis.image.commit import commit
from sis.image.deltas import delta, making, patches, reading
from sis.image.documents import codec, tables
from sis.image.documents.rows import novel_rows
from sis.image.model import Chunk, Entry, Kind, Manifest, pack_chunks
from sis.image.names import digest_of
from sis.image.store.local import LocalStore
from sis.image.tree.chunk import cut, digest
from tests.delta_trees import items, rows

NAMES = st.sampled_from(["a", "b", "lib-1.0.ko", "lib-1.1.ko", "x1/f", "x2/f", "x2/g"])
CONTENT = st.one_of(
    st.binary(max_size=40),
    st.tuples(st.binary(min_size=1, max_size=30), st.integers(1, 3000)).map(lambda pair: pair[0] * pair[1]),
    st.tuples(st.integers(0, 5), st.integers(1, 60_000)).map(
        lambda pair: b"".join((pair[0] * 7919 + at).to_bytes(4, "little") for at in range(0, pair[1], 4))
    ),
)
FILES = st.dictionaries(NAMES, CONTENT, max_size=6)


def write(root: Path, files: dict[str, bytes]) -> Path:
    root.mkdir()
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    return root


@settings(max_examples=60, deadline=None)
@given(FILES, FILES)
def test_a_delta_gives_what_is_novel(before: dict[str, bytes], after: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as name:
        where = Path(name)
        store = LocalStore(where / "store")
        one = commit(store, "one", write(where / "1", before))
        two = commit(store, "two", write(where / "2", after))
        if one.version_id == two.version_id:
            return
        making.make(store, one.version_id, two.version_id, processes=1)
        opened = reading.open_delta(store, one.version_id, two.version_id)
        assert opened is not None
        manifests = store.manifest(one.version.manifest), store.manifest(two.version.manifest)
        record = store.whole(f"versions/{one.version_id}", 1 << 20)
        assert record is not None
        assert digest_of(opened.version_bytes(record) or b"") == two.version_id
        assert opened.manifest_bytes(codec.encode_manifest(manifests[0])) == codec.encode_manifest(manifests[1])
        table = delta.join_table(opened.head.table, store.table(one.version.table), manifests)
        assert table == store.table(two.version.table)
        made = {}
        bound = opened.bound(*manifests)
        for placed in bound.items:
            payload = b"".join(bound.read(placed.offset, placed.item.stored))
            base = b"".join(
                before[manifests[0].entries[stretch.entry].path.decode()][stretch.offset :][: stretch.length]
                for stretch in placed.item.base
            )
            made.update(reading.decode_item(placed, payload, base))
        novel = tables.novel_chunks(*manifests)
        assert list(made) == [chunk.digest for chunk in novel]


@settings(max_examples=150, deadline=None)
@given(CONTENT, CONTENT, st.integers(0, 50), st.binary(max_size=20))
def test_patches_go_round(base: bytes, other: bytes, at: int, edit: bytes) -> None:
    for data in (other, base[:at] + edit + base[at:], base + other, other + base):
        method, payload = patches.encode(base, data)
        if data:
            assert patches.decode(method, payload, base if method != patches.PLAIN else b"", len(data)) == data
            assert len(payload) <= patches.stored_bytes_max(len(data))
        if data and base:
            assert patches.decode(patches.BSDIFF, patches._bsdiff(base, data), base, len(data)) == data


def manifest_of(files: dict[str, bytes]) -> Manifest:
    entries = [Entry(b".", Kind.DIR, 0o755, 0, 0, 0)]
    for name, data in files.items():
        chunks = pack_chunks([Chunk(digest(piece), len(piece)) for piece in cut(data)])
        entries.append(Entry(name.replace("/", "-").encode(), Kind.FILE, 0o644, 0, 0, 0, len(data), chunks))
    return Manifest(tuple(sorted(entries, key=lambda entry: entry.path)))


@given(FILES, FILES, st.booleans())
def test_plans_cover_what_is_novel_once_and_in_order(
    before: dict[str, bytes], after: dict[str, bytes], shared: bool
) -> None:
    old, new = manifest_of(before), manifest_of(after)
    novel = tables.novel_chunks(old, new)
    assert novel_rows(rows(old), rows(new)) == novel
    works = items(old, new, lambda path: shared)
    assert tuple(chunk for work in works for chunk in work.chunks) == novel
    for work in works:
        assert work.chunks
        for stretch in work.base:
            assert 0 <= stretch.offset < stretch.offset + stretch.length <= old.entries[stretch.entry].size
