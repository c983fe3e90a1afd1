"""Jobs of the head: told, cancelled, ended with the head, and those a killed head left ended by the next."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from sis.errors import Locked, NotFound
from sis.head.jobs import Job, Jobs
from sis.inventory import db
from sis.inventory.db import Inventory

SLOW = ("events", "--follow")
"""A command that goes on until it is ended."""


@pytest.fixture
def inventory(tmp_path: Path) -> Iterator[Inventory]:
    with db.open(tmp_path / "state.db") as opened:
        yield opened


def test_one_job_at_a_time_and_the_head_takes_it_along(tmp_path: Path, inventory: Inventory) -> None:
    jobs = Jobs(tmp_path, inventory)
    job = jobs.start("follow", SLOW, by="ada")
    assert jobs.running() == job
    assert job.command == "sis events --follow"
    with pytest.raises(Locked, match=r"job 1 \(follow\) is running"):
        jobs.start("another", SLOW, by="eve")
    jobs.end_soon()
    jobs.stop()
    assert jobs.running() is None
    assert not Path(f"/proc/{job.pid}").exists()
    ended = jobs.get(1)
    assert (ended.outcome, ended.told, ended.by) == ("lost", "the head ended", "ada")
    with pytest.raises(NotFound):
        jobs.cancel(1)
    with pytest.raises(NotFound):
        jobs.get(2)


def test_a_job_of_a_killed_head_is_ended_by_the_next(tmp_path: Path, inventory: Inventory) -> None:
    argv = [sys.executable, "-m", "sis", "--verbose", "--state", str(tmp_path), *SLOW]
    left = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        folder = tmp_path / "jobs"
        folder.mkdir()
        mine = Job(id=1, title="follow", words=SLOW, by="ada", started="2026-01-01T00:00:00.000Z", pid=left.pid)
        strange = msgspec.structs.replace(mine, id=2, pid=os.getpid())
        for job in (mine, strange):
            (folder / f"{job.id}.json").write_bytes(msgspec.json.encode(job))
        wait_for_command(left.pid)
        assert [job.outcome for job in Jobs(tmp_path, inventory).all()] == ["lost", "lost"]
        left.wait(90)
        assert not Path(f"/proc/{left.pid}").exists()
    finally:
        if left.poll() is None:
            left.kill()
        left.wait()


def wait_for_command(pid: int) -> None:
    """Until the process has become the command it is to run."""
    deadline = time.monotonic() + 90
    while b"--follow" not in Path(f"/proc/{pid}/cmdline").read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_end_of_a_long_log_begins_with_a_whole_line(tmp_path: Path, inventory: Inventory) -> None:
    jobs = Jobs(tmp_path, inventory)
    (tmp_path / "jobs").mkdir()
    jobs.log_path(1).write_text("first line\nsecond line\n")
    assert jobs.tail(1, 15) == ("second line\n", 23)
    assert jobs.tail(7) == ("", 0)
