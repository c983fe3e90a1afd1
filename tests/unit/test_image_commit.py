from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from sis.errors import Corrupt, Locked, NotFound, Refused, SisError, UsageFault
from sis.image.commit import commit
from sis.image.documents import manifest_out
from sis.image.documents.codec import decode_manifest, encode_manifest
from sis.image.documents.stored import decompress
from sis.image.documents.tables import chunk_locations
from sis.image.model import HOLE, Entry, Kind, Manifest
from sis.image.names import digest_of
from sis.image.store.local import LocalStore
from sis.image.store.packs import decode
from sis.image.tree import reading, walk
from sis.image.tree.found import ScanCache
from sis.image.tree.scan import scan
from sis.image.verify import verify
from sis.system.files import read_xattrs
from tests.image_trees import ACL, CAPABILITY, make_everything, make_simple, noise, settle


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "state/store")


@pytest.fixture(autouse=True)
def _soon_settled(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    soon = "not_trusted" not in request.node.name
    monkeypatch.setattr(walk, "_SETTLED_NS", 20_000_000 if soon else 3_600_000_000_000)


def settled() -> None:
    """Wait until the inodes just made are old enough to be trusted."""
    time.sleep(0.06)


def by_path(store: LocalStore, manifest_digest: str) -> dict[bytes, Entry]:
    return {entry.path: entry for entry in store.manifest(manifest_digest).entries}


def content(store: LocalStore, version_table: str, manifest: Manifest, entry: Entry) -> bytes:
    table = store.table(version_table)
    locations = chunk_locations(manifest, table)
    out = []
    for run in entry.each_chunk():
        if run.digest == HOLE:
            out.append(bytes(run.size_bytes))
            continue
        location = locations[run.digest]
        name = f"packs/{table.packs[location.pack].digest.hex()}"
        out.append(decode(b"".join(store.read(name, location.offset, location.stored)), location))
    return b"".join(out)


def test_a_version_reads_back_as_it_was_committed(store: LocalStore, tmp_path: Path) -> None:
    tree = make_simple(tmp_path / "tree")
    done = commit(
        store, "web", tree, policy=[("/var/log/**", "node")], lock={"bash": "5.2"}, os={"arch": "x"}, note="n"
    )
    version = store.version(done.version_id)
    assert version == done.version
    assert (version.image, version.generation, version.parent) == ("web", 1, None)
    assert version.policy == (("/var/log/**", "node"),)
    assert (version.lock, version.os, version.note) == ({"bash": "5.2"}, {"arch": "x"}, "n")
    manifest = store.manifest(version.manifest)
    assert [entry.path for entry in manifest.entries] == sorted(entry.path for entry in manifest.entries)
    for entry in manifest.entries:
        if entry.kind is Kind.FILE:
            assert content(store, version.table, manifest, entry) == (tree / os.fsdecode(entry.path)).read_bytes()
    assert version.content_bytes == 600_020, "hard links count once"
    assert version.stored_bytes < 310_000, "equal content is stored once"
    assert verify(store).problems == ()


@pytest.mark.root
def test_everything_a_linux_tree_can_hold_is_in_the_manifest(store: LocalStore, tmp_path: Path) -> None:
    tree = make_everything(tmp_path / "tree")
    done = commit(store, "all", tree)
    manifest = store.manifest(done.version.manifest)
    seen = {entry.path: entry for entry in manifest.entries}
    assert done.notices == ("/socket: a socket: left out",)
    found = {b"."}
    for folder, folders, files in os.walk(os.fsencode(tree)):
        found |= {os.path.relpath(folder + b"/" + name, os.fsencode(tree)) for name in folders + files}
    assert seen.keys() == found - {b"socket"}
    for path, entry in seen.items():
        full = os.fsencode(tree) + b"/" + path
        status = os.lstat(full)
        assert entry.mode == stat.S_IMODE(status.st_mode), path
        assert (entry.uid, entry.gid, entry.mtime_ns) == (status.st_uid, status.st_gid, status.st_mtime_ns), path
        assert entry.xattrs == read_xattrs(full), path
        if entry.kind is Kind.SYMLINK:
            assert entry.target == os.readlink(full)
        if entry.kind is Kind.FILE and entry.size < 1 << 30:
            assert content(store, done.version.table, manifest, entry) == Path(os.fsdecode(full)).read_bytes(), path
    assert seen[b"disk"].kind is Kind.BLOCK
    assert seen[b"disk"].rdev == (259, 70_000)
    assert seen[b"setuid"].mode == 0o6755
    assert seen[b"setuid"].gid == 4_000_000_000
    assert dict(seen[b"attributed"].xattrs) == {
        b"security.capability": CAPABILITY,
        b"system.posix_acl_access": ACL,
        b"trusted.secret": b"t",
        b"user.note": b"\0binary\xff",
    }
    assert seen[b"dangling"].xattrs == ((b"trusted.on-link", b"l"),)
    groups = [{p for p, e in seen.items() if e.link == number} for number in (1, 2, 3)]
    assert groups == [{b"bin/tool", b"bin/hard"}, {b"dangling", b"dangling-too"}, {b"null", b"null-too"}]
    assert decode_manifest(encode_manifest(manifest)) == manifest
    assert verify(store).problems == ()


@pytest.mark.root
def test_holes_are_runs_that_are_not_stored(store: LocalStore, tmp_path: Path) -> None:
    tree = make_everything(tmp_path / "tree")
    done = commit(store, "all", tree)
    seen = by_path(store, done.version.manifest)
    runs = list(seen[b"sparse"].each_chunk())
    assert (runs[0].digest, runs[0].size_bytes) == (HOLE, 1 << 20)
    assert runs[-1].digest == HOLE
    assert sum(run.size_bytes for run in runs) == 3 << 20
    assert [tuple(run) for run in seen[b"all-hole"].each_chunk()] == [(HOLE, 1 << 40)]
    assert done.bytes_written < 1_000_000


def test_an_unchanged_tree_makes_no_new_version_and_reads_no_file(store: LocalStore, tmp_path: Path) -> None:
    tree = make_simple(tmp_path / "tree")
    first = commit(store, "web", tree)
    settled()
    commit(store, "web", tree)
    again = commit(store, "web", tree)
    assert again.unchanged
    assert again.version_id == first.version_id
    assert (again.bytes_read, again.bytes_written) == (0, 0)
    assert list(store.ref("web").generations) == ["1"]
    changed = commit(store, "web", tree, policy=[("/tmp/**", "node")])
    assert not changed.unchanged, "another policy is another version"
    assert changed.version.manifest == first.version.manifest
    assert changed.version.parent == first.version_id


def test_only_what_changed_is_read_and_stored(store: LocalStore, tmp_path: Path) -> None:
    tree = make_simple(tmp_path / "tree")
    (tree / "big").write_bytes(noise("big", 8_000_000))
    commit(store, "web", tree)
    settled()
    commit(store, "web", tree)
    with (tree / "big").open("r+b") as file:
        file.seek(4_000_000)
        file.write(b"edited")
    done = commit(store, "web", tree)
    assert done.version.generation == 2
    assert done.bytes_read == 8_000_000
    assert done.bytes_written < 300_000
    assert verify(store).problems == ()


def test_a_file_touched_in_the_second_of_its_scan_is_not_trusted(tmp_path: Path) -> None:
    """A change within the same clock tick would leave inode, size and times as they were."""
    tree = make_simple(tmp_path / "tree")
    first = scan(tree)
    assert set(first.identities) == {0}
    assert scan(tree, reuse=ScanCache(first.entries, first.identities)).bytes_read == first.bytes_read


def test_metadata_of_a_cached_file_is_taken_anew(tmp_path: Path) -> None:
    tree = make_simple(tmp_path / "tree")
    settled()
    first = scan(tree)
    assert first.identities != bytes(len(first.identities))
    (tree / "etc/hosts").chmod(0o600)
    os.link(tree / "etc/empty", tree / "etc/empty-too")
    second = scan(tree, reuse=ScanCache(first.entries, first.identities))
    seen = {entry.path: entry for entry in second.entries}
    assert seen[b"etc/hosts"].mode == 0o600
    assert seen[b"etc/empty"].link == seen[b"etc/empty-too"].link == 2
    assert second.entries == scan(tree).entries


def test_a_lost_pack_is_made_again_from_the_tree(store: LocalStore, tmp_path: Path) -> None:
    tree = make_simple(tmp_path / "tree")
    settled()
    commit(store, "web", tree)
    for name in store.names("packs"):
        (store.path / "packs" / name).unlink()
    (tree / "etc/hosts").write_text("changed\n")
    commit(store, "web", tree)
    assert [p.versions for p in verify(store).problems] == [("web@1",)]


def test_a_file_that_changes_while_it_is_read_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = make_simple(tmp_path / "tree")
    _change_during_read(monkeypatch, tree / "etc/hosts", times=1)
    done = scan(tree)
    entry = next(entry for entry in done.entries if entry.path == b"etc/hosts")
    assert entry == next(entry for entry in scan(tree).entries if entry.path == b"etc/hosts")
    assert entry.size == (tree / "etc/hosts").stat().st_size


def test_a_file_that_never_holds_still_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = make_simple(tmp_path / "tree")
    _change_during_read(monkeypatch, tree / "etc/hosts", times=99)
    with pytest.raises(SisError, match="/etc/hosts changed while it was read, 3 times"):
        scan(tree)


def _change_during_read(monkeypatch: pytest.MonkeyPatch, path: Path, times: int) -> None:
    """Append to `path` each time its content is about to be read."""
    inode = path.stat().st_ino
    real = os.pread
    left = [times]

    def pread(handle: int, count: int, offset: int) -> bytes:
        if left[0] and os.fstat(handle).st_ino == inode:
            left[0] -= 1
            with path.open("a") as file:
                file.write("more\n")
        return real(handle, count, offset)

    monkeypatch.setattr(reading.os, "pread", pread)


def test_a_file_replaced_by_a_link_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = make_simple(tmp_path / "tree")
    real = reading.open_beneath

    def swap(root: int, path: bytes, flags: int) -> int:
        if path == b"etc/hosts":
            (tree / "etc/hosts").unlink()
            (tree / "etc/hosts").symlink_to("/etc/passwd")
        return real(root, path, flags)

    monkeypatch.setattr(reading, "open_beneath", swap)
    with pytest.raises(SisError, match="/etc/hosts vanished or changed its type"):
        scan(tree)


@pytest.mark.root
def test_other_file_systems_are_left_out_with_a_notice(tmp_path: Path) -> None:
    tree = make_simple(tmp_path / "tree")
    (tree / "mnt").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", tree / "mnt"], check=True)
    try:
        (tree / "mnt/inside").touch()
        found = scan(tree)
        crossed = scan(tree, one_filesystem=False)
    finally:
        subprocess.run(["umount", tree / "mnt"], check=True)
    assert found.notices == ("/mnt: another file system: its content is left out",)
    assert b"mnt/inside" not in {entry.path for entry in found.entries}
    assert b"mnt" in {entry.path for entry in found.entries}
    assert b"mnt/inside" in {entry.path for entry in crossed.entries}


def test_a_path_that_is_too_long_is_refused(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(17):
        os.mkdir(b"d" * 250, dir_fd=here)
        below = os.open(b"d" * 250, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    with pytest.raises(SisError, match="longer than 4095 bytes"):
        scan(tmp_path)


def test_memory_does_not_grow_with_the_size_of_a_file(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    piece = noise("piece", 1 << 20)
    with (tree / "large").open("wb") as file:
        for number in range(192):
            file.write(number.to_bytes(8, "little") + piece)
    program = (
        "import sys; from pathlib import Path; from sis.image.commit import commit;"
        "from sis.image.store.local import LocalStore; commit(LocalStore(Path(sys.argv[1])), 'x', Path(sys.argv[2]));"
        "print(Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0])"
    )
    argv = [sys.executable, "-c", program, str(tmp_path / "store"), str(tree)]
    told = subprocess.run(argv, check=True, capture_output=True, text=True)
    assert int(told.stdout) < 160_000


def test_refusals_are_clear(store: LocalStore, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such directory: "):
        commit(store, "web", tmp_path / "nothing")
    with pytest.raises(UsageFault, match="not an image name: 'a/b'"):
        commit(store, "a/b", tmp_path)
    with pytest.raises(Refused, match=r"the store .* lies in the tree"):
        commit(store, "web", tmp_path)


def test_two_commits_do_not_mix(store: LocalStore, tmp_path: Path) -> None:
    tree = make_simple(tmp_path / "tree")
    with store.writing("prune"), pytest.raises(Locked) as caught:
        commit(store, "web", tree)
    assert f"process {os.getpid()}" in caught.value.message
    assert "(prune) since 20" in caught.value.message
    done: list[object] = []
    with store.writing("prune"):
        waiting = threading.Thread(target=lambda: done.append(commit(store, "web", tree, wait_s=90)))
        waiting.start()
        time.sleep(0.1)
        assert not done
    waiting.join()
    assert len(done) == 1


def test_the_same_tree_has_the_same_manifest_wherever_it_lies(tmp_path: Path) -> None:
    for name in ("one", "other"):
        settle(make_simple(tmp_path / name))
    assert scan(tmp_path / "one").entries == scan(tmp_path / "other").entries


@pytest.mark.parametrize("count", [0, 1, 15, 16, 2047, 2048, 2049, 70_000])
def test_a_manifest_in_pieces_is_that_manifest(tmp_path: Path, count: int) -> None:
    root = Entry(b".", Kind.DIR, 0o755, 0, 0, 0)
    files = (Entry(b"%06d" % number, Kind.FILE, 0o644, 0, 0, number) for number in range(count))
    manifest = Manifest((root, *files))
    data = encode_manifest(manifest)
    assert b"".join(manifest_out.pieces(manifest)) == data
    named = manifest_out.named(manifest)
    assert named == (digest_of(data), len(data))
    manifest_out.write(tmp_path / named.digest, manifest, named.size_bytes)
    assert decompress((tmp_path / named.digest).read_bytes(), "it") == data
    assert len(list(tmp_path.iterdir())) == 1
    with pytest.raises(Corrupt, match="not 5 bytes long"):
        manifest_out.write(tmp_path / "other", manifest, 5)
    assert len(list(tmp_path.iterdir())) == 1
