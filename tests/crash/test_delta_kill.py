"""Kill a node that is moving by a delta, anywhere, and run it again: no wrong byte, and it converges."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sis.image.kept.store import KeptStore
from sis.sync.staging.source import documents_of
from tests.crash.test_sync_kill import must_be_old_or_new, states
from tests.delta_trees import DeltaBench, make_versions
from tests.sync_trees import rsync_differences

pytestmark = pytest.mark.root

KILLS = 14
SECONDS = 14.0
PROGRAM = Path(sys.executable).with_name("sis-node")


def argv(bench: DeltaBench) -> list[str]:
    where = ("--from", bench.bench.store.path, "--image", "image@2", "--root", bench.root)
    return [str(word) for word in (PROGRAM, "sync", *where, "--state", bench.bench.state, "--policy", "none")]


def killed_after(bench: DeltaBench, seconds: float) -> bool:
    """Whether it was still at work."""
    child = subprocess.Popen(argv(bench), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        child.wait(seconds)
    except subprocess.TimeoutExpired:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        return True
    return False


def test_killed_while_applying_by_delta(tmp_path: Path) -> None:
    bench = DeltaBench(tmp_path, *make_versions(tmp_path))
    bench.make_delta(processes=1)
    # The program keeps the memory of a root in a place of its own.
    program_state = bench.bench.state
    subprocess.run([word.replace("image@2", "image@1") for word in argv(bench)], check=True, capture_output=True)
    old = states(bench.root)
    started = time.monotonic()
    subprocess.run(argv(bench), check=True, capture_output=True)
    whole = time.monotonic() - started
    new = states(bench.root)
    assert rsync_differences(bench.two, bench.root) == []
    rng = random.Random(4)
    kills = 0
    deadline = time.monotonic() + SECONDS
    while kills < KILLS and time.monotonic() < deadline:
        subprocess.run([word.replace("image@2", "image@1") for word in argv(bench)], check=True, capture_output=True)
        for _ in range(3):
            if not killed_after(bench, rng.uniform(0.25, 1.0) * whole):
                whole *= 0.8  # measured on a busier machine than it is now
                break
            kills += 1
            must_be_old_or_new(bench.root, old, new)
        done = subprocess.run(argv(bench), check=True, capture_output=True, text=True)
        assert rsync_differences(bench.two, bench.root) == [], done.stdout
        assert not (bench.root / ".sis-stage").exists()
    assert kills
    (memory,) = (program_state / "roots").iterdir()
    assert KeptStore(bench.store, documents_of(memory)).applied == bench.ids[1]
