"""Discovered machines: recorded, proposed names, accepted, turned away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sis.errors import NotFound, SisError, SpecInvalid
from sis.inventory import db
from sis.inventory.db import Inventory
from sis.inventory.intent import Intent
from sis.inventory.model import Assignment, Interface, Network, NewNode
from sis.inventory.naming import Template, read_list
from sis.inventory.wiring import FREE

A, B, C = "52:54:00:00:00:0a", "52:54:00:00:00:0b", "52:54:00:00:00:0c"


@pytest.fixture
def inventory(place: str | Path) -> Iterator[Inventory]:
    with db.open(place) as opened:
        opened.networks.put(Network("mgmt", "10.77.0.0/24"))
        yield opened


@pytest.fixture
def three(inventory: Inventory) -> Inventory:
    """Three machines booted; n2 is defined and has no MAC yet, n9 is defined and has one."""
    for mac, serial in ((A, "AAA"), (B, "BBB"), (C, "")):
        inventory.discoveries.record(mac, {"serial": serial, "address": "10.77.0.201"})
    taken = NewNode("n9", (Interface("eth0", "52:54:00:00:00:99", FREE, "mgmt"),))
    inventory.nodes.add([NewNode("n2", (Interface("eth0", None, FREE, "mgmt"),)), taken])
    return inventory


def proposed(inventory: Inventory, *args: object, **more: object) -> list[tuple[str, str, str]]:
    found = Intent(inventory).proposals(*args, **more)  # type: ignore[arg-type]
    return [(each.machine.mac, each.name, each.why) for each in found]


def test_in_order_of_their_first_boot(three: Inventory) -> None:
    assert proposed(three, "order", names=["n1", "n9", "n2"]) == [
        (A, "n1", "next in order"),
        (B, "n2", "next in order"),
        (C, "", "no name is left"),
    ]


def test_by_list_serial_and_switch_port(three: Inventory) -> None:
    listed = read_list(f"mac,name\n{A.upper()},n1\n52-54-00-00-00-0b,n9\n", "list")
    assert proposed(three, "list", listed=listed) == [
        (A, "n1", f"MAC {A}"),
        (B, "", "n9 has its MAC already"),
        (C, "", f"MAC {C} is not in the list"),
    ]
    serials = read_list("aaa n1\nBBB n1\n".replace("BBB n1", "BBB n2"), "serial")
    assert proposed(three, "serial", listed=serials) == [
        (A, "n1", "serial number aaa"),
        (B, "n2", "serial number bbb"),
        (C, "", "its serial number is not known"),
    ]
    assert three.discoveries.learn(C, {"switch": "sw-1", "port": "Ethernet1/3"})
    assert not three.discoveries.learn("52:54:00:ff:00:01", {"port": "1"})
    ports = read_list("sw-1;Ethernet1/3;n3\n", "switch")
    assert proposed(three, "switch", listed=ports)[2] == (C, "n3", "switch port sw 1 ethernet1 3")


def test_a_list_tells_all_its_faults_with_their_lines() -> None:
    text = f"{A},n1\n{A},n2\nnonsense,n3\n{B},N_4\n\n# all\n{C}\n{B},n1\n"
    with pytest.raises(SpecInvalid) as caught:
        read_list(text, "list", "macs.csv")
    assert caught.value.details == (
        f"macs.csv:2: '{A}' is here twice",
        "macs.csv:3: not a MAC address: 'nonsense'",
        "macs.csv:4: 'N_4' cannot be a node's name",
        f"macs.csv:7: a key and a name are wanted, not '{C}'",
        "macs.csv:8: n1 is named in line 1 too",
    )


def test_acceptance_defines_nodes_and_gives_macs_to_those_that_lack_them(three: Inventory) -> None:
    template = Template(network="mgmt", groups=("rack1",), assignment=Assignment("compute", "stable"))
    tried = Intent(three).accept({A: "n1", B: "n2"}, template, dry_run=True)
    assert [node.name for node in tried.nodes] == ["n1", "n2"]
    assert three.nodes.names() == ("n2", "n9")
    Intent(three).accept({A: "n1", B: "n2"}, template)
    n1, n2, _ = three.nodes.list()
    assert (n1.macs, n1.address, n1.groups, n1.arming) == ((A,), "10.77.0.13", ("rack1",), None)
    assert (n2.macs, n2.address, n2.groups) == ((B,), "10.77.0.11", ())
    assert [each.mac for each in three.discoveries.list()] == [C]


def test_acceptance_is_all_or_nothing_and_tells_every_fault(three: Inventory) -> None:
    with pytest.raises(SisError) as caught:
        Intent(three).accept({A: "n9", B: "n1", C: "n1"})
    assert caught.value.details == (
        f"n9 has the MAC 52:54:00:00:00:99 already (another machine: sis node set n9 mac={A})",
        f"n1 cannot be both {B} and {C}",
    )
    with pytest.raises(NotFound, match="no such discovered machine"):
        Intent(three).accept({"52:54:00:00:77:77": "n1"})
    assert three.nodes.names() == ("n2", "n9")


def test_turned_away_and_taken_back(three: Inventory) -> None:
    three.discoveries.reject([A])
    assert [each.mac for each in three.discoveries.list()] == [B, C]
    assert [each.mac for each in three.discoveries.list(rejected=True)] == [A]
    three.discoveries.record(A, {"platform": "efi"})
    assert [each.mac for each in three.discoveries.list()] == [B, C]
    assert proposed(three, "order", names=["n1"])[0] == (B, "n1", "next in order")
    three.discoveries.reconsider([A])
    known = three.discoveries.list()[0]
    assert (known.mac, known.boots, known.said("serial"), known.said("platform")) == (A, 2, "AAA", "efi")
    told = [(each.subject, each.what) for each in three.stream.last(kinds=["discovered"])]
    assert told[-2:] == [(A, "rejected"), (A, "reconsidered")]
