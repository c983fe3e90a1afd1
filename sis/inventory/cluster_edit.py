"""Changes of nodes as changes of the cluster file's text: in the entry of just these nodes, or in a new one."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from sis.errors import SisError
from sis.inventory.cluster_said import (
    BY_HAND,
    GONE,
    assignment_of,
    changed_lists,
    changed_values,
    item_name,
    own_of,
    plain,
    settings_of,
    shared_of,
)
from sis.inventory.model import Interface, Node
from sis.inventory.names import fold, natural_key, number_of
from sis.spec import cluster as cluster_spec
from sis.spec.cluster import ClusterSpec
from sis.spec.edit import Keys, Text
from sis.spec.members import Members


class Edit:
    """A cluster file's text on its way to say something else. `raw` is the text so far."""

    def __init__(self, raw: bytes, file: str) -> None:
        self._text = Text(raw, file)
        self._file = file
        self._read(cluster_spec.parse(raw, file))

    @property
    def raw(self) -> bytes:
        return self._text.raw

    @property
    def names(self) -> frozenset[str]:
        """Every node the file names."""
        return frozenset(self._names)

    def change(self, before: Sequence[Node], after: Sequence[Node]) -> None:
        """Have the file say of nodes it names what is new in `after`; both in the same order."""
        scalars: dict[Keys, dict[str, Any]] = {}
        lists: dict[str, dict[str, tuple[list[Any], list[Any]]]] = {}
        groups: dict[str, set[str]] = {}
        for old, new in zip(before, after, strict=True):
            for path, value in changed_values(old, new):
                scalars.setdefault(path, {})[new.name] = value
            for name, one, two in changed_lists(old, new):
                lists.setdefault(name, {})[new.name] = (one, two)
            for group in set(old.groups) ^ set(new.groups):
                groups.setdefault(group, set()).add(new.name)
        for path, values in scalars.items():
            self._put(path, values)
        for name, changes in lists.items():
            self._put_list(name, changes)
        for group in sorted(groups, key=natural_key):
            joining = {node.name for node in after if group in node.groups}
            self._regroup(group, joining, groups[group] - joining)

    def add(self, nodes: Sequence[Node]) -> None:
        """Define nodes the file does not name yet: one entry for those alike, one for what is a node's own."""
        alike: dict[tuple[Any, ...], list[Node]] = {}
        for node in nodes:
            wires = tuple((each.name, each.network, repr(each.data)) for each in node.interfaces)
            alike.setdefault((wires, node.groups, node.assignment, repr(node.profile)), []).append(node)
        entries: dict[str, Any] = {}
        for (_, groups, assignment, _), same in alike.items():
            names = [node.name for node in same]
            entry: dict[str, Any] = settings_of(same[0].profile)
            if same[0].interfaces:
                entry["interfaces"] = {each.name: shared_of(each) for each in same[0].interfaces}
            templates = self._templates(same)
            for name, template in templates.items():
                entry["interfaces"][name]["ip"] = template
            entry.update(assignment_of(assignment))
            if groups:
                entry["groups"] = list(groups)
            self._know(fold(names), names)
            own = {node.name: own_of(node, templates) for node in same}
            if len(same) == 1:
                (wired,) = own.values()
                for name, said in wired.get("interfaces", {}).items():
                    entry["interfaces"][name].update(said)
                own = {}
            for name in own:
                self._know(name, [name])
            entries[fold(names)] = entry
            entries.update({name: said for name, said in own.items() if said})
        self._text.add(("nodes",), entries)

    def delete(self, names: Collection[str]) -> None:
        """Have the file name these nodes no more."""
        gone = set(names)
        for key in [key for key, members in self._members.items() if members & gone and "@" not in key]:
            left = self._members[key] - gone
            if left:
                called = fold(left) if fold(left) not in self._members else f"{key}!{fold(self._members[key] & gone)}"
                self._text.rename(("nodes", key), called)
                self._members[called] = left
                del self._members[key]
            else:
                self._text.remove(("nodes", key))
                del self._members[key]
        for group, written in self._groups.items():
            members = self._group_members.get(group, frozenset())
            if members & gone and "@" not in written:
                left = members - gone
                if left:
                    self._text.set(("groups", group), fold(left))
                else:
                    self._text.remove(("groups", group))

    def _read(self, spec: ClusterSpec) -> None:
        members = Members(spec.groups, spec.nodes)
        self._names = members.names
        self._members = {key: frozenset(map(str, nodes)) for key, nodes in members.entries.items()}
        self._groups = dict(spec.groups)
        self._group_members = {name: frozenset(map(str, nodes)) for name, nodes in members.written.items()}
        self._listed = {
            (key, name): list(getattr(entry, name))
            for key, entry in spec.nodes.items()
            for name in entry.model_fields_set
            if isinstance(getattr(entry, name), tuple)
        }
        self._networks = spec.networks
        self._resolved = {node.name: node for node in spec.expand()}

    def _know(self, key: str, names: Iterable[str]) -> None:
        self._members.setdefault(key, frozenset(names))

    def _key_of(self, names: Collection[str]) -> str:
        """The entry of just these nodes; the last one when there are several."""
        wanted = frozenset(names)
        found = [key for key, members in self._members.items() if members == wanted]
        key = found[-1] if found else fold(names)
        self._know(key, wanted)
        return key

    def _saying(self, path: Keys, names: Collection[str]) -> list[str]:
        """The entries that say something at `path` of any of these nodes."""
        wanted = frozenset(names)
        return [
            key for key, members in self._members.items() if members & wanted and self._text.has(("nodes", key, *path))
        ]

    def _put(self, path: Keys, values: Mapping[str, Any]) -> None:
        """Have nodes say each its value at `path`; narrower entries that say otherwise give way."""
        new: dict[str, Any] = {}
        for value, names in _by_value(values):
            wanted = frozenset(names)
            exact = self._key_of(wanted)
            narrower: set[str] = set()
            for key in self._saying(path, wanted):
                members = self._members[key]
                if key != exact and members <= wanted:
                    self._text.remove(("nodes", key, *path))
                elif key != exact and len(members) <= len(wanted):
                    narrower |= members & wanted
            if value is GONE:
                self._text.remove(("nodes", exact, *path))
                continue
            for key in (exact, *([self._key_of(narrower)] if narrower else [])):
                if self._text.has(("nodes", key)):
                    self._text.set(("nodes", key, *path), value)
                else:
                    new[key] = _nested(path, value)
        self._text.add(("nodes",), new)

    def _put_list(self, name: str, changes: Mapping[str, tuple[list[Any], list[Any]]]) -> None:
        """Add items to a list of nodes, and take items away: lists append from layer to layer, `-item` removes."""
        if name in BY_HAND:
            raise SisError(f"{name} has parts: change it in {self._file}", hint=f"then: sis cluster apply {self._file}")
        for (added, taken), names in _by_delta(changes):
            wanted = frozenset(names)
            for item in taken:
                self._take(name, item, wanted)
            for item in added:
                key = self._key_of(wanted)
                minus, items = f"-{item_name(item)}", self._items(key, name)
                kept = [each for each in items if each != minus]
                self._set_items(key, name, kept if len(kept) < len(items) else [*items, item])

    def _take(self, name: str, item: Any, wanted: frozenset[str]) -> None:
        """Take an item away: where an entry of these nodes alone says it, there; else by `-item` over what says it."""
        for key in self._saying((name,), wanted):
            items = self._items(key, name)
            left = [each for each in items if item_name(each) != item_name(item)]
            if self._members[key] <= wanted and len(left) < len(items):
                self._set_items(key, name, left)
        now = {node.name: node for node in cluster_spec.parse(self.raw, self._file).expand()}
        still = [
            node
            for node in wanted
            if item_name(item) in map(item_name, getattr(now[node].settings, name, None) or now[node].profiles)
        ]
        if still:
            key = self._key_of(still)
            self._set_items(key, name, [*self._items(key, name), f"-{item_name(item)}"])

    def _items(self, key: str, name: str) -> list[Any]:
        return self._listed.get((key, name), [])

    def _set_items(self, key: str, name: str, items: list[Any]) -> None:
        self._listed[key, name] = items
        if items:
            self._text.set(("nodes", key, name), [plain(item) for item in items])
        else:
            self._text.remove(("nodes", key, name))

    def _regroup(self, group: str, joining: set[str], leaving: set[str]) -> None:
        now = {name for name, node in self._resolved.items() if group in node.groups}
        wanted = frozenset((now | joining) - leaving)
        covered: set[str] = set()
        for key in list(self._members):
            if group not in self._items(key, "groups"):
                continue
            if self._members[key] <= wanted:
                covered |= self._members[key]
            else:
                self._set_items(key, "groups", [each for each in self._items(key, "groups") if each != group])
        written = self._group_members.get(group, frozenset()) if group in self._groups else frozenset()
        if group in self._groups and written <= wanted and written | covered == wanted:
            return
        rest = wanted - covered
        if rest:
            self._text.set(("groups", group), fold(rest))
        elif group in self._groups:
            self._text.remove(("groups", group))

    def _templates(self, nodes: Sequence[Node]) -> dict[str, str]:
        """Interface → `+{index+N}` where that gives every node its address."""
        found: dict[str, str] = {}
        for at, interface in enumerate(nodes[0].interfaces):
            offsets = {_offset(node, node.interfaces[at], self._networks) for node in nodes}
            if len(nodes) > 1 and len(offsets) == 1 and None not in offsets:
                (offset,) = offsets
                found[interface.name] = f"+{{index+{offset}}}" if offset else "+{index}"
        return found


