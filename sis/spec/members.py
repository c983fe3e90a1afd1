"""Which nodes a cluster file names: groups that may name groups, and the entries of each node, widest first."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from sis.spec.model import unknown
from sis.spec.places import Path
from sis.spec.settings import NodeEntry

if TYPE_CHECKING:
    from ClusterShell.NodeSet import NodeSet

MAX_NODES = 100_000

_HOSTNAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


class Members:
    """Works the node sets out. `names` are all nodes in the order of node sets, `keys_of` the entries that name each:
    those that name more nodes first, equally wide ones in the file's order; `entries` are the nodes of each, `written`
    those of each group of the section `groups`. `found` are the faults by path.
    """

    def __init__(self, groups: Mapping[str, str], entries: Mapping[str, NodeEntry]) -> None:
        self.found: list[tuple[Path, str]] = []
        self._groups = groups
        self._nodes = entries
        self.written = sets = self._resolve_groups()
        self.entries: dict[str, Sequence[str]] = {key: self._named(key, sets) for key in entries}
        self.names = self._all_nodes()
        self.keys_of = self._entries_of_each()
        self.groups_of = _inverted(self._all_groups(sets))

    def _resolve_groups(self) -> dict[str, NodeSet]:
        resolved: dict[str, NodeSet] = {}
        for name in self._groups:
            self._resolve_group(name, resolved, ())
        return resolved

    def _resolve_group(self, name: str, resolved: dict[str, NodeSet], below: tuple[str, ...]) -> None:
        if name in resolved:
            return
        path: Path = ("groups", name)
        for other in _group_names(self._groups[name]):
            if other in (*below, name):
                self.found.append((path, f"goes in a circle: {' → '.join((*below, name, other))}"))
                resolved[name] = _no_nodes()
                return
            if other in self._groups:
                self._resolve_group(other, resolved, (*below, name))
        resolved.setdefault(name, self._node_set(self._groups[name], path, resolved))

    def _named(self, key: str, sets: Mapping[str, NodeSet]) -> Sequence[str]:
        """The names of the nodes an entry is for; most entries are for one."""
        if _HOSTNAME.fullmatch(key):
            return (key,)
        return [str(name) for name in self._node_set(key, ("nodes", key), sets)]

    def _node_set(self, written: str, path: Path, groups: Mapping[str, NodeSet]) -> NodeSet:
        """The nodes a text names; a fault and no nodes when it cannot be read."""
        from ClusterShell.NodeSet import NodeSet, NodeSetException
        from ClusterShell.NodeUtils import GroupResolver, GroupSource

        lost = [name for name in _group_names(written) if name not in groups]
        for name in lost:
            self.found.append((path, unknown("group", name, groups)))
        if lost:
            return _no_nodes()
        source = GroupSource("cluster", {name: str(members) for name, members in groups.items()})
        try:
            members = NodeSet(written, resolver=GroupResolver(source))
        except NodeSetException as error:
            self.found.append((path, f"is not a node set: {error}"))
            return _no_nodes()
        if len(members) > MAX_NODES:
            self.found.append((path, f"names {len(members)} nodes; {MAX_NODES} is the most"))
            return _no_nodes()
        return members

    def _all_nodes(self) -> tuple[str, ...]:
        """A group in a key adds no node: it names what is there."""
        everyone: dict[str, None] = {}
        for key, members in self.entries.items():
            if "@" in key:
                continue
            strange = next((name for name in members if not _HOSTNAME.fullmatch(name)), None)
            if strange is not None:
                self.found.append((("nodes", key), f"'{strange}' is not a host name (small letters, digits and '-')"))
            everyone.update(dict.fromkeys(members))
        return tuple(str(name) for name in _node_set_of(everyone))

    def _entries_of_each(self) -> dict[str, tuple[str, ...]]:
        keys_of: dict[str, list[str]] = {name: [] for name in self.names}
        for key in sorted(self.entries, key=lambda key: -len(self.entries[key])):
            for name in self.entries[key]:
                if name in keys_of:
                    keys_of[name].append(key)
        return {name: tuple(keys) for name, keys in keys_of.items()}

    def _all_groups(self, sets: Mapping[str, NodeSet]) -> dict[str, tuple[str, ...]]:
        known = set(self.names)
        groups = {name: dict.fromkeys(map(str, members)) for name, members in sets.items()}
        for name, named in groups.items():
            stranger = next((node for node in named if node not in known), None)
            if stranger is not None:
                self.found.append((("groups", name), unknown("node", stranger, self.names)))
        for key, entry in self._nodes.items():
            for group in entry.groups:
                groups.setdefault(group, {}).update(dict.fromkeys(self.entries[key]))
        at = {name: number for number, name in enumerate(self.names)}
        return {name: tuple(sorted(named, key=lambda node: at.get(node, -1))) for name, named in groups.items()}


def _inverted(groups: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    inverted: dict[str, list[str]] = {}
    for group, members in groups.items():
        for name in members:
            inverted.setdefault(name, []).append(group)
    return {name: tuple(of) for name, of in inverted.items()}


def _group_names(written: str) -> list[str]:
    return re.findall(r"@([A-Za-z0-9._-]+)", written)


def _node_set_of(names: Iterable[str]) -> NodeSet:
    from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet

    return NodeSet.fromlist(list(names), resolver=RESOLVER_NOGROUP)


def _no_nodes() -> NodeSet:
    from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet

    return NodeSet(resolver=RESOLVER_NOGROUP)
