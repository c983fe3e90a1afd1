"""Arithmetic of waves: how large each is, which nodes it has and why, and when failures are too many. All pure."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from sis.errors import UsageFault
from sis.inventory.names import natural_key
from sis.inventory.rollout import Plan

_AMOUNT = re.compile(r"(\d{1,6})(%?)")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node that may go first. `kind` is what makes it alike to others: its image and groups."""

    name: str
    kind: tuple[str, ...]
    sound: bool
    """Reachable, in-sync, healthy, not in maintenance: what it says of the new version says nothing of the old."""


@dataclass(frozen=True, slots=True)
class Wave:
    """The nodes of one wave, in natural order; `why` says how they were chosen."""

    names: tuple[str, ...]
    why: str


def check_amount(text: str, what: str) -> str:
    """The amount itself. Raises UsageFault when it is neither a count nor a part such as "10%"."""
    found = _AMOUNT.fullmatch(text)
    if found is None or (found[2] and int(found[1]) > 100):
        raise UsageFault(f"{what} {text!r}: not understood", hint=f"write a count or a part: {what} 3, or {what} 10%")
    return text


def count_of(amount: str, total: int) -> int:
    """How many nodes of `total` an amount is: parts are rounded up, so that a part of something is something."""
    found = _AMOUNT.fullmatch(amount)
    assert found is not None, amount
    number = int(found[1])
    return min(-(-total * number // 100) if found[2] else number, total)


def failures_borne(max_fail: str, total: int) -> int:
    """How many of `total` nodes may fail; parts are rounded down: 5% of 10 nodes is none."""
    if not max_fail:
        return total
    found = _AMOUNT.fullmatch(max_fail)
    assert found is not None, max_fail
    return min(total * int(found[1]) // 100 if found[2] else int(found[1]), total)


def sizes(total: int, plan: Plan) -> tuple[int, ...]:
    """How many nodes each wave has; they add up to `total`, none is empty. Parts are of `total`, not of the rest."""
    made: list[int] = []
    left = total
    if plan.canary and left:
        made.append(max(1, count_of(plan.canary, total)))
        left -= made[-1]
    steps = list(plan.then)
    while left > 0:
        step = (steps.pop(0) if len(steps) > 1 else steps[0]) if steps else "100%"
        made.append(min(max(1, count_of(step, total)), left))
        left -= made[-1]
    return tuple(made)


def waves(candidates: Sequence[Candidate], plan: Plan) -> tuple[Wave, ...]:
    """Which nodes go when. The same candidates and plan always make the same waves.

    Canaries are sound nodes, one of each kind in turn, first in natural order; the others follow in natural order.
    """
    counts = sizes(len(candidates), plan)
    ordered = sorted(candidates, key=lambda each: natural_key(each.name))
    made = []
    if plan.canary and counts:
        chosen = _canaries(ordered, counts[0])
        made.append(Wave(tuple(each.name for each in ordered if each in chosen), _why(chosen, ordered)))
        ordered = [each for each in ordered if each not in chosen]
        counts = counts[1:]
    at = 0
    for count in counts:
        why = "the next in natural order" if made else "all in natural order" if len(counts) == 1 else "the first ones"
        made.append(Wave(tuple(each.name for each in ordered[at : at + count]), why))
        at += count
    return tuple(made)


def _canaries(ordered: Sequence[Candidate], count: int) -> list[Candidate]:
    chosen: list[Candidate] = []
    for sound in (True, False):
        by_kind: dict[tuple[str, ...], list[Candidate]] = defaultdict(list)
        for each in ordered:
            if each.sound == sound:
                by_kind[each.kind].append(each)
        queues = list(by_kind.values())
        while queues and len(chosen) < count:
            for queue in queues:
                if len(chosen) < count:
                    chosen.append(queue.pop(0))
            queues = [queue for queue in queues if queue]
    return chosen


def _why(chosen: Sequence[Candidate], ordered: Sequence[Candidate]) -> str:
    kinds = len({each.kind for each in ordered})
    reached = len({each.kind for each in chosen})
    words = "first in natural order of those reachable, in-sync and healthy"
    if not all(each.sound for each in chosen):
        words = "first in natural order; not all of them are reachable, in-sync and healthy now"
    if kinds > 1:
        words += f"; {reached} of {kinds} kinds of nodes (by image and groups) are among them"
    return words
