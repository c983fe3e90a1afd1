"""What a sync takes in memory does not grow with the size of a file, and little with their number."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sync_trees import Bench, make_bench

pytestmark = pytest.mark.root

HUGE_BYTES = 4 << 30
FILES = 3_000
BOUND_BYTES = 120 << 20
"""Some 45 MB are the interpreter and the libraries."""


def peak_of_a_sync(bench: Bench) -> int:
    """Sync in a process of its own; the most it had in memory, in bytes."""
    argv = [sys.executable, "-m", "tests.crash.sync_once"]
    given = (bench.store.path, "image", bench.root, bench.state)
    done = subprocess.run(
        [*argv, *map(str, given)], cwd=Path(__file__).parents[2], check=True, capture_output=True, text=True
    )
    return int(done.stdout) * 1024  # not what wait4 tells: that begins with what the process that forked it had


def test_a_file_of_4_gib(tmp_path: Path) -> None:
    """Written, changed in place and verified anew; it is sparse, so that the disk need not hold it."""
    tree = tmp_path / "tree"
    tree.mkdir()
    with open(tree / "huge", "wb") as file:
        for at in range(0, HUGE_BYTES, HUGE_BYTES // 8):
            file.seek(at)
            file.write(os.urandom(1 << 20))
        file.truncate(HUGE_BYTES)
    bench = make_bench(tmp_path)
    bench.commit(tree)
    assert peak_of_a_sync(bench) < BOUND_BYTES
    with open(bench.root / "huge", "r+b") as file:
        file.seek(HUGE_BYTES // 2 + 5)
        file.write(b"tampered")
    assert peak_of_a_sync(bench) < BOUND_BYTES
    assert os.stat(bench.root / "huge").st_blocks * 512 < 64 << 20
    assert bench.check(full=True).in_sync


def test_many_files(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for number in range(FILES):
        directory = tree / f"{number // 300:02}"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"{number}").write_bytes(b"%d" % number)
    bench = make_bench(tmp_path)
    bench.commit(tree)
    assert peak_of_a_sync(bench) < BOUND_BYTES
    assert bench.check(full=True).in_sync
    assert peak_of_a_sync(bench) < BOUND_BYTES
