"""What the API says of nodes, as values: rows of lists, one node whole, and the answers to asked work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec

from sis.head.rollouts import WaveRow
from sis.inventory.drift import FoldedChange
from sis.inventory.model import Interface, Node, Occurrence
from sis.inventory.rollout import TIMEOUT_S, Method, RebootPolicy
from sis.inventory.sides import Side, sides


@dataclass(frozen=True, slots=True)
class NodeRow:
    """A node in a list. `image` is what is wanted of it, `has` what it was last known to hold ("compute@12")."""

    name: str
    state: str
    since: str
    step: str
    reason: str
    groups: tuple[str, ...]
    image: str | None
    has: str | None
    differences: int
    reboot_needed: bool
    reboot_why: str
    armed: bool
    seen: str | None
    held: str | None
    held_by: int | None
    """The version a rollout holds it to, whatever `image` means by now, and the rollout's number."""


@dataclass(frozen=True, slots=True)
class NodeDetail:
    """A node whole, but for its secrets and its profile.

    `version` is what `If-Match` of a change wants; it is the answer's `ETag` too. `sides`: requested beside observed.
    """

    node: NodeRow
    interfaces: tuple[Interface, ...]
    layout: str | None
    machine_id: str
    created: str
    armed_since: str | None
    install_failures: int
    facts: dict[str, Any]
    version: int
    sides: tuple[Side, ...]


@dataclass(frozen=True, slots=True)
class EventList:
    """Rows of the stream in order. `next` is the id to go on after; `newest` the id of the last row there is."""

    events: tuple[Occurrence, ...]
    next: int
    newest: int


@dataclass(frozen=True, slots=True)
class Drift:
    """What differs, folded by node set, of the last good report of each node that differs."""

    nodes: str
    changes: tuple[FoldedChange, ...]


@dataclass(frozen=True, slots=True)
class WhoAmI:
    name: str
    role: str
    via: str


@dataclass(frozen=True, slots=True)
class PlannedInstall:
    """What a node gets when it is installed: image, version id, and what becomes of each disk, in words."""

    node: str
    image: str
    version: str
    layout: str
    disks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Deployed:
    """`armed` is the node set that installs at its next network boot, "" for a dry run and for resyncs.

    `rollout` is the id of the rollout that was made, None for a dry run; `waves` what it does in which order.
    """

    armed: str
    planned: tuple[PlannedInstall, ...]
    rollout: int | None
    waves: tuple[WaveRow, ...]


@dataclass(frozen=True, slots=True)
class Disarmed:
    disarmed: str


@dataclass(frozen=True, slots=True)
class Asked:
    """Orders given, by id, in the order of the node set."""

    orders: tuple[int, ...]
    nodes: str


class DeployRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Install nodes at their next network boot, or make installed ones equal to their image, in waves or at once.

    method    "install" wipes disks; None: install without waves, sync with them
    canary, then, max_fail  amounts: "3" or "10%"; max_fail None: none in waves, any number at once
    image     what the nodes are to be from then on, such as "compute@13"; "": as each is assigned
    at_boot   fetch now, apply at the next boot
    timeout_s how long a node may take
    dry_run   only say what would be done
    """

    nodeset: str
    allow_foreign_disk: bool = False
    dry_run: bool = False
    method: Method | None = None
    canary: str = ""
    then: tuple[str, ...] = ()
    max_fail: str | None = None
    image: str = ""
    reboot: RebootPolicy = "when-needed"
    at_boot: bool = False
    ignore_windows: bool = False
    timeout_s: Annotated[float, msgspec.Meta(ge=0, le=1e7)] = TIMEOUT_S


class CancelRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    nodeset: str


class OrderRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ask nodes to sync, check or reboot now; `full` reads every byte again."""

    nodeset: str
    kind: Literal["sync", "check", "reboot"] = "sync"
    full: bool = False


class PublishRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Point a channel at this generation; None: back at what it named before."""

    generation: int | None


@dataclass(frozen=True, slots=True)
class Published:
    """`before` is None when the channel is new."""

    name: str
    before: int | None
    after: int


def node_row(node: Node) -> NodeRow:
    state = node.state
    return NodeRow(
        name=node.name,
        state=state.state,
        since=state.since,
        step=state.step,
        reason=state.reason,
        groups=node.groups,
        image=node.assignment.reference if node.assignment else None,
        has=f"{state.image}@{state.generation}" if state.image else None,
        differences=state.drift,
        reboot_needed=state.reboot_needed,
        reboot_why=state.reboot_why,
        armed=node.arming is not None,
        seen=state.seen,
        held=node.hold.held.name if node.hold else None,
        held_by=node.hold.rollout_id if node.hold else None,
    )


def node_detail(node: Node, facts: dict[str, Any] | None) -> NodeDetail:
    return NodeDetail(
        node=node_row(node),
        interfaces=node.interfaces,
        layout=node.assignment.layout if node.assignment else None,
        machine_id=node.machine_id,
        created=node.created,
        armed_since=node.arming.armed if node.arming else None,
        install_failures=node.arming.failures if node.arming else 0,
        facts=facts or {},
        version=node.version,
        sides=sides(node, facts),
    )
