"""Fetch now, apply at the next boot: staged over a store, applied with the store gone, on real trees."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from sis.image import commit
from sis.image.kept.store import KeptStore
from sis.image.store.local import LocalStore
from sis.node import at_boot
from sis.node.held import Held
from sis.sync.desired import desired_tree
from sis.sync.staging.source import documents_of, open_source
from sis.wire import Desired

BIG = os.urandom(300_000)


def held(store: LocalStore, state: Path, generation: int) -> Held:
    version_id = store.ref("compute").generations[str(generation)]
    kept = KeptStore(store, documents_of(state))
    version = kept.version(version_id)
    desired = Desired(
        node="n1", image="compute", channel=None, generation=generation, version=version_id, store="store",
        layer=(), layout=None,
    )  # fmt: skip
    want = desired_tree(version.manifest, kept.manifest, ())
    return Held(desired, version, want, open_source(kept, version_id, version))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A node's root at the first of two versions; the store beside it."""
    golden = tmp_path / "golden"
    (golden / "etc").mkdir(parents=True)
    (golden / "etc/motd").write_text("first\n")
    (golden / "opt").mkdir()
    store = LocalStore(tmp_path / "store")
    commit.commit(store, "compute", golden)
    (golden / "etc/motd").write_text("second\n")
    (golden / "opt/big").write_bytes(BIG)
    commit.commit(store, "compute", golden)
    root = tmp_path / "root"
    (root / "var/lib").mkdir(parents=True)
    held(store, tmp_path / "state", 1).sync(root, tmp_path / "state")
    return root


def test_staged_changes_nothing_applied_needs_no_store(tree: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    wanted = held(LocalStore(tmp_path / "store"), state, 2)
    staged = wanted.sync(tree, state, only_stage=True)
    assert staged.totals.bytes_fetched > len(BIG)
    at_boot.keep(state, wanted.desired)
    assert (tree / "etc/motd").read_text() == "first\n"
    assert not (tree / "opt/big").exists()
    assert (state / at_boot.STAGED).stat().st_mode & 0o777 == 0o600

    shutil.rmtree(tmp_path / "store")
    report = at_boot.apply(tree, state)
    assert report is not None
    assert (report.outcome, report.error, report.in_sync, report.generation) == ("ok", "", True, 2)
    assert report.totals.bytes_fetched == 0
    assert (tree / "etc/motd").read_text() == "second\n"
    assert (tree / "opt/big").read_bytes() == BIG
    assert not (tree / ".sis-stage").exists()
    assert at_boot.pending(state) is None
    assert at_boot.untold(state) == report
    at_boot.told(state)
    assert at_boot.untold(state) is None
    assert at_boot.apply(tree, state) is None


def test_what_is_missing_at_boot_leaves_the_tree_and_is_told(tree: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    wanted = held(LocalStore(tmp_path / "store"), state, 2)
    wanted.sync(tree, state, only_stage=True)
    at_boot.keep(state, wanted.desired)
    shutil.rmtree(tree / ".sis-stage")
    shutil.rmtree(tmp_path / "store")
    report = at_boot.apply(tree, state)
    assert report is not None
    assert report.outcome == "failed"
    assert report.error.startswith("applying at boot: ")
    assert (tree / "etc/motd").read_text() == "first\n"
    assert at_boot.pending(state) is None


def test_a_damaged_note_is_forgotten(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "state" / at_boot.STAGED).write_text("{")
    assert at_boot.apply(tree, tmp_path / "state") is None
    assert not (tmp_path / "state" / at_boot.STAGED).exists()
