"""Partitioning killed anywhere: planning and applying again ends in whole disks, and what was kept is untouched."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sis.disk import mounts
from sis.disk.apply import apply
from sis.system import process
from tests.disks import actions, digest, image, nothing_left_behind, partition, plan_for

pytestmark = pytest.mark.root

# argv: image file, layout, number of the step to be killed before (or -1), "fresh" or ""
VICTIM = """
import os, signal, sys
from pathlib import Path
from sis.disk.apply import apply
from tests.disks import plan_for
steps = []
def observe(step):
    if len(steps) == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    steps.append(step)
    print(step, flush=True)
apply(plan_for(sys.argv[2], Path(sys.argv[1]), fresh=bool(sys.argv[4])), observe=observe)
"""
STEPS_OF_KEEP = 8


@pytest.fixture(autouse=True)
def _nothing_is_left(tmp_path: Path) -> Iterator[None]:
    with nothing_left_behind(tmp_path):
        yield


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    return image(tmp_path / "node.img", 6 << 30)


def _check(disk: Path, target: Path) -> None:
    """One more run ends in a whole disk, and a further one has nothing to do."""
    apply(plan_for("keep", disk))
    assert "No errors detected" in process.run(["sfdisk", "--verify", disk]).stdout
    plan = plan_for("keep", disk)
    assert not plan.changes
    assert actions(plan)["sis-scratch"] == "keep"
    with mounts.mounted(plan, target) as root:
        (root / "written").write_text("yes")
        (root / "scratch/written").write_text("yes")


@pytest.mark.parametrize("step", range(STEPS_OF_KEEP + 1))
def test_killed_before_each_step_of_a_first_install(disk: Path, tmp_path: Path, step: int) -> None:
    argv = [sys.executable, "-c", VICTIM, str(disk), "keep", str(step), ""]
    ended = subprocess.run(argv, timeout=240, check=False)
    assert ended.returncode == (-signal.SIGKILL if step < STEPS_OF_KEEP else 0)
    _check(disk, tmp_path / "target")


@pytest.mark.parametrize("step", range(7))
def test_killed_while_all_but_scratch_is_made_anew(disk: Path, tmp_path: Path, step: int) -> None:
    _check(disk, tmp_path / "target")
    scratch = partition(plan_for("keep", disk), "sis-scratch")
    before = digest(disk, scratch)
    argv = [sys.executable, "-c", VICTIM, str(disk), "keep", str(step), "fresh"]
    assert subprocess.run(argv, timeout=240, check=False).returncode == -signal.SIGKILL
    apply(plan_for("keep", disk))
    assert digest(disk, scratch) == before
    _check(disk, tmp_path / "target")


@pytest.mark.parametrize("seed", range(8))
def test_everything_killed_at_a_random_moment(disk: Path, tmp_path: Path, seed: int) -> None:
    """In a process namespace of its own, so that mkfs and sfdisk die in the same moment, as when power is cut."""
    argv = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c", VICTIM, str(disk), "keep", "-1", ""]
    victim = subprocess.Popen(argv, stdout=subprocess.PIPE)
    assert victim.stdout is not None
    try:
        victim.stdout.readline()
        time.sleep(random.Random(seed).uniform(0.0, 0.3))
        first = _children(victim.pid)
    finally:
        victim.kill()
        victim.wait()
        victim.stdout.close()
    for pid in first:
        _wait_gone(pid)
    _check(disk, tmp_path / "target")


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def _wait_gone(pid: int) -> None:
    """The first process of a namespace ends last."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return
        if state == "Z":
            return
        time.sleep(0.01)
    raise AssertionError(f"process {pid} did not end: {os.path.realpath(f'/proc/{pid}/exe')}")
