"""The inventory in the forms of others: what they wrote comes in, what goes out they read, and round trips."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sis.errors import NotFound, SpecInvalid, UsageFault
from sis.inventory import db
from sis.inventory.cluster import load_cluster
from sis.inventory.db import Inventory
from sis.inventory.exchange import forms
from sis.inventory.exchange.bring import Brought, bring
from sis.inventory.intent import Intent
from sis.inventory.model import Assignment, Interface, Network, NewNode, Node
from sis.inventory.settings_words import Checks
from sis.spec import cluster as cluster_spec

MGMT = Network("mgmt", "192.168.0.0/22", gateway="192.168.0.254", domain="oscar.cluster", data={"head": "192.168.0.1"})
PARSED = """\
#Name:Hostname:Gateway:Image
oscarnode1:oscarnode1.oscardomain:192.168.0.1:oscarimage
oscarnode10:oscarnode10.oscardomain:192.168.0.1:compute
#Machine:Adap:IP address:Netmask:MAC
oscarnode1:eth0:192.168.0.2:255.255.255.0:
oscarnode10:eth0:192.168.0.11:255.255.255.0:00:16:3E:00:00:0A
oscarnode10:eth1::255.255.255.0:00:16:3e:00:00:0b
"""
C3 = """\
cluster local {
    htorc-00:node0      # head
    node[0-9]
    exclude 5
    dead node32
    node64
}
cluster torc { :orc-00b }
cluster padded {
    h
    node[01-03]
    m0[8-9]
}
"""
XML = """\
<?xml version='1.0' standalone='yes'?>
<xml><master>master1</master><name>all</name><override>all</override>
 <group><name>Login</name><priority>10</priority><image>SuSE10</image>
  <node>node001,node002-node004</node><ip-range>192.168.1.1-192.168.1.4</ip-range></group>
 <group><name>Special</name><priority>5</priority><image>compute</image><node>node004 node300</node></group></xml>
