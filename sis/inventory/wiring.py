"""Interfaces of nodes made ready: MACs and addresses in their one form, no two alike, free addresses given out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_address

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sis.errors import NotFound, UsageFault
from sis.inventory import schema
from sis.inventory.model import Interface, Network
from sis.inventory.names import check_address, check_mac
from sis.inventory.networks import all_networks, free_addresses, network_ids

FREE = "free"
"""As an interface's address: the next free one of its network."""


def settle(
    connection: Connection, wanted: Mapping[str, Sequence[Interface]]
) -> tuple[dict[str, tuple[Interface, ...]], list[str]]:
    """Interfaces with MACs and addresses in their one form and free addresses filled in, and all that is wrong."""
    if not wanted:
        return {}, []
    networks = all_networks(connection)
    mac_owner: dict[str, str] = {}
    address_owner: dict[str, str] = {}
    for row in connection.execute(
        sa.select(schema.nodes.c.name, schema.interfaces.c.mac, schema.interfaces.c.address).join_from(
            schema.nodes, schema.interfaces
        )
    ):
        if row.name not in wanted:
            if row.mac:
                mac_owner[row.mac] = row.name
            if row.address:
                address_owner[row.address] = row.name
    faults: list[str] = []
    settled: dict[str, tuple[Interface, ...]] = {}
    for name, interfaces in wanted.items():
        done = []
        for interface in interfaces:
            checked, wrong = _check_interface(name, interface, networks)
            faults += wrong
            if checked.mac:
                faults += _claim(mac_owner, "MAC", checked.mac, name)
            if checked.address not in (None, FREE):
                faults += _claim(address_owner, "address", str(checked.address), name)
            done.append(checked)
        settled[name] = tuple(done)
        labels = [interface.name for interface in done]
        faults += [f"{name} has two interfaces {label}" for label in {x for x in labels if labels.count(x) > 1}]
    if faults:
        return settled, faults
    pools: dict[str, Iterator[str]] = {}
    taken = set(address_owner)
    for name, done_already in settled.items():
        filled = []
        for interface in done_already:
            if interface.address == FREE:
                assert interface.network is not None
                pool = pools.setdefault(interface.network, free_addresses(networks[interface.network], taken))
                interface = replace(interface, address=next(pool))
            filled.append(interface)
        settled[name] = tuple(filled)
    return settled, []


def _check_interface(name: str, interface: Interface, networks: Mapping[str, Network]) -> tuple[Interface, list[str]]:
    faults = []
    try:
        if interface.mac is not None:
            interface = replace(interface, mac=check_mac(interface.mac))
        if interface.address not in (None, FREE):
            interface = replace(interface, address=check_address(str(interface.address)))
    except UsageFault as fault:
        return replace(interface, mac=None, address=None), [f"{name}: {fault.message}"]
    if interface.network is None:
        if interface.address is not None:
            faults.append(f"{name}: address {interface.address} belongs to no network")
        return interface, faults
    network = networks.get(interface.network)
    if network is None:
        hint = NotFound.of("network", interface.network, networks)
        return interface, [f"{name}: {hint.message}" + (f" ({hint.hint})" if hint.hint else "")]
    if interface.address not in (None, FREE) and ip_address(str(interface.address)) not in network.range:
        faults.append(f"{name}: {interface.address} is outside network {network.name} ({network.cidr})")
    elif interface.address is not None and interface.address in (network.gateway, network.data.get("head")):
        whose = "the gateway" if interface.address == network.gateway else "the head"
        faults.append(f"{name}: {interface.address} is {whose} of network {network.name}")
    return interface, faults


def _claim(owners: dict[str, str], what: str, value: str, name: str) -> list[str]:
    owner = owners.setdefault(value, name)
    if owner != name:
        return [f"{what} {value} belongs to {owner}: {name} cannot have it too"]
    if owners.get(f"{name} {value}"):
        return [f"{name} has {what} {value} twice"]
    owners[f"{name} {value}"] = name
    return []


def put_interfaces(connection: Connection, ids: Mapping[str, int], settled: Mapping[str, Sequence[Interface]]) -> None:
    numbers = network_ids(connection)
    rows = [
        {
            "node_id": ids[name],
            "position": position,
            "name": interface.name,
            "mac": interface.mac,
            "address": interface.address,
            "network_id": numbers[interface.network] if interface.network else None,
            "data": dict(interface.data),
        }
        for name, interfaces in settled.items()
        for position, interface in enumerate(interfaces)
    ]
    if rows:
        connection.execute(sa.insert(schema.interfaces), rows)
