"""systemconfig.conf: the blocks of SystemConfigurator as settings of one node."""

from __future__ import annotations

import ipaddress
import re
import shlex
from collections.abc import Iterator
from typing import Any, NamedTuple

from configurator.errors import ConfiguratorError
from configurator.importing import Imported
from configurator.importing.yamltext import yaml_text

_BLOCK = re.compile(r"\[\s*([A-Za-z]+)([0-9]*)\s*\]")
_SETTING = re.compile(r"([A-Za-z][A-Za-z0-9_]*)\s*=\s*(.*)")
_HOSTID = re.compile(r"<HOSTID([+-][0-9]{1,9})?>", re.IGNORECASE)
_ACTIONS = ("CONFIGBOOT", "CONFIGRD", "CONFIGSI", "CONFIGHW", "CONFIGNET", "CONFIGTIME", "CONFIGALL", "CONFIGKEYBOARD")
_ACTIONS_TOO = ("RUNBOOT", "CONFIGUSEREXIT", "CONFIGRUNBOOT")


class Setting(NamedTuple):
    block: str
    number: int | None
    key: str
    value: str
    line: int

    @property
    def said(self) -> str:
        block = f"[{self.block}{'' if self.number is None else self.number}] " if self.block else ""
        return f"line {self.line}: {block}{self.key} = {self.value!a}"


def is_one(text: str) -> bool:
    """Whether it has a block, or a global setting, of this file's."""
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    return any(_BLOCK.fullmatch(line) or _SETTING.fullmatch(line) for line in lines)


def hostid(name: str) -> int:
    """All digits of a host name as one number, as <HOSTID> meant it: node007 is 7. Raises ConfiguratorError."""
    digits = "".join(letter for letter in name if letter in "0123456789")
    if not digits:
        raise ConfiguratorError(f"the host name {name!a} has no digit, so <HOSTID> is nothing")
    return int(digits)


def expand_hostid(text: str, name: str) -> str:
    """<HOSTID>, <HOSTID+2> and <HOSTID-100> replaced."""
    return _HOSTID.sub(lambda found: str(hostid(name) + int(found.group(1) or 0)), text)


def settings(text: str, faults: list[str]) -> Iterator[Setting]:
    """The settings, in order; a line that ends in \\ goes on in the next. What is none is told in `faults`."""
    block, number = "", None
    waiting, began = "", 0
    for at, raw in enumerate(text.splitlines(), 1):
        line = _without_comment(raw).strip()
        began = began if waiting else at
        if line.endswith("\\"):
            waiting += line[:-1] + " "
            continue
        line, waiting = (waiting + line).strip(), ""
        if not line:
            continue
        opened, setting = _BLOCK.fullmatch(line), _SETTING.fullmatch(line)
        if opened is not None:
            block, digits = opened.group(1).upper(), opened.group(2)
            number = int(digits) if digits else None
            if digits and digits != str(number):
                faults.append(f"not understood: line {began}: [{block}{digits}]: numbers have no leading zeros")
                block = "?"
        elif setting is None:
            faults.append(f"not understood: line {began}: {line!a}")
        else:
            yield Setting(block, number, setting.group(1).upper(), setting.group(2).strip().strip('"'), began)


def _without_comment(line: str) -> str:
    return re.sub(r"(^|\s)#.*", "", line)


def read(text: str) -> Imported:
    """One node's file. The node is called HOSTNAME, or `node` when it has none."""
    report: list[str] = []
    found = [*settings(text, report)]
    reading = _Reading(found, report)
    return Imported(reading.yaml(), tuple(sorted(reading.report, key=_line_of)))


def _line_of(line: str) -> int:
    found = re.search(r"line ([0-9]+)", line)
    return int(found.group(1)) if found else 0


