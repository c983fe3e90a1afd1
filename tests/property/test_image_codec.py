"""The codec: what is encoded decodes to itself, bytes are canonical, nothing but Corrupt comes of noise."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sis.errors import Corrupt
from sis.image.documents import codec, wellformed
from sis.image.documents.stored import compress, decompress
from sis.image.model import (
    HOLE,
    TABLE_ROW,
    Chunk,
    ChunkTable,
    Entry,
    Kind,
    Manifest,
    PackRef,
    Ref,
    Version,
    pack_chunks,
)

names = (
    st.binary(min_size=1, max_size=12)
    .map(lambda b: b.replace(b"\0", b"_").replace(b"/", b"_"))
    .filter(lambda b: b not in (b".", b".."))
)
digests = st.binary(min_size=32, max_size=32).filter(lambda b: b != HOLE)
runs = st.lists(st.tuples(st.booleans(), digests, st.integers(1, 1 << 20)), max_size=4)
xattr_lists = st.dictionaries(
    st.sampled_from([b"user.a", b"user.b", b"security.capability", b"system.posix_acl_access"]), st.binary(max_size=20)
).map(lambda d: tuple(sorted(d.items())))
hexes = st.binary(min_size=32, max_size=32).map(bytes.hex)


def _content(parts: list[tuple[bool, bytes, int]]) -> list[Chunk]:
    chunks: list[Chunk] = []
    for hole, digest, size in parts:
        if hole and not (chunks and chunks[-1].digest == HOLE):
            chunks.append(Chunk(HOLE, size << 20))
        else:
            chunks.append(Chunk(digest, size))
    return chunks


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    directories = [b"."]
    entries = {b".": draw(facts(b".", Kind.DIR))}
    for _ in range(draw(st.integers(0, 12))):
        parent = draw(st.sampled_from(directories))
        name = draw(names)
        path = name if parent == b"." else parent + b"/" + name
        if path in entries:
            continue
        kind = draw(st.sampled_from(Kind))
        entries[path] = draw(facts(path, kind))
        if kind is Kind.DIR:
            directories.append(path)
    leaves = [entry for entry in entries.values() if entry.kind is not Kind.DIR]
    groups: dict[bytes, bytes] = {}
    for entry in draw(st.lists(st.sampled_from(leaves), max_size=2, unique_by=lambda e: e.path)) if leaves else []:
        for copy in range(draw(st.integers(1, 2))):
            path = entry.path + b"~%d" % copy
            if path not in entries:
                entries[path] = msgspec.structs.replace(entry, path=path)
                groups[path] = groups[entry.path] = entry.path
    return Manifest(tuple(_linked(entries, groups)))


def _linked(entries: dict[bytes, Entry], groups: dict[bytes, bytes]) -> Iterator[Entry]:
    """The entries in order, hard-link groups (path → any name of the group) numbered by first appearance."""
    numbers: dict[bytes, int] = {}
    for path in sorted(entries):
        group = groups.get(path)
        link = 0 if group is None else numbers.setdefault(group, len(numbers) + 1)
        yield msgspec.structs.replace(entries[path], link=link)


@st.composite
def facts(draw: st.DrawFn, path: bytes, kind: Kind) -> Entry:
    chunks = _content(draw(runs)) if kind is Kind.FILE else []
    return Entry(
        path=path,
        kind=kind,
        mode=draw(st.integers(0, 0o7777)),
        uid=draw(st.integers(0, (1 << 32) - 1)),
        gid=draw(st.integers(0, (1 << 32) - 1)),
        mtime_ns=draw(st.integers(-(1 << 62), 1 << 62)),
        size=sum(chunk.size_bytes for chunk in chunks),
        chunks=pack_chunks(chunks),
        target=draw(st.binary(min_size=1, max_size=9).filter(lambda b: b"\0" not in b))
        if kind is Kind.SYMLINK
        else b"",
        rdev=draw(st.tuples(st.integers(0, 4095), st.integers(0, 0xFFFFF)))
        if kind in (Kind.CHAR, Kind.BLOCK)
        else (0, 0),
        xattrs=draw(xattr_lists),
    )


@st.composite
def tables(draw: st.DrawFn) -> ChunkTable:
    packs, rows = [], []
    for number, digest in enumerate(draw(st.lists(digests, max_size=4, unique=True))):
        size = draw(st.integers(1000, 1 << 40))
        packs.append(PackRef(digest, size, draw(st.sampled_from([b"", digest]))))
        for _ in range(draw(st.integers(1, 4))):
            stored = draw(st.integers(1, 900))
            rows.append(TABLE_ROW.pack(number, draw(st.integers(0, size - stored)), stored, stored + 5))
    return ChunkTable(tuple(packs), b"".join(rows))


versions = st.builds(
    Version,
    image=st.just("compute"),
    generation=st.integers(1, 1 << 40),
    parent=st.none() | hexes,
    manifest=hexes,
    table=hexes,
    created=st.just("2026-01-01T00:00:00Z"),
    entries=st.integers(0, 1 << 40),
    content_bytes=st.integers(0, 1 << 60),
    stored_bytes=st.integers(0, 1 << 60),
    policy=st.lists(st.tuples(st.text(min_size=1), st.sampled_from(wellformed.VERBS)), max_size=3).map(tuple),
    lock=st.dictionaries(st.text(), st.text(), max_size=3),
    os=st.dictionaries(st.text(), st.text(), max_size=3),
    note=st.text(),
)


@st.composite
def refs(draw: st.DrawFn) -> Ref:
    ids = draw(st.lists(hexes, min_size=1, max_size=4, unique=True))
    pick = st.sampled_from(ids)
    return Ref(
        image="compute",
        sequence=draw(st.integers(1, 1 << 40)),
        updated="2026-01-01T00:00:00Z",
        expires=draw(st.none() | st.just("2026-02-01T00:00:00Z")),
        generations={str(number): value for number, value in enumerate(ids, 1)},
        channels=draw(st.dictionaries(st.sampled_from(["stable", "next"]), pick)),
        history=draw(st.dictionaries(st.sampled_from(["stable", "next"]), st.lists(pick, max_size=2).map(tuple))),
    )


@settings(max_examples=150, deadline=None)
@given(manifests())
def test_manifests(manifest: Manifest) -> None:
    data = codec.encode_manifest(manifest)
    assert codec.decode_manifest(data) == manifest
    assert codec.encode_manifest(codec.decode_manifest(data)) == data
    assert decompress(compress(data), "it") == data


@settings(max_examples=100, deadline=None)
@given(tables(), versions, refs())
def test_tables_versions_and_refs(table: ChunkTable, version: Version, ref: Ref) -> None:
    assert codec.decode_table(codec.encode_table(table)) == table
    assert codec.decode_version(codec.encode_version(version)) == version
    assert codec.decode_ref(codec.encode_ref(ref)) == ref


@settings(max_examples=150, deadline=None)
@given(manifests(), st.integers(0, 1 << 30), st.integers(1, 255), st.sampled_from(["flip", "cut", "insert"]))
def test_other_bytes_are_another_manifest_or_none(manifest: Manifest, at: int, value: int, how: str) -> None:
    """Two byte strings never decode to the same manifest."""
    data = codec.encode_manifest(manifest)
    at %= len(data)
    other = bytearray(data)
    if how == "flip":
        other[at] ^= value
    elif how == "cut":
        del other[at:]
    else:
        other.insert(at, value)
    try:
        decoded = codec.decode_manifest(bytes(other))
    except Corrupt:
        return
    assert decoded != manifest
    assert codec.encode_manifest(decoded) == bytes(other)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_noise_is_corrupt(data: bytes) -> None:
    for decode in (codec.decode_manifest, codec.decode_table, codec.decode_version, codec.decode_ref):
        with pytest.raises(Corrupt):
            decode(data)
    with pytest.raises(Corrupt):
        decompress(data, "it")


def test_a_flipped_bit_never_crashes_a_decoder() -> None:
    rng = random.Random(7)
    entries = [Entry(b".", Kind.DIR, 0o755, 0, 0, 1)]
    entries += [
        Entry(
            b"f%03d" % n,
            Kind.FILE,
            0o644,
            0,
            0,
            n,
            5,
            pack_chunks([Chunk(rng.randbytes(32), 5)]),
            xattrs=((b"user.a", b"1"),),
        )
        for n in range(30)
    ]
    data = codec.encode_manifest(Manifest(tuple(entries)))
    for _ in range(4000):
        other = bytearray(data)
        for _ in range(rng.randrange(1, 4)):
            other[rng.randrange(len(other))] = rng.randrange(256)
        with contextlib.suppress(Corrupt):
            codec.decode_manifest(bytes(other))
