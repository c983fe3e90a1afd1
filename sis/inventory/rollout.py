"""The nouns of rollouts as frozen values: what was asked (Plan), how far it is (Rollout), and each node of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import msgspec

Method = Literal["sync", "install"]
RebootPolicy = Literal["when-needed", "never", "now"]
RolloutState = Literal["running", "paused", "stopped", "aborted", "done"]
NodeStep = Literal[
    "waiting", "put-off", "draining", "asked", "staged", "rebooting", "good", "failed", "returning", "returned",
    "lost", "left",
]  # fmt: skip

UNDER_WAY: frozenset[NodeStep] = frozenset(("draining", "asked", "staged", "rebooting", "returning"))
ENDED: frozenset[NodeStep] = frozenset(("good", "failed", "returned", "lost", "left"))
FAILED: frozenset[NodeStep] = frozenset(("failed", "returning", "returned", "lost"))
"""Steps of nodes that count against the limit: also those that went back."""

TIMEOUT_S = 3600.0
BOOT_TIMEOUT_S = 900.0


class Plan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was asked. Amounts are counts ("3") or parts of all its nodes ("10%").

    canary    size of the first wave; "": none
    then      sizes of the following waves, the last one again until all are done; (): the rest in one
    max_fail  failures that are borne; "": any number
    image     what the nodes are to be from then on; "": as each is assigned
    timeout_s how long a node may take, boot_timeout_s how long a reboot may; 0: for ever
    whys      of each wave how its nodes were chosen
    """

    method: Method = "sync"
    canary: str = ""
    then: tuple[str, ...] = ()
    max_fail: str = ""
    image: str = ""
    reboot: RebootPolicy = "when-needed"
    at_boot: bool = False
    allow_foreign_disk: bool = False
    ignore_windows: bool = False
    timeout_s: float = TIMEOUT_S
    boot_timeout_s: float = BOOT_TIMEOUT_S
    whys: tuple[str, ...] = ()

    @property
    def in_waves(self) -> bool:
        return bool(self.canary or self.then)

    @property
    def holds(self) -> bool:
        """Whether nodes are held to what is tried. A plain install is of what the assignment means when it happens."""
        return self.method == "sync" or self.in_waves or bool(self.image)


@dataclass(frozen=True, slots=True)
class Rollout:
    """One rollout. `wave` is the one under way, from 0; `waves` their sizes; `nodeset` is folded."""

    id: int
    created: str
    who: str
    nodeset: str
    state: RolloutState
    reason: str
    wave: int
    started: str | None
    ended: str | None
    plan: Plan


@dataclass(frozen=True, slots=True)
class RolloutNode:
    """A node of a rollout. `target` and `before` such as "compute@12"; `before` is what it was last good at.

    `report_id`: the last report that counted; `boot_id`: the boot that one was of; `bytes` fetched so far.
    """

    rollout_id: int
    node_id: int
    name: str
    wave: int
    position: int
    state: NodeStep
    since: str
    begun: str | None = None
    ended: str | None = None
    reason: str = ""
    target: str = ""
    target_version: str = ""
    before: str = ""
    before_version: str = ""
    order_id: int | None = None
    report_id: int | None = None
    boot_id: str = ""
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Held:
    """A generation of an image by its name and id."""

    image: str
    generation: int
    version: str

    @property
    def name(self) -> str:
        return f"{self.image}@{self.generation}"


@dataclass(frozen=True, slots=True)
class Hold:
    """What a rollout holds a node to, whatever its assignment says."""

    held: Held
    since: str
    rollout_id: int


@dataclass(frozen=True, slots=True)
class Tally:
    """The nodes of a rollout summed up: how many are at each step, waves, bytes fetched, and their targets."""

    steps: Mapping[NodeStep, int]
    waves: int
    bytes: int
    targets: tuple[str, ...]

    def at(self, *steps: NodeStep) -> int:
        """How many are at one of these."""
        return sum(count for step, count in self.steps.items() if step in steps)
