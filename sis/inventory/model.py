"""The nouns of the inventory as frozen values: Node, Interface, Network, Assignment, NodeState and their history."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, Literal

from sis.inventory.rollout import Hold
from sis.wire import State

OrderKind = Literal["sync", "check", "reboot", "stage"]
OccurrenceKind = Literal["event", "report", "state", "order", "arming", "published", "discovered", "rollout", "job"]
Role = Literal["view", "operate", "admin"]
"""What an admin may do: look; also check, sync and install nodes; also move channels and read the audit log."""


@dataclass(frozen=True, slots=True)
class Network:
    """`cidr` such as "10.77.0.0/24"; `data` what later rooms need (dhcp mode and range, name servers, head address)."""

    name: str
    cidr: str
    gateway: str | None = None
    domain: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def range(self) -> IPv4Network | IPv6Network:
        return ip_network(self.cidr)


@dataclass(frozen=True, slots=True)
class Interface:
    name: str
    mac: str | None = None
    address: str | None = None
    network: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a node is meant to be: an image, a selector (channel, generation, "b3:…", or "": the newest), a layout."""

    image: str
    selector: str
    layout: str | None = None

    @property
    def reference(self) -> str:
        return f"{self.image}@{self.selector}" if self.selector else self.image


@dataclass(frozen=True, slots=True)
class NodeState:
    """What is known of a node: `image`, `generation`, `version` and `drift` are of its last good report.

    `step`, `reason` and `event_id` (whose log tells more) are of a failure; `progress` is the last thing it said;
    `story_started`/`story_ended` (the node's clock) bound its last reported story.
    """

    state: State
    since: str
    step: str = ""
    reason: str = ""
    event_id: int | None = None
    progress: str = ""
    seen: str | None = None
    image: str = ""
    generation: int = 0
    version: str = ""
    drift: int = 0
    reboot_needed: bool = False
    reboot_why: str = ""
    """What the node runs that is not what it is held to any more."""
    story_started: str = ""
    story_ended: str = ""


@dataclass(frozen=True, slots=True)
class Arming:
    """A node that is to be installed at its next network boot. Only the hash of its token is kept."""

    armed: str
    allow_foreign_disk: bool
    failures: int = 0


@dataclass(frozen=True, slots=True)
class Node:
    """A node as the admin defined it. `id` is stable and never used again; `number` is the last number of its name.

    `profile` holds what `sis.inventory.profile.Profile` reads: modules, time zone, console and so on.
    """

    id: int
    name: str
    number: int | None
    machine_id: str
    created: str
    profile: Mapping[str, Any] = field(default_factory=dict)
    interfaces: tuple[Interface, ...] = ()
    groups: tuple[str, ...] = ()
    assignment: Assignment | None = None
    state: NodeState = field(default_factory=lambda: NodeState("defined", ""))
    arming: Arming | None = None
    hold: Hold | None = None
    version: int = 0
    """The change of intent that made it what it is: who wants to change it says which version they looked at."""

    @property
    def macs(self) -> tuple[str, ...]:
        return tuple(interface.mac for interface in self.interfaces if interface.mac)

    @property
    def address(self) -> str | None:
        """The first address it has."""
        return next((interface.address for interface in self.interfaces if interface.address), None)


@dataclass(frozen=True, slots=True)
class NewNode:
    """What is needed to define a node; the rest is made."""

    name: str
    interfaces: tuple[Interface, ...] = ()
    groups: tuple[str, ...] = ()
    assignment: Assignment | None = None
    profile: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StoredEvent:
    id: int
    node: str
    received: str
    time: str
    stage: str
    outcome: str
    message: str
    bytes: int
    seconds: float
    log: str


def failed_check(check: str, output: str) -> str:
    """A failed health check in a line: "unit slurmd: failed"."""
    lines = output.strip().splitlines()
    return f"{check}: {lines[-1]}" if lines else check


@dataclass(frozen=True, slots=True)
class StoredReport:
    """`totals`, `changes` and `health` are those of `sis.wire.Report`, as plain JSON values."""

    id: int
    node: str
    received: str
    kind: str
    outcome: str
    in_sync: bool
    image: str
    generation: int
    version: str
    started: str
    seconds: float
    totals: Mapping[str, Any]
    changes: tuple[Mapping[str, Any], ...]
    changes_left_out: int
    reboot_needed: bool
    error: str
    log: str
    order_id: int | None
    health: tuple[Mapping[str, Any], ...] = ()
    boot_id: str = ""
    reboot_why: tuple[str, ...] = ()

    @property
    def unhealthy(self) -> tuple[str, ...]:
        """Each health check that failed, with the last line it said."""
        return tuple(failed_check(str(each["check"]), str(each["output"])) for each in self.health if not each["ok"])


@dataclass(frozen=True, slots=True)
class StoredOrder:
    """Asked work. `done` with an empty `failure` and no report: it needs none (a reboot)."""

    id: int
    node: str
    kind: OrderKind
    full: bool
    created: str
    taken: str | None
    attempts: int
    done: str | None
    report_id: int | None
    failure: str


@dataclass(frozen=True, slots=True)
class Discovery:
    """A MAC that asked for a boot answer and is no node's.

    `data` is what it said: address, uuid, platform, serial, manufacturer, product; `switch` and `port` are DHCP's
    option 82.
    `rejected` is when an admin said that it shall not be named.
    """

    mac: str
    first_seen: str
    last_seen: str
    boots: int
    data: Mapping[str, Any]
    rejected: str | None = None

    def said(self, name: str) -> str:
        """A value of `data` as text, "" when it is not there."""
        return str(self.data.get(name) or "")


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One row of the stream. `subject` is what it is about when that is no node, or what a state was before.

    what: a stage, a kind of report or order, the new state; `ref`: the id of the event, report or order it tells of.
    """

    id: int
    time: str
    kind: OccurrenceKind
    node: str | None
    subject: str
    what: str
    outcome: str
    text: str
    ref: int | None
    bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class StoredToken:
    """An admin's token; only its hash is kept. `used` is when it was last used, to the minute or so."""

    name: str
    role: Role
    created: str
    used: str | None


@dataclass(frozen=True, slots=True)
class SettingChange:
    """One setting that became another on a node set; both as shown, "-" for nothing."""

    nodes: str
    setting: str
    before: str
    after: str

    @property
    def line(self) -> str:
        return f"{self.nodes}: {self.setting}: {self.before} → {self.after}"


@dataclass(frozen=True, slots=True)
class StoredChange:
    """A change of intent: who did what to which node set. `action`: add, change, delete; `via` as in the audit log."""

    id: int
    time: str
    who: str
    via: str
    action: str
    nodes: str
    lines: tuple[SettingChange, ...]


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One call that changes something. outcome: begun, ok, refused (not allowed), failed."""

    id: int
    time: str
    who: str
    role: str
    via: str
    action: str
    target: str
    outcome: str
    detail: str
