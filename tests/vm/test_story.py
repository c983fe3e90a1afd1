"""The main job on virtual machines, from a package list to nodes proved equal, with a power cut and a head restart."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vm.lab import leftovers
from tests.vm.story import Story

pytestmark = [pytest.mark.root, pytest.mark.vm]


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Story]:
    yield Story(tmp_path / "story")
    assert leftovers() == []


@pytest.mark.timeout(1500)
def test_the_main_job_with_a_power_cut_and_a_head_restart(story: Story) -> None:
    story.whole(during=trouble)


def trouble(story: Story) -> None:
    """Cut n001's power and restart the head, both while content is on its way to the disks."""
    wait_for_pulling(story, "n001", percent=30)
    story.tell("  ! power cut at n001")
    node = story.machines()[0]
    node.power_cut()
    node.power_on()
    wait_for_pulling(story, "n002", percent=5)
    story.tell("  ! the head is stopped, and comes back after 10 s")
    story.stop_head()
    time.sleep(10)
    story.start_head()


def wait_for_pulling(story: Story, name: str, *, percent: int) -> None:
    """Until the node has told that this much of its content is written."""

    def far_enough(states: dict[str, dict[str, object]]) -> bool:
        event = str(states[name]["event"])
        share = event.partition("%")[0].rpartition(" ")[2]
        return states[name]["state"] not in ("armed", "netbooted", "partitioning", "pulling") or (
            "%" in event and share.isdigit() and int(share) >= percent
        )

    story.follow(far_enough, 400)
