"""A node's story: stages from start to end, notes within them, stories that were broken off."""

from __future__ import annotations

from sis.head.timeline import stages
from sis.inventory.model import StoredEvent


def event(at: int, stage: str, outcome: str, message: str = "", size: int = 0) -> StoredEvent:
    time = f"2026-01-01T00:00:{at:02}.000Z"
    return StoredEvent(
        at, "n1", time, time, stage, outcome, message, size, float(at), "log" if outcome == "failed" else ""
    )


def test_a_stage_is_one_from_its_start_to_its_end() -> None:
    told = [
        event(1, "hello", "start"),
        event(2, "hello", "ok"),
        event(3, "pulling", "start", "compute@1"),
        event(4, "pulling", "note", "40% of 10.0 MB", 4_000_000),
        event(5, "pulling", "ok", "done", 10_000_000),
        event(6, "bootloader", "start"),
    ]
    last, pulling, hello = stages(told)
    assert (last.stage, last.outcome, last.ended) == ("bootloader", "running", None)
    assert (pulling.outcome, pulling.message, pulling.bytes, pulling.seconds) == ("ok", "done", 10_000_000, 5.0)
    assert (pulling.begun[-7:], (pulling.ended or "")[-7:]) == ("03.000Z", "05.000Z")
    assert [note.message for note in pulling.notes] == ["40% of 10.0 MB"]
    assert hello.outcome == "ok"


def test_what_never_ended_was_broken_off() -> None:
    told = [
        event(1, "pulling", "start"),
        event(2, "pulling", "note", size=7),
        event(3, "hello", "start"),
        event(4, "fetch", "start"),
        event(5, "fetch", "start"),
        event(6, "fetch", "failed", "no space"),
    ]
    assert [(stage.stage, stage.outcome, stage.bytes) for stage in stages(told)] == [
        ("fetch", "failed", 0),
        ("fetch", "broken off", 0),
        ("hello", "running", 0),
        ("pulling", "broken off", 7),
    ]
    assert stages(told)[0].log == "log"


def test_ends_and_notes_without_a_start_stand_alone() -> None:
    found = stages([event(1, "apply", "ok"), event(2, "triggers", "note", "reloaded")])
    assert [(stage.stage, stage.outcome) for stage in found] == [("triggers", "note"), ("apply", "ok")]
    assert stages([]) == ()