class _Reading:
    """Takes settings one by one; what nobody took is not understood."""

    def __init__(self, found: list[Setting], report: list[str]) -> None:
        self._left = {(each.block, each.number, each.key): each for each in found}
        self.report = report

    def take(self, block: str, key: str, number: int | None = None, why: str = "") -> str:
        """The value, or ""; it counts as understood."""
        setting = self._left.pop((block, number, key), None)
        if setting is None:
            return ""
        self.report.append(f"understood: {setting.said}{f' ({why})' if why else ''}")
        return setting.value

    def numbers(self, block: str) -> list[int | None]:
        found = {number for name, number, _ in self._left if name == block}
        return sorted(found, key=lambda number: -1 if number is None else number)

    def yaml(self) -> str:
        for key in (*_ACTIONS, *_ACTIONS_TOO):
            self.take("", key, why="every file is always rendered here")
        name = self.take("NETWORK", "HOSTNAME") or "node"
        domain = self.take("NETWORK", "DOMAINNAME")
        self.take("NETWORK", "SHORTHOSTNAME", why="/etc/hostname holds the short name")
        networks, interfaces = self._network(domain)
        node: dict[str, Any] = {"interfaces": interfaces} if interfaces else {}
        node |= self._hardware() | self._boot(name) | self._time()
        self._user_exits()
        for setting in self._left.values():
            self.report.append(f"not understood: {setting.said}")
        file: dict[str, Any] = {"cluster": "imported"}
        file |= {"networks": networks} if networks else {}
        file["nodes"] = {name.partition(".")[0]: node}
        return yaml_text(file, ["made from a systemconfig.conf; read it before you use it"])

    def _network(self, domain: str) -> tuple[dict[str, Any], dict[str, Any]]:
        gateway = self.take("NETWORK", "GATEWAY") or self.take("NETWORK", "DEFAULTGW")
        self.take("NETWORK", "GATEWAYDEV", why="the interface whose network the gateway is in")
        servers = [
            value
            for number in (1, 2, 3)
            for value in (self.take("NETWORK", f"DNS{number}") or self.take("NETWORK", f"NAMESERVER{number}"),)
            if value
        ]
        search = self.take("NETWORK", "SEARCH").split()
        networks: dict[str, Any] = {}
        interfaces: dict[str, Any] = {}
        for number in self.numbers("INTERFACE"):
            device = self.take("INTERFACE", "DEVICE", number) or f"eth{number or 0}"
            kind = self.take("INTERFACE", "TYPE", number).lower() or "dhcp"
            address, mask = self.take("INTERFACE", "IPADDR", number), self.take("INTERFACE", "NETMASK", number)
            network = _network_of(address, mask) if kind == "static" else None
            if network is None:
                why = (
                    f"{address!a} with netmask {mask!a}" if kind == "static" else "DHCP, on a network it does not name"
                )
                self.report.append(f"not understood: [INTERFACE{number}]: {device} is left out: {why}")
                continue
            called = next((name for name, each in networks.items() if each["cidr"] == str(network)), None)
            if called is None:
                called = "cluster" if not networks else f"net{len(networks)}"
                networks[called] = _network_settings(network, gateway, domain, servers, search, first=not networks)
            interfaces[device] = {"network": called, "ip": address}
        lost = [("gateway", gateway)] if not any("gateway" in each for each in networks.values()) else []
        lost.extend(("name server", server) for server in (servers if not networks else ()))
        self.report.extend(f"not understood: {what} {value!a} is on no network" for what, value in lost if value)
        return networks, interfaces

    def _hardware(self) -> dict[str, Any]:
        order = self.take("HARDWARE", "ORDER").split()
        return {"modules": order} if order else {}

    def _boot(self, name: str) -> dict[str, Any]:
        words = self._words(self.take("BOOT", "APPEND"), name, "[BOOT]")
        default = self.take("BOOT", "DEFAULTBOOT", why="the kernel is chosen by its release")
        for key in ("ROOTDEV", "BOOTDEV"):
            self.take("BOOT", key, why="disks are found by the layout")
        for key in ("TIMEOUT", "VGA", "EXTRAS", "PREFERED", "PREFERRED"):
            self.take("BOOT", key, why="the boot menu is the layout's")
        for number in self.numbers("KERNEL"):
            label = self.take("KERNEL", "LABEL", number)
            append = self.take("KERNEL", "APPEND", number)
            path = self.take("KERNEL", "PATH", number, "kernels are the image's own")
            for key in ("INITRD", "ROOTDEV", "HOSTOS"):
                self.take("KERNEL", key, number, "kernels are the image's own")
            if label == default or not default:
                words.extend(self._words(append, name, f"[KERNEL{number}]"))
                default = label
            elif append:
                self.report.append(f"not understood: [KERNEL{number}]: {path} is not the default, its APPEND is left")
        return {"kernel_cmdline": " ".join(words)} if words else {}

    def _words(self, append: str, name: str, place: str) -> list[str]:
        words = []
        for word in (each.rstrip(",") for each in append.split()):
            if word.startswith("nb_nodes="):
                self.report.append(f"understood: {place} {word}: the kernel's word is nb_nodes_min")
                word = word.replace("nb_nodes=", "nb_nodes_min=", 1)
            try:
                words.append(expand_hostid(word, name))
            except ConfiguratorError as error:
                self.report.append(f"not understood: {place} {word}: {error.message}")
        return words

    def _time(self) -> dict[str, Any]:
        zone = self.take("TIME", "ZONE")
        utc = self.take("TIME", "UTC", why="hardware clocks run in UTC")
        if utc.lower() in ("no", "0", "false"):
            self.report.append("not understood: [TIME] UTC = no: a hardware clock in local time is not supported")
        return {"timezone": zone} if zone else {}

    def _user_exits(self) -> None:
        for number in self.numbers("USEREXIT"):
            command = self.take("USEREXIT", "CMD", number)
            parameters = self.take("USEREXIT", "PARAMS", number)
            said = shlex.join([command, *parameters.split()]) if command else ""
            self.report.append(
                f"not understood: [USEREXIT{'' if number is None else number}]: programs are not run at install: {said}"
            )


def _network_of(address: str, mask: str) -> ipaddress.IPv4Network | None:
    try:
        return ipaddress.IPv4Interface(f"{address}/{mask or '24'}").network
    except ValueError:
        return None


def _network_settings(
    network: ipaddress.IPv4Network, gateway: str, domain: str, servers: list[str], search: list[str], *, first: bool
) -> dict[str, Any]:
    told: dict[str, Any] = {"cidr": str(network)}
    try:
        inside = bool(gateway) and ipaddress.IPv4Address(gateway) in network
    except ValueError:
        inside = False
    told |= {"gateway": gateway} if inside else {}
    if first:
        told |= {"domain": domain} if domain else {}
        told |= {"nameservers": servers} if servers else {}
        told |= {"search": search} if search else {}
    return told
