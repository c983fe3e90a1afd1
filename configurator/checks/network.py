"""Interfaces: addresses, routes, what is built upon what."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from configurator.checks.values import (
    Fault,
    IPInterface,
    firsts,
    is_interface_name,
    parsed_address,
    parsed_interface,
    repeated_faults,
    shown,
)
from configurator.record import Interface, Route

_MAC = re.compile(r"[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){5}(?:(?::[0-9A-Fa-f]{2}){14})?", re.ASCII)


def interface_faults(place: str, interface: Interface) -> Iterator[Fault]:
    if not is_interface_name(interface.name):
        yield Fault(
            f"{place}.name",
            f"not an interface's name (1..15 of letters, digits, '.', '_', '-'; not lo): {shown(interface.name)}",
        )
    if interface.mac is not None:
        yield from _mac(f"{place}.mac", interface.mac)
    if interface.mtu is not None and not 68 <= interface.mtu <= 65535:
        yield Fault(f"{place}.mtu", f"not an MTU (68..65535): {interface.mtu}")
    own = [*_own_addresses(place, interface)]
    if interface.dhcp and (interface.address is not None or interface.addresses):
        yield Fault(f"{place}.dhcp", "an interface has an address or uses DHCP, not both")
    for where, fault, _ in own:
        if fault:
            yield Fault(where, fault)
    addresses = [parsed for _, _, parsed in own if parsed is not None]
    if any(address.version == 6 for address in addresses) and interface.mtu is not None and interface.mtu < 1280:
        yield Fault(f"{place}.mtu", f"IPv6 needs an MTU of at least 1280: {interface.mtu}")
    if interface.gateway is not None:
        if not own:
            yield Fault(f"{place}.gateway", "a gateway needs an address on the same interface")
        yield from _next_hop(f"{place}.gateway", interface.gateway, addresses)
    for at, route in enumerate(interface.routes):
        yield from _route(f"{place}.routes[{at}]", route, addresses)
    ways = [f"{route.to} {_family(route.via)}" if route.to == "default" else route.to for route in interface.routes]
    yield from repeated_faults(f"{place}.routes", "to", ways)
    yield from _made(place, interface)


def _route(place: str, route: Route, own: Sequence[IPInterface]) -> Iterator[Fault]:
    yield from _next_hop(f"{place}.via", route.via, own)
    if route.to == "default":
        return
    network = parsed_interface(route.to)
    if network is None:
        yield Fault(f"{place}.to", f'not a network such as 10.8.0.0/16, nor "default": {shown(route.to)}')
    elif network.ip != network.network.network_address:
        yield Fault(f"{place}.to", f"has host bits set, the network is {network.network}: {shown(route.to)}")
    else:
        via = parsed_address(route.via)
        if via is not None and via.version != network.version:
            yield Fault(f"{place}.via", f"IPv{via.version} cannot be the way to an IPv{network.version} network")


def _own_addresses(place: str, interface: Interface) -> Iterator[tuple[str, str, IPInterface | None]]:
    """Place, fault or "", and the address where it is one, for each of the interface's addresses."""
    told = [(f"{place}.address", interface.address)] if interface.address is not None else []
    told.extend((f"{place}.addresses[{at}]", value) for at, value in enumerate(interface.addresses))
    for where, value in told:
        own = parsed_interface(value)
        if own is None:
            yield where, f"not an address with its prefix such as 10.77.0.11/24: {shown(value)}", None
        else:
            yield where, _own_address(own), own


def _made(place: str, interface: Interface) -> Iterator[Fault]:
    """What says that an interface is made by the node itself."""
    said = [word for word in ("bond", "vlan", "bridge") if getattr(interface, word) is not None]
    if len(said) > 1:
        yield Fault(place, f"is a {said[0]} or a {said[1]}, not both")
    if said and interface.mac is not None:
        yield Fault(f"{place}.mac", f"a {said[0]} is made, not found by its MAC")
    if said and interface.infiniband is not None:
        yield Fault(f"{place}.infiniband", f"a {said[0]} is no InfiniBand port")
    if interface.bond is not None:
        if not interface.bond.members:
            yield Fault(f"{place}.bond.members", "a bond has at least one member")
        if not 0 <= interface.bond.monitor_ms <= 10_000:
            yield Fault(f"{place}.bond.monitor_ms", f"not 0..10000 ms: {interface.bond.monitor_ms}")
    if interface.vlan is not None and not 1 <= interface.vlan.id <= 4094:
        yield Fault(f"{place}.vlan.id", f"not a VLAN (1..4094): {interface.vlan.id}")


