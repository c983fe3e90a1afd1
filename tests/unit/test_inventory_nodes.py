"""Nodes in the inventory: defined, selected, changed, deleted, and every fault with its message."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sis.errors import NotFound, SisError, UsageFault
from sis.inventory import db
from sis.inventory.db import Inventory
from sis.inventory.model import Assignment, Interface, Network, NewNode
from sis.inventory.names import check_mac, expand, fold, natural_key
from sis.inventory.networks import free_addresses
from sis.inventory.nodes import Change
from sis.inventory.wiring import FREE

MGMT = Network("mgmt", "10.77.0.0/24", gateway="10.77.0.254", domain="demo.cluster", data={"head": "10.77.0.1"})
COMPUTE = Assignment("compute", "stable", "single")


@pytest.fixture
def inventory(place: str | Path) -> Iterator[Inventory]:
    with db.open(place) as opened:
        opened.networks.put(MGMT)
        yield opened


def new(name: str, mac: str | None = None, address: str | None = FREE, **more: object) -> NewNode:
    network = "mgmt" if address else None
    return NewNode(name, (Interface("eth0", mac, address, network),), assignment=COMPUTE, **more)  # type: ignore[arg-type]


def some(inventory: Inventory, count: int) -> None:
    inventory.nodes.add([new(f"n{at}", f"52:54:00:00:00:{at:02x}", groups=("all",)) for at in range(1, count + 1)])


def test_addresses_are_given_in_order_after_those_kept_free(inventory: Inventory) -> None:
    some(inventory, 3)
    assert [node.address for node in inventory.nodes.list()] == ["10.77.0.11", "10.77.0.12", "10.77.0.13"]


def test_free_addresses_leave_out_gateway_head_dhcp_range_and_taken() -> None:
    network = Network("n", "10.0.0.0/29", "10.0.0.1", data={"head": "10.0.0.2", "dhcp": {"range": "10.0.0.3-10.0.0.4"}})
    found = free_addresses(network, {"10.0.0.5"})
    assert next(found) == "10.0.0.6"
    with pytest.raises(SisError, match=r"network n \(10\.0\.0\.0/29\) has no free address left"):
        next(found)


def test_order_is_natural(inventory: Inventory) -> None:
    some(inventory, 12)
    assert [node.name for node in inventory.nodes.list()][8:] == ["n9", "n10", "n11", "n12"]
    assert sorted(["n10", "n9", "a2b10", "a2b9"], key=natural_key) == ["a2b9", "a2b10", "n9", "n10"]


def test_node_sets_know_groups(inventory: Inventory) -> None:
    some(inventory, 4)
    inventory.nodes.change(["n1", "n2"], Change(join=("rack1",)))
    assert [node.name for node in inventory.nodes.select("@rack1!n2,n4")] == ["n1", "n4"]
    assert [node.name for node in inventory.nodes.select("@*")] == ["n1", "n2", "n3", "n4"]
    assert fold(node.name for node in inventory.nodes.select("@all")) == "n[1-4]"
    assert inventory.nodes.groups() == {"all": ("n1", "n2", "n3", "n4"), "rack1": ("n1", "n2")}


def test_unknown_names_come_with_near_ones(inventory: Inventory) -> None:
    some(inventory, 2)
    inventory.nodes.change(["n1"], Change(join=("rack1",)))
    with pytest.raises(NotFound) as caught:
        inventory.nodes.get("n11")
    assert (caught.value.message, caught.value.hint) == ("no such node: n11", "did you mean n1?")
    with pytest.raises(NotFound) as caught:
        inventory.nodes.select("n[1-4]")
    assert (caught.value.message, caught.value.hint) == ("no such node: n[3-4]", "did you mean n[1-2]?")
    with pytest.raises(NotFound) as caught:
        inventory.nodes.select("@rak1")
    assert (caught.value.message, caught.value.hint) == ("no such group: rak1", "did you mean rack1?")


@pytest.mark.parametrize("text", ["n[1", "n[1-", "@@", "n1,,", "n[1-999999999]", ""])
def test_what_is_no_node_set_is_a_usage_fault(inventory: Inventory, text: str) -> None:
    with pytest.raises(UsageFault):
        inventory.nodes.select(text)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([new("n2", "52:54:00:00:00:01")], "MAC 52:54:00:00:00:01 belongs to n1: n2 cannot have it too"),
        ([new("n2", address="10.77.0.11")], "address 10.77.0.11 belongs to n1: n2 cannot have it too"),
        ([new("n2", address="10.78.0.11")], "n2: 10.78.0.11 is outside network mgmt (10.77.0.0/24)"),
        ([new("n2", address="10.77.0.1")], "n2: 10.77.0.1 is the head of network mgmt"),
        ([new("n2", address="10.77.0.254")], "n2: 10.77.0.254 is the gateway of network mgmt"),
        ([new("n2", address="10.77.0")], "n2: not an IP address: '10.77.0'"),
        ([new("n2", "52:54:00:00:00")], "n2: not a MAC address: '52:54:00:00:00'"),
        ([new("n2", "53:54:00:00:00:01")], "n2: 53:54:00:00:00:01 is a multicast address, no interface has it"),
        ([new("n1")], "node n1 is defined already"),
        ([new("N2")], "'N2' cannot be a node's name"),
        ([new("n2.demo")], "'n2.demo' cannot be a node's name"),
        ([new("n2", groups=("a b",))], "'a b' cannot be a group's name"),
        (
            [NewNode("n2", (Interface("eth0", network="mgnt", address=FREE),))],
            "n2: no such network: mgnt (did you mean mgmt?)",
        ),
        (
            [new("n2", "52:54:00:00:00:09"), new("n3", "52:54:00:00:00:09")],
            "MAC 52:54:00:00:00:09 belongs to n2: n3 cannot have it too",
        ),
    ],
)
def test_faults_name_both_sides_and_change_nothing(inventory: Inventory, nodes: list[NewNode], message: str) -> None:
    some(inventory, 1)
    revision = inventory.settings.revision()
    with pytest.raises(SisError) as caught:
        inventory.nodes.add(nodes)
    assert caught.value.message == message
    assert inventory.nodes.names() == ("n1",)
    assert inventory.settings.revision() == revision


def test_all_faults_come_at_once(inventory: Inventory) -> None:
    some(inventory, 1)
    with pytest.raises(SisError) as caught:
        inventory.nodes.add([new("n1", "52:54:00:00:00:01", "10.1.1.1"), new("Bad", "zz")])
    assert caught.value.message.endswith("faults, nothing was changed")
    assert {line.split(":")[0] for line in caught.value.details} >= {"node n1 is defined already", "n1", "Bad"}


def test_ids_are_never_used_again(inventory: Inventory) -> None:
    some(inventory, 3)
    assert [node.id for node in inventory.nodes.list()] == [1, 2, 3]
    inventory.nodes.delete(["n3"])
    added = inventory.nodes.add([new("n3", "52:54:00:00:00:03")])
    assert added[0].id == 4


def test_deleting_leaves_no_trace_and_touches_no_namesake(inventory: Inventory) -> None:
    inventory.nodes.add([new("oscarnode1"), new("oscarnode10")])
    one, ten = inventory.nodes.list()
    inventory.access.arm([one.id, ten.id])
    inventory.orders.create([one.id, ten.id], "sync")
    assert inventory.nodes.delete(["oscarnode1"]) == 1
    assert inventory.nodes.names() == ("oscarnode10",)
    with inventory.database.read() as connection:
        for table in ("interfaces", "memberships", "assignments", "states", "armings", "orders"):
            owners = set(connection.exec_driver_sql(f"SELECT node_id FROM {table}").scalars())
            assert owners <= {ten.id}


def test_machine_ids_differ_and_stay(inventory: Inventory) -> None:
    some(inventory, 3)
    made = [node.machine_id for node in inventory.nodes.list()]
    assert len(set(made)) == 3
    assert all(len(one) == 32 and int(one, 16) for one in made)
    inventory.nodes.change(["n1"], Change(profile={"timezone": "UTC"}))
    assert [node.machine_id for node in inventory.nodes.list()] == made


def test_change_sets_image_vars_groups_and_interfaces(inventory: Inventory) -> None:
    some(inventory, 2)
    change = Change(
        assignment=lambda known: Assignment("thin", "12", known.layout if known else None),
        profile={"gpu": True, "rack": 3},
        join=("gpu",),
        leave=("all",),
    )
    changed = inventory.nodes.change(["n1"], change)
    assert changed[0].assignment == Assignment("thin", "12", "single")
    assert changed[0].profile == {"gpu": True, "rack": 3}
    assert changed[0].groups == ("gpu",)
    again = inventory.nodes.change(
        ["n1"],
        Change(
            profile={"rack": None}, interfaces={"n1": (Interface("eno1", "52:54:00:00:00:77", "10.77.0.99", "mgmt"),)}
        ),
    )
    assert again[0].profile == {"gpu": True}
    assert (again[0].address, again[0].macs) == ("10.77.0.99", ("52:54:00:00:00:77",))
    assert inventory.nodes.get("n2").groups == ("all",)


def test_by_mac(inventory: Inventory) -> None:
    some(inventory, 2)
    found = inventory.nodes.by_mac("52:54:00:00:00:02")
    assert found is not None
    assert found.name == "n2"
    assert inventory.nodes.by_mac("52:54:00:00:00:99") is None


def test_a_network_in_use_stays_and_does_not_shrink_below_its_nodes(inventory: Inventory) -> None:
    some(inventory, 1)
    with pytest.raises(SisError, match="network mgmt is in use by 1 interfaces"):
        inventory.networks.delete("mgmt")
    with pytest.raises(SisError, match=r"cannot become 10\.77\.0\.0/30") as caught:
        inventory.networks.put(Network("mgmt", "10.77.0.0/30"))
    assert caught.value.details == ("n1: 10.77.0.11",)


@pytest.mark.parametrize(
    ("said", "kept"), [("52-54-00-AB-CD-EF", "52:54:00:ab:cd:ef"), ("525400abcdef", "52:54:00:ab:cd:ef")]
)
def test_macs_have_one_form(said: str, kept: str) -> None:
    assert check_mac(said) == kept


def test_expand_is_in_natural_order_each_once() -> None:
    assert expand("n10,n9,n[8-9]", {}) == ["n8", "n9", "n10"]
