"""A node's state as a table: what it was, what happened, what it is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sis.inventory.model import NodeState
from sis.inventory.state import Happening, after_event, after_happening, after_report
from sis.wire import Event, Report

NOW = "2026-01-01T10:00:00.000Z"
HELD = {"image": "compute", "generation": 1, "version": "v1"}


def event(stage: str, outcome: str = "start", message: str = "", time: str = "2026-01-01T09:00:00.000Z") -> Event:
    return Event(time=time, stage=stage, outcome=outcome, message=message)  # type: ignore[arg-type]


def report(kind: str, outcome: str = "ok", *, in_sync: bool = True, error: str = "", left_out: int = 0) -> Report:
    return Report(
        kind=kind, outcome=outcome, in_sync=in_sync, image="compute", generation=2, version="v2",  # type: ignore[arg-type]
        started="2026-01-01T08:00:00.000Z", seconds=600, error=error, changes_left_out=left_out,
    )  # fmt: skip


def happening(kind: str) -> Happening:
    return Happening(kind)  # type: ignore[arg-type]


TABLE = [
    # before, what happened, after
    ("defined", happening("armed"), "armed"),
    ("in-sync", happening("armed"), "armed"),
    ("armed", happening("disarmed"), "in-sync"),
    ("failed", happening("disarmed"), "failed"),
    ("armed", happening("netbooted"), "netbooted"),
    ("failed", happening("netbooted"), "netbooted"),
    ("rebooting", happening("seen"), "in-sync"),
    ("failed", happening("seen"), "failed"),
    ("drifted", happening("seen"), "drifted"),
    ("netbooted", event("hello"), "netbooted"),
    ("netbooted", event("desired"), "netbooted"),
    ("netbooted", event("partitioning"), "partitioning"),
    ("partitioning", event("partitioning", "ok"), "partitioning"),
    ("partitioning", event("pulling"), "pulling"),
    ("pulling", event("pulling", "note", "40% of 512.0 MB"), "pulling"),
    ("pulling", event("rendering"), "rendering"),
    ("rendering", event("bootloader"), "bootloader"),
    ("bootloader", event("report"), "bootloader"),
    ("bootloader", report("install"), "rebooting"),
    ("rebooting", event("rebooting", "ok"), "rebooting"),
    ("pulling", event("pulling", "failed", "no route"), "failed"),
    ("partitioning", report("install", "failed", error="no disk"), "failed"),
    ("in-sync", event("desired"), "in-sync"),
    ("in-sync", event("apply"), "syncing"),
    ("failed", event("fetch"), "syncing"),
    ("syncing", event("triggers"), "syncing"),
    ("syncing", report("sync"), "in-sync"),
    ("syncing", report("sync", in_sync=False), "drifted"),
    ("syncing", report("sync", "failed", error="no space"), "failed"),
    ("in-sync", report("check", in_sync=False, left_out=3), "drifted"),
    ("drifted", report("check"), "in-sync"),
    ("rebooting", report("sync"), "in-sync"),
    ("armed", event("apply"), "armed"),
    ("armed", report("sync"), "armed"),
    ("armed", report("sync", "failed", error="x"), "armed"),
    ("armed", event("partitioning"), "partitioning"),
    ("maintenance", event("report"), "maintenance"),
]


@pytest.mark.parametrize(("before", "what", "after"), TABLE)
def test_table(before: str, what: Event | Report | Happening, after: str) -> None:
    state = NodeState(state=before, since="then", **HELD)  # type: ignore[arg-type]
    assert follow(state, what).state == after


def follow(state: NodeState, what: Event | Report | Happening) -> NodeState:
    match what:
        case Event():
            return after_event(state, what, 7, NOW)
        case Report():
            return after_report(state, what, NOW)
        case Happening():
            return after_happening(state, what, NOW)


def test_a_failure_keeps_step_reason_and_log_and_the_report_that_follows_does_not_hide_them() -> None:
    failed = after_event(NodeState("pulling", "then"), event("pulling", "failed", "no route"), 7, NOW)
    assert (failed.step, failed.reason, failed.event_id) == ("pulling", "no route", 7)
    told = after_report(failed, report("install", "failed", error="no route to the head"), NOW)
    assert (told.step, told.reason, told.event_id) == ("pulling", "no route to the head", 7)


def test_events_that_arrive_after_their_storys_report_change_nothing() -> None:
    done = after_report(NodeState("syncing", "then"), report("sync"), NOW)
    assert done.story_ended == "2026-01-01T08:10:00.000Z"
    late = after_event(done, event("apply", time="2026-01-01T08:05:00.000Z"), 8, NOW)
    assert late.state == "in-sync"
    fresh = after_event(done, event("apply", time="2026-01-01T08:20:00.000Z"), 9, NOW)
    assert fresh.state == "syncing"


def test_a_check_that_finds_drift_does_not_claim_the_version() -> None:
    state = NodeState("in-sync", "then", **HELD)  # type: ignore[arg-type]
    drifted = after_report(state, report("check", in_sync=False, left_out=3), NOW)
    assert (drifted.generation, drifted.version, drifted.drift) == (1, "v1", 3)
    clean = after_report(drifted, report("check"), NOW)
    assert (clean.generation, clean.version, clean.drift) == (2, "v2", 0)


def test_since_moves_only_with_the_state() -> None:
    state = NodeState("in-sync", "then", **HELD)  # type: ignore[arg-type]
    assert after_report(state, report("sync"), NOW).since == "then"
    assert after_report(replace(state, state="drifted"), report("sync"), NOW).since == NOW


def test_a_time_no_one_can_read_does_no_harm() -> None:
    odd = Report(
        kind="sync",
        outcome="ok",
        in_sync=True,
        image="i",
        generation=1,
        version="v",
        started="yesterday",
        seconds=1e300,
    )
    assert after_report(NodeState("syncing", "then"), odd, NOW).state == "in-sync"
