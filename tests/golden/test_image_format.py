"""Format 1, pinned: a store written once that every later version must read, and cut points it must find again."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import msgspec
import pytest
from blake3 import blake3

from sis.image.commit import commit
from sis.image.documents import codec
from sis.image.documents.tables import chunk_locations
from sis.image.model import HOLE, Manifest, pack_chunks
from sis.image.model import Chunk as Run
from sis.image.names import digest_of, show_path
from sis.image.store import reference
from sis.image.store.local import LocalStore
from sis.image.store.packs import decode, read_footer
from sis.image.tree import chunk
from sis.image.tree.scan import scan
from sis.image.verify import verify
from tests.image_trees import FIXED_NS, noise

PINNED = Path(__file__).parents[2] / "fixtures/formats/v1"


class Expected(msgspec.Struct, frozen=True):
    key: str
    version: str
    manifest: str
    files: dict[str, str]
    chunks: list[tuple[int, str]]
    """Length and digest of each chunk of CHUNKED."""


EXPECTED = msgspec.json.decode((PINNED / "expected.json").read_bytes(), type=Expected)
CHUNKED = noise("sis chunking, format 1", 1 << 20)


def make_tree(root: Path) -> Path:
    """The tree in the pinned store. Needs root for its owners."""
    (root / "etc").mkdir(parents=True)
    (root / "etc/motd").write_bytes(b"Welcome.\n" * 30)
    (root / "etc/motd").chmod(0o640)
    os.chown(root / "etc/motd", 0, 42)
    (root / "etc/empty").touch(0o644)
    (root / "noise").write_bytes(noise("noise", 700))
    os.link(root / "noise", root / "noise-too")
    (root / "link").symlink_to("etc/motd")
    os.mkfifo(root / "fifo", 0o600)
    (root / "fifo").chmod(0o600)
    os.mknod(root / "null", 0o20666, os.makedev(1, 3))
    (root / "null").chmod(0o666)
    Path(os.fsdecode(os.fsencode(root) + b"/new\nline\xff")).write_bytes(b"odd")
    with (root / "sparse").open("wb") as file:
        file.truncate(1 << 20)
        file.write(b"start")
    os.setxattr(root / "noise", b"user.note", b"kept")
    for name in ("noise", "sparse", os.fsdecode(b"new\nline\xff"), "etc/empty"):
        (root / name).chmod(0o644)
    for directory in ("etc", "."):
        (root / directory).chmod(0o755)
    for path in (*sorted(root.rglob("*"), reverse=True), root):
        os.utime(path, ns=(FIXED_NS, FIXED_NS), follow_symlinks=False)
    return root


def pin() -> None:
    """Write the fixture; done once for a format."""
    work = Path("/tmp/sis-pin-format")
    shutil.rmtree(work, ignore_errors=True)
    store = LocalStore(work / "state/store")
    done = commit(
        store, "pinned", make_tree(work / "tree"), policy=[("/etc/motd", "node")], lock={"bash": "5.2"}, note="v1"
    )
    shutil.rmtree(PINNED, ignore_errors=True)
    shutil.copytree(store.path, PINNED / "store", ignore=shutil.ignore_patterns(".work"))
    contents = _contents(store, store.manifest(done.version.manifest), done.version.table)
    expected = Expected(
        store.signer().public,
        done.version_id,
        done.version.manifest,
        {path: blake3(data).hexdigest() for path, data in contents.items()},
        [(len(piece), chunk.digest(piece).hex()) for piece in chunk.cut(CHUNKED)],
    )
    (PINNED / "expected.json").write_bytes(msgspec.json.format(msgspec.json.encode(expected)) + b"\n")
    shutil.rmtree(work)


def _contents(store: LocalStore, manifest: Manifest, table_digest: str) -> dict[str, bytes]:
    table = store.table(table_digest)
    locations = chunk_locations(manifest, table)
    found = {}
    for entry in manifest.entries:
        if entry.chunks:
            parts = []
            for run in entry.each_chunk():
                if run.digest == HOLE:
                    parts.append(bytes(run.size_bytes))
                    continue
                location = locations[run.digest]
                name = f"packs/{table.packs[location.pack].digest.hex()}"
                parts.append(decode(b"".join(store.read(name, location.offset, location.stored)), location))
            found[show_path(entry.path)] = b"".join(parts)
    return found


def test_the_pinned_store_is_read() -> None:
    store = LocalStore(PINNED / "store")
    found = reference.resolve(store, reference.parse("pinned"), key=EXPECTED.key)
    assert (found.trust, found.version_id, found.generation) == ("pinned", EXPECTED.version, 1)
    version = found.version
    assert version.manifest == EXPECTED.manifest
    assert (version.policy, version.lock, version.note) == ((("/etc/motd", "node"),), {"bash": "5.2"}, "v1")
    manifest = store.manifest(version.manifest)
    contents = _contents(store, manifest, version.table)
    assert {path: blake3(data).hexdigest() for path, data in contents.items()} == EXPECTED.files
    assert verify(store).problems == ()


def test_its_manifest_is_encoded_to_the_same_bytes() -> None:
    manifest = LocalStore(PINNED / "store").manifest(EXPECTED.manifest)
    assert digest_of(codec.encode_manifest(manifest)) == EXPECTED.manifest


def test_its_packs_tell_what_they_hold() -> None:
    store = LocalStore(PINNED / "store")
    for name in store.names("packs"):
        path = store.path / "packs" / name
        data = path.read_bytes()
        assert blake3(data).hexdigest() == name
        for row in read_footer(path).rows:
            assert row.offset + row.stored <= len(data)


@pytest.mark.root
def test_the_same_tree_has_the_same_manifest_today(tmp_path: Path) -> None:
    entries = scan(make_tree(tmp_path / "tree")).entries
    assert digest_of(codec.encode_manifest(Manifest(entries))) == EXPECTED.manifest


def test_files_are_cut_where_they_were() -> None:
    assert [(len(piece), chunk.digest(piece).hex()) for piece in chunk.cut(CHUNKED)] == EXPECTED.chunks


def test_a_stream_is_cut_like_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunk, "WINDOW_BYTES", chunk.CHUNK_BYTES_MAX + 1000)
    for step in (1 << 20, 100_000, 7777):
        left = memoryview(CHUNKED)

        def read(count: int, step: int = step) -> bytes:
            nonlocal left
            piece, left = bytes(left[: min(count, step)]), left[min(count, step) :]
            return piece

        assert [(len(piece), chunk.digest(piece).hex()) for piece in chunk.cut_stream(read)] == EXPECTED.chunks


def test_the_limits_of_a_chunk() -> None:
    assert chunk.cut(b"") == []
    assert [len(piece) for piece in chunk.cut(noise("x", chunk.CHUNK_BYTES_MIN))] == [chunk.CHUNK_BYTES_MIN]
    pieces = chunk.cut(bytes(1 << 20))
    assert max(map(len, pieces)) == chunk.CHUNK_BYTES_MAX
    sizes = [length for length, _ in EXPECTED.chunks]
    assert all(chunk.CHUNK_BYTES_MIN <= size <= chunk.CHUNK_BYTES_MAX for size in sizes[:-1])


def test_an_insertion_moves_few_cut_points() -> None:
    edited = CHUNKED[:1000] + b"37 bytes that were not there before.." + CHUNKED[1000:]
    known = {digest for _, digest in EXPECTED.chunks}
    new = [piece for piece in chunk.cut(edited) if chunk.digest(piece).hex() not in known]
    assert sum(map(len, new)) < 3 * chunk.CHUNK_BYTES_MAX


def test_runs_are_packed_as_written_in_the_format() -> None:
    packed = pack_chunks([Run(b"\x01" * 32, 258)])
    assert packed == b"\x01" * 32 + b"\x02\x01\0\0\0\0\0\0"
