"""The record's interfaces in the form every network renderer needs: parsed, canonical, name servers on the way out."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import NamedTuple

from configurator.record import Interface, Record, Route


class Hop(NamedTuple):
    """`to` is canonical CIDR ("0.0.0.0/0" for the default), `via` an address."""

    to: str
    via: str
    version: int


class Port(NamedTuple):
    """One interface. Strings are "" and `mtu` is 0 where the record says nothing; `mac` is lower case.

    `address` is without prefix; `nameservers` and `search` are only on the port that leads out.
    """

    name: str
    mac: str
    infiniband: bool
    dhcp: bool
    address: str
    prefix: int
    netmask: str
    version: int
    gateway: str
    mtu: int
    routes: tuple[Hop, ...]
    nameservers: tuple[str, ...]
    search: tuple[str, ...]

    @property
    def manual(self) -> bool:
        """Brought up, but without an address."""
        return not self.address and not self.dhcp

    @property
    def cidr(self) -> str:
        return f"{self.address}/{self.prefix}"


def ports(record: Record) -> Iterator[Port]:
    """The interfaces of a checked record, in its order."""
    out = _way_out(record)
    for interface in record.interfaces:
        leads_out = interface is out
        own = ipaddress.ip_interface(interface.address) if interface.address is not None else None
        mac = (interface.mac or "").lower()
        yield Port(
            name=interface.name,
            mac=mac,
            infiniband=len(mac) > 17,
            dhcp=interface.dhcp,
            address=str(own.ip) if own else "",
            prefix=own.network.prefixlen if own else 0,
            netmask=str(own.netmask) if own else "",
            version=own.version if own else 4,
            gateway=str(ipaddress.ip_address(interface.gateway)) if interface.gateway else "",
            mtu=interface.mtu or 0,
            routes=tuple(_hop(route) for route in interface.routes),
            nameservers=record.nameservers if leads_out else (),
            search=search_list(record) if leads_out else (),
        )


def search_list(record: Record) -> tuple[str, ...]:
    """The search domains; the node's own domain when none is named but name servers are."""
    if record.search or not record.nameservers:
        return record.search
    return (record.domain,) if record.domain else ()


def own_address(record: Record) -> str:
    """The node's first fixed address, or ""."""
    for interface in record.interfaces:
        if interface.address is not None:
            return str(ipaddress.ip_interface(interface.address).ip)
    return ""


def _way_out(record: Record) -> Interface | None:
    interfaces = record.interfaces
    for wanted in (
        [interface for interface in interfaces if interface.gateway],
        [interface for interface in interfaces if interface.dhcp],
        [interface for interface in interfaces if interface.address],
    ):
        if wanted:
            return wanted[0]
    return None


def _hop(route: Route) -> Hop:
    via = ipaddress.ip_address(route.via)
    default = "0.0.0.0/0" if via.version == 4 else "::/0"
    to = default if route.to == "default" else str(ipaddress.ip_network(route.to))
    return Hop(to, str(via), via.version)
