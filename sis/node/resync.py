"""The story of a resync, on one page: the same as an install without the disk, on the live root."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from sis.errors import SisError
from sis.node.boot import write_boot_menu
from sis.node.config import NodeConfig
from sis.node.connection import HeadConnection
from sis.node.held import Held, held_to
from sis.node.progress import Teller, log_of, now, reason_of
from sis.sync.model import Outcome
from sis.system import process
from sis.wire import Report

STATE = Path("/var/lib/sis-node")
CHANGES_LIMIT = 2000
"""Itemised changes a report carries; the rest is only counted."""

Kind = Literal["sync", "check"]


def resync(
    config: NodeConfig, kind: Kind, *, full: bool = False, order: int | None = None, root: Path = Path("/")
) -> Report:
    """Make this node equal to what its head wants (`sync`), or only say what differs (`check`); report either way.

    Raises the fault that stopped it, after the head was told.
    """
    head = HeadConnection.of(config)
    teller = Teller(head)
    started, clock = now(), time.monotonic()
    held: Held | None = None
    try:
        with teller.stage("desired") as progress:
            desired = head.desired()
            held = held_to(desired, config.head, pinned_key=config.key, state=STATE)
            progress.summary = f"{desired.image}@{desired.generation}"
        outcome = held.check(root, STATE, full=full) if kind == "check" else _make_equal(root, held, full, teller)
        report = _report(kind, held, outcome, started, time.monotonic() - clock, order)
        with teller.stage("report"):
            head.send_report(report)
        return report
    except BaseException as error:
        with contextlib.suppress(SisError):
            head.send_report(
                _failure(kind, held, error, started, time.monotonic() - clock, order, teller), patience_s=30
            )
        raise
    finally:
        teller.close()


def _make_equal(root: Path, held: Held, full: bool, teller: Teller) -> Outcome:
    with teller.stage("apply") as progress:
        outcome = held.sync(root, STATE, full=full, observe=progress.moved)
        progress.bytes_moved = outcome.totals.bytes_fetched
        progress.summary = f"{len(outcome.changes)} changes, {outcome.totals.bytes_fetched} bytes fetched"
    with teller.stage("triggers") as progress:
        progress.summary = ", ".join(_triggers(root, held, outcome))
    return outcome


def _triggers(root: Path, held: Held, outcome: Outcome) -> Iterable[str]:
    """What has to follow the changes on a live node; each is named in the report of the stage."""
    touched = [change.path for change in outcome.changes]
    if outcome.boot_changed and held.desired.layout is not None:
        write_boot_menu(root, held)
        yield "boot menu written"
    if root != Path("/") or process.find("systemctl") is None:
        return
    if any("/systemd/system" in path for path in touched):
        process.run(["systemctl", "daemon-reload"], check=False, timeout_s=60)
        yield "units reloaded"
    if "/etc/hostname" in touched and (name := Path("/etc/hostname").read_text().strip()):
        process.run(["hostname", name], check=False, timeout_s=10)
        yield f"host name set to {name}"


def _report(kind: Kind, held: Held, outcome: Outcome, started: str, seconds: float, order: int | None) -> Report:
    desired = held.desired
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
        reboot_needed=outcome.reboot_needed,
        order=order,
    )


def _failure(
    kind: Kind,
    held: Held | None,
    error: BaseException,
    started: str,
    seconds: float,
    order: int | None,
    teller: Teller,
) -> Report:
    desired = held.desired if held else None
    return Report(
        kind=kind,
        outcome="failed",
        in_sync=False,
        image=desired.image if desired else "",
        generation=desired.generation if desired else 0,
        version=desired.version if desired else "",
        started=started,
        seconds=round(seconds, 3),
        error=reason_of(error),
        log=log_of(error, teller.log_lines),
        order=order,
    )