"""


@pytest.fixture
def inventory(tmp_path: Path) -> Iterator[Inventory]:
    with db.open(tmp_path / "state.db") as opened:
        opened.networks.put(MGMT)
        yield opened


def image(text: str) -> tuple[str, str]:
    name, _, selector = text.partition("@")
    if name != "compute":
        raise NotFound.of("image", name, ["compute"])
    return name, selector or "stable"


def brought(inventory: Inventory, text: str, form: str | None = None, *, dry_run: bool = False) -> Brought:
    told, reading = forms.read(text, form, "file", frozenset(inventory.nodes.names()))
    checks = Checks(image=image, layout=lambda _: None)
    return bring(inventory, Intent(inventory), told, reading, checks, dry_run=dry_run)


def told_off(inventory: Inventory, text: str, form: str | None = None) -> tuple[str, ...]:
    with pytest.raises(SpecInvalid) as caught:
        brought(inventory, text, form)
    assert inventory.nodes.names() == ()
    return caught.value.details


def some(inventory: Inventory) -> tuple[Node, ...]:
    return inventory.nodes.add(
        [
            NewNode(
                f"n{at:03}",
                (
                    Interface("eth0", f"52:54:00:00:00:{at:02x}", f"192.168.0.{at + 10}", "mgmt"),
                    *((Interface("ib0", None, f"192.168.1.{at}", "mgmt"),) if at == 3 else ()),
                ),
                ("compute", "gpu") if at % 2 else ("compute",),
                Assignment("compute", "12" if at == 4 else "stable", "single" if at < 3 else None),
                {"vars": {"room": f"r {at}"}, "timezone": "Europe/Paris"} if at == 1 else {},
            )
            for at in range(1, 6)
        ]
    )


def alike(node: Node) -> tuple[object, ...]:
    wires = [(each.name, each.mac, each.address, each.network) for each in node.interfaces]
    return node.name, wires, set(node.groups), node.assignment, dict(node.profile)


def test_systeminstallers_dumps(inventory: Inventory) -> None:
    tried = brought(inventory, PARSED, dry_run=True)
    assert tried.added == ("oscarnode1", "oscarnode10")
    assert inventory.nodes.names() == ()
    done = brought(inventory, PARSED)
    assert done.notes == ("file:2: image oscarimage is left out: no such image: oscarimage",)
    one, ten = inventory.nodes.list()
    assert one.interfaces == (Interface("eth0", None, "192.168.0.2", "mgmt"),)
    assert ten.macs == ("00:16:3e:00:00:0a", "00:16:3e:00:00:0b")
    assert (one.assignment, ten.assignment) == (None, Assignment("compute", "stable"))
    again = brought(inventory, PARSED)
    assert (again.added, again.changed, again.unchanged) == ((), (), ("oscarnode1", "oscarnode10"))


def test_systeminstallers_dumps_with_faults(inventory: Inventory) -> None:
    text = "x:y:z:i\n#Name:Hostname:Gateway:Image\nshort:line\nbad_name:h:g:i\n#Machine:Adap:IP address:Netmask:MAC\n"
    text += "n1:eth0:999.1.1.1:255.0.0.0:\nn1:eth1:10.0.0.1:255.0.0.0:00:00\n"
    assert told_off(inventory, text, "machines") == (
        "file:1: stands under no heading (#Name:Hostname:Gateway:Image or #Machine:Adap:…)",
        "file:3: 2 fields instead of Name:Hostname:Gateway:Image",
        "file:4: 'bad_name' cannot be a node's name",
        "file:6: not an IP address: '999.1.1.1'",
        "file:7: not a MAC address: '00:00'",
    )
    assert told_off(inventory, "#Machine:Adap:IP address:Netmask:MAC\nn1:eth0:10.0.0.1:255.0.0.0:\n") == (
        "file:2: n1: 10.0.0.1 is in no network of the inventory",
    )


def test_c3s_clusters(inventory: Inventory) -> None:
    done = brought(inventory, C3)
    assert " ".join(inventory.nodes.names()) == ("m08 m09 node0 node1 node2 node3 node4 node6 node7 node8 node9 node64")
    assert inventory.nodes.groups()["padded"] == ("m08", "m09", "node1", "node2", "node3")
    assert done.notes == (
        "file:4: number 5 is excluded: left out",
        "file:5: node32 is dead: left out",
        "file:11: node[01-03] is read as C3 does, without zeros (node1, not node01)",
    )


def test_c3s_zeros_are_kept_where_the_inventory_has_them(inventory: Inventory) -> None:
    inventory.nodes.add([NewNode("node01")])
    done = brought(inventory, "cluster c {\n h\n node[01-02]\n}\n")
    assert inventory.nodes.names() == ("node01", "node02")
    assert "is read with its zeros (node01)" in done.notes[0]
    faults = "cluster c {\n h\n exclude 5\n node[9-1]\n exclude x\n"
    with pytest.raises(SpecInvalid) as caught:
        brought(inventory, faults)
    assert caught.value.details == (
        "file:3: exclude stands behind no range",
        "file:4: not a range: '[9-1]'",
        "file:5: cluster c is not closed by a brace",
        "file:5: exclude stands behind no range",
        "file:5: not a number or range: 'x'",
    )


def test_systemimagers_cluster_xml(inventory: Inventory) -> None:
    brought(inventory, XML)
    nodes = {node.name: node for node in inventory.nodes.list()}
    assert list(nodes) == ["node001", "node002", "node003", "node004", "node300"]
    assert nodes["node002"].address == "192.168.1.2"
    assert nodes["node004"].assignment == Assignment("compute", "stable")
    assert nodes["node001"].assignment is None
    assert set(nodes["node004"].groups) == {"Login", "Special"}


def test_xml_with_entities_is_refused(inventory: Inventory) -> None:
    evil = "<?xml version='1.0'?>\n<!DOCTYPE x [<!ENTITY a 'b'>]>\n<xml/>\n"
    assert told_off(inventory, evil) == ("file:2: has a document type or entities of its own",)


def test_csv_faults_are_told_all_at_once(inventory: Inventory) -> None:
    text = "name,mac,colour\nn1,zz,blue\nn1,52:54:00:00:00:01,\nN 2,,\nn3,,,,\n"
    assert told_off(inventory, text, "csv") == (
        "file:1: unknown column 'colour'",
        "file:2: not a MAC address: 'zz'",
        "file:3: n1: eth0 is told otherwise in line 2",
        "file:4: 'n 2' cannot be a node's name",
        "file:5: 5 values, but 3 columns",
    )
    assert told_off(inventory, "name,resync\nn1,never\n")[0].startswith(
        "file:2: n1: node n1: Invalid enum value 'never'"
    )


def test_csv_of_a_spreadsheet(inventory: Inventory) -> None:
    brought(inventory, "\ufeffNode;MAC;IP Address;Groups;vars.room\r\nN1.example.org;52-54-00-00-00-01;;a b;x y\r\n")
    (node,) = inventory.nodes.list()
    assert (node.name, node.macs, node.groups) == ("n1", ("52:54:00:00:00:01",), ("a", "b"))
    assert node.address == "192.168.0.11"
    assert node.profile == {"vars": {"room": "x y"}}


@pytest.mark.parametrize("form", ["csv", "json", "yaml"])
def test_what_goes_out_comes_back_the_same(inventory: Inventory, tmp_path: Path, form: str) -> None:
    before = some(inventory)
    text = forms.write(inventory, before, form)
    with db.open(tmp_path / "other.db") as other:
        if form == "yaml":
            load_cluster(other, cluster_spec.parse(text.encode(), "cluster.yaml"))
        else:
            other.networks.put(MGMT)
            brought(other, text, form)
        assert [alike(node) for node in other.nodes.list()] == [alike(node) for node in before]
        assert form == "yaml" or forms.write(other, other.nodes.list(), form) == text
    again = brought(inventory, text, form) if form != "yaml" else None
    assert again is None or again.done.lines == ()


def test_genders_is_read_by_its_own_program_and_back(inventory: Inventory, tmp_path: Path) -> None:
    nodes = some(inventory)
    file = tmp_path / "genders"
    file.write_text(forms.write(inventory, nodes, "genders"))
    if shutil.which("nodeattr") is None:
        pytest.skip("genders is not installed")

    def nodeattr(*words: str) -> str:
        return subprocess.run(
            ["nodeattr", "-f", file, *words], check=True, capture_output=True, text=True
        ).stdout.strip()

    assert nodeattr("-q", "gpu") == "n[001,003,005]"
    assert nodeattr("-v", "n004", "image") == "compute@12"
    assert "no" in nodeattr("-k").lower() or nodeattr("-k") == ""
    with db.open(tmp_path / "other.db") as other:
        other.networks.put(MGMT)
        brought(other, file.read_text(), "genders")
        assert [(node.name, node.macs, set(node.groups)) for node in other.nodes.list()] == [
            (node.name, node.macs[:1], set(node.groups)) for node in nodes
        ]


def test_clustershell_reads_its_groups(inventory: Inventory, tmp_path: Path) -> None:
    nodes = some(inventory)
    (tmp_path / "sis.yaml").write_text(forms.write(inventory, nodes, "clustershell"))
    conf = tmp_path / "groups.conf"
    conf.write_text(f"[Main]\ndefault: sis\nautodir: {tmp_path}\n")
    if shutil.which("nodeset") is None:
        pytest.skip("clustershell is not installed")

    def nodeset(*words: str) -> str:
        done = subprocess.run(
            ["nodeset", "--groupsconf", conf, *words], check=True, capture_output=True, text=True, env=dict(os.environ)
        )
        return done.stdout.strip()

    assert nodeset("-f", "@gpu") == "n[001,003,005]"
    assert nodeset("-f", "@sis:image-compute!@gpu") == "n[002,004]"


def test_c3_reads_back_what_is_written_for_it(inventory: Inventory) -> None:
    inventory.nodes.add([NewNode(f"n{at}") for at in (1, 2, 3, 10)] + [NewNode("x007"), NewNode("x008")])
    text = forms.write(inventory, inventory.nodes.list(), "c3.conf")
    lines = [line.strip() for line in text.splitlines()]
    assert lines[2:] == ["dead remove_for_0-indexing", "n[1-3]", "n10", "x007", "x008", "}"]
    told, _ = forms.read(text, None, "c3.conf", frozenset())
    assert [each.name for each in told] == ["n1", "n2", "n3", "n10", "x007", "x008"]


def test_ansible_slurm_and_prometheus(inventory: Inventory) -> None:
    nodes = some(inventory)
    inventory.history.record_facts(
        nodes[0].id, {"cpu": {"sockets": 2, "cores": 16, "threads": 32}, "memory_bytes": 64 << 30}
    )
    ansible = json.loads(forms.write(inventory, nodes, "ansible"))
    assert ansible["gpu"] == {"hosts": ["n001", "n003", "n005"]}
    assert ansible["all"]["children"] == ["ungrouped", "compute", "gpu", "image_compute"]
    assert ansible["_meta"]["hostvars"]["n001"] == {
        "sis_state": "defined", "ansible_host": "192.168.0.11", "sis_image": "compute@stable",
        "sis_fqdn": "n001.oscar.cluster", "room": "r 1",
    }  # fmt: skip
    hardware = "CPUs=32 Sockets=2 CoresPerSocket=8 ThreadsPerCore=2 RealMemory=65536"
    slurm = forms.write(inventory, nodes, "slurm").splitlines()
    assert slurm[1:] == [
        f"NodeName=n001 NodeAddr=192.168.0.11 {hardware} State=UNKNOWN",
        "NodeName=n[002-005] State=UNKNOWN",
        "PartitionName=compute Nodes=n[001-005] State=UP",
        "PartitionName=gpu Nodes=n[001,003,005] State=UP",
    ]
    prometheus = json.loads(forms.write(inventory, nodes, "prometheus"))
    assert prometheus[0] == {
        "targets": ["192.168.0.11:9100"],
        "labels": {"node": "n001", "image": "compute@stable", "groups": ",compute,gpu,"},
    }


def test_the_form_is_told_by_the_content() -> None:
    for text, form in (
        (PARSED, "machines"),
        (C3, "c3.conf"),
        (XML, "cluster.xml"),
        ("# x\nname,mac\n", "csv"),
        ("[]", "json"),
        ("cluster: x\n", "yaml"),
    ):
        assert forms.form_of(text, "file") == form
    with pytest.raises(UsageFault, match="its form is not clear"):
        forms.form_of("n1 a,b\n", "file")
    with pytest.raises(UsageFault) as caught:
        forms.read("cluster: x\n", None, "c.yaml", frozenset())
    assert caught.value.hint == "that is a cluster file: sis cluster apply c.yaml"
