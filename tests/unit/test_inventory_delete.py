"""A deleted node leaves no trace in any table, in no boot answer, lease or render; and no other node loses anything."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from sis.head.netboot import leases
from sis.inventory import db, records, schema
from sis.inventory.db import Inventory
from sis.inventory.intent import Intent
from sis.inventory.model import Interface, Network, NewNode
from sis.netboot.dnsmasq import BootNetwork, hosts

NAMES = ("oscarnode1", "oscarnode10", "oscarnode11", "node1")
SIGN = "trace-of-{}-"
HISTORY = {"changes", "audit"}
"""Who did what stays told."""


@pytest.fixture
def inventory(place: str | Path) -> Iterator[Inventory]:
    """Four nodes with a row in every table that can hold one, each row with a sign of its node in every text."""
    with db.open(place) as opened:
        opened.networks.put(Network("mgmt", "10.77.0.0/24", data={"head": "10.77.0.1"}))
        nodes = opened.nodes.add(
            [
                NewNode(
                    name, (Interface("eth0", f"52:54:00:00:00:{at:02x}", f"10.77.0.{at + 10}", "mgmt"),), (f"g{at}",)
                )
                for at, name in enumerate(NAMES)
            ]
        )
        for node in nodes:
            opened.discoveries.record(node.macs[0], {"sign": SIGN.format(node.name)})
            opened.history.record_facts(node.id, {"sign": SIGN.format(node.name)})
            opened.host_keys.of(node)
        with opened.database.write() as connection:
            for table in schema.metadata.sorted_tables:
                for node in nodes:
                    _fill(connection, table, node.id, node.name)
        yield opened


def _fill(connection: sa.Connection, table: sa.Table, node_id: int, name: str) -> None:
    """A row of this node, if the table is about nodes and holds none yet."""
    if "node_id" not in table.c:
        return
    if connection.execute(sa.select(sa.func.count()).where(table.c.node_id == node_id)).scalar():
        return
    values = {column.name: _value(connection, column, node_id, name) for column in table.c if not _made(column)}
    connection.execute(sa.insert(table).values(**values))


def _made(column: sa.Column[Any]) -> bool:
    return column.name == "id" or column.name == "report_id"


def _value(connection: sa.Connection, column: sa.Column[Any], node_id: int, name: str) -> Any:
    if column.name == "node_id":
        return node_id
    keys = list(column.foreign_keys)
    if keys:
        other = keys[0].column
        found = connection.execute(sa.select(other)).scalars().first()
        if found is None:
            values = {
                each.name: _value(connection, each, node_id, "rollout") for each in other.table.c if each.name != "id"
            }
            found = connection.execute(sa.insert(other.table).values(**values)).inserted_primary_key[0]
        return found
    if isinstance(column.type, sa.JSON):
        return {"sign": SIGN.format(name)}
    if isinstance(column.type, sa.Boolean):
        return False
    if isinstance(column.type, sa.Integer | sa.Float):
        return 0
    length = getattr(column.type, "length", None)
    return f"{SIGN.format(name)}{column.name}"[: length or 60]


def rows_of(inventory: Inventory) -> dict[str, list[str]]:
    """Every row of every table as text, but those of history and what counts changes."""
    with inventory.database.read() as connection:
        return {
            table.name: sorted(str(tuple(row)) for row in connection.execute(sa.select(table)))
            for table in schema.metadata.sorted_tables
            if table.name not in {*HISTORY, "settings"}
        }


def test_every_trace_goes_and_nothing_of_others(inventory: Inventory) -> None:
    with inventory.database.read() as connection:
        about = [table.name for table in schema.metadata.sorted_tables if "node_id" in table.c]
        for name in about:
            table = schema.metadata.tables[name]
            found = connection.execute(sa.select(sa.func.count(sa.distinct(table.c.node_id)))).scalar()
            assert found == len(NAMES), name
    gone, before = inventory.nodes.get("oscarnode1"), rows_of(inventory)
    assert Intent(inventory).delete(["oscarnode1"]) == 1
    after = rows_of(inventory)
    signs = (SIGN.format("oscarnode1"), "'oscarnode1'", gone.macs[0], gone.machine_id, "10.77.0.10'")
    for table, rows in after.items():
        assert not [row for row in rows if any(sign in row for sign in signs)], table
        kept = [row for row in before[table] if row in rows]
        assert kept == rows, table
        lost = len(before[table]) - len(rows)
        assert lost == (1 if table in {*about, "nodes", "groups", "discoveries"} else 0) or table == "stream", table
    assert inventory.nodes.names() == ("node1", "oscarnode10", "oscarnode11")
    assert inventory.nodes.groups().keys() == {"g1", "g2", "g3"}


def test_it_boots_and_resolves_no_more(inventory: Inventory) -> None:
    boots = BootNetwork(interface="eth1", address=IPv4Interface("10.77.0.1/24"))
    assert "oscarnode1\n" in hosts(leases(inventory, boots))
    mac = inventory.nodes.get("oscarnode1").macs[0]
    Intent(inventory).delete(["oscarnode1"])
    written = hosts(leases(inventory, boots))
    assert mac not in written
    assert "oscarnode1\n" not in written
    assert "oscarnode10\n" in written
    assert inventory.nodes.by_mac(mac) is None
    around = records.surroundings(inventory)
    assert {peer.name for peer in around.peers} == {"node1", "oscarnode10", "oscarnode11"}


def test_its_id_and_secrets_are_never_used_again(inventory: Inventory) -> None:
    old = inventory.nodes.get("oscarnode1")
    Intent(inventory).delete(["oscarnode1"])
    inventory.nodes.add([NewNode("oscarnode1")])
    new = inventory.nodes.get("oscarnode1")
    assert new.id > old.id
    assert new.machine_id != old.machine_id
    assert inventory.history.facts(new.id) is None
    assert inventory.history.events("oscarnode1") == ()
    with inventory.database.read() as connection:
        assert connection.execute(sa.select(schema.node_keys).where(schema.node_keys.c.node_id == new.id)).all() == []
