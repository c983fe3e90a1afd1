"""The main job on virtual machines, from an empty head by the wizard in a browser to nodes proved equal by rsync.

A power cut and a restart of the head come in between.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vm.lab import leftovers
from tests.vm.story import Story
from tests.vm.wizard_hands import by_browser

pytestmark = [pytest.mark.root, pytest.mark.vm]


@pytest.fixture
def story(tmp_path: Path, screens: Path) -> Iterator[Story]:
    yield Story(tmp_path / "story", take_up=by_browser(screens))
    assert leftovers() == []


@pytest.mark.timeout(3600)
def test_from_the_wizard_to_the_proof_with_a_power_cut_and_a_head_restart(story: Story) -> None:
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

    story.follow(far_enough, 1200)