def interfaces_faults(interfaces: Sequence[Interface]) -> Iterator[Fault]:
    """What several interfaces may not have in common, and whether members and parents are there."""
    yield from repeated_faults("record.interfaces", "name", [interface.name for interface in interfaces])
    yield from repeated_faults("record.interfaces", "mac", [(interface.mac or "").lower() for interface in interfaces])
    yield from _distinct_addresses(interfaces)
    families = [_family(interface.gateway) if interface.gateway else "" for interface in interfaces]
    for at, (family, first) in enumerate(zip(families, firsts(families), strict=True)):
        if family and first != at:
            yield Fault(
                f"record.interfaces[{at}].gateway", f"record.interfaces[{first}] has the {family} gateway already"
            )
    yield from _members(interfaces)


def _distinct_addresses(interfaces: Sequence[Interface]) -> Iterator[Fault]:
    seen: dict[str, str] = {}
    for at, interface in enumerate(interfaces):
        told = [("address", interface.address)] if interface.address is not None else []
        told.extend((f"addresses[{number}]", value) for number, value in enumerate(interface.addresses))
        for field, value in told:
            place = f"record.interfaces[{at}].{field}"
            first = seen.setdefault(value.partition("/")[0].lower(), place)
            if first != place:
                yield Fault(place, f"the same as {first}: {shown(value.partition('/')[0])}")


def _members(interfaces: Sequence[Interface]) -> Iterator[Fault]:
    """Members belong to one master and have no address; parents are there; nothing is built upon itself."""
    by_name = {interface.name: interface for interface in interfaces}
    masters: dict[str, str] = {}
    for at, interface in enumerate(interfaces):
        for place, name, is_parent in _built_upon(f"record.interfaces[{at}]", interface):
            below = by_name.get(name)
            if below is None:
                yield Fault(place, f"not an interface of this record: {shown(name)}")
            elif _reaches(by_name, name, interface.name):
                yield Fault(place, f"is built upon {shown(interface.name)} itself: {shown(name)}")
            elif is_parent:
                continue
            elif name in masters:
                yield Fault(place, f"belongs to {masters[name]} already: {shown(name)}")
            else:
                masters[name] = interface.name
                if below.address is not None or below.addresses or below.dhcp or below.routes:
                    yield Fault(place, f"a member has no address, routes or DHCP of its own: {shown(name)}")
                if interface.bridge is not None and (below.infiniband or len(below.mac or "") > 17):
                    yield Fault(place, f"an InfiniBand port cannot be bridged: {shown(name)}")


def _built_upon(place: str, interface: Interface) -> Iterator[tuple[str, str, bool]]:
    """Place, name, and whether it is a VLAN's parent."""
    if interface.vlan is not None:
        yield f"{place}.vlan.parent", interface.vlan.parent, True
    for word, made in (("bond", interface.bond), ("bridge", interface.bridge)):
        for at, name in enumerate(made.members if made is not None else ()):
            yield f"{place}.{word}.members[{at}]", name, False


def _reaches(by_name: dict[str, Interface], start: str, goal: str) -> bool:
    """Whether going down from `start` ever comes to `goal`."""
    todo, seen = [start], set[str]()
    while todo:
        name = todo.pop()
        if name == goal:
            return True
        if name not in seen and name in by_name:
            seen.add(name)
            todo.extend(below for _, below, _ in _built_upon("", by_name[name]))
    return False


def _family(address: str) -> str:
    return "IPv6" if ":" in address else "IPv4"


def _mac(place: str, value: str) -> Iterator[Fault]:
    if not _MAC.fullmatch(value):
        yield Fault(place, f"not a MAC address such as 52:54:00:12:34:56: {shown(value)}")
    elif len(value) == 17 and int(value[:2], 16) & 1:
        yield Fault(place, f"a multicast address is no interface's: {shown(value)}")
    elif not value.strip("0:"):
        yield Fault(place, f"not a MAC address of an interface: {shown(value)}")


def _own_address(own: IPInterface) -> str:
    """What is wrong with an address as an interface's own, or ""."""
    network = own.network
    if own.ip.is_unspecified or own.ip.is_multicast or own.ip.is_loopback:
        return f"not an address an interface can have: {own}"
    if own.version == 4 and network.prefixlen < 31 and own.ip in (network.network_address, network.broadcast_address):
        return f"is the network or broadcast address of {network}: {own}"
    return ""


def _next_hop(place: str, value: str, own: Sequence[IPInterface]) -> Iterator[Fault]:
    hop = parsed_address(value)
    if hop is None:
        yield Fault(place, f"not an IP address: {shown(value)}")
    elif own and not (hop.version == 6 and hop.is_link_local):
        family = [address for address in own if address.version == hop.version]
        if not family:
            yield Fault(place, f"not of the same family as {own[0]}: {shown(value)}")
        elif not any(hop in address.network for address in family):
            yield Fault(place, f"not on the interface's network {family[0].network}: {shown(value)}")
        elif any(hop == address.ip for address in family):
            yield Fault(place, f"is the interface's own address: {shown(value)}")
