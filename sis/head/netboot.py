"""dnsmasq as the head's child: started and stopped as asked, its hosts following the inventory."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import Any, Literal

from anyio import to_thread

from sis.errors import NotFound, ProgramFailed, Refused, SisError, UsageFault
from sis.inventory.db import Inventory
from sis.inventory.model import Network
from sis.inventory.networks import dhcp_range
from sis.netboot import ports, tftp
from sis.netboot.dnsmasq import BootNetwork, Lease
from sis.system import process

log = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
TRY_AGAIN_S = 5.0
SETTING = "netboot"
"""The inventory's setting that `sis head netboot` writes: {"interface": "eth1", "mode": "full" or "proxy"}."""

DhcpMode = Literal["full", "proxy", "off"]


@dataclass(frozen=True)
class Wanted:
    """Where to serve DHCP and TFTP. `mode` None: as the network says."""

    interface: str
    mode: DhcpMode | None = None


@dataclass(frozen=True)
class Status:
    """What is so now: `network` while dnsmasq runs, else the `fault` that keeps it from running, or "" when off."""

    wanted: Wanted | None = None
    network: BootNetwork | None = None
    fault: str = ""


class Netboot:
    """Keeps dnsmasq as it is wanted, by the command line (`fixed`) or by the inventory's setting.

    `url_for` makes the head's URL for an address of its own. With `fixed` a fault is raised and ends the head;
    otherwise it is in `status`, and it is tried again.
    """

    def __init__(
        self, state: Path, inventory: Inventory, url_for: Callable[[str], str], fixed: Wanted | None = None
    ) -> None:
        self.status = Status()
        self._state = state
        self._inventory = inventory
        self._url_for = url_for
        self._fixed = fixed
        self._child: process.Child | None = None
        self._argv: tuple[str, ...] = ()
        self._revision: int | None = None
        self._retry_at = 0.0

    @property
    def fixed(self) -> bool:
        """Whether the command line of `sis head run` says where."""
        return self._fixed is not None

    async def begin(self) -> None:
        """Start what is wanted, before the head says that it is up. Raises SisError for what the command line wants."""
        await self._look()
        if self.status.network is not None:
            await asyncio.sleep(0.2)
            await self._look()

    async def follow(self) -> None:
        """Keep it so until cancelled. Raises SisError when what the command line wants cannot go on."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            await self._look()

    async def end(self) -> None:
        await to_thread.run_sync(self._stop)

    async def _look(self) -> None:
        try:
            await to_thread.run_sync(self._settle)
        except SisError as fault:
            await to_thread.run_sync(self._stop)
            if self._fixed is not None:
                raise
            if self.status.fault != str(fault):
                log.warning("%s", fault.message)
            self.status = Status(self.status.wanted, None, str(fault))
            self._retry_at = time.monotonic() + TRY_AGAIN_S

    def _settle(self) -> None:
        wanted = self._fixed or read(self._inventory)
        if wanted != self.status.wanted:
            self._stop()
            self.status = Status(wanted)
            self._revision, self._retry_at = None, 0.0
        if wanted is None:
            return
        if self._child is not None and self._child.poll() is not None:
            raise _dnsmasq_failed(self._argv, self._child.returncode, self._output)
        self._learn_ports()
        revision = self._inventory.settings.revision()
        if revision == self._revision and (self._child is not None or time.monotonic() < self._retry_at):
            return
        self._revision = revision
        network = boot_network(wanted.interface, wanted.mode, self._inventory.networks.list())
        if network != self.status.network:
            self._stop()
            self.status = Status(wanted, network)
            if network is not None:
                self._start(network)
        elif self._child is not None and network is not None:
            tftp.write_hosts(self._state, leases(self._inventory, network))
            self._child.send_signal(signal.SIGHUP)
        if network is None:
            self._retry_at = time.monotonic() + TRY_AGAIN_S

    def _learn_ports(self) -> None:
        """Tell the inventory of the switch ports that relays told of discovered machines."""
        folder = self._state / "run" / ports.FOLDER
        for mac, told in ports.seen(folder).items():
            if self._inventory.discoveries.learn(mac, told) or self._inventory.nodes.by_mac(mac) is not None:
                ports.forget(folder, mac)

    @property
    def _output(self) -> Path:
        return self._state / "logs" / "dnsmasq.log"

    def _start(self, network: BootNetwork) -> None:
        url = self._url_for(str(network.address.ip))
        self._argv = tftp.prepare(self._state, network, leases(self._inventory, network), head=url)
        self._output.parent.mkdir(parents=True, exist_ok=True)
        self._child = process.start(self._argv, output=self._output)

    def _stop(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            process.stop(child)


def read(inventory: Inventory) -> Wanted | None:
    """What the setting wants; None: nothing."""
    said = inventory.settings.get(SETTING)
    if not isinstance(said, dict) or not said.get("interface"):
        return None
    return Wanted(str(said["interface"]), said.get("mode"))


def write(inventory: Inventory, wanted: Wanted | None) -> None:
    """Set what is wanted; a running head follows within seconds. Raises NotFound, Refused and UsageFault."""
    if wanted is None:
        inventory.settings.set(**{SETTING: None})
        return
    if wanted.mode not in (None, "full", "proxy"):
        raise UsageFault(f"not a way to serve DHCP: {wanted.mode}", hint="full or proxy")
    boot_network(wanted.interface, wanted.mode, inventory.networks.list())
    inventory.settings.set(**{SETTING: {"interface": wanted.interface, "mode": wanted.mode}})


def boot_network(interface: str, mode: DhcpMode | None, networks: tuple[Network, ...]) -> BootNetwork | None:
    """The network nodes boot on by this interface, as the inventory defines it; None when DHCP is off there.

    Raises NotFound for an interface without IPv4 address, Refused when no network of the inventory fits it.
    """
    if mode == "off":
        return None
    found = addresses_of(interface)
    if not found:
        raise NotFound(f"interface {interface} has no IPv4 address", hint=f"see: ip -4 addr show dev {interface}")
    for own in found:
        for network in networks:
            if network.range.version == 4 and own.ip in network.range:
                return _as_boot_network(interface, own, mode, network)
    raise Refused(
        f"interface {interface} has {', '.join(map(str, found))}, which is in no network of the inventory",
        hint=f"define it: sis head init --network mgmt={found[0].network} --address {found[0].ip}",
    )


def addresses_of(interface: str) -> list[IPv4Interface]:
    """The IPv4 addresses of one of this machine's interfaces, with their prefix. Raises NotFound."""
    known = interfaces()
    if interface not in known:
        raise NotFound.of("interface", interface, known)
    return known[interface]


