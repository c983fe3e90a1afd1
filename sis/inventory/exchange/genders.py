"""LLNL genders: a line a node set, its groups as attributes, the rest as attribute=value."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sis.inventory.exchange.told import Reading, Told, Wire, merged
from sis.inventory.model import Node
from sis.inventory.names import fold

_PLAIN = re.compile(r"[^\s,=%#]+")


def write(nodes: Sequence[Node]) -> str:
    """Nodes that are described alike share a line; values genders cannot hold (spaces, commas) are left out."""
    alike: dict[str, list[str]] = {}
    for node in nodes:
        alike.setdefault(",".join(_attributes(node)), []).append(node.name)
    return "".join(f"{fold(names)}\t{said}\n" if said else f"{fold(names)}\n" for said, names in alike.items())


def read(reading: Reading) -> list[Told]:
    """Attributes without a value are groups; image, layout, mac, address, network are ours, other values vars.NAME."""
    from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet, NodeSetException

    told = []
    for line, text in enumerate(reading.text.splitlines(), 1):
        words = text.partition("#")[0].split(None, 1)
        if not words:
            continue
        try:
            names = [str(name) for name in NodeSet(words[0], resolver=RESOLVER_NOGROUP)]
        except NodeSetException as error:
            reading.fault(line, f"not a node set: {words[0]} ({error})")
            continue
        for name in names:
            checked = reading.node(line, name)
            if checked is not None:
                told.append(_node(checked, words[1].strip() if len(words) > 1 else "", line, reading))
    return merged(told, reading)


def _attributes(node: Node) -> list[str]:
    said = list(node.groups)
    values = {
        "image": node.assignment.reference if node.assignment else "",
        "layout": (node.assignment.layout if node.assignment else None) or "",
        "mac": node.macs[0] if node.macs else "",
        "address": node.address or "",
        **{str(name): str(value) for name, value in (node.profile.get("vars") or {}).items()},
    }
    return said + [f"{name}={value}" for name, value in values.items() if value and _PLAIN.fullmatch(value)]


def _node(name: str, said: str, line: int, reading: Reading) -> Told:
    groups, settings = [], []
    values: dict[str, str] = {}
    for word in filter(None, (part.strip() for part in said.split(","))):
        key, equals, value = word.partition("=")
        value = value.replace("%n", name).replace("%%", "%")
        if not equals:
            group = reading.group(line, key)
            groups += [group] if group else []
        elif key in ("image", "layout", "mac", "address", "network"):
            values[key] = value
        else:
            settings.append(f"vars.{key}={value}")
    mac, address = reading.mac(line, values.get("mac", "")), reading.address(line, values.get("address", ""))
    wires = (Wire("eth0", mac, address, values.get("network")),) if mac or address or "network" in values else ()
    return Told(name, line, values.get("image"), values.get("layout"), tuple(groups), wires, tuple(settings))
