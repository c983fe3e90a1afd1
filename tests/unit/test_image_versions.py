"""Diff, verify and prune of real small stores."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sis.errors import Corrupt, NotFound, Refused, UsageFault
from sis.image import prune
from sis.image.commit import Committed, commit
from sis.image.documents.diff import ManifestChange, compare, compare_locks
from sis.image.store import refs
from sis.image.store.local import LocalStore
from sis.image.store.opening import open_store
from sis.image.store.reference import parse
from sis.image.verify import verify
from tests.image_trees import make_simple, noise, settle


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "state/store")


def publish(store: LocalStore, image: str, generation: int, channel: str) -> None:
    with store.changing_ref(image) as ref:
        assert ref is not None
        store.write_ref(refs.publish(ref, generation, channel).ref)


def difference(store: LocalStore, before: Committed, after: Committed) -> dict[str, ManifestChange]:
    old, new = store.manifest(before.version.manifest), store.manifest(after.version.manifest)
    return {change.path: change for change in compare(old, new)}


def test_what_differs_is_told_by_path(store: LocalStore, tmp_path: Path) -> None:
    tree = make_simple(tmp_path / "tree")
    (tree / "gone").write_bytes(b"12345")
    (tree / "becomes").mkdir()
    (tree / "swap-a").write_text("a")
    (tree / "swap-b").write_text("a")
    settle(tree)
    first = commit(store, "x", tree)
    (tree / "gone").unlink()
    (tree / "becomes").rmdir()
    (tree / "becomes").write_text("a file now")
    (tree / "added").write_bytes(b"123")
    (tree / "etc/hosts").write_text("127.0.0.2 localhost\n")
    (tree / "etc/empty").chmod(0o600)
    (tree / "etc/link").unlink()
    (tree / "etc/link").symlink_to("empty")
    os.unlink(tree / "swap-b")
    os.link(tree / "swap-a", tree / "swap-b")
    settle(tree)
    os.utime(tree / "etc/fifo", ns=(1, 1))
    found = difference(store, first, commit(store, "x", tree))
    assert {path: (change.action, change.what) for path, change in found.items()} == {
        "/added": ("create", ()),
        "/becomes": ("replace", ("type",)),
        "/etc/empty": ("metadata", ("mode",)),
        "/etc/fifo": ("metadata", ("mtime",)),
        "/etc/hosts": ("update", ("content",)),
        "/etc/link": ("replace", ("target",)),
        "/gone": ("remove", ()),
        "/swap-a": ("metadata", ("link",)),
        "/swap-b": ("metadata", ("link",)),
    }
    assert (found["/gone"].size_before, found["/added"].size_after) == (5, 3)
    assert list(found) == sorted(found)


def test_hard_link_groups_are_compared_by_members_not_by_number(store: LocalStore, tmp_path: Path) -> None:
    tree = settle_and(make_simple(tmp_path / "tree"))
    first = commit(store, "x", tree)
    (tree / "a1").write_text("first in order")
    os.link(tree / "a1", tree / "a2")
    settle(tree)
    assert {p: c.what for p, c in difference(store, first, commit(store, "x", tree)).items()} == {"/a1": (), "/a2": ()}


def settle_and(tree: Path) -> Path:
    settle(tree)
    return tree


def test_packages_that_differ() -> None:
    before, after = {"bash": "5.1", "gone": "1", "same": "1"}, {"bash": "5.2", "new": "2", "same": "1"}
    assert compare_locks(before, after) == [("bash", "5.1", "5.2"), ("gone", "1", ""), ("new", "", "2")]


def test_prune_never_takes_the_newest_nor_what_a_channel_points_to(store: LocalStore, tmp_path: Path) -> None:
    tree = make_simple(tmp_path / "tree")
    for number in range(5):
        (tree / "data").write_bytes(noise(str(number), 50_000))
        commit(store, "x", tree)
    commit(store, "other", tree)
    publish(store, "x", 2, "stable")
    planned = prune.plan(store, keep=1)
    assert planned.generations == (("x", 1), ("x", 3), ("x", 4))
    assert planned.bytes_freed > 100_000
    before = {name: list(store.names(name)) for name in ("packs", "versions", "manifests", "tables")}
    assert before == {name: list(store.names(name)) for name in before}, "a plan changes nothing"
    done = prune.apply(store, planned)
    assert set(store.ref("x").generations) == {"2", "5"}
    assert sorted(done.files) == sorted(planned.files)
    assert verify(store).problems == ()
    assert not any("prune" in notice for notice in verify(store).notices)
    with pytest.raises(Refused, match="x@2 is what channel stable points to"):
        prune.plan(store, drop=[parse("x@2")])
    with pytest.raises(Refused, match="x@5 is the newest generation"):
        prune.plan(store, drop=[parse("x@5")])
    with pytest.raises(NotFound, match="no such generation: x@4"):
        prune.plan(store, drop=[parse("x@4")])
    with pytest.raises(UsageFault, match="name a generation"):
        prune.plan(store, drop=[parse("x@stable")])
    with pytest.raises(UsageFault, match="at least one"):
        prune.plan(store, keep=0)
    commit(store, "x", tree)
    assert verify(store).problems == ()


def test_prune_removes_what_a_killed_commit_left(store: LocalStore, tmp_path: Path) -> None:
    tree = make_simple(tmp_path / "tree")
    commit(store, "x", tree)
    stray = store.new_pack(7)
    stray.add(b"d" * 32, 3, b"abc")
    name = store.place_pack(stray).digest.hex()
    (store.path / "manifests/.half.12.tmp").write_bytes(b"half")
    assert any("used by no version" in notice for notice in verify(store).notices) is True
    planned = prune.plan(store)
    assert [file for file, _ in planned.files] == [f"packs/{name}"]
    prune.apply(store, planned)
    assert not list((store.path / "manifests").glob(".*"))
    assert name not in store.names("packs")


def test_a_damaged_store_is_not_pruned(store: LocalStore, tmp_path: Path) -> None:
    tree = make_simple(tmp_path / "tree")
    first = commit(store, "x", tree)
    (tree / "new").touch()
    commit(store, "x", tree)
    (store.path / "tables" / first.version.table).unlink()
    with pytest.raises(Corrupt, match="is missing from the store"):
        prune.plan(store)


def test_damage_is_named_with_the_versions_and_files_it_hits(store: LocalStore, tmp_path: Path) -> None:
    tree = make_simple(tmp_path / "tree")
    commit(store, "x", tree)
    (tree / "only-second").write_bytes(noise("second", 50_000))
    second = commit(store, "x", tree)
    pack = store.table(second.version.table).packs[-1].digest.hex()
    packs = {path.name: path for path in (store.path / "packs").iterdir()}
    new = next(name for name in packs if packs[name].stat().st_size < 60_000)
    assert new in (pack, *packs)
    data = bytearray(packs[new].read_bytes())
    data[1000] ^= 1
    packs[new].write_bytes(data)
    (problem,) = verify(store).problems
    assert problem.file == f"packs/{new}"
    assert problem.versions == ("x@2",)
    assert problem.paths == ("/only-second",)
    assert "does not match its name" in problem.fault
    assert "offset" in problem.fault
    assert "chunk" in problem.fault
    with pytest.raises(NotFound, match="no such image: y"):
        verify(store, "y")


def test_missing_files_are_damage(store: LocalStore, tmp_path: Path) -> None:
    tree = make_simple(tmp_path / "tree")
    done = commit(store, "x", tree)
    for folder, name in (
        ("packs", store.names("packs")[0]),
        ("manifests", done.version.manifest),
        ("tables", done.version.table),
        ("versions", done.version_id),
    ):
        path = store.path / folder / name
        data = path.read_bytes()
        path.unlink()
        (problem,) = verify(store).problems
        assert problem.file == f"{folder}/{name}"
        assert problem.versions == ("x@1",)
        path.write_bytes(data)
    assert verify(store).problems == ()


def test_a_store_is_found_by_its_directory_or_its_state(store: LocalStore, tmp_path: Path) -> None:
    commit(store, "x", make_simple(tmp_path / "tree"))
    for where in (store.path, store.path.parent):
        assert open_store(str(where)).ref("x").generations
    with pytest.raises(NotFound, match="no store at"):
        open_store(str(tmp_path / "tree"))


def test_files_of_a_store_can_be_read_by_a_web_server(store: LocalStore, tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        commit(store, "x", make_simple(tmp_path / "tree"))
    finally:
        os.umask(old)
    for folder, _, files in os.walk(store.path):
        if ".work" in folder:
            continue
        assert os.stat(folder).st_mode & 0o777 == 0o755
        for name in files:
            assert os.stat(os.path.join(folder, name)).st_mode & 0o777 == 0o644
    assert (store.path / ".work").stat().st_mode & 0o777 == 0o700
