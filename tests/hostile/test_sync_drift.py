"""Every way a tree can drift is found, named and mended, with rsync as the judge; the second run changes nothing."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sis.image.names import show_path
from tests.sync_trees import (
    MUTATIONS,
    Bench,
    Mutation,
    changes_of,
    loop_mount,
    make_bench,
    make_tree,
    rsync_differences,
)

pytestmark = pytest.mark.root

SAID = {
    "edit_in_place": ("update", ("content",)),
    "change_mode": ("metadata", ("mode",)),
    "drop_capability": ("metadata", ("capability",)),
    "change_acl": ("metadata", ("acl",)),
    "change_default_acl": ("metadata", ("acl",)),
    "change_target": ("replace", ("target", "mtime", "link")),
    "break_link": ("update", ("link",)),
    "break_symlink_link": ("update", ("link",)),
    "directory_to_file": ("replace", ("type",)),
    "directory_to_symlink": ("replace", ("type",)),
    "symlink_to_directory": ("replace", ("type",)),
    "change_directory_time": ("metadata", ("mtime",)),
    "change_link_time": ("metadata", ("mtime",)),
    "fifo_to_file": ("replace", ("type",)),
    "other_device": ("replace", ("device", "mtime")),
    "add_xattr": ("metadata", ("xattrs",)),
    "add_acl": ("metadata", ("mode", "acl")),
    "add_default_acl": ("metadata", ("acl",)),
    "change_link_owner": ("metadata", ("owner",)),
    "change_owner_and_mode": ("metadata", ("mode", "owner")),
    "change_device_mode": ("metadata", ("mode", "owner")),
    "delete": ("create", ()),
    "add": ("remove", ()),
    "link_to_extra": ("remove", ()),
    "move_file": ("create", ()),
}


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Bench, Path]]:
    where = tmp_path_factory.mktemp("drift")
    tree = make_tree(where / "tree")
    bench = make_bench(where)
    bench.commit(tree)
    bench.sync()
    return bench, tree


def test_an_empty_root_becomes_the_tree(held: tuple[Bench, Path]) -> None:
    bench, tree = held
    assert rsync_differences(tree, bench.root) == []
    assert os.stat(bench.root / "var/sparse").st_blocks * 512 < 1 << 20
    assert not (bench.root / ".sis-stage").exists()
    assert bench.check().in_sync
    assert bench.check(full=True).in_sync


@pytest.mark.parametrize("mutate", MUTATIONS, ids=lambda mutate: mutate.__name__)
def test_drift_is_found_named_and_mended(held: tuple[Bench, Path], mutate: Mutation) -> None:
    bench, tree = held
    path = mutate(bench.root, random.Random(mutate.__name__))
    shown = show_path(os.fsencode(path.relative_to(bench.root)))
    found = bench.check()
    assert not found.in_sync
    assert shown in changes_of(found) or mutate.__name__ == "move_file"
    if mutate.__name__ in SAID and shown in changes_of(found):
        assert changes_of(found)[shown] == SAID[mutate.__name__]
    dry = bench.sync(dry_run=True)
    assert changes_of(dry) == changes_of(found)
    assert changes_of(bench.check(full=True)) == changes_of(found)
    done = bench.sync()
    assert changes_of(done) == changes_of(found)
    assert done.in_sync
    assert rsync_differences(tree, bench.root) == []
    again = bench.sync()
    assert again.changes == ()
    assert bench.check(full=True).in_sync


def test_a_moved_file_is_not_fetched_again(held: tuple[Bench, Path]) -> None:
    bench, tree = held
    (bench.root / "usr/lib/big").rename(bench.root / "usr/lib/elsewhere")
    outcome = bench.sync()
    assert outcome.totals.bytes_fetched == 0
    assert outcome.totals.bytes_local == 1_500_000
    assert rsync_differences(tree, bench.root) == []


@pytest.mark.parametrize("filesystem", ["ext4", "xfs"])
def test_hundred_random_mutations_at_once(tmp_path: Path, filesystem: str) -> None:
    size = {"ext4": 96 << 20, "xfs": 320 << 20}[filesystem]
    with loop_mount(tmp_path / "disk", filesystem=filesystem, size_bytes=size) as mountpoint:
        tree = make_tree(tmp_path / "tree", files=150)
        bench = make_bench(tmp_path, root=mountpoint / "root")
        bench.commit(tree)
        bench.sync()
        assert rsync_differences(tree, bench.root) == []
        for seed in range(5):
            rng = random.Random(seed)
            done = []
            for _ in range(20):
                mutate = rng.choice(MUTATIONS)
                try:
                    done.append(mutate(bench.root, rng))
                except (OSError, IndexError):
                    continue
            assert rsync_differences(tree, bench.root)
            outcome = bench.sync()
            assert outcome.in_sync, outcome.notices
            assert rsync_differences(tree, bench.root) == [], (seed, done)
            assert bench.sync().changes == ()
            assert bench.check(full=True).in_sync


def test_a_change_right_after_a_sync_is_seen(held: tuple[Bench, Path]) -> None:
    """The index trusts no row whose ctime a later change could carry too."""
    bench, tree = held
    path = bench.root / "usr/lib/big"
    for _ in range(5):
        with open(path, "ab") as file:
            file.write(b"x")
        bench.sync()
        before = path.stat()
        with open(path, "r+b") as file:
            file.write(b"tampered")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert changes_of(bench.check()) == {"/usr/lib/big": ("update", ("content",))}
    bench.sync()
    assert rsync_differences(tree, bench.root) == []


def test_rows_with_ctimes_in_the_future_are_not_trusted(
    held: tuple[Bench, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, _ = held
    (bench.state / "index").unlink()
    past = time.time_ns() - 3600 * 10**9
    monkeypatch.setattr("sis.sync.walk.observe.time.time_ns", lambda: past)
    bench.sync(full=True)
    monkeypatch.undo()
    from sis.sync.walk import index
    from sis.sync.walk.listing import fields_of, unpacked

    remembered = index.read(bench.state)
    assert remembered is not None
    rows = [fields_of(unpacked(member)[1]) for members in remembered.listings.values() for member in members]
    assert all(row.ctime_ns < past for row in rows)


def test_a_version_that_moves_files_and_times_fetches_nothing(tmp_path: Path) -> None:
    bench = make_bench(tmp_path)
    bench.commit(make_tree(tmp_path / "one"))
    bench.sync()
    tree = make_tree(tmp_path / "two")
    (tree / "usr/lib/big").rename(tree / "usr/bin/big-2")
    (tree / "opt").rename(tree / "srv")
    os.utime(tree / "boot/vmlinuz-1.0", ns=(5, 5))
    bench.commit(tree)
    outcome = bench.sync()
    assert outcome.totals.bytes_fetched == 0
    assert changes_of(outcome)["/boot/vmlinuz-1.0"] == ("metadata", ("mtime",))
    assert outcome.boot_changed
    assert rsync_differences(tree, bench.root) == []
    assert bench.sync().changes == ()