def _nested(path: Keys, value: Any) -> Any:
    """`value` in mappings of one key each."""
    for key in reversed(path):
        value = {key: value}
    return value


def _offset(node: Node, interface: Interface, networks: Mapping[str, Any]) -> int | None:
    network = networks.get(interface.network) if interface.network else None
    number = number_of(node.name)
    if network is None or number is None or not interface.address:
        return None
    offset = int(ipaddress.ip_address(interface.address)) - int(network.cidr.network_address) - number
    return offset if offset >= 0 else None


def _by_value(values: Mapping[str, Any]) -> list[tuple[Any, list[str]]]:
    """Nodes with equal values together, in the order of the first of each."""
    found: list[tuple[Any, list[str]]] = []
    for name, value in values.items():
        same = next((names for known, names in found if known is value or known == value), None)
        if same is None:
            found.append((value, [name]))
        else:
            same.append(name)
    return found


def _by_delta(
    changes: Mapping[str, tuple[list[Any], list[Any]]],
) -> list[tuple[tuple[list[Any], list[Any]], list[str]]]:
    deltas = {
        name: (
            [item for item in two if item not in one],
            [item for item in one if item not in two and item_name(item) not in map(item_name, two)],
        )
        for name, (one, two) in changes.items()
    }
    return _by_value(deltas)
