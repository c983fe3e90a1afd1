"""What node and head say to each other: JSON by msgspec, the same structs on both sides. See docs/node-api.md."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from sis.disk.model import Layout
from sis.sync.model import Change, LayerFile, Totals

State = Literal[
    "unknown", "discovered", "defined", "armed", "netbooted", "partitioning", "pulling", "rendering", "bootloader",
    "rebooting", "in-sync", "drifted", "syncing", "failed", "maintenance",
]  # fmt: skip
Stage = Literal[
    "hello", "desired", "partitioning", "pulling", "rendering", "bootloader", "rebooting",
    "index", "plan", "fetch", "apply", "triggers", "report",
]  # fmt: skip
Outcome = Literal["start", "ok", "failed", "note"]


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    """A node introduces itself. `token` is the one-shot install token from its boot answer, or None after install."""

    node: str
    macs: tuple[str, ...]
    uuid: str | None = None
    token: str | None = None
    facts: dict[str, Any] = {}


class Welcome(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to Hello: `secret` is the bearer of every later call; it is shown once and kept hashed on the head."""

    node: str
    secret: str


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


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The end of an install, a resync or a check. `changes` are what was found (check) or done (sync)."""

    kind: Literal["install", "sync", "check"]
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
    error: str = ""
    log: str = ""
    order: int | None = None


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
    """Work the head asks a node to do; the agent long-polls for it."""

    id: int
    kind: Literal["sync", "check", "reboot"]
    full: bool = False
