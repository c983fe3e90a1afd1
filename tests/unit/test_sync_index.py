"""What is remembered between runs."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest

from sis.image.model import Entry, Kind
from sis.sync.walk import index, index_files
from sis.sync.walk.index import RACY_NS, is_settled
from sis.sync.walk.listing import fields_of, listed, packed, row_of, unpacked
from sis.sync.walk.remembered import Remembered, Still

ENTRY = Entry(path=b"a\xff", kind=Kind.FILE, mode=0o644, uid=0, gid=0, mtime_ns=1)
ROW = bytes(52)
STAT = ("st_ino", "st_dev", "st_size", "st_mode", "st_uid", "st_gid")


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


def test_files_written_in_pieces_are_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_files, "_PIECE_BYTES", 300)
    for count in (0, 15, 16, 17, 2047, 2048, 2064, 4097):
        entries = {b"%04d" % number: msgspec.structs.replace(ENTRY, path=b"%04d" % number) for number in range(count)}
        listings = {b"%04d" % number: bytes(number % 700) for number in range(count)}
        index.save(tmp_path, Remembered(tree=b"t%07d" % count, applied=entries, listings=listings))
        found = load(tmp_path, b"other")
        assert (found.applied, found.listings) == (entries, listings)


def test_the_desired_entries_stand_for_the_applied_ones_when_they_are_the_same_tree(tmp_path: Path) -> None:
    index.save(tmp_path, remembered(b"one" * 8))
    mine = {ENTRY.path: ENTRY}
    assert index.load(tmp_path, index.read(tmp_path), b"one" * 8, mine).applied is mine


def test_only_the_last_tree_is_kept(tmp_path: Path) -> None:
    for tree in (b"one" * 8, b"two" * 8, b"two" * 8):
        index.save(tmp_path, remembered(tree))
    assert len(list(tmp_path.glob("tree-*"))) == len(list(tmp_path.glob("listings-*"))) == 1


def test_a_tree_of_another_format_is_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = b"one" * 8
    with monkeypatch.context() as older:
        older.setattr(index_files, "FORMAT", index_files.FORMAT - 1)
        index.save(tmp_path, remembered(tree))
    assert index.read(tmp_path) is None
    index.save(tmp_path, remembered(tree))
    assert load(tmp_path, b"other") == remembered(tree)
    assert len(list(tmp_path.glob("tree-*"))) == 1


def test_what_is_amended_is_loaded(tmp_path: Path) -> None:
    index.save(tmp_path, remembered(b"one" * 8))
    before = index.read(tmp_path)
    assert before is not None
    files = {path.name for path in tmp_path.iterdir()}
    new = Entry(path=b"new", kind=Kind.FILE, mode=0o644, uid=0, gid=0, mtime_ns=2)
    moved = listed({new.path: ROW})
    index.amend(tmp_path, before, b"two" * 8, {new.path: new, ENTRY.path: None}, moved, None)
    found = load(tmp_path, b"other")
    assert (found.tree, found.applied, found.listings, found.still) == (b"two" * 8, {new.path: new}, moved, None)
    amended = index.read(tmp_path)
    assert amended is not None
    index.amend(tmp_path, amended, b"one" * 8, {new.path: None, ENTRY.path: ENTRY}, listed({ENTRY.path: ROW}), None)
    assert load(tmp_path, b"other").applied == {ENTRY.path: ENTRY}
    assert {path.name for path in tmp_path.iterdir()} == files
    assert index.can_amend(amended, index.AMENDED_MAX - 3)
    assert not index.can_amend(amended, index.AMENDED_MAX - 2)


def test_intentions_are_forgotten_once_the_index_is_written(tmp_path: Path) -> None:
    index.intend(tmp_path, [ENTRY])
    assert load(tmp_path, b"").intended == {ENTRY.path: ENTRY}
    index.save(tmp_path, remembered(b"one" * 8))
    assert load(tmp_path, b"").intended == {}


@pytest.mark.parametrize("damage", [b"", b"\x97", b"not an index", b"\xff" * 100])
@pytest.mark.parametrize("name", ["index", "tree-*", "listings-*"])
def test_a_damaged_memory_is_as_good_as_none(
    tmp_path: Path, damage: bytes, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    index.save(tmp_path, remembered(b"one" * 8))
    next(tmp_path.glob(name)).write_bytes(damage)
    with caplog.at_level(logging.WARNING):
        assert load(tmp_path, b"other") == Remembered()
    assert "every path is verified anew" in caplog.text


def test_a_ctime_near_the_clock_or_ahead_of_it_is_not_trusted(tmp_path: Path) -> None:
    row = row_of(tmp_path.stat())
    ctime_ns = tmp_path.stat().st_ctime_ns
    assert is_settled(row, ctime_ns + RACY_NS + 1)
    assert not is_settled(row, ctime_ns + RACY_NS)
    assert not is_settled(row, ctime_ns - 10**9)


def test_a_row_tells_what_lstat_told(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("x")
    found = path.stat()
    fields = fields_of(row_of(found))
    assert fields[:3] == (found.st_ino, found.st_dev, 1)
    assert fields[3:] == (found.st_mtime_ns, found.st_ctime_ns, found.st_mode, found.st_uid, found.st_gid)
    assert list(unpacked(packed(b"a\xff", row_of(found)))) == [(b"a\xff", row_of(found))]


def test_a_time_no_index_can_hold_is_held_as_the_last_it_can(tmp_path: Path) -> None:
    """Some file systems know years beyond 2262."""
    told = SimpleNamespace(**dict.fromkeys(STAT, 1), st_mtime_ns=10**20, st_ctime_ns=-(10**20))
    fields = fields_of(row_of(cast(os.stat_result, told)))
    assert (fields.mtime_ns, fields.ctime_ns) == (2**63 - 1, -(2**63) + 1)
