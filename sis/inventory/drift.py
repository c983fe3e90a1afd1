"""What differs on many nodes, folded: nodes that differ alike become one line; and what drifted files hold there."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sis.inventory import schema
from sis.inventory.names import fold, natural_key
from sis.wire import FileDiff

_VERBS = {"keep": "differs"}
_NAMES_ASKED_MAX = 500
"""More than these are picked out of all."""


@dataclass(frozen=True, slots=True)
class FoldedChange:
    """One difference and the node set that has it. `action`, `what` and `policy` as in `sis.sync.model.Change`."""

    nodes: str
    count: int
    action: str
    path: str
    what: tuple[str, ...]
    policy: str

    @property
    def verb(self) -> str:
        """What happened to the path, or (policy report) that it differs."""
        return _VERBS.get(self.action, self.action)

    @property
    def line(self) -> str:
        """Such as `n[001-002] update /etc/motd (content, mtime)`."""
        about = ", ".join(self.what)
        if self.policy != "enforce":
            about = f"{about}; policy {self.policy}" if about else f"policy {self.policy}"
        return f"{self.nodes} {self.verb} {self.path}" + (f" ({about})" if about else "")


def fold_changes(changes: Mapping[str, Sequence[Mapping[str, Any]]]) -> tuple[FoldedChange, ...]:
    """Itemised changes by node, folded, in order of path."""
    alike: dict[tuple[str, str, tuple[str, ...], str], list[str]] = {}
    for node, items in changes.items():
        for item in items:
            key = (item["path"], item["action"], tuple(item.get("what", ())), item.get("policy", "enforce"))
            alike.setdefault(key, []).append(node)
    return tuple(
        FoldedChange(fold(nodes), len(nodes), action, path, what, policy)
        for (path, action, what, policy), nodes in sorted(alike.items())
    )


@dataclass(frozen=True, slots=True)
class FoldedDiff:
    """How a file differs on a node set. `text` is a unified diff from what it is to hold, or `why` there is none."""

    nodes: str
    count: int
    path: str
    text: str
    why: str


def fold_diffs(diffs: Mapping[str, Sequence[FileDiff]]) -> tuple[FoldedDiff, ...]:
    """Diffs by node, folded, in order of path."""
    alike: dict[tuple[str, str, str], list[str]] = {}
    for node, found in diffs.items():
        for each in found:
            alike.setdefault((each.path, each.text, each.why), []).append(node)
    return tuple(
        FoldedDiff(fold(nodes), len(nodes), path, text, why) for (path, text, why), nodes in sorted(alike.items())
    )


def put_diffs(connection: Connection, node_id: int, diffs: Sequence[FileDiff], received: str) -> None:
    """Keep these in place of what was told before."""
    table = schema.drift_diffs
    connection.execute(sa.delete(table).where(table.c.node_id == node_id))
    if diffs:
        data = msgspec.to_builtins(list(diffs))
        connection.execute(sa.insert(table).values(node_id=node_id, received=received, data=data))


def diffs_of(connection: Connection, names: Collection[str] | None = None) -> dict[str, tuple[FileDiff, ...]]:
    """What the last checks of these nodes (of all) told, by node, in natural order."""
    query = sa.select(schema.nodes.c.name, schema.drift_diffs.c.data).join_from(schema.drift_diffs, schema.nodes)
    if names is not None and len(names) <= _NAMES_ASKED_MAX:
        query = query.where(schema.nodes.c.name.in_(names))
    rows = {row.name: msgspec.convert(row.data, tuple[FileDiff, ...]) for row in connection.execute(query)}
    return {name: rows[name] for name in sorted(rows, key=natural_key) if names is None or name in names}
