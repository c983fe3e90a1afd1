"""The reports that end a node's stories, made of what came of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from sis.sync.model import Outcome
from sis.wire import Desired, FileDiff, HealthResult, Report

CHANGES_LIMIT = 2000
"""Itemised changes a report carries; the rest is only counted."""

Kind = Literal["install", "sync", "check", "stage"]


def of_outcome(
    kind: Kind,
    desired: Desired,
    outcome: Outcome,
    *,
    started: str,
    seconds: float,
    order: int | None = None,
    health: tuple[HealthResult, ...] = (),
    reboot_why: Sequence[str] = (),
    diffs: Sequence[FileDiff] = (),
) -> Report:
    """A story that went well; what was only staged is not in-sync yet. `reboot_why`: what a reboot is due for.

    `diffs` are sealed to the letterbox of the head, and left out where it has none.
    """
    return Report(
        kind=kind,
        outcome="ok",
        in_sync=outcome.in_sync,
        image=desired.image,
        generation=desired.generation,
        version=desired.version,
        started=started,
        seconds=round(seconds, 3),
        totals=outcome.totals,
        changes=outcome.changes[:CHANGES_LIMIT],
        changes_left_out=max(0, len(outcome.changes) - CHANGES_LIMIT),
        reboot_needed=bool(reboot_why),
        reboot_why=tuple(reboot_why),
        order=order,
        health=health,
        boot_id=boot_id(),
        diffs=_sealed(desired, diffs),
    )


def of_failure(
    kind: Kind,
    desired: Desired | None,
    *,
    started: str,
    seconds: float,
    error: str,
    log: str,
    order: int | None = None,
) -> Report:
    """A story that was stopped by a fault."""
    return Report(
        kind=kind,
        outcome="failed",
        in_sync=False,
        image=desired.image if desired else "",
        generation=desired.generation if desired else 0,
        version=desired.version if desired else "",
        started=started,
        seconds=round(seconds, 3),
        error=error,
        log=log,
        order=order,
        boot_id=boot_id(),
    )


def _sealed(desired: Desired, diffs: Sequence[FileDiff]) -> bytes:
    if not diffs or not desired.letterbox:
        return b""
    from sis import sealed

    return sealed.letter(desired.letterbox, desired.node, msgspec.json.encode(diffs))


def boot_id() -> str:
    """The kernel's id of this boot."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
