"""Networks, and which of their addresses are free."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterator

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from sis.errors import NotFound, Refused, SisError, UsageFault
from sis.inventory import schema, settings
from sis.inventory.database import Database
from sis.inventory.model import Network
from sis.inventory.names import check_group

KEPT_FREE = 10
"""The first addresses of a network left to the head, switches and routers (in networks of 64 addresses and more)."""


class Networks:
    def __init__(self, database: Database) -> None:
        self._database = database

    def list(self) -> tuple[Network, ...]:
        with self._database.read() as connection:
            return tuple(all_networks(connection).values())

    def get(self, name: str) -> Network:
        """Raises NotFound."""
        known = {network.name: network for network in self.list()}
        if name not in known:
            raise NotFound.of("network", name, known)
        return known[name]

    def put(self, network: Network) -> None:
        """Define a network, or change it. Raises UsageFault when a node's address would fall outside."""
        with self._database.write() as connection:
            put_network(connection, network)
            settings.touch(connection)

    def delete(self, name: str) -> None:
        """Raises NotFound, and Refused while interfaces are on it."""
        self.get(name)
        table = schema.networks
        with self._database.write() as connection:
            users = connection.execute(
                sa.select(schema.nodes.c.name)
                .join_from(schema.interfaces, schema.nodes)
                .join(table, table.c.id == schema.interfaces.c.network_id)
                .where(table.c.name == name)
            ).all()
            if users:
                raise Refused(f"network {name} is in use by {len(users)} interfaces", hint="delete or move them first")
            connection.execute(sa.delete(table).where(table.c.name == name))
            settings.touch(connection)


def all_networks(connection: Connection) -> dict[str, Network]:
    rows = connection.execute(sa.select(schema.networks).order_by(schema.networks.c.id)).all()
    return {row.name: _network(row) for row in rows}


def network_ids(connection: Connection) -> dict[str, int]:
    return {row.name: row.id for row in connection.execute(sa.select(schema.networks.c.name, schema.networks.c.id))}


def put_network(connection: Connection, network: Network) -> None:
    checked = check_network(network)
    table = schema.networks
    values = {
        "cidr": checked.cidr,
        "gateway": checked.gateway,
        "domain": checked.domain,
        "data": dict(checked.data),
    }
    outside = [
        row
        for row in connection.execute(
            sa.select(schema.interfaces.c.address, schema.nodes.c.name)
            .join_from(schema.interfaces, schema.nodes)
            .join(table, table.c.id == schema.interfaces.c.network_id)
            .where(table.c.name == checked.name, schema.interfaces.c.address.is_not(None))
        )
        if ipaddress.ip_address(row.address) not in checked.range
    ]
    if outside:
        raise UsageFault(
            f"network {checked.name} cannot become {checked.cidr}: nodes have addresses outside it",
            details=[f"{row.name}: {row.address}" for row in outside[:10]],
        )
    if not connection.execute(sa.update(table).where(table.c.name == checked.name).values(**values)).rowcount:
        connection.execute(sa.insert(table).values(name=checked.name, **values))


def check_network(network: Network) -> Network:
    """The network itself when it makes sense. Raises UsageFault."""
    check_group(network.name)
    try:
        span = ipaddress.ip_network(network.cidr)
    except ValueError as error:
        raise UsageFault(
            f"network {network.name}: not a network: {network.cidr} ({error})", hint="it looks like 10.77.0.0/24"
        ) from error
    if network.gateway is not None:
        try:
            gateway = ipaddress.ip_address(network.gateway)
        except ValueError as error:
            raise UsageFault(f"network {network.name}: not an address: gateway {network.gateway}") from error
        if gateway not in span:
            raise UsageFault(f"network {network.name}: the gateway {gateway} is outside {span}")
    return network


def free_addresses(network: Network, taken: Collection[str]) -> Iterator[str]:
    """Addresses of a network no one has, in order: without those kept free, the gateway, the head and the DHCP range.

    Raises SisError when the network is full.
    """
    span = network.range
    kept = {network.gateway, network.data.get("head")}
    first, last = dhcp_range(network)
    start = KEPT_FREE + 1 if span.num_addresses >= 64 else 1
    end = span.num_addresses - (1 if span.version == 4 else 0)
    for offset in range(start, end):
        address = span[offset]
        if first is not None and last is not None and int(first) <= int(address) <= int(last):
            continue
        text = str(address)
        if text not in taken and text not in kept:
            yield text
    raise SisError(
        f"network {network.name} ({network.cidr}) has no free address left",
        hint="give addresses with --ip, or define a wider network",
    )


def dhcp_range(
    network: Network,
) -> tuple[ipaddress.IPv4Address | ipaddress.IPv6Address | None, ipaddress.IPv4Address | ipaddress.IPv6Address | None]:
    """First and last address of the range for unknown machines, or (None, None)."""
    said = str((network.data.get("dhcp") or {}).get("range") or "")
    first, dash, last = said.partition("-")
    if not dash:
        return None, None
    return ipaddress.ip_address(first.strip()), ipaddress.ip_address(last.strip())


def _network(row: Row[tuple[object, ...]]) -> Network:
    return Network(name=row.name, cidr=row.cidr, gateway=row.gateway, domain=row.domain, data=row.data)
