"""What node and head say to each other: JSON by msgspec, the same structs on both sides. See docs/node-api.md."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from sis.disk.model import Layout
from sis.sync.model import Change, LayerFile, Totals

State = Literal[
    "unknown", "discovered", "defined", "armed", "netbooted", "partitioning", "pulling", "rendering", "bootloader",
    "rebooting", "in-sync", "drifted", "syncing", "failed", "maintenance", "quarantined",
]  # fmt: skip
Stage = Literal[
    "hello", "desired", "partitioning", "pulling", "rendering", "bootloader", "rebooting",
    "index", "plan", "fetch", "apply", "triggers", "report", "health",
]  # fmt: skip
Outcome = Literal["start", "ok", "failed", "note"]


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    """A node introduces itself. `token` is the one-shot install token from its boot answer, or None after install.

    `key` is the public half (hex Ed25519) of the key the node made for itself; with a valid token it is the node's from
    here on, and signs every later call.
    """

    node: str
    macs: tuple[str, ...]
    uuid: str | None = None
    token: str | None = None
    key: str = ""
    facts: dict[str, Any] = {}


class Welcome(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to Hello: the node is known by the key that signed it."""

    node: str


class CommandCheck(msgspec.Struct, frozen=True, kw_only=True):
    """A program that must end with exit code 0 in time; no shell runs it."""

    run: tuple[str, ...]
    timeout_s: float = 30.0


class HealthChecks(msgspec.Struct, frozen=True, kw_only=True):
    """What a node proves after each resync and boot; what fails is tried again until `timeout_s` have passed.

    units  systemd units that must be active
    ports  TCP ports something must listen on: "22", or "10.77.0.5:6817" for another address than the node's own
    """

    commands: tuple[CommandCheck, ...] = ()
    ports: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    timeout_s: float = 60.0


class HealthResult(msgspec.Struct, frozen=True, kw_only=True):
    """One check's outcome. `check` such as "unit slurmd"; `output` is the end of what it said when it failed."""

    check: str
    ok: bool
    seconds: float = 0.0
    output: str = ""


class Desired(msgspec.Struct, frozen=True, kw_only=True):
    """What a node is held to: one image version plus its own layer, and the disks they live on."""

    node: str
    image: str
    channel: str | None
    generation: int
    version: str
    store: str
    """Path of the store below the head's URL, or an absolute URL of any static copy."""
    key: str | None = None
    """Hex Ed25519 public key that signs the image's refs."""
    layer: tuple[LayerFile, ...]
    layout: Layout | None
    kernel_cmdline: str = ""
    boot_kernel: str | None = None
    """Release of the kernel to start; None the newest of the image."""
    boot_timeout_s: int | None = None
    """How long the boot menu waits; None as it is by default."""
    health: HealthChecks = HealthChecks()
    windows: tuple[str, ...] = ()
    """When the node may change itself unasked, such as "Sun 01:00-05:00"; none: at any time."""
    timezone: str = "UTC"
    set_aside: str = ""
    """Why the node is in maintenance: it changes nothing unasked then."""
    ticket: str = ""
    """Says to the head's store which node fetches; worth nothing else."""
    letterbox: str = ""
    """The key (hex X25519) that a report's `diffs` are sealed to; "" for a head that takes none."""


class FileDiff(msgspec.Struct, frozen=True, kw_only=True):
    """How a drifted file of a node differs from what it is to hold: a unified diff, or `why` none is told."""

    path: str
    text: str = ""
    why: str = ""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The end of an install, a resync, a check or a staging. `changes` are what was found (check) or done (sync).

    `boot_id` is the kernel's id of the boot the node was in: two reports with different ones have a reboot between.
    `reboot_why` says in a few words each what the node runs that is not what it is held to any more. `diffs` of a check
    are `FileDiff`s as JSON, sealed to the head's letterbox: what a report says else can be read by who listens.
    """

    kind: Literal["install", "sync", "check", "stage"]
    outcome: Literal["ok", "failed"]
    in_sync: bool
    image: str
    generation: int
    version: str
    started: str
    seconds: float
    totals: Totals = Totals()
    changes: tuple[Change, ...] = ()
    changes_left_out: int = 0
    reboot_needed: bool = False
    reboot_why: tuple[str, ...] = ()
    error: str = ""
    log: str = ""
    order: int | None = None
    health: tuple[HealthResult, ...] = ()
    boot_id: str = ""
    diffs: bytes = b""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One stage of one node: start, ok, failed or note. `time` is the node's clock, UTC RFC 3339."""

    time: str
    stage: Stage
    outcome: Outcome
    message: str = ""
    bytes: int = 0
    seconds: float = 0.0
    log: str = ""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """Work the head asks a node to do; the agent long-polls for it. `stage`: fetch now, apply at the next boot."""

    id: int
    kind: Literal["sync", "check", "reboot", "stage"]
    full: bool = False
