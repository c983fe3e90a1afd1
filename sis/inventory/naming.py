"""Names for discovered machines: in order, by a list of MACs or serial numbers, or by switch port."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from sis.errors import SisError, SpecInvalid, UsageFault
from sis.inventory.model import Assignment, Discovery, Interface, NewNode, Node
from sis.inventory.names import check_mac, check_name

NamedBy = Literal["order", "list", "serial", "switch"]
FREE = "free"
_PORT_WORDS = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True)
class Proposal:
    """The name a discovered machine would get ("": none) and why; `defined`: the node is there and lacks a MAC only."""

    machine: Discovery
    name: str
    why: str
    defined: bool = False


@dataclass(frozen=True, slots=True)
class Template:
    """What nodes made of discovered machines are to be, beyond name and MAC. `network` None: they have no address."""

    interface: str = "eth0"
    network: str | None = None
    groups: tuple[str, ...] = ()
    assignment: Assignment | None = None


def read_list(text: str, by: NamedBy, file: str = "list") -> dict[str, str]:
    """Key → name from lines such as `52:54:00:00:00:01,n001`: a MAC, a serial number, or `switch port`, then the name.

    Commas, semicolons, tabs or spaces separate; a heading line, blank lines and `#` comments are skipped; for "switch"
    the last word is the name. Raises SpecInvalid with every fault and its line.
    """
    found: dict[str, str] = {}
    names: dict[str, int] = {}
    faults: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        plain = line.partition("#")[0].strip()
        words = _words(plain)
        if not words or (not found and words[-1].lower() in ("name", "node", "hostname")):
            continue
        if len(words) < 2:
            faults.append(f"{file}:{number}: a key and a name are wanted, not '{plain}'")
            continue
        try:
            name = check_name(words[-1])
            key = check_mac(words[0]) if by == "list" else _key(" ".join(words[:-1]), by)
        except UsageFault as fault:
            faults.append(f"{file}:{number}: {fault.message}")
            continue
        if key in found:
            faults.append(f"{file}:{number}: '{' '.join(words[:-1])}' is here twice")
        elif name in names:
            faults.append(f"{file}:{number}: {name} is named in line {names[name]} too")
        names.setdefault(name, number)
        found.setdefault(key, name)
    if faults:
        raise SpecInvalid(f"{file}: {len(faults)} faults", details=faults)
    return found


def propose(
    machines: Sequence[Discovery],
    nodes: Mapping[str, Node],
    by: NamedBy,
    *,
    names: Sequence[str] = (),
    listed: Mapping[str, str] | None = None,
) -> tuple[Proposal, ...]:
    """A name for each machine, in the order given. `nodes` are those defined, by name.

    `names` are given in order to the machines as they came ("order"); `listed` is what `read_list` read. A node that
    has its MAC already gets none from here.
    """
    taken = {name for name, node in nodes.items() if node.macs}
    free = iter([name for name in names if name not in taken])
    proposals = []
    given: set[str] = set()
    for machine in machines:
        if by == "order":
            name, why = next(free, ""), "next in order"
            why = why if name else "no name is left"
        else:
            name, why = _listed(machine, by, listed or {})
        if name in taken and by != "order":
            name, why = "", f"{name} has its MAC already"
        elif name and name in given:
            name, why = "", f"{name} is proposed for another machine"
        given.add(name)
        proposals.append(Proposal(machine, name, why, name in nodes))
    return tuple(proposals)


def of_proposals(
    chosen: Mapping[str, str], nodes: Mapping[str, Node], template: Template
) -> tuple[list[NewNode], dict[str, tuple[Interface, ...]]]:
    """What accepting machines (MAC → name) comes to: nodes to define, and new interfaces of nodes that are there.

    Raises SisError with every fault: one name for two machines, nodes that have their MAC already.
    """
    faults = []
    new: list[NewNode] = []
    wired: dict[str, tuple[Interface, ...]] = {}
    seen: dict[str, str] = {}
    for mac, name in chosen.items():
        if name in seen:
            faults.append(f"{name} cannot be both {seen[name]} and {mac}")
            continue
        seen[name] = mac
        node = nodes.get(name)
        if node is None:
            address = FREE if template.network else None
            interface = Interface(template.interface, mac, address, template.network)
            new.append(NewNode(name, (interface,), template.groups, template.assignment))
            continue
        if node.macs:
            faults.append(f"{name} has the MAC {node.macs[0]} already (another machine: sis node set {name} mac={mac})")
            continue
        first, *rest = node.interfaces or (Interface(template.interface, network=template.network),)
        wired[name] = (replace(first, mac=mac), *rest)
    if faults:
        raise SisError("these machines cannot be accepted so; none was", details=faults)
    return new, wired


def without_names(proposals: Iterable[Proposal]) -> str:
    """Which machines no name was found for and why, in a few lines; "" when all have one."""
    reasons: dict[str, list[str]] = {}
    for each in proposals:
        if not each.name:
            reasons.setdefault(each.why, []).append(each.machine.mac)
    return "\n".join(f"{why}: {', '.join(macs)}" for why, macs in reasons.items())


def _words(line: str) -> list[str]:
    for separator in (",", ";", "\t"):
        if separator in line:
            return [word.strip() for word in next(csv.reader([line], delimiter=separator)) if word.strip()]
    return line.split()


def _key(text: str, by: NamedBy) -> str:
    return " ".join(_PORT_WORDS.sub(" ", text.lower()).split()) if by == "switch" else text.strip().lower()


def _listed(machine: Discovery, by: NamedBy, listed: Mapping[str, str]) -> tuple[str, str]:
    if by == "list":
        what, key = "MAC", machine.mac
    elif by == "serial":
        what, key = "serial number", _key(machine.said("serial"), by)
    else:
        what, key = "switch port", _key(f"{machine.said('switch')} {machine.said('port')}", by)
    if not key:
        return "", f"its {what} is not known"
    name = listed.get(key, "")
    return (name, f"{what} {key}") if name else ("", f"{what} {key} is not in the list")
