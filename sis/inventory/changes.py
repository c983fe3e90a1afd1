"""Who changed what of the intent: differences between nodes before and after, kept as one row a command."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sis.errors import Conflict
from sis.inventory import acting, schema
from sis.inventory.clock import now
from sis.inventory.database import Database
from sis.inventory.model import Assignment, Interface, NewNode, Node, SettingChange, StoredChange
from sis.inventory.names import fold
from sis.inventory.profile import shown_profile

Action = Literal["add", "change", "delete"]
_MOST_LINES = 200


class Changes:
    def __init__(self, database: Database) -> None:
        self._database = database

    def last(self, limit: int = 50, *, node: str | None = None) -> tuple[StoredChange, ...]:
        """The last changes of intent, newest first; with `node` those that touched it."""
        table = schema.changes
        query = sa.select(table).order_by(table.c.id.desc())
        found: list[StoredChange] = []
        with self._database.read() as connection:
            for row in connection.execute(query.limit(limit) if node is None else query):
                change = _stored(row)
                if node is None or node in _members(change.nodes):
                    found.append(change)
                    if len(found) == limit:
                        break
        return tuple(found)


def differences(before: Sequence[Node], after: Sequence[Node | NewNode]) -> tuple[SettingChange, ...]:
    """What became what, folded: nodes that change alike are one line. Both in the same order."""
    alike: dict[tuple[str, str, str], list[str]] = {}
    for old, new in zip(before, after, strict=True):
        for setting, one, two in _settings_that_differ(old, new):
            alike.setdefault((setting, one, two), []).append(new.name)
    return tuple(SettingChange(fold(names), setting, one, two) for (setting, one, two), names in alike.items())


def record(connection: Connection, action: Action, names: Collection[str], lines: Sequence[SettingChange]) -> int:
    """Write a change of intent down, within the caller's transaction. Returns its id, the nodes' new version."""
    actor = acting.current()
    shown = [[each.nodes, each.setting, each.before, each.after] for each in lines[:_MOST_LINES]]
    result = connection.execute(
        sa.insert(schema.changes).values(
            time=now(), who=actor.who, via=actor.via, action=action, nodes=fold(names), lines=shown
        )
    )
    assert result.inserted_primary_key is not None
    return int(result.inserted_primary_key[0])


def refuse_stale(connection: Connection, nodes: Sequence[Node], expected: Mapping[str, int]) -> None:
    """Raise Conflict, telling who changed what, when a node is of another version than the caller looked at."""
    stale = [node for node in nodes if expected.get(node.name, node.version) != node.version]
    if not stale:
        return
    names = {node.name for node in stale}
    since = min(expected[node.name] for node in stale)
    table = schema.changes
    rows = connection.execute(sa.select(table).where(table.c.id > since).order_by(table.c.id)).all()
    told = [change for change in map(_stored, rows) if not names.isdisjoint(_members(change.nodes))]
    raise Conflict(
        f"{fold(names)} changed since you looked; nothing was changed",
        details=[line for change in told[-10:] for line in describe(change)],
        hint="look again, then say once more what you want",
    )


def describe(change: StoredChange) -> list[str]:
    """A change in a few lines: who and when, then what."""
    done = {"add": "defined", "change": "changed", "delete": "deleted"}[change.action]
    return [f"{change.who} ({change.via}) {done} {change.nodes} at {change.time}"] + [
        f"  {each.line}" for each in change.lines[:10]
    ]


def shown(value: Any) -> str:
    """A setting as people read it in one line; "-" for nothing."""
    if isinstance(value, Mapping):
        said = {key: each for key, each in value.items() if each not in (None, "", [], (), {})}
        if set(said) == {"name"} or (set(said) == {"name", "load"} and said["load"] is True):
            return str(said["name"])
        return ", ".join(f"{key}={shown(each)}" for key, each in said.items()) or "-"
    if isinstance(value, list | tuple):
        return ",".join(shown(each) for each in value) or "-"
    return str(value) if value not in (None, "") else "-"


def _settings_that_differ(old: Node, new: Node | NewNode) -> list[tuple[str, str, str]]:
    found: list[tuple[str, str, str]] = []
    if old.assignment != new.assignment:
        one, two = _assigned(old.assignment), _assigned(new.assignment)
        found += [(name, shown(one[name]), shown(two[name])) for name in one if one[name] != two[name]]
    if set(old.groups) != set(new.groups):
        found.append(("groups", shown(old.groups), shown(new.groups)))
    if old.interfaces != new.interfaces:
        found.append(("interfaces", wires(old.interfaces), wires(new.interfaces)))
    if old.profile != new.profile:
        names = dict.fromkeys([*old.profile, *new.profile])
        before, after = shown_profile(old.profile), shown_profile(new.profile)
        found += [
            (name, shown(before.get(name)), shown(after.get(name)))
            for name in names
            if old.profile.get(name) != new.profile.get(name)
        ]
    return found


def _assigned(assignment: Assignment | None) -> dict[str, str | None]:
    if assignment is None:
        return {"image": None, "layout": None}
    return {"image": assignment.reference, "layout": assignment.layout}


def wires(interfaces: Sequence[Interface]) -> str:
    """Interfaces as people read them in one line: name, MAC, address."""
    return "; ".join(f"{each.name} {each.mac or '-'} {each.address or '-'}" for each in interfaces) or "-"


def _members(nodeset: str) -> frozenset[str]:
    from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet

    return frozenset(map(str, NodeSet(nodeset, resolver=RESOLVER_NOGROUP)))


def _stored(row: Any) -> StoredChange:
    lines = tuple(SettingChange(*each) for each in row.lines)
    return StoredChange(row.id, row.time, row.who, row.via, row.action, row.nodes, lines)
