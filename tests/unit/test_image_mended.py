"""What a store has lost, named by `verify`, and mended as its hint says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from sis.cli import main
from sis.errors import Corrupt
from sis.image import prune
from sis.image.commit import commit
from sis.image.store.local import LocalStore
from sis.image.tree import dictionary
from sis.image.verify import verify
from tests.image_trees import make_simple, noise, settle

Damage = Callable[[Path], object]


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGES: dict[str, Damage] = {
    "deleted": Path.unlink,
    "cut off": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "flipped": flip,
    "emptied": lambda path: path.write_bytes(b""),
}


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "state/store")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = make_simple(tmp_path / "tree")
    settle(tree)
    return tree


@pytest.mark.parametrize("how", DAMAGES)
def test_the_documents_of_the_newest_generation_are_made_anew(store: LocalStore, tree: Path, how: str) -> None:
    made = commit(store, "web", tree)
    files = (f"versions/{made.version_id}", f"manifests/{made.version.manifest}", f"tables/{made.version.table}")
    for damaged in (*((file,) for file in files), files):
        for file in damaged:
            DAMAGES[how](store.path / file)
        named = {problem.file: problem.versions for problem in verify(store).problems}
        assert damaged[0] in named
        assert set(named.values()) == {("web@1",)}
        again = commit(store, "web", tree)
        assert (again.unchanged, again.version_id) == (True, made.version_id)
        assert {notice.split()[0] for notice in again.notices} >= set(named)
        assert verify(store).problems == ()
        assert verify(store).notices == ()
        assert commit(store, "web", tree).notices == ()


def test_an_older_generation_is_mended_by_its_own_tree(store: LocalStore, tree: Path) -> None:
    first = commit(store, "web", tree).version
    was = (tree / "etc/hosts").read_bytes()
    (tree / "etc/hosts").write_text("other\n")
    commit(store, "web", tree)
    (store.path / "manifests" / first.manifest).unlink()
    flip(store.path / "tables" / first.table)
    assert [problem.versions for problem in verify(store).problems] == [("web@1",), ("web@1",)]
    entry = next(entry for entry in store.manifest(commit(store, "web", tree).version.manifest).entries)
    assert entry.path == b"."
    (tree / "etc/hosts").write_bytes(was)
    settle(tree)
    commit(store, "web", tree)
    assert [problem.file for problem in verify(store).problems] in ([], [f"manifests/{first.manifest}"])


def test_what_cannot_be_made_again_is_replaced_by_a_generation_that_is_whole(store: LocalStore, tree: Path) -> None:
    """The record of the version before, whose bytes nobody has: as the notice says, and with what is damaged pruned."""
    made = commit(store, "web", tree)
    (store.path / "versions" / made.version_id).unlink()
    (store.path / ".work/scan-web.cache").unlink()
    after = commit(store, "web", tree)
    assert (after.version.generation, after.version.parent) == (2, made.version_id)
    (notice,) = after.notices
    assert notice.startswith("web@1 is damaged")
    assert "'sis image prune web@1'" in notice
    assert [problem.versions for problem in verify(store).problems] == [("web@1",)]
    prune.apply(store, prune.plan(store, drop=[prune.Reference("web", generation=1)]))
    assert verify(store).problems == ()
    assert commit(store, "web", tree).unchanged


@pytest.mark.parametrize("is_changed", [False, True])
def test_a_lost_dictionary_makes_the_packs_of_it_worthless_unless_it_comes_out_again(
    store: LocalStore, tree: Path, monkeypatch: pytest.MonkeyPatch, is_changed: bool
) -> None:
    monkeypatch.setattr(dictionary, "TREE_BYTES_MIN", 10_000)
    for number in range(200):
        (tree / f"small{number}").write_bytes(b"[a header that all have]\n" * 20 + noise(str(number), 300))
    settle(tree)
    commit(store, "web", tree)
    (name,) = store.names("dictionaries")
    flip(store.path / "dictionaries" / name)
    (problem,) = verify(store).problems
    assert (problem.file, problem.versions) == (f"dictionaries/{name}", ("web@1",)), "its packs are not damaged"
    if is_changed:
        for number in range(200):
            (tree / f"small{number}").write_bytes(b"[another header]\n" * 20 + noise(f"{number}!", 300))
    again = commit(store, "web", tree)
    assert again.unchanged is not is_changed
    assert [problem.versions for problem in verify(store).problems] == ([("web@1",)] if is_changed else [])
    assert commit(store, "web", tree).unchanged


@pytest.mark.parametrize("how", DAMAGES)
def test_a_lost_ref_is_named_and_nothing_is_pruned(store: LocalStore, tree: Path, how: str) -> None:
    commit(store, "web", tree)
    DAMAGES[how](store.path / "refs/web")
    found = verify(store)
    assert [problem.file for problem in found.problems] == ["refs/web"]
    assert not any("prune" in notice for notice in found.notices), "all of it is still needed"
    with pytest.raises(Exception, match=r"refs?[ /](of )?web") as refused:
        prune.plan(store)
    assert getattr(refused.value, "hint", None)
    (store.path / "refs/web").unlink(missing_ok=True)
    assert commit(store, "web", tree).version.generation == 1
    assert verify(store).problems == ()
    prune.apply(store, prune.plan(store))
    assert verify(store).notices == ()


def test_the_first_version_of_a_killed_commit_is_no_lost_ref(store: LocalStore, tree: Path) -> None:
    commit(store, "web", tree)
    (store.path / "refs/web").unlink()
    (store.path / ".work/scan-web.cache").unlink()
    assert verify(store).problems == ()
    assert any("is used by no version" in notice for notice in verify(store).notices)
    prune.plan(store)


def test_what_a_newer_program_wrote_is_not_taken_for_damage(store: LocalStore, tree: Path) -> None:
    made = commit(store, "web", tree)
    newer = (store.path / "versions" / made.version_id).read_bytes().replace(b'"format":1', b'"format":9')
    newer_id = store.write_record(newer)
    store.write_ref(msgspec.structs.replace(store.ref("web"), generations={"1": newer_id}))
    with pytest.raises(Corrupt, match="format 9"):
        commit(store, "web", tree)


@pytest.mark.parametrize(
    ("folder", "told"),
    [("versions", "commit the tree of the named generation"), ("refs", "remove the ref, commit the tree again")],
)
def test_verify_says_what_helps(store: LocalStore, tree: Path, folder: str, told: str) -> None:
    def sis(*words: str) -> Result:
        return CliRunner().invoke(main, ["--state", str(store.path.parent), "image", *words])

    commit(store, "web", tree)
    (name,) = store.names(folder)
    flip(store.path / folder / name)
    done = sis("verify")
    assert done.exit_code == 1
    assert f"{folder}/{name}" in done.stderr
    assert "copy the named files from another copy of the store" in done.stderr
    assert told in done.stderr
    listed = sis("list")
    assert "hint: 'sis image verify' on the head tells what of its store is damaged" in listed.stderr
    (store.path / "deltas/odd").write_bytes(b"")
    assert "what hits no version: remove the file" in sis("verify").stderr


def test_a_damaged_version_before_holds_no_channel_up(store: LocalStore, tree: Path) -> None:
    def sis(*words: str) -> Result:
        return CliRunner().invoke(main, ["--state", str(store.path.parent), "image", *words])

    first = commit(store, "web", tree).version
    sis("publish", "web@1", "stable")
    (tree / "etc/hosts").write_text("other\n")
    commit(store, "web", tree)
    (store.path / "manifests" / first.manifest).unlink()
    assert sis("publish", "web@2", "stable").exit_code == 0
    assert store.names("deltas") == []
    assert sis("prune", "web@1", "-y").exit_code == 0
    assert sis("verify").exit_code == 0


def test_a_store_of_a_newer_program_is_not_called_damaged(store: LocalStore, tree: Path) -> None:
    made = commit(store, "web", tree)
    newer = (store.path / "versions" / made.version_id).read_bytes().replace(b'"format":1', b'"format":9')
    store.write_ref(msgspec.structs.replace(store.ref("web"), generations={"1": store.write_record(newer)}))
    done = CliRunner().invoke(main, ["--state", str(store.path.parent), "image", "verify"])
    assert done.exit_code == 1
    assert done.stderr.endswith("hint: the store was written by a newer sis: upgrade sis here\n")
