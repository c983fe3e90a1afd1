"""A node's events as its story: each stage once, from its start to its end, with what it told on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from sis.inventory.model import StoredEvent

Outcome = Literal["running", "ok", "failed", "note", "broken off"]


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage. `notes` are what it told between its start and its end; a note outside any stage is one by itself."""

    id: int
    stage: str
    outcome: Outcome
    begun: str
    ended: str | None
    message: str
    bytes: int
    seconds: float
    log: str
    notes: tuple[StoredEvent, ...] = ()


def stages(events: Sequence[StoredEvent]) -> tuple[Stage, ...]:
    """Events in order of arrival as stages, the newest first.

    A stage that begins anew without having ended was broken off, as all are that are open when another story begins.
    """
    found: list[Stage] = []
    open_at: dict[str, int] = {}
    for event in events:
        at = open_at.get(event.stage)
        if event.outcome == "start":
            if event.stage == "hello" or at is not None:
                _break_off(found, open_at, list(open_at.values()) if event.stage == "hello" else [at])
            open_at[event.stage] = len(found)
            found.append(_stage(event, "running"))
        elif event.outcome == "note":
            if at is None:
                found.append(_stage(event, "note"))
            else:
                found[at] = replace(found[at], notes=(*found[at].notes, event), bytes=max(found[at].bytes, event.bytes))
        else:
            outcome: Outcome = "ok" if event.outcome == "ok" else "failed"
            if at is None:
                found.append(replace(_stage(event, outcome), ended=event.received))
                continue
            del open_at[event.stage]
            found[at] = replace(
                found[at],
                outcome=outcome,
                ended=event.received,
                message=event.message or found[at].message,
                bytes=event.bytes or found[at].bytes,
                seconds=event.seconds,
                log=event.log,
            )
    return tuple(reversed(found))


def _stage(event: StoredEvent, outcome: Outcome) -> Stage:
    return Stage(
        event.id, event.stage, outcome, event.received, None, event.message, event.bytes, event.seconds, event.log
    )


def _break_off(found: list[Stage], open_at: dict[str, int], places: Sequence[int | None]) -> None:
    for at in places:
        if at is not None:
            found[at] = replace(found[at], outcome="broken off")
            open_at.pop(found[at].stage, None)