def interfaces() -> dict[str, list[IPv4Interface]]:
    """This machine's interfaces with their IPv4 addresses."""
    said = process.run(["ip", "-j", "addr"], timeout_s=10).stdout
    found: dict[str, list[IPv4Interface]] = {}
    for link in json.loads(said or "[]"):
        addresses: list[dict[str, Any]] = [each for each in link.get("addr_info", ()) if each.get("family") == "inet"]
        found[link["ifname"]] = [IPv4Interface(f"{each['local']}/{each['prefixlen']}") for each in addresses]
    return found


def leases(inventory: Inventory, network: BootNetwork) -> tuple[Lease, ...]:
    """The addresses dnsmasq gives to defined nodes on this network."""
    return tuple(
        Lease(mac=interface.mac, address=IPv4Address(interface.address), name=node.name)
        for node in inventory.nodes.list()
        for interface in node.interfaces
        if interface.mac and interface.address and IPv4Address(interface.address) in network.address.network
    )


def _as_boot_network(interface: str, own: IPv4Interface, mode: DhcpMode | None, network: Network) -> BootNetwork | None:
    chosen = mode or (network.data.get("dhcp") or {}).get("mode") or "full"
    if chosen not in ("full", "proxy"):
        return None
    first, last = dhcp_range(network)
    pool = (first, last) if isinstance(first, IPv4Address) and isinstance(last, IPv4Address) else None
    return BootNetwork(
        interface=interface,
        address=IPv4Interface(f"{own.ip}/{network.range.prefixlen}"),
        dhcp=chosen,
        pool=pool,
        gateway=IPv4Address(network.gateway) if network.gateway else None,
        nameservers=tuple(IPv4Address(server) for server in network.data.get("nameservers") or ()),
        domain=network.domain or None,
    )


def _dnsmasq_failed(argv: tuple[str, ...], returncode: int, output: Path) -> SisError:
    told = output.read_text(errors="replace") if output.exists() else ""
    hint = "another DHCP server on this port? see: ss -lunp 'sport = 67'" if "in use" in told[-2000:] else None
    return ProgramFailed(argv, returncode, told, hint=hint)
