"""What is remembered between runs."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from sis.image.model import Entry, Kind
from sis.sync import index
from sis.sync.index import RACY_NS, Remembered, Still, is_settled
from sis.sync.listing import listed

ENTRY = Entry(path=b"a\xff", kind=Kind.FILE, mode=0o644, uid=0, gid=0, mtime_ns=1)
ROW = (1, 2, 3, 4, 5, 6, 7, 8)


def remembered(tree: bytes) -> Remembered:
    return Remembered(
        tree=tree,
        applied={ENTRY.path: ENTRY},
        owned=frozenset({b"own"}),
        absent=frozenset({b"gone"}),
        kernels=("6.1",),
        retained=("6.0",),
        listings=listed({ENTRY.path: ROW}),
        still=Still(b"terms", 1, ("note",), {b".": {b"b": True}}, (b"m",), (), (), {b"d": ((b"user.x", b"y"),)}),
    )


def load(state: Path, tree: bytes) -> Remembered:
    return index.load(state, index.read(state), tree, {})


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    index.save(tmp_path / "state", remembered(b"one" * 8))
    assert load(tmp_path / "state", b"other") == remembered(b"one" * 8)
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "state/index").stat().st_mode & 0o777 == 0o600


def test_the_desired_entries_stand_for_the_applied_ones_when_they_are_the_same_tree(tmp_path: Path) -> None:
    index.save(tmp_path, remembered(b"one" * 8))
    mine = {ENTRY.path: ENTRY}
    assert index.load(tmp_path, index.read(tmp_path), b"one" * 8, mine).applied is mine


def test_only_the_last_tree_is_kept(tmp_path: Path) -> None:
    for tree in (b"one" * 8, b"two" * 8, b"two" * 8):
        index.save(tmp_path, remembered(tree))
    assert len(list(tmp_path.glob("tree-*"))) == 1


def test_intentions_are_forgotten_once_the_index_is_written(tmp_path: Path) -> None:
    index.intend(tmp_path, [ENTRY])
    assert load(tmp_path, b"").intended == {ENTRY.path: ENTRY}
    index.save(tmp_path, remembered(b"one" * 8))
    assert load(tmp_path, b"").intended == {}


@pytest.mark.parametrize("damage", [b"", b"\x97", b"not an index", b"\xff" * 100])
@pytest.mark.parametrize("name", ["index", "tree"])
def test_a_damaged_memory_is_as_good_as_none(
    tmp_path: Path, damage: bytes, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    index.save(tmp_path, remembered(b"one" * 8))
    path = tmp_path / "index" if name == "index" else next(tmp_path.glob("tree-*"))
    path.write_bytes(damage)
    with caplog.at_level(logging.WARNING):
        assert load(tmp_path, b"other") == Remembered()
    assert "every path is verified anew" in caplog.text


def test_a_ctime_near_the_clock_or_ahead_of_it_is_not_trusted() -> None:
    now = 10**18
    assert is_settled((1, 1, 1, 1, now - RACY_NS - 1, 1, 1, 1), now)
    assert not is_settled((1, 1, 1, 1, now - RACY_NS, 1, 1, 1), now)
    assert not is_settled((1, 1, 1, 1, now + 10**9, 1, 1, 1), now)
