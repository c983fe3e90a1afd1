"""What nodes told of their hardware: the newest of each, and what became different when."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sis.inventory import schema
from sis.inventory.clock import now

_MOST_LINES = 50
_CHANGES_KEPT = 50
_COMES_AND_GOES = frozenset({"link", "speed_mbps", "kernel"})
"""Facts of a moment: kept, but no change of the hardware."""


@dataclass(frozen=True, slots=True)
class FactsChange:
    """`lines` such as "memory_bytes: 64 → 32"."""

    received: str
    lines: tuple[str, ...]


def put_facts(connection: Connection, node_id: int, facts: Mapping[str, Any]) -> None:
    """Keep what a node told; where it differs from what it told before, what and when is kept too."""
    table, changes = schema.facts, schema.facts_changes
    received, data = now(), dict(facts)
    known = connection.execute(sa.select(table.c.data).where(table.c.node_id == node_id)).first()
    values = {"received": received, "data": data}
    if known is None:
        connection.execute(sa.insert(table).values(node_id=node_id, **values))
        return
    connection.execute(sa.update(table).where(table.c.node_id == node_id).values(**values))
    lines = list(differences(known.data, data))
    if not lines:
        return
    more = len(lines) - _MOST_LINES
    told = lines if more <= 0 else [*lines[:_MOST_LINES], f"and {more} more"]
    connection.execute(sa.insert(changes).values(node_id=node_id, received=received, lines=told))
    newest = sa.select(changes.c.id).where(changes.c.node_id == node_id).order_by(changes.c.id.desc())
    last = connection.execute(newest.offset(_CHANGES_KEPT).limit(1)).scalar()
    if last is not None:
        connection.execute(sa.delete(changes).where(changes.c.node_id == node_id, changes.c.id <= last))


def facts_changes(connection: Connection, node_id: int) -> tuple[FactsChange, ...]:
    """What became different of a node, newest first."""
    table = schema.facts_changes
    rows = connection.execute(sa.select(table).where(table.c.node_id == node_id).order_by(table.c.id.desc()))
    return tuple(FactsChange(row.received, tuple(row.lines)) for row in rows)


def differences(before: Any, after: Any, place: str = "") -> Iterator[str]:
    """What differs of the hardware: `interfaces.eth0.driver: e1000 → igb`. Items of lists go by their name."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in dict.fromkeys([*before, *after]):
            if key not in _COMES_AND_GOES:
                yield from differences(before.get(key), after.get(key), f"{place}.{key}" if place else str(key))
    elif isinstance(before, list | tuple) and isinstance(after, list | tuple):
        one, other = _named(before), _named(after)
        for name in dict.fromkeys([*one, *other]):
            yield from differences(one.get(name), other.get(name), f"{place}.{name}")
    elif before != after and not (before in (None, "") and after in (None, "")):
        yield f"{place}: {_shown(before)} → {_shown(after)}"


def _named(items: list[Any] | tuple[Any, ...]) -> dict[str, Any]:
    named: dict[str, Any] = {}
    for at, item in enumerate(items):
        name = item.get("name") or item.get("address") if isinstance(item, Mapping) else None
        named[str(name or at)] = item
    return named


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        told = [str(value[key]) for key in ("model", "driver", "modalias", "mac") if value.get(key)]
        return " ".join(told) or "there"
    return "-" if value in (None, "") else str(value)
