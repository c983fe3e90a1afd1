"""Manifests, tables and packs made to harm: each refused with a message that names the fault, none decoded."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard
from blake3 import blake3

from sis.errors import Corrupt
from sis.image.documents import codec
from sis.image.documents.stored import decompress
from sis.image.documents.tables import Location, chunk_locations
from sis.image.model import HOLE, Chunk, ChunkTable, Entry, Kind, Manifest, PackRef, pack_chunks
from sis.image.names import show_path
from sis.image.store.packs import PackWriter, decode, encode, read_footer

ROOT = Entry(b".", Kind.DIR, 0o755, 0, 0, 0)
DIGEST = b"\x11" * 32
OTHER = b"\x22" * 32


def file(path: bytes, **facts: Any) -> Entry:
    return Entry(**{"path": path, "kind": Kind.FILE, "mode": 0o644, "uid": 0, "gid": 0, "mtime_ns": 0, **facts})


def directory(path: bytes, **facts: Any) -> Entry:
    return file(path, kind=Kind.DIR, **facts)


def link(path: bytes, target: bytes = b"x", **facts: Any) -> Entry:
    return file(path, kind=Kind.SYMLINK, target=target, **facts)


def run(size: int, digest: bytes = DIGEST) -> bytes:
    return digest + size.to_bytes(8, "little")


HOSTILE: dict[str, tuple[list[Entry], str]] = {
    "absolute path": ([ROOT, file(b"/etc/passwd")], "its directory is not"),
    "parent of the root": ([ROOT, file(b"..")], "not a path"),
    "upwards": ([directory(b"."), directory(b"a"), file(b"a/../b")], "directory is not"),
    "upwards by a directory": ([ROOT, directory(b"a"), directory(b"a/..")], "not a path"),
    "dot component": ([ROOT, directory(b"a"), file(b"a/.")], "not a path"),
    "dot prefix": ([ROOT, file(b"./a")], "its directory is not"),
    "doubled slash": ([ROOT, directory(b"a"), file(b"a//b")], "its directory is not"),
    "trailing slash": ([ROOT, directory(b"a"), file(b"a/")], "not a path"),
    "empty path": ([file(b""), ROOT], "an empty path"),
    "NUL in a name": ([ROOT, file(b"a\0b")], "not a path"),
    "256 bytes in a name": ([ROOT, file(b"a" * 256)], "not a path"),
    "4096 bytes": (
        [
            ROOT,
            *(directory(b"/".join([b"d" * 200] * n)) for n in range(1, 21)),
            file(b"/".join([b"d" * 200] * 20 + [b"f" * 100])),
        ],
        "longer than 4095",
    ),
    "twice": ([ROOT, file(b"a"), file(b"a")], "is there twice"),
    "twice, other kinds": ([ROOT, directory(b"a"), link(b"a", b"/etc")], "is there twice"),
    "out of order": ([ROOT, file(b"b"), file(b"a")], "out of order"),
    "root last": ([directory(b"a"), ROOT], "out of order"),
    "no root": ([file(b"a")], "no root directory"),
    "nothing": ([], "no root directory"),
    "root is a file": ([file(b".")], "the root is not a directory"),
    "root is a symlink": ([link(b".", b"/")], "the root is not a directory"),
    "below a symlink": ([ROOT, link(b"a", b"/etc"), file(b"a/passwd")], "its directory is not"),
    "below a file": ([ROOT, file(b"a"), file(b"a/b")], "its directory is not"),
    "below a device": ([ROOT, file(b"a", kind=Kind.CHAR, rdev=(1, 3)), file(b"a/b")], "its directory is not"),
    "below nothing": ([ROOT, file(b"a/b")], "its directory is not"),
    "mode too wide": ([ROOT, file(b"a", mode=0o10644)], "mode 0o10644"),
    "mode negative": ([ROOT, file(b"a", mode=-1)], "mode"),
    "uid negative": ([ROOT, file(b"a", uid=-1)], "owner -1:0"),
    "gid too large": ([ROOT, file(b"a", gid=1 << 32)], "owner 0:4294967296"),
    "time too far": ([ROOT, file(b"a", mtime_ns=1 << 63)], "modification time"),
    "size without content": ([ROOT, file(b"a", size=5)], "5 bytes, but its chunks hold 0"),
    "content without size": ([ROOT, file(b"a", chunks=run(5))], "0 bytes, but its chunks hold 5"),
    "size is not the sum": ([ROOT, file(b"a", size=11, chunks=run(5) + run(5, OTHER))], "11 bytes, but"),
    "sum beyond 2⁶³": ([ROOT, file(b"a", size=1 << 63, chunks=run(1 << 63, HOLE))], "but its chunks hold"),
    "half a chunk": ([ROOT, file(b"a", size=5, chunks=run(5)[:-1])], "half a chunk"),
    "empty chunk": ([ROOT, file(b"a", size=5, chunks=run(5) + run(0))], "a chunk of 0 bytes"),
    "huge chunk": ([ROOT, file(b"a", size=1 << 40, chunks=run(1 << 40))], "a chunk of 1099511627776 bytes"),
    "empty hole": ([ROOT, file(b"a", size=5, chunks=run(0, HOLE) + run(5))], "not one run"),
    "split hole": ([ROOT, file(b"a", size=8, chunks=run(4, HOLE) * 2)], "not one run"),
    "directory with content": ([ROOT, directory(b"a", size=5, chunks=run(5))], "content in what is not a file"),
    "symlink with content": ([ROOT, link(b"a", size=5)], "content in what is not a file"),
    "symlink without target": ([ROOT, link(b"a", b"")], "not a symlink target"),
    "NUL in a target": ([ROOT, link(b"a", b"x\0y")], "not a symlink target"),
    "target too long": ([ROOT, link(b"a", b"x" * 4096)], "not a symlink target"),
    "file with a target": ([ROOT, file(b"a", target=b"/etc/passwd")], "a target in what is not a symlink"),
    "file with a device": ([ROOT, file(b"a", rdev=(8, 0))], "a device number in what is not a device"),
    "device out of range": ([ROOT, file(b"a", kind=Kind.BLOCK, rdev=(1 << 12, 0))], "device number"),
    "device negative": ([ROOT, file(b"a", kind=Kind.BLOCK, rdev=(1, -1))], "device number"),
    "xattrs out of order": ([ROOT, file(b"a", xattrs=((b"user.b", b""), (b"user.a", b"")))], "out of order"),
    "xattr twice": ([ROOT, file(b"a", xattrs=((b"user.a", b""), (b"user.a", b"x")))], "out of order"),
    "xattr without namespace": ([ROOT, file(b"a", xattrs=((b"note", b""),))], "xattr name"),
    "xattr without name": ([ROOT, file(b"a", xattrs=((b"", b""),))], "out of order"),
    "xattr name with NUL": ([ROOT, file(b"a", xattrs=((b"user.\0", b""),))], "xattr name"),
    "xattr too large": ([ROOT, file(b"a", xattrs=((b"user.a", bytes(65537)),))], "an xattr of 65537 bytes"),
    "hard link of one": ([ROOT, file(b"a", link=1)], "a hard-link group of one"),
    "hard link out of turn": ([ROOT, file(b"a", link=2), file(b"b", link=2)], "out of turn"),
    "hard link negative": ([ROOT, file(b"a", link=-1), file(b"b", link=-1)], "out of turn"),
    "hard-linked directories": (
        [ROOT, directory(b"a", link=1), directory(b"b", link=1)],
        "a directory with a hard link",
    ),
    "hard link, other mode": ([ROOT, file(b"a", link=1), file(b"b", link=1, mode=0o4755)], "yet not the same"),
    "hard link, other owner": ([ROOT, file(b"a", link=1), file(b"b", link=1, uid=5)], "yet not the same"),
    "hard link, other content": (
        [ROOT, file(b"a", link=1), file(b"b", link=1, size=5, chunks=run(5))],
        "yet not the same",
    ),
    "hard link to a symlink": ([ROOT, file(b"a", link=1), link(b"b", link=1)], "yet not the same"),
    "hard link, other xattrs": ([ROOT, file(b"a", link=1), file(b"b", link=1, xattrs=((b"user.a", b""),))], "yet not"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_manifests(name: str) -> None:
    entries, match = HOSTILE[name]
    raw = msgspec.msgpack.encode(Manifest(tuple(entries)))
    with pytest.raises(Corrupt, match=match):
        codec.decode_manifest(raw)
    with pytest.raises(Corrupt, match=match):
        codec.encode_manifest(Manifest(tuple(entries)))


GOOD = msgspec.msgpack.encode(Manifest((ROOT, file(b"a", size=5, chunks=run(5)))))


def _nested(depth: int) -> bytes:
    return b"\x91" * depth


MALFORMED: dict[str, bytes] = {
    "empty": b"",
    "one byte": b"\xc1",
    "cut": GOOD[:-1],
    "trailing byte": GOOD + b"\0",
    "other type": msgspec.msgpack.encode({"entries": []}),
    "a string for a path": GOOD.replace(b"\xc4\x01a", b"\xa1ab"),
    "unknown kind": GOOD.replace(b"\xc4\x01.\x02", b"\xc4\x01.\x09"),
    "a longer number than needed": GOOD.replace(b"\xc4\x01.\x02", b"\xc4\x01.\xcc\x02"),
    "a longer bytes header than needed": GOOD.replace(b"\xc4\x01a", b"\xc5\0\x01a"),
    "an element more": b"\x93" + GOOD[1:] + b"\x01",
    "an element less": b"\x91" + GOOD[1:-1],
    "format 0": GOOD[:-1] + b"\0",
    "a claim of 4 billion entries": b"\x92\xdd\xff\xff\xff\xff",
    "a claim of 4 GB of path": b"\x92\x91\x9c\xc6\xff\xff\xff\xff",
    "100,000 nested arrays": _nested(100_000),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_bytes(name: str) -> None:
    with pytest.raises(Corrupt):
        codec.decode_manifest(MALFORMED[name])


@pytest.mark.parametrize("raw", [GOOD[:-1] + b"\x02", msgspec.msgpack.encode([["another", "shape"], {}, 7])])
def test_a_newer_format_is_named(raw: bytes) -> None:
    with pytest.raises(Corrupt, match=r"manifest has format \d; this program reads format 1") as caught:
        codec.decode_manifest(raw)
    assert "upgrade sis" in (caught.value.hint or "")


def test_a_newer_version_or_ref_is_named() -> None:
    for decode_it, what in ((codec.decode_version, "version"), (codec.decode_ref, "ref")):
        with pytest.raises(Corrupt, match=f"{what} has format 2"):
            decode_it(b'{"all":"different","format":2}')


def table(packs: list[PackRef], rows: list[tuple[int, int, int, int]]) -> bytes:
    return msgspec.msgpack.encode(ChunkTable(tuple(packs), b"".join(struct.pack("<IQII", *row) for row in rows)))


PACK = PackRef(DIGEST, 1000)

TABLES: dict[str, tuple[bytes, str]] = {
    "no such pack": (table([PACK], [(0, 0, 5, 5), (1, 0, 5, 5)]), "pack number 1 out of turn"),
    "packs out of turn": (table([PACK, PackRef(OTHER, 9)], [(1, 0, 5, 5)]), "out of turn"),
    "an unused pack": (table([PACK], []), "a pack nothing lies in"),
    "a pack twice": (table([PACK, PACK], [(0, 0, 5, 5), (1, 0, 5, 5)]), "listed twice"),
    "behind the end": (table([PACK], [(0, 996, 5, 5)]), "behind the end"),
    "far behind the end": (table([PACK], [(0, (1 << 64) - 1, 5, 5)]), "behind the end"),
    "nothing stored": (table([PACK], [(0, 0, 0, 5)]), "5 bytes stored in 0"),
    "stored in more": (table([PACK], [(0, 0, 6, 5)]), "5 bytes stored in 6"),
    "a bomb": (table([PACK], [(0, 0, 5, 1 << 31)]), "2147483648 bytes stored in 5"),
    "half a row": (msgspec.msgpack.encode(ChunkTable((PACK,), b"x" * 19)), "half a row"),
    "a short name": (table([PackRef(b"x", 9)], [(0, 0, 5, 5)]), "not a digest"),
    "an empty pack": (table([PackRef(DIGEST, 0)], [(0, 0, 5, 5)]), "of 0 bytes"),
    "a short dictionary": (table([PackRef(DIGEST, 99, b"x")], [(0, 0, 5, 5)]), "not a digest"),
}


@pytest.mark.parametrize("name", TABLES)
def test_hostile_tables(name: str) -> None:
    raw, match = TABLES[name]
    with pytest.raises(Corrupt, match=match):
        codec.decode_table(raw)


def test_a_table_of_another_manifest() -> None:
    manifest = Manifest((ROOT, file(b"a", size=5, chunks=run(5)), file(b"b", size=6, chunks=run(6, OTHER))))
    rows = [(0, 0, 5, 5), (0, 5, 6, 6)]
    chunk_locations(manifest, codec.decode_table(table([PACK], rows)))
    with pytest.raises(Corrupt, match="ends before its manifest does"):
        chunk_locations(manifest, codec.decode_table(table([PACK], rows[:1])))
    with pytest.raises(Corrupt, match="rows its manifest does not need"):
        chunk_locations(manifest, codec.decode_table(table([PACK], [*rows, (0, 11, 5, 5)])))
    with pytest.raises(Corrupt, match="/a: chunk 111111111111 is 5 bytes, not 6"):
        chunk_locations(manifest, codec.decode_table(table([PACK], [(0, 0, 6, 6), (0, 6, 6, 6)])))
    twice = Manifest((ROOT, file(b"a", size=5, chunks=run(5)), file(b"b", size=6, chunks=run(6))))
    with pytest.raises(Corrupt, match="/b: chunk 111111111111 is 6 bytes, not 5"):
        chunk_locations(twice, codec.decode_table(table([PACK], rows[:1])))


def located(data: bytes, stored: bytes, **facts: Any) -> Location:
    known: dict[str, Any] = {"size": len(data), "digest": blake3(data).digest(), **facts}
    return Location(0, 16, len(stored), **known)


def test_chunks_that_are_not_what_they_should_be() -> None:
    data = b"compressible " * 1000
    stored = encode(data)
    assert decode(stored, located(data, stored)) == data
    faults: list[tuple[bytes, Location, str]] = [
        (stored[:-1], located(data, stored), "bytes instead of"),
        (b"", located(data, stored), "0 bytes instead of"),
        (stored, located(data, stored, digest=OTHER), "does not match its digest"),
        (stored, located(data, stored, size=len(data) - 1), "states another size"),
        (bytes(len(stored)), located(data, stored), "does not decompress"),
        (data, located(data, data, digest=OTHER), "does not match its digest"),
    ]
    for raw, location, match in faults:
        with pytest.raises(Corrupt, match=rf"pack abc, offset 16, chunk {location.digest.hex()[:12]}: .*{match}"):
            decode(raw, location, pack="abc")


def test_decompression_bombs_are_not_inflated() -> None:
    bomb = zstandard.ZstdCompressor(level=19).compress(bytes(1 << 30))
    with pytest.raises(Corrupt, match="states another size"):
        decode(bomb, Location(0, 0, len(bomb), len(bomb) + 1, DIGEST))
    document = b"SISZDOC\n" + blake3(bomb).digest() + bomb
    with pytest.raises(Corrupt, match=r"claims to hold 1073741824 bytes"):
        decompress(document, "manifest")
    silent = zstandard.ZstdCompressor(level=1, write_content_size=False).compress(bytes(1 << 26))
    with pytest.raises(Corrupt, match="states another size"):
        decode(silent, Location(0, 0, len(silent), len(silent) + 1, DIGEST))
    document = b"SISZDOC\n" + blake3(silent).digest() + silent
    with pytest.raises(Corrupt, match="claims to hold -1 bytes"):
        decompress(document, "manifest")


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    writer = PackWriter(tmp_path / "p")
    for number in range(5):
        data = b"%d" % number * 100
        writer.add(blake3(data).digest(), len(data), encode(data))
    writer.finish()
    return tmp_path / "p"


def _flip(at: int) -> Callable[[bytearray], None]:
    def change(raw: bytearray) -> None:
        raw[at] ^= 0x40

    return change


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda raw: raw.__delitem__(slice(50, None)), "is cut off"),
        (lambda raw: raw.__delitem__(slice(-1, None)), "does not end like a pack"),
        (lambda raw: raw.extend(b"x"), "does not end like a pack"),
        (_flip(0), "does not begin like a pack"),
        (_flip(-1), "its footer does not match its digest"),
        (_flip(-80), "format|footer"),
        (_flip(-76), "not where it says"),
        (_flip(-120), "its footer does not match its digest"),
    ],
)
def test_damaged_packs(pack: Path, change: Callable[[bytearray], None], match: str) -> None:
    assert len(read_footer(pack).rows) == 5
    raw = bytearray(pack.read_bytes())
    change(raw)
    pack.write_bytes(raw)
    with pytest.raises(Corrupt, match=match):
        read_footer(pack)


def test_paths_cannot_drive_the_terminal() -> None:
    assert show_path(b"a\x1b[31m\nb\xff") == "/a\\x1b[31m\\nb\\xff"
    assert show_path(b".") == "/"
    assert show_path("ü".encode()) == "/ü"
    assert pack_chunks([Chunk(DIGEST, 5)]) == run(5)
