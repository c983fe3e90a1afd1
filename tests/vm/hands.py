"""The admin's hands in the story: up to the install they type commands, or they work the wizard in a browser."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from tests.vm.story import Story

NODES = "n[001-002]"


class Hands(Protocol):
    """What is done until two machines are being installed. Each step leaves what the story's next chapter needs."""

    def set_up_head(self, story: Story) -> None:
        """Keys, cluster and network, the spec."""

    def build(self, story: Story) -> None:
        """compute@1 out of the spec."""

    def publish(self, story: Story) -> None:
        """compute@stable names it."""

    def define(self, story: Story, macs: Sequence[str]) -> None:
        """Two nodes with these MACs; afterwards the head runs on their network and they are switched off."""

    def deploy(self, story: Story) -> None:
        """Both are armed."""

    def watch(self, story: Story) -> None:
        """Both are at work: what the admin looks at meanwhile."""

    def look(self, story: Story) -> None:
        """Both are in-sync: what the admin looks at then."""

    def head_words(self, story: Story) -> list[str]:
        """How `sis head run` is started on the nodes' network."""


class ByCommand:
    """Everything by `sis`."""

    def set_up_head(self, story: Story) -> None:
        story.sis("head", "init")
        (story.state / "cluster.yaml").write_text(CLUSTER)
        story.sis("cluster", "apply", str(story.state / "cluster.yaml"))
        story.lay_out_files()
        (story.specs / "compute.yaml").write_text(story.spec(packages=["tree"], motd="golden, first edition"))

    def build(self, story: Story) -> None:
        story.sis("image", "build", "compute", timeout_s=2400)

    def publish(self, story: Story) -> None:
        story.sis("image", "publish", "compute@1", "stable")

    def define(self, story: Story, macs: Sequence[str]) -> None:
        story.sis(
            "node", "add", NODES, "--mac", ",".join(macs), "--image", "compute@stable", "--group", "rack1",
            "--layout", "single",
        )  # fmt: skip
        story.start_head()

    def deploy(self, story: Story) -> None:
        story.sis("deploy", NODES, "-y")

    def watch(self, story: Story) -> None:
        story.sis("status")

    def look(self, story: Story) -> None:
        story.sis("status")

    def head_words(self, story: Story) -> list[str]:
        return ["--interface", story.the_lab().bridge]


@contextlib.contextmanager
def by_command(_: Story) -> Iterator[ByCommand]:
    """Hands at a terminal."""
    yield ByCommand()


CLUSTER = """\
cluster: demo
networks:
  mgmt:
    cidr: 10.77.0.0/24
    domain: demo.cluster
    head: 10.77.0.1
    dhcp: {range: 10.77.0.200-10.77.0.250, mode: full}
"""
