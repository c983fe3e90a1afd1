"""Where a value that a node's file was made from is written: a line of the cluster file, a layout, the inventory."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from configurator.record import Record
from sis.disk.model import Layout
from sis.inventory.model import Node
from sis.inventory.records import mounts_of
from sis.spec.cluster import ClusterSpec
from sis.spec.expansion import NodeSpec
from sis.spec.places import Path

_PART = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)|\[([0-9]+|\*)\]")
_MADE = {
    "name": "the node's name",
    "id": "the inventory (given once, never used again)",
    "machine_id": "the inventory (of the node's id and name)",
    "host_keys": "the inventory (made once, kept over reinstalls)",
    "peers": "the nodes of the inventory",
}
_NAMED_OTHERWISE: Mapping[str, Path] = {
    "boot.parameters": ("kernel_cmdline",),
    "boot.kernel": ("boot", "kernel"),
    "boot.timeout_s": ("boot", "timeout_s"),
}
_OF_A_NETWORK = ("nameservers", "search", "domain", "head")


class Origins:
    """The origins of one node's values. `spec` is the node in the cluster file `cluster`, where it is in one; `blamed`
    tells of a setting of the inventory who set it.
    """

    def __init__(
        self,
        node: Node,
        record: Record,
        layout: Layout | None,
        *,
        spec: NodeSpec | None,
        cluster: ClusterSpec | None,
        blamed: Callable[[str], str] = lambda _setting: "",
    ) -> None:
        self._node = node
        self._record = record
        self._layout = layout
        self._spec = spec
        self._cluster = cluster
        self._blamed = blamed

    def of(self, key: str) -> str:
        """Where the value at `key` ("record.interfaces[0].mac", "facts.disks[0]", "footprint.network") comes from."""
        parts = parsed(key)
        if not parts or parts[0] != "record":
            return self._of_others(parts)
        return self._of_record(tuple(parts[1:]))

    def of_all(self, name: str) -> str:
        """Where the items of a list of the record, such as "accounts.users", come from: each place once."""
        items: Any = self._record
        for part in name.split("."):
            items = getattr(items, part, ())
        if name in _MADE or not items:
            return self.of(f"record.{name}")
        places = dict.fromkeys(self.of(f"record.{name}[{at}]") for at in range(len(items)))
        first = next(iter(places))
        file, colon, line = first.rpartition(":")
        if colon and line.isdigit() and all(place.startswith(f"{file}:") for place in places):
            return f"{file}:{_ranges(int(place.rpartition(':')[2]) for place in places)}"
        return ", ".join(places)

    def _of_others(self, parts: list[str | int]) -> str:
        first = parts[0] if parts else ""
        if first == "facts":
            return f"what {self._node.name} told of itself"
        if first == "footprint" and self._node.assignment is not None:
            return f"the image {self._node.assignment.reference}"
        return ""

    def _of_record(self, path: Path) -> str:
        name = str(path[0]) if path else ""
        if name in _MADE:
            return _MADE[name]
        if name == "cluster" and self._cluster is not None:
            return str(self._cluster.place("cluster"))
        if name == "groups":
            at = path[1] if len(path) > 1 and isinstance(path[1], int) else 0
            if self._spec is not None and at < len(self._record.groups):
                return self._spec.group_place(self._record.groups[at]) or self._blamed("groups")
            return self._blamed("groups") or "the inventory"
        if name == "interfaces":
            return self._of_interface(path)
        if name == "mounts":
            return self._of_mount(path)
        if name in _OF_A_NETWORK and not self._says(name):
            return self._of_network(self._first_network(), name)
        return self._of_setting(_NAMED_OTHERWISE.get(".".join(map(str, path[:2])), path))

    def _of_setting(self, path: Path) -> str:
        name = str(path[0])
        if self._says(name) and self._spec is not None:
            return str(self._spec.place(*path))
        setting = {"boot": "boot_kernel", "vars": "vars"}.get(name, name)
        if self._node.profile.get(setting):
            return self._blamed(setting) or "the inventory"
        return "left as it is by default"

    def _of_interface(self, path: Path) -> str:
        at = path[1] if len(path) > 1 and isinstance(path[1], int) else None
        if at is None or at >= len(self._record.interfaces):
            return self._of_setting(("interfaces",))
        interface = self._record.interfaces[at]
        what = str(path[2]) if len(path) > 2 else ""
        network = next((each.network for each in self._node.interfaces if each.name == interface.name), None)
        if what == "gateway" or (what == "mtu" and not self._interface_says(interface.name, "mtu")):
            return self._of_network(network, what)
        word = {"address": "ip", "dhcp": "ip"}.get(what, what)
        if self._spec is None or not self._says("interfaces"):
            return self._blamed("interfaces") or "the inventory"
        if what == "mac" and not self._interface_says(interface.name, "mac"):
            return self._blamed(f"interfaces.{interface.name}.mac") or "the inventory"
        return str(self._spec.place("interfaces", interface.name, *([word] if word else []), *path[3:]))

    def _of_mount(self, path: Path) -> str:
        own = len(mounts_of(self._layout))
        at = path[1] if len(path) > 1 and isinstance(path[1], int) else 0
        if at < own and self._layout is not None:
            return f"the disk layout {self._layout.name}"
        return self._of_setting(("mounts", *((at - own,) if len(path) > 1 else ()), *path[2:]))

    def _of_network(self, network: str | None, what: str) -> str:
        if network is None:
            return "left as it is by default"
        if self._cluster is not None and network in self._cluster.networks:
            return str(self._cluster.place("networks", network, *([what] if what else [])))
        return f"the network {network} of the inventory"

    def _first_network(self) -> str | None:
        return next((each.network for each in self._node.interfaces if each.network), None)

    def _says(self, name: str) -> bool:
        """Whether the cluster file says something of a setting, and the inventory still has it so."""
        if self._spec is None or not self._spec.origins.says(name):
            return False
        return name in ("interfaces", "vars", "boot") or self._as_written(name)

    def _as_written(self, name: str) -> bool:
        from sis.inventory.from_spec import profile_of

        assert self._spec is not None
        return bool(profile_of(self._spec).get(name) == self._node.profile.get(name))

    def _interface_says(self, interface: str, what: str) -> bool:
        if self._spec is None:
            return False
        said = self._spec.origins.value.get("interfaces", {}).get(interface)
        return isinstance(said, dict) and what in said


def parsed(key: str) -> list[str | int]:
    """`record.interfaces[0].mac` as ["record", "interfaces", 0, "mac"]; [*] is left out."""
    parts: list[str | int] = []
    for found in _PART.finditer(key):
        if found[1] is not None:
            parts.append(found[1])
        elif found[2] != "*":
            parts.append(int(found[2]))
        else:
            break
    return parts


def _ranges(lines: Iterable[int]) -> str:
    """Lines as people read them: 3,7-9."""
    runs: list[list[int]] = []
    for line in sorted(set(lines)):
        if runs and runs[-1][-1] == line - 1:
            runs[-1].append(line)
        else:
            runs.append([line])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def value_at(record: Record, key: str) -> str:
    """The record's value at a key as it may be shown in one line; "" for secrets, lists and others."""
    parts = parsed(key)
    if "[*]" in key or not parts or parts[0] != "record" or len(parts) < 2 or parts[1] in ("host_keys", "accounts"):
        return ""
    value: Any = record
    for part in parts[1:]:
        try:
            value = value[part] if isinstance(part, int) else getattr(value, part)
        except (AttributeError, IndexError, TypeError):
            return ""
    if value is None or value == ():
        return "-"
    if isinstance(value, tuple) and all(isinstance(each, str) for each in value):
        return " ".join(value)
    return str(value) if isinstance(value, str | int | bool) else ""


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A value a file was made of: its key in the record, as it may be shown, and where it is written."""

    key: str
    value: str
    origin: str


def key_rows(record: Record, origins: Origins, keys: Iterable[str]) -> Iterator[KeyRow]:
    """A row for each key; those of many of a kind, such as interfaces[*].mac, as one."""
    many: dict[str, list[str]] = {}
    for key in keys:
        stem, star, rest = key.removeprefix("record.").partition("[*]")
        if star:
            many.setdefault(f"{stem}[*]", []).append(rest.lstrip("."))
        else:
            yield KeyRow(key.removeprefix("record."), value_at(record, key), origins.of(key))
    for stem, names in many.items():
        told = ", ".join(name for name in names if name)
        yield KeyRow(stem, told, origins.of_all(stem.removesuffix("[*]")))
