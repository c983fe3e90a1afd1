"""The story of a resync, on one page: the same as an install without the disk, on the live root."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Literal

import msgspec

from sis.errors import SisError
from sis.node import at_boot, reports
from sis.node.config import NodeConfig
from sis.node.connection import HeadConnection
from sis.node.due import reboot_due
from sis.node.facts import tell_facts
from sis.node.held import Held, held_to
from sis.node.progress import Teller, log_of, now, reason_of
from sis.node.triggers import triggers
from sis.sync import engine
from sis.sync.model import Outcome
from sis.wire import Desired, FileDiff, HealthChecks, HealthResult, Report

STATE = Path("/var/lib/sis-node")
Kind = Literal["sync", "check", "stage"]

_WALK_LASTS_S = 60.0
"""When the head has kept us waiting for longer, what a walk found before is too old."""


def resync(
    config: NodeConfig,
    kind: Kind,
    *,
    full: bool = False,
    order: int | None = None,
    unasked: bool = False,
    root: Path = Path("/"),
) -> Report:
    """Make this node equal to what its head wants (`sync`), fetch it for the next boot (`stage`), or only say what
    differs (`check`); report either way. While the head is asked, a second process already walks the tree.

    An `unasked` sync, the timer's, only checks outside the node's maintenance windows. Raises the fault that stopped
    it, after the head was told.
    """
    head = HeadConnection.of(config)
    teller = Teller(head)
    started, clock = now(), time.monotonic()
    held: Held | None = None
    ahead = contextlib.ExitStack()
    try:
        begun = ahead.enter_context(engine.begin(root, STATE, full=full, changing=kind != "check"))
        if root == Path("/"):
            tell_facts(head, STATE)
        with teller.stage("desired") as progress:
            desired = head.desired()
            held = held_to(desired, config.head, pinned_key=config.key, state=STATE)
            progress.summary = f"{desired.image}@{desired.generation}"
            if unasked and (why := _is_to_wait(desired)):
                kind = "check"
                progress.summary += f", which {why}: only checked"
        teller.begin()
        _tell_of_boot(head, desired, teller)
        with ahead:
            if time.monotonic() - clock > _WALK_LASTS_S:
                begun = begun.without_walk()
            outcome = _carry_out(kind, root, held, full, begun, teller)
        found = () if kind == "stage" else _health(desired, teller)
        due = reboot_due(STATE, held, outcome) if root == Path("/") and kind != "stage" else []
        report = reports.of_outcome(
            kind,
            desired,
            outcome,
            started=started,
            seconds=time.monotonic() - clock,
            order=order,
            health=found,
            reboot_why=due,
            diffs=_diffs(root, held, outcome) if kind == "check" else (),
        )
        with teller.stage("report"):
            head.send_report(report)
        return report
    except BaseException as error:
        failure = reports.of_failure(
            kind,
            held.desired if held else None,
            started=started,
            seconds=time.monotonic() - clock,
            error=reason_of(error),
            log=log_of(error, teller.log_lines),
            order=order,
        )
        with contextlib.suppress(SisError):
            head.send_report(failure, patience_s=30)
        raise
    finally:
        ahead.close()
        if held is not None:
            held.close()
        teller.close()


def _carry_out(kind: Kind, root: Path, held: Held, full: bool, begun: engine.Begun, teller: Teller) -> Outcome:
    match kind:
        case "check":
            return held.check(root, STATE, full=full, begun=begun)
        case "stage":
            return _stage(root, held, begun, teller)
        case "sync":
            return _make_equal(root, held, full, begun, teller)


def _make_equal(root: Path, held: Held, full: bool, begun: engine.Begun, teller: Teller) -> Outcome:
    with teller.stage("apply") as progress:
        outcome = held.sync(root, STATE, full=full, observe=progress.moved, begun=begun)
        progress.came_to(outcome)
    at_boot.forget(STATE)
    with teller.stage("triggers") as progress:
        progress.summary = ", ".join(triggers(root, held, outcome))
    return outcome


def _stage(root: Path, held: Held, begun: engine.Begun, teller: Teller) -> Outcome:
    with teller.stage("fetch") as progress:
        outcome = held.sync(root, STATE, only_stage=True, observe=progress.moved, begun=begun)
        progress.came_to(outcome)
    if not outcome.in_sync:
        at_boot.keep(STATE, held.desired)
    return outcome


def _diffs(root: Path, held: Held, outcome: Outcome) -> tuple[FileDiff, ...]:
    """What drifted files hold, where the head wants to know."""
    if not outcome.changes or not held.desired.letterbox:
        return ()
    from sis.node import drifted

    return drifted.diffs(root, held, outcome)


def _health(desired: Desired, teller: Teller) -> tuple[HealthResult, ...]:
    """Whether the node is well; a stage of its own only where there is something to check."""
    if desired.health == HealthChecks():
        return ()
    from sis.node import health

    with teller.stage("health") as progress:
        results = health.run(desired.health)
        failed = [result.check for result in results if not result.ok]
        progress.summary = f"failed: {', '.join(failed)}" if failed else f"{len(results)} checks passed"
    return results


def _tell_of_boot(head: HeadConnection, desired: Desired, teller: Teller) -> None:
    """The report of what this boot applied, with how the node is now."""
    report = at_boot.untold(STATE)
    if report is None:
        return
    if report.outcome == "ok":
        report = msgspec.structs.replace(report, health=_health(desired, teller))
    head.send_report(report)
    at_boot.told(STATE)


def _is_to_wait(desired: Desired) -> str:
    """Why a resync nobody asked for is not to change the node now; "" when it may."""
    staged = at_boot.pending(STATE)
    if staged is not None and staged.desired.version == desired.version:
        return "is applied at the next boot"
    if desired.set_aside:
        return f"is not due in maintenance ({desired.set_aside})"
    if not desired.windows:
        return ""
    from datetime import UTC, datetime

    from configurator import windows

    if not windows.is_open(desired.windows, datetime.now(UTC), desired.timezone):
        return f"is outside the maintenance windows ({', '.join(desired.windows)})"
    return ""
