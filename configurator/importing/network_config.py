"""SystemImager's network-config: <config><if dev=… type=…><primary …><ip …/>…</primary></if></config>."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from configurator.importing import Imported
from configurator.importing.xmltree import Element
from configurator.importing.yamltext import yaml_text

_INTERFACE = re.compile(r"[A-Za-z0-9._-]{1,15}", re.ASCII)
_MODES = ("balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb")
"""By the number the kernel module knows them by."""


def read(root: Element) -> Imported:
    """The interfaces of the nodes this file was for."""
    reading = _Reading()
    for element in root.children:
        if element.name == "if":
            reading.interface(element)
        else:
            reading.not_understood(element)
    file: dict[str, Any] = {"cluster": "imported"}
    file |= {"networks": reading.networks} if reading.networks else {}
    file["defaults"] = {"interfaces": reading.interfaces}
    comments = ["made from a SystemImager network-config; read it before you use it", *reading.notes]
    return Imported(yaml_text(file, comments), tuple(reading.report))


class _Reading:
    def __init__(self) -> None:
        self.networks: dict[str, Any] = {}
        self.interfaces: dict[str, Any] = {}
        self.notes: list[str] = []
        self.bonds: dict[str, dict[str, Any]] = {}
        self.members: set[str] = set()
        self.report: list[str] = []

    def not_understood(self, element: Element, why: str = "") -> None:
        said = " ".join(f"{name}={value!a}" for name, value in element.attributes.items())
        self.report.append(
            f"not understood: line {element.line}: <{element.name}{f' {said}' if said else ''}> {why}".strip()
        )

    def interface(self, element: Element) -> None:
        device = element.attributes.get("dev", "")
        if not device:
            self.not_understood(element, "has no dev")
            return
        told: dict[str, Any] = {}
        members: list[str] = []
        for child in element.children:
            if child.name == "primary":
                self.primary(device, child, told)
            elif child.name == "slave" and _INTERFACE.fullmatch(child.attributes.get("name", "")):
                members.append(child.attributes["name"])
                self.report.append(f"understood: line {child.line}: member {members[-1]} of {device}")
            else:
                self.not_understood(child, f"of {device}")
        kind = element.attributes.get("type", "Ethernet")
        is_bond = kind.lower() == "bond" and bool(members)
        if "network" not in told and not is_bond and device not in self.members:
            self.not_understood(element, "is left out: DHCP, on a network it does not name")
            return
        options = self.bonds.pop(device, {})
        if is_bond:
            told["bond"] = {"members": members, **options}
            for member in members:
                self.members.add(member)
                self.interfaces.setdefault(member, {})
        elif options:
            self.notes.append(f"{device!a} had bonding options, but no members")
        self.interfaces[device] = {**self.interfaces.get(device, {}), **told}
        self.report.append(f"understood: line {element.line}: interface {device} ({kind})")

    def primary(self, device: str, element: Element, told: dict[str, Any]) -> None:
        protocol = element.attributes.get("bootproto", "dhcp")
        if element.attributes.get("master"):
            self.members.add(device)
        servers: list[str] = []
        search: list[str] = []
        for child in element.all("dns"):
            servers = [word for word in child.attributes.get("servers", "").replace(",", " ").split() if word]
            search = [word for word in child.attributes.get("search", "").replace(",", " ").split() if word]
        for child in element.children:
            if child.name == "ip" and protocol == "static":
                self.address(device, child, told, servers, search)
            elif child.name == "options":
                self.options(device, child, told)
            elif child.name != "dns":
                self.not_understood(child, f"of {device}")

    def address(
        self, device: str, element: Element, told: dict[str, Any], servers: list[str], search: list[str]
    ) -> None:
        written = element.attributes.get("ipaddr", "")
        try:
            own = ipaddress.IPv4Interface(written)
        except ValueError:
            self.not_understood(element, f"of {device}: not an address with its prefix")
            return
        if "network" in told:
            self.not_understood(element, f"of {device}: one address an interface in a cluster file")
            return
        name = next((name for name, each in self.networks.items() if each["cidr"] == str(own.network)), None)
        if name is None:
            name = "cluster" if not self.networks else f"net{len(self.networks)}"
            network: dict[str, Any] = {"cidr": str(own.network)}
            for key in ("gateway", "mtu"):
                value = element.attributes.get(key)
                if value:
                    network[key] = int(value) if key == "mtu" and value.isdigit() else value
            network |= {"nameservers": servers} if servers else {}
            network |= {"search": search} if search else {}
            self.networks[name] = network
        told |= {"network": name, "ip": str(own.ip)}
        self.report.append(f"understood: line {element.line}: {device} has {own}")

    def options(self, device: str, element: Element, told: dict[str, Any]) -> None:
        for key, value in element.attributes.items():
            if key in ("hwaddr", "macaddr") and value:
                told["mac"] = value.lower()
            elif key == "bonding_opts" and value:
                self.bonds[device] = self.bond(device, element, value)
            elif value:
                self.report.append(f"not understood: line {element.line}: {key}={value!a} of {device}")

    def bond(self, device: str, element: Element, options: str) -> dict[str, Any]:
        """`mode=4 miimon=100` as a bond's settings; what it cannot say is told."""
        told: dict[str, Any] = {}
        for word in options.split():
            key, _, value = word.partition("=")
            if key == "mode" and value in _MODES:
                told["mode"] = value
            elif key == "mode" and value.isdigit() and int(value) < len(_MODES):
                told["mode"] = _MODES[int(value)]
            elif key == "miimon" and value.isdigit():
                told["monitor_ms"] = int(value)
            else:
                self.report.append(f"not understood: line {element.line}: bonding option {word!a} of {device}")
        return told
