"""Files are begun in portions while others are written: chunks and links across them, faults in one of them."""

from __future__ import annotations

import errno
import os
import random
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sis.errors import NoSpace, SisError
from sis.sync.staging import ready
from sis.sync.staging.hands import Hands
from sis.sync.staging.making import Making
from sis.sync.staging.stage import Stage
from tests.sync_trees import Bench, age, make_bench, rsync_differences

pytestmark = pytest.mark.root

FILES = 60


@pytest.fixture(autouse=True)
def small_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven files at a time, by other processes, and not many of them on the way."""
    for name, value in (("MUCH_FILES", 0), ("FIRST_PORTION", 7), ("PORTION_MAX", 7), ("ON_THE_WAY", 16)):
        monkeypatch.setattr(ready, name, value)


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[list[bytes]]:
    """The portions in which files are begun."""
    told: list[list[bytes]] = []
    begin = Stage.begin

    def listening(stage: Stage, files: Iterator[ready.NewFile], blobs: dict[bytes, bytes]) -> None:
        portion = list(files)
        told.append([file.entry.path for file in portion])
        begin(stage, portion, blobs)

    monkeypatch.setattr(Stage, "begin", listening)
    return told


def make_tree(where: Path) -> Path:
    """Files of their own content, of many chunks and of one; some have chunks in common, some are one inode."""
    rng = random.Random(4)
    tree = where / "tree"
    common = rng.randbytes(600_000)
    for number in range(FILES):
        path = tree / f"d{number % 6}" / f"{number:02}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rng.randbytes(rng.choice((0, 10, 5_000, 200_000))))
    for number in (0, 17, 34, 51):
        (tree / f"d{number % 6}" / f"common{number}").write_bytes(rng.randbytes(number) + common)
    (tree / "d0" / "again").write_bytes((tree / "d5" / "59").read_bytes())
    os.link(tree / "d0" / "00", tree / "d5" / "link")
    os.link(tree / "d5" / "53", tree / "d0" / "link")
    (tree / "empty" / "inside").mkdir(parents=True)
    os.symlink("../d1/01", tree / "empty" / "symlink")
    age(tree)
    return tree


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = make_bench(tmp_path)
    bench.commit(make_tree(tmp_path))
    return bench


def test_every_file_is_begun_once_and_those_with_a_chunk_in_common_together(
    bench: Bench, tmp_path: Path, begun: list[list[bytes]]
) -> None:
    outcome = bench.sync()
    assert outcome.in_sync
    assert rsync_differences(tmp_path / "tree", bench.root) == []
    every = [path for portion in begun for path in portion]
    assert len(begun) > 5
    assert len(every) == len(set(every)) == FILES + 5  # of each pair of links one
    (with_common,) = [portion for portion in begun if any(b"common" in path for path in portion)]
    assert sum(b"common" in path for path in with_common) == 4
    stored = sum(change.bytes_to_fetch for change in outcome.changes)
    assert outcome.totals.bytes_fetched < 1.2 * stored  # with what lies between; no chunk is fetched twice
    assert bench.check(full=True).in_sync


def test_content_of_the_node_and_of_the_store_in_one_run(bench: Bench, tmp_path: Path) -> None:
    bench.sync()
    tree = tmp_path / "tree"
    rng = random.Random(5)
    for number in range(0, FILES, 3):
        path = tree / f"d{number % 6}" / f"{number:02}"
        path.write_bytes(path.read_bytes() + rng.randbytes(50_000))
        os.rename(path, tree / f"d{5 - number % 6}" / f"moved{number}")
    age(tree)
    bench.commit(tree)
    outcome = bench.sync()
    assert outcome.in_sync
    assert outcome.totals.bytes_local
    assert rsync_differences(tree, bench.root) == []


def test_by_threads_where_there_are_threads_already(bench: Bench, tmp_path: Path, begun: list[list[bytes]]) -> None:
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait)
    thread.start()
    try:
        assert bench.sync().in_sync
    finally:
        ended.set()
        thread.join()
    assert len(begun) > 5
    assert rsync_differences(tmp_path / "tree", bench.root) == []


def test_a_full_disk_in_a_later_portion(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is placed, the room is given back, and the message says why."""

    def full(hands: Hands, making: Making, data: bytes) -> None:
        if making.number > FILES // 2:
            raise OSError(errno.ENOSPC, "No space left on device", making.entry.path)
        write_whole(hands, making, data)

    write_whole = Hands._write_whole
    monkeypatch.setattr(Hands, "_write_whole", full)
    with pytest.raises(NoSpace):
        bench.sync()
    assert os.listdir(bench.root) == []
    monkeypatch.undo()
    assert bench.sync().in_sync
    assert rsync_differences(tmp_path / "tree", bench.root) == []


def test_a_process_that_dies_in_a_later_portion(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was ready stays beside the tree, and the next run goes on from there."""
    this = os.getpid()

    def dying(hands: Hands, making: Making, data: bytes) -> None:
        if making.number > FILES // 2:
            if os.getpid() != this:
                os.kill(os.getpid(), signal.SIGKILL)
            raise SisError("a process that made new files ready was killed")  # threads: nobody to be killed
        write_whole(hands, making, data)

    write_whole = Hands._write_whole
    monkeypatch.setattr(Hands, "_write_whole", dying)
    with pytest.raises(SisError, match="was killed"):
        bench.sync()
    assert os.listdir(bench.root) == [".sis-stage"]
    monkeypatch.setattr(Hands, "_write_whole", write_whole)
    outcome = bench.sync()
    assert outcome.in_sync
    assert outcome.totals.bytes_local  # of the run before
    assert rsync_differences(tmp_path / "tree", bench.root) == []
    assert not (bench.root / ".sis-stage").exists()
