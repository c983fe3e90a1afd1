"""The record's interfaces in the form every network renderer needs: parsed, canonical, name servers on the way out."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Literal, NamedTuple

from configurator.record import Bond, Bridge, Interface, Record, Route, Vlan

Kind = Literal["ethernet", "infiniband", "bond", "vlan", "bridge"]


class Hop(NamedTuple):
    """`to` is canonical CIDR ("0.0.0.0/0" for the default), `via` an address."""

    to: str
    via: str
    version: int


class Ip(NamedTuple):
    """One address with its network."""

    address: str
    prefix: int
    netmask: str
    version: int

    @property
    def cidr(self) -> str:
        return f"{self.address}/{self.prefix}"


class Port(NamedTuple):
    """One interface. Strings are "" and `mtu` is 0 where the record says nothing; `mac` is lower case.

    `master` is the bond or bridge it is a member of, `vlans` are the ports on top of it; `bond`, `vlan` and `bridge`
    say how it is made. `nameservers` and `search` are only on the port that leads out.
    """

    name: str
    mac: str
    kind: Kind
    dhcp: bool
    addresses: tuple[Ip, ...]
    gateway: str
    gateway_version: int
    mtu: int
    routes: tuple[Hop, ...]
    nameservers: tuple[str, ...]
    search: tuple[str, ...]
    master: str
    master_kind: Literal["bond", "bridge", ""]
    vlans: tuple[str, ...]
    bond: Bond | None
    vlan: Vlan | None
    bridge: Bridge | None
    connected: bool
    """IP over InfiniBand in connected mode."""

    @property
    def infiniband(self) -> bool:
        return self.kind == "infiniband"

    @property
    def made(self) -> bool:
        """Made by the node, not found."""
        return self.kind in ("bond", "vlan", "bridge")

    @property
    def manual(self) -> bool:
        """Brought up, but without an address."""
        return not self.addresses and not self.dhcp

    def of(self, version: int) -> tuple[Ip, ...]:
        """The addresses of one family."""
        return tuple(ip for ip in self.addresses if ip.version == version)


def ports(record: Record) -> Iterator[Port]:
    """The interfaces of a checked record, in its order."""
    out = _way_out(record)
    for interface in record.interfaces:
        leads_out = interface is out
        master, master_kind = _master(record, interface.name)
        yield Port(
            name=interface.name,
            mac=(interface.mac or "").lower(),
            kind=_kind(interface),
            dhcp=interface.dhcp,
            addresses=tuple(_ip(address) for address in addresses_of(interface)),
            gateway=str(ipaddress.ip_address(interface.gateway)) if interface.gateway else "",
            gateway_version=6 if interface.gateway and ":" in interface.gateway else 4,
            mtu=interface.mtu or 0,
            routes=tuple(_hop(route) for route in interface.routes),
            nameservers=record.nameservers if leads_out else (),
            search=search_list(record) if leads_out else (),
            master=master,
            master_kind=master_kind,
            vlans=tuple(each.name for each in record.interfaces if each.vlan and each.vlan.parent == interface.name),
            bond=interface.bond,
            vlan=interface.vlan,
            bridge=interface.bridge,
            connected=interface.infiniband == "connected",
        )


def addresses_of(interface: Interface) -> tuple[str, ...]:
    """All addresses of an interface as the record has them, the first one first."""
    return (interface.address, *interface.addresses) if interface.address is not None else interface.addresses


def search_list(record: Record) -> tuple[str, ...]:
    """The search domains; the node's own domain when none is named but name servers are."""
    if record.search or not record.nameservers:
        return record.search
    return (record.domain,) if record.domain else ()


def own_address(record: Record) -> str:
    """The node's first fixed address, or ""."""
    for interface in record.interfaces:
        for address in addresses_of(interface):
            return _ip(address).address
    return ""


def _kind(interface: Interface) -> Kind:
    if interface.bond is not None:
        return "bond"
    if interface.vlan is not None:
        return "vlan"
    if interface.bridge is not None:
        return "bridge"
    return "infiniband" if interface.infiniband or len(interface.mac or "") > 17 else "ethernet"


def _master(record: Record, name: str) -> tuple[str, Literal["bond", "bridge", ""]]:
    for interface in record.interfaces:
        if interface.bond is not None and name in interface.bond.members:
            return interface.name, "bond"
        if interface.bridge is not None and name in interface.bridge.members:
            return interface.name, "bridge"
    return "", ""


def _way_out(record: Record) -> Interface | None:
    interfaces = record.interfaces
    for wanted in (
        [interface for interface in interfaces if interface.gateway],
        [interface for interface in interfaces if interface.dhcp],
        [interface for interface in interfaces if addresses_of(interface)],
    ):
        if wanted:
            return wanted[0]
    return None


def _ip(text: str) -> Ip:
    own = ipaddress.ip_interface(text)
    return Ip(str(own.ip), own.network.prefixlen, str(own.netmask), own.version)


def _hop(route: Route) -> Hop:
    via = ipaddress.ip_address(route.via)
    default = "0.0.0.0/0" if via.version == 4 else "::/0"
    to = default if route.to == "default" else str(ipaddress.ip_network(route.to))
    return Hop(to, str(via), via.version)
