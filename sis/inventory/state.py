"""A node's state as a pure function of what happened to it: arming, boot answers, events, reports, signs of life."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from sis.inventory.model import NodeState, failed_check
from sis.wire import Event, Report, State

INSTALLING: tuple[State, ...] = ("armed", "netbooted", "partitioning", "pulling", "rendering", "bootloader")
"""States of an install under way: another story's stages do not end it, a boot from disk does not hide it."""

STANDING: tuple[State, ...] = ("maintenance", "quarantined")
"""States an admin (or three failed installs) set: nothing a node tells ends them, only an admin does."""

REASONS_CHARS_MAX = 500
"""Of the reasons for a reboot, which a node tells."""

_STAGE_STATE: dict[str, State] = {
    "hello": "netbooted",
    "partitioning": "partitioning",
    "pulling": "pulling",
    "rendering": "rendering",
    "bootloader": "bootloader",
    "rebooting": "rebooting",
    "fetch": "syncing",
    "apply": "syncing",
}


@dataclass(frozen=True, slots=True)
class Happening:
    """Something the head itself did or saw: armed, disarmed, an install boot answer, a sign of life, a reboot.

    Or a standing state set (with its reason), or ended.
    """

    kind: Literal["armed", "disarmed", "netbooted", "seen", "rebooting", "maintenance", "quarantined", "released"]
    reason: str = ""


def after_happening(state: NodeState, happening: Happening, now: str) -> NodeState:
    """The state after something the head did or saw at `now`."""
    if state.state in STANDING and happening.kind not in STANDING:
        if happening.kind == "released":
            return _moved(state, _settled(state) if state.version else "defined", now)
        return replace(state, seen=now) if happening.kind in ("seen", "netbooted") else state
    match happening.kind:
        case "maintenance":
            return replace(_moved(state, "maintenance", now), reason=happening.reason)
        case "quarantined":
            return quarantined(state, happening.reason, now)
        case "rebooting":
            is_away = state.state in INSTALLING or not state.version
            return state if is_away else _moved(state, "rebooting", now)
        case "released":
            return state
        case "armed":
            return _moved(state, "armed", now)
        case "netbooted":
            return replace(_moved(state, "netbooted", now), seen=now)
        case "disarmed":
            if state.state not in INSTALLING:
                return state
            return _moved(state, _settled(state) if state.version else "defined", now)
        case "seen":
            if state.state == "rebooting" and state.version:
                return replace(_moved(state, _settled(state), now), seen=now)
            return replace(state, seen=now)


def quarantined(state: NodeState, reason: str, now: str) -> NodeState:
    """The state of a node that is not to be installed again before somebody looked; its failure's step and log stay."""
    return replace(_moved(state, "quarantined", now), reason=reason, step=state.step, event_id=state.event_id)


def after_event(state: NodeState, event: Event, event_id: int, now: str) -> NodeState:
    """The state after one event of the node's story.

    Events are sent in the background and may arrive after the report that ends their story: those change nothing.
    An armed node's last resync before it is installed anew does not hide that it is armed.
    """
    state = replace(state, seen=now)
    if state.state in STANDING:
        return state
    if state.state == "armed" and event.stage not in ("hello", "partitioning"):
        return state
    if state.story_started and state.story_started <= event.time <= state.story_ended:
        return state
    if event.outcome == "failed":
        return replace(
            _moved(state, "failed", now), step=event.stage, reason=event.message, event_id=event_id, progress=""
        )
    if event.outcome == "note":
        return replace(state, progress=event.message)
    stage_state = _STAGE_STATE.get(event.stage)
    if event.outcome == "start" and stage_state is not None and stage_state != state.state:
        return _moved(state, stage_state, now)
    return state


def after_report(state: NodeState, report: Report, now: str) -> NodeState:
    """The state after the report that ends an install, a resync, a check or a staging."""
    if state.state in STANDING:
        known = _after_report(state, report, now)
        return replace(
            known,
            state=state.state,
            since=state.since,
            step=state.step,
            reason=state.reason,
            event_id=state.event_id,
            progress="",
        )
    return _after_report(state, report, now)


def _after_report(state: NodeState, report: Report, now: str) -> NodeState:
    ended = replace(state, seen=now, story_started=report.started, story_ended=_end_of(report))
    if state.state == "armed" and report.kind != "install":
        return ended
    if report.outcome == "failed":
        if state.state == "failed" and state.step:
            return replace(ended, reason=report.error or state.reason)
        return replace(_moved(ended, "failed", now), step=report.kind, reason=report.error, event_id=None, progress="")
    if report.kind == "stage":
        return _moved(ended, _settled(state) if state.version else "defined", now)
    known = replace(
        ended,
        image=report.image,
        generation=report.generation,
        version=report.version,
        drift=0 if report.in_sync else len(report.changes) + report.changes_left_out,
        reboot_needed=report.reboot_needed,
        reboot_why="; ".join(report.reboot_why)[:REASONS_CHARS_MAX],
    )
    if report.kind == "install":
        return _moved(known, "rebooting", now)
    if report.kind == "check":
        # A check tells how far the node is from what it should be, not that it holds that version.
        known = replace(known, image=state.image, generation=state.generation, version=state.version)
        if report.in_sync:
            known = replace(known, image=report.image, generation=report.generation, version=report.version)
    unhealthy = [failed_check(each.check, each.output) for each in report.health if not each.ok]
    if unhealthy:
        return replace(_moved(known, "failed", now), step="health", reason="; ".join(unhealthy))
    return _moved(known, "in-sync" if report.in_sync else "drifted", now)


def _moved(state: NodeState, to: State, now: str) -> NodeState:
    since = state.since if state.state == to and state.since else now
    return replace(state, state=to, since=since, step="", reason="", event_id=None, progress="")


def _settled(state: NodeState) -> State:
    return "drifted" if state.drift else "in-sync"


def _end_of(report: Report) -> str:
    """When the report's story ended by the node's clock, in the node's own form of time."""
    try:
        started = datetime.fromisoformat(report.started)
    except ValueError:
        return report.started
    ended = started + timedelta(seconds=min(report.seconds, 10**8))
    return ended.isoformat(timespec="milliseconds").replace("+00:00", "Z")
