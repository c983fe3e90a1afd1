"""How nodes look on the screen: colours of states, ages, folded summaries."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from sis.inventory import clock

if TYPE_CHECKING:
    from sis.inventory.model import Node, NodeState

_STYLES = {
    "in-sync": "green",
    "drifted": "yellow",
    "failed": "bold red",
    "unknown": "dim",
    "discovered": "dim",
    "defined": "dim",
    "maintenance": "magenta",
    "quarantined": "bold red",
}
_ORDER = ("in-sync", "syncing", "drifted", "failed")
EXAMPLE = "Example: "

age = clock.age


def state_style(state: object) -> str:
    """The rich style of a state; what is under way is cyan."""
    return _STYLES.get(str(state), "cyan")


def held_image(state: NodeState) -> str:
    """The version a node was last known to hold: "compute@12"."""
    return f"{state.image}@{state.generation}" if state.image else ""


def summary(nodes: Iterable[Node]) -> str:
    """`128 nodes: 120 in-sync  6 drifted n[003-008]  2 failed n[017,090]`."""
    from sis.inventory.names import fold

    by_state: dict[str, list[str]] = defaultdict(list)
    for node in nodes:
        by_state[node.state.state].append(node.name)
    total = sum(map(len, by_state.values()))
    parts = []
    for state in sorted(by_state, key=lambda state: (_ORDER.index(state) if state in _ORDER else len(_ORDER), state)):
        names = by_state[state]
        parts.append(f"{len(names)} {state}" + ("" if state == "in-sync" else f" {fold(names)}"))
    return f"{counted(total, 'node')}: {'  '.join(parts)}" if total else "no nodes"


def counted(count: int, noun: str) -> str:
    """ "1 node", "2 nodes"."""
    return f"{count} {noun}" + ("" if count == 1 else "s")


def confirm(question: str, *, yes: bool) -> None:
    """Ask on a terminal; without one --yes must have been given. Raises Refused or UsageFault."""
    import sys

    from sis.errors import Refused, UsageFault

    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageFault(f"{question} Not asked: this is no terminal", hint="say --yes to go on")
    if not click.confirm(question):
        raise Refused("nothing was done")
