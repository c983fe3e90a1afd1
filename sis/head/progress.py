"""How far nodes are, as rows for people: the stage, the bytes, the time left; and nodes folded by what they share."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sis.inventory.clock import seconds_since
from sis.inventory.model import Node, StoredEvent
from sis.inventory.names import fold
from sis.wire import State

STAGES: tuple[State, ...] = (
    "armed", "netbooted", "partitioning", "pulling", "rendering", "bootloader", "rebooting", "in-sync",
)  # fmt: skip
"""The states of an install in order; how far a node is, is how many of them it has been through."""

FAILED: tuple[State, ...] = ("failed", "quarantined")

_MOVED = re.compile(r"(\d+)% of ([\d.]+) MB")


@dataclass(frozen=True, slots=True)
class Row:
    """One node at work. `percent` of its install, by stages and bytes; `left_s` of its stage, None: unknown."""

    name: str
    state: State
    percent: int
    told: str
    bytes: int
    left_s: float | None


def of_nodes(nodes: Sequence[Node], last: Mapping[str, StoredEvent]) -> tuple[Row, ...]:
    """A row for each node that is being installed or failed at it; the failed first."""
    rows = [_row(node, last.get(node.name)) for node in nodes if node.state.state in (*STAGES[:-1], *FAILED)]
    return tuple(sorted(rows, key=lambda row: row.state not in FAILED))


def percent_of(state: State, share: float = 0.0) -> int:
    """How much of an install is behind a node in `state` that has done `share` (0 to 1) of it. Pulling weighs most."""
    weights = {"armed": 0, "netbooted": 5, "partitioning": 10, "pulling": 15, "rendering": 85, "bootloader": 88}
    if state == "pulling":
        return round(15 + 70 * min(1.0, max(0.0, share)))
    if state in ("rebooting", "in-sync", "drifted"):
        return 95 if state == "rebooting" else 100
    return weights.get(state, 0)


def share_of(told: str) -> float | None:
    """The part done that a progress note tells ("43% of 512.0 MB"), or None."""
    found = _MOVED.search(told)
    return int(found[1]) / 100 if found else None


def left_of(share: float | None, so_far_s: float) -> float | None:
    """Seconds left of a stage that has taken `so_far_s` for `share` of its work; None while that is a guess."""
    if share is None or share < 0.02 or so_far_s <= 0:
        return None
    return so_far_s * (1 - share) / share


def summary(nodes: Sequence[Node]) -> dict[str, int]:
    """How many nodes are done, at work, failed and not begun."""
    counts = Counter(
        "failed" if node.state.state in FAILED
        else "busy" if node.state.state in STAGES[:-1]
        else "done" if node.state.version
        else "waiting"
        for node in nodes
    )  # fmt: skip
    return {name: counts[name] for name in ("done", "busy", "failed", "waiting")}


def by_state(nodes: Sequence[Node]) -> list[tuple[State, int, str]]:
    """State, number, node set; the most first."""
    found: dict[State, list[str]] = defaultdict(list)
    for node in nodes:
        found[node.state.state].append(node.name)
    return sorted(((state, len(names), fold(names)) for state, names in found.items()), key=lambda each: -each[1])


def by_fault(nodes: Sequence[Node]) -> list[tuple[str, str, int, str]]:
    """Step, reason, number, node set of those that failed or are quarantined; the most first."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for node in nodes:
        if node.state.state in FAILED:
            found[node.state.step, node.state.reason].append(node.name)
    rows = [(step, reason, len(names), fold(names)) for (step, reason), names in found.items()]
    return sorted(rows, key=lambda each: -each[2])


def by_image(nodes: Sequence[Node]) -> list[tuple[str, str, int, str]]:
    """What is wanted, what is held, number, node set; the most first."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for node in nodes:
        wanted = node.assignment.reference if node.assignment else "none"
        has = f"{node.state.image}@{node.state.generation}" if node.state.image else "nothing known"
        found[wanted, has].append(node.name)
    rows = [(wanted, has, len(names), fold(names)) for (wanted, has), names in found.items()]
    return sorted(rows, key=lambda each: -each[2])


def _row(node: Node, event: StoredEvent | None) -> Row:
    state = node.state
    share = share_of(state.progress) if state.state == "pulling" else None
    so_far_s = seconds_since(state.since) if state.since else 0.0
    told = f"{state.step}: {state.reason}".removeprefix(": ") if state.state in FAILED else state.progress
    moved = event.bytes if event is not None else 0
    return Row(node.name, state.state, percent_of(state.state, share or 0.0), told, moved, left_of(share, so_far_s))
