"""Nodes, their interfaces, groups and assignments: defined, shown, changed and deleted as whole node sets."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from sis.errors import NotFound, UsageFault
from sis.inventory import changes, schema, selectors, settings
from sis.inventory.database import Database
from sis.inventory.model import Assignment, Interface, NewNode, Node
from sis.inventory.names import expand, fold, natural_key
from sis.inventory.node_read import all_names, groups_of, load
from sis.inventory.node_write import add_nodes, delete_nodes, rewrite_nodes


@dataclass(frozen=True, slots=True)
class Change:
    """What `Nodes.change` sets. None in `profile` and "" in `vars` take a value away; `interfaces` are whole sets.

    `added` and `taken` are items of the profile's lists.
    """

    assignment: Callable[[Assignment | None], Assignment] | None = None
    profile: Mapping[str, Any] = field(default_factory=dict)
    added: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    taken: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    vars: Mapping[str, str] = field(default_factory=dict)
    join: Sequence[str] = ()
    leave: Sequence[str] = ()
    groups: Sequence[str] | None = None
    interfaces: Mapping[str, tuple[Interface, ...]] = field(default_factory=dict)

    def of(self, node: Node) -> NewNode:
        """What the node is to be after this change."""
        kept = node.groups if self.groups is None else tuple(self.groups)
        groups = [group for group in (*kept, *self.join) if group not in self.leave]
        return NewNode(
            name=node.name,
            interfaces=self.interfaces.get(node.name, node.interfaces),
            groups=tuple(dict.fromkeys(groups)),
            assignment=self.assignment(node.assignment) if self.assignment else node.assignment,
            profile=self._profile(node.profile),
        )

    def _profile(self, known: Mapping[str, Any]) -> dict[str, Any]:
        merged = {name: value for name, value in {**known, **self.profile}.items() if value is not None}
        for name in dict.fromkeys((*self.added, *self.taken)):
            there, gone = list(merged.pop(name, ())), self.taken.get(name, ())
            there += [item for item in self.added.get(name, ()) if item not in there]
            items = [item for item in there if item not in gone and _named(item) not in gone]
            merged.update({name: items} if items else {})
        if self.vars:
            site = {name: value for name, value in {**(merged.pop("vars", {})), **self.vars}.items() if value}
            merged.update({"vars": site} if site else {})
        return merged


def _named(item: Any) -> Any:
    """How an item that has parts is named when it is to be taken away: `modules-=nvidia` takes it with its options."""
    return {"name": item["name"]} if isinstance(item, Mapping) and "name" in item else item


class Nodes:
    def __init__(self, database: Database) -> None:
        self._database = database

    def list(self, names: Collection[str] | None = None) -> tuple[Node, ...]:
        """All nodes, or those of the given names, in natural order. Names not there are left out."""
        with self._database.read() as connection:
            return load(connection, names)

    def get(self, name: str) -> Node:
        """Raises NotFound with near names."""
        with self._database.read() as connection:
            found = load(connection, [name])
            if not found:
                raise NotFound.of("node", name, all_names(connection))
            return found[0]

    def by_mac(self, mac: str) -> Node | None:
        """The node one of whose interfaces has this MAC."""
        with self._database.read() as connection:
            name = connection.execute(
                sa.select(schema.nodes.c.name)
                .join_from(schema.nodes, schema.interfaces)
                .where(schema.interfaces.c.mac == mac)
            ).scalar()
            return load(connection, [name])[0] if name is not None else None

    def select(self, nodeset: str, where: Sequence[str] = ()) -> tuple[Node, ...]:
        """The nodes of a node set ("n[001-016]", "@rack1!n003", "@*") for which all selectors hold ("state=failed").

        With selectors an empty node set means all nodes, and none may be left. Raises UsageFault for what is no node
        set or selector, NotFound for unknown groups, nodes and attributes, with near names.
        """
        if where:
            wanted_of = [selectors.parse(text) for text in where]
            return selectors.matching(self.select(nodeset) if nodeset else self.list(), wanted_of)
        with self._database.read() as connection:
            known = all_names(connection)
            wanted = expand(nodeset, groups_of(connection), known)
            if not wanted:
                raise UsageFault(f"the node set {nodeset!r} is empty", hint="see 'sis node list'")
            missing = [name for name in wanted if name not in known]
            if missing:
                raise NotFound.of("node", fold(missing), known if len(missing) == 1 else [fold(known)] if known else [])
            return load(connection, wanted)

    def names(self) -> tuple[str, ...]:
        with self._database.read() as connection:
            return tuple(sorted(all_names(connection), key=natural_key))

    def groups(self) -> dict[str, tuple[str, ...]]:
        """Group name → its members in natural order."""
        with self._database.read() as connection:
            return groups_of(connection)

    def add(self, new: Sequence[NewNode]) -> tuple[Node, ...]:
        """Define nodes, all or none; an interface's address FREE becomes the next free one of its network.

        Raises SisError with every fault at once: names, MACs, addresses taken, malformed, or not of the network.
        """
        with self._database.write() as connection:
            add_nodes(connection, new)
            settings.touch(connection)
            return load(connection, [node.name for node in new])

    def change(
        self, names: Collection[str], change: Change, *, expected: Mapping[str, int] | None = None
    ) -> tuple[Node, ...]:
        """Change nodes, all or none. Raises SisError as `add` does.

        With `expected` (node → version looked at) it raises Conflict when someone else changed one of them since.
        """
        with self._database.write() as connection:
            before = load(connection, names)
            changes.refuse_stale(connection, before, expected or {})
            done = rewrite_nodes(connection, before, [change.of(node) for node in before])
            settings.touch(connection)
            return done.nodes

    def delete(self, names: Collection[str]) -> int:
        """Remove nodes with every trace of them. Their ids are never used again."""
        with self._database.write() as connection:
            removed = delete_nodes(connection, names)
            settings.touch(connection)
            return removed
