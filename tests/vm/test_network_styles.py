"""Three Debian nodes, brought up by networkd, by ifupdown and by NetworkManager, each from the same cluster file.

One package installation serves all three images. The install is the node's own program run on image files of this
machine, against a real head; `test_story` does it by the network. What boots are QEMU machines from those disks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from configurator.facts import Facts, NetworkInterface
from sis.build import pipeline
from sis.disk.probe import found_disks
from sis.image.store import refs
from sis.image.store.local import LocalStore
from sis.inventory import db
from sis.node import install
from sis.node.config import BootConfig
from sis.spec import imagespec, search
from tests.disks import image as disk_file
from tests.vm.hands import ByCommand
from tests.vm.lab import Lab, inside, leftovers
from tests.vm.story import HEAD_PORT, Story

pytestmark = [pytest.mark.root, pytest.mark.vm, pytest.mark.timeout(3600)]

STYLES = {"n1": "networkd", "n2": "ifupdown", "n3": "nm"}
NODES = "n[1-3]"
DISK_BYTES = 3 << 30
BOOT_S = 1500.0
UP = ("in-sync", "drifted")
OF_FACTS = {"/etc/modules-load.d/sis-hardware.conf", "/etc/initramfs-tools/modules"}
"""Made of devices: the recorded machine has fewer of them than QEMU's, which is told at the first boot."""
FACTS = Path(__file__).parents[2] / "fixtures/facts/bios-vm.json"

SPECS = {
    "styles": "image: styles\nextends: compute\npackages: [ifupdown, network-manager, kbd, console-setup]\n",
    **{style: f"image: {style}\nextends: styles\nscripts: {{postinst: [{style}.sh]}}\n" for style in STYLES.values()},
}
PURGED = {"networkd": "network-manager ifupdown", "ifupdown": "network-manager", "nm": "ifupdown"}
"""What each image has purged from the packages they share."""
LAYOUT = """\
layout: {name}
disks:
  - match: {{path: {path}}}
    partitions:
      - {{role: bios-boot, size: 1M}}
      - {{role: root, size: grow}}
serial_console: ttyS0,115200
"""
CLUSTER = """\
cluster: styles
networks:
  mgmt: {{cidr: 10.77.0.0/24, domain: styles.cluster, head: 10.77.0.1, dhcp: {{mode: off}}}}
  data: {{cidr: 10.88.0.0/24}}
defaults:
  timezone: {zone}
  keyboard: {{layout: fr, keymap: fr}}
  modules: [{{name: dummy, options: numdummies=2}}]
nodes:
  "n[1-3]":
    interfaces:
      eth0: {{network: mgmt, ip: "10.77.0.{{index+10}}"}}
      eth1: {{}}
      data0: {{network: data, ip: "10.88.0.{{index+10}}", vlan: {{parent: eth1, id: 42}}, mtu: 1400}}
{nodes}
"""
NODE = """\
  {name}:
    image: {image}@stable
    disk: {name}
    interfaces: {{eth0: {{mac: "{first}"}}, eth1: {{mac: "{second}"}}}}
"""
LOOK = """\
echo '{'
echo '"links":' "$(ip -j address)" ,
echo '"routes":' "$(ip -j route)" ,
echo '"zone":' "\\"$(cat /etc/timezone)\\"" ,
echo '"clock":' "\\"$(date +%Z)\\"" ,
echo '"key":' "\\"$(dumpkeys -C /dev/tty1 | sed -n 's/^keycode  16 = //p')\\"" ,
echo '"modules":' "\\"$(cut -d' ' -f1 /proc/modules | tr '\\n' ' ')\\"" ,
echo '"failed":' "\\"$(systemctl --failed --plain --no-legend | tr '\\n' ' ')\\"" ,
echo '"packages":' "\\"$(dpkg-query -W -f '${Package} ${db:Status-Status} ' ifupdown network-manager 2>/dev/null)\\"" ,
echo '"check":' "\\"$(sis-node check | tr '\\n\\t"' '   ')\\""
echo '}'
"""


@pytest.fixture
def ring(tmp_path: Path) -> Iterator[Story]:
    story = Story(tmp_path / "ring")
    with Lab(folder=story.folder / "lab") as lab:
        story.lab, story.hands = lab, ByCommand()
        yield story
    assert leftovers() == []


def test_each_style_comes_up_as_the_cluster_file_says(ring: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    with ring.step("three images of one installation of packages"):
        build_images(ring)
    with ring.step("a cluster file, three machines with two network cards each, a head"):
        describe(ring)
        ring.start_head()
    for name, style in STYLES.items():
        with ring.step(f"{name} ({style}) is installed"):
            install_here(ring, name, monkeypatch)
    with ring.step("all three boot from their disks"):
        for node in ring.machines():
            node.power_on()
        ring.follow(lambda states: all(row["state"] in UP for row in states.values()), BOOT_S)
    with ring.step("what the machines are made of reaches their files"):
        ring.sis("sync", NODES)
        for name in STYLES:
            paths = {change["path"] for change in ring.last_report(name, "sync")["changes"]}
            ring.expect(paths <= OF_FACTS, f"{name}: {', '.join(paths) or 'nothing'}")
    for name, style in STYLES.items():
        with ring.step(f"{name} ({style}) is as the cluster file says"):
            look_at(ring, name, json.loads(ring.on_node(name, LOOK)))
    with ring.step("one key changed: exactly the files made of it change"):
        ring.state.joinpath("cluster.yaml").write_text(cluster_of(ring, zone="Asia/Tokyo"))
        ring.sis("cluster", "apply", str(ring.state / "cluster.yaml"))
        ring.sis("sync", NODES)
        for name in STYLES:
            changed = ring.last_report(name, "sync")["changes"]
            paths = {change["path"] for change in changed}
            ring.expect(paths == {"/etc/localtime", "/etc/timezone"}, f"{name} changed two files", json.dumps(changed))
            ring.expect(ring.on_node(name, "date +%Z").strip() == "JST", f"{name} is in Tokyo")


# -- the head ----------------------------------------------------------------------------------------------------------


def build_images(ring: Story) -> None:
    ring.sis("head", "init")
    ring.specs.mkdir(exist_ok=True)
    for name, text in SPECS.items():
        (ring.specs / f"{name}.yaml").write_text(text)
    store = LocalStore(ring.state / "store")
    for name, packages in PURGED.items():
        (ring.specs / f"{name}.sh").write_text(f"#!/bin/sh -e\ndpkg --purge {packages}\n")
        built = pipeline.build(imagespec.load(name, search=search.folders((ring.specs,))), ring.state)
        ring.tell("    " + ", ".join(f"{step} {took:.1f} s" for step, took in built.seconds.items()))
        with store.changing_ref(name) as ref:
            assert ref is not None
            store.write_ref(refs.publish(ref, 1, "stable").ref)


def describe(ring: Story) -> None:
    assert ring.lab is not None
    (ring.specs / "disks").mkdir()
    for at, name in enumerate(STYLES, 1):
        disk = disk_file(ring.folder / f"{name}.raw", DISK_BYTES)
        (ring.specs / "disks" / f"{name}.yaml").write_text(LAYOUT.format(name=name, path=disk))
        second = ring.lab.tap(f"data{at}")
        card = f"virtio-net-pci,netdev=net1,mac={second_mac(at)}"
        options = ("-netdev", f"tap,id=net1,ifname={second},script=no,downscript=no,vhost=off", "-device", card)
        ring.lab.node(name, firmware="bios", memory_mb=768, disks=[disk], boot=["disk"], options=options)
    (ring.state / "cluster.yaml").write_text(cluster_of(ring, zone="Europe/Paris"))
    ring.sis("cluster", "apply", str(ring.state / "cluster.yaml"))


def cluster_of(ring: Story, *, zone: str) -> str:
    nodes = "".join(
        NODE.format(name=node.name, image=STYLES[node.name], first=node.mac, second=second_mac(at))
        for at, node in enumerate(ring.machines(), 1)
    )
    return CLUSTER.format(zone=zone, nodes=nodes)


def second_mac(at: int) -> str:
    return f"52:54:00:88:00:{at:02x}"


# -- the nodes ---------------------------------------------------------------------------------------------------------


def install_here(ring: Story, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The node's own install, on its image file; the machine it finds itself on is told, as QEMU will show it."""
    assert ring.lab is not None
    node = ring.lab.nodes[name]
    with db.open(ring.state / "state.db") as inventory:
        known = inventory.nodes.get(name)
        inventory.access.arm([known.id])
        token = inventory.access.issue_token(known.id)
    assert token is not None
    monkeypatch.setattr(install, "found_disks", partial(found_disks, [node.disks[0]]))
    monkeypatch.setattr(install, "read_facts", lambda: facts_of(node.mac, second_mac(int(name[1:]))))
    url = f"http://{ring.lab.address}:{HEAD_PORT}"
    key = LocalStore(ring.state / "store").signer().public
    with inside(ring.lab.namespace):
        install.install(BootConfig(head=url, node=name, token=token, key=key), ring.folder / f"target-{name}")


def facts_of(*macs: str) -> Facts:
    """A recorded QEMU machine, with these network cards."""
    recorded = msgspec.json.decode(FACTS.read_bytes(), type=Facts)
    cards = tuple(
        NetworkInterface(
            name=f"ens{at}", mac=mac, kind="ethernet", driver="virtio_net", bus=f"0000:00:{at:02x}.0", link=True
        )
        for at, mac in enumerate(macs, 3)
    )
    return msgspec.structs.replace(recorded, interfaces=cards)


def look_at(ring: Story, name: str, seen: dict[str, Any]) -> None:
    number = name[1:]
    links = {link.get("address", ""): link for link in seen["links"] if link["ifname"] != "data0"}
    by_name = {link["ifname"]: link for link in seen["links"]}
    ring.tell(f"    {seen['packages']}| {seen['modules'][:200]}")
    own = links[ring.the_lab().nodes[name].mac]
    ring.expect(f"10.77.0.1{number}/24" in addresses(own), "its static address is on the card with its MAC", str(own))
    tagged = by_name.get("data0", {})
    ring.expect(addresses(tagged) == {f"10.88.0.1{number}/24"}, "its VLAN has its address", json.dumps(seen["links"]))
    ring.expect(tagged["mtu"] == 1400, "and its MTU", str(tagged))
    neighbour = f"10.88.0.1{int(number) % len(STYLES) + 1}"
    ring.on_node(name, f"ping -c 1 -W 10 {neighbour}")
    ring.expect(True, f"it reaches {neighbour} by the VLAN")
    ring.expect({"dummy", "virtio_net"} <= set(seen["modules"].split()), "its modules are loaded", seen["modules"])
    ring.expect({"dummy0", "dummy1"} <= by_name.keys(), "with their options", ", ".join(by_name))
    ring.expect((seen["zone"], seen["clock"][:2]) == ("Europe/Paris", "CE"), "its time zone is set", str(seen["zone"]))
    ring.expect(seen["key"].strip() == "+a", "its keyboard is French", seen["key"])
    ring.expect(seen["failed"].strip() == "", "no unit has failed", seen["failed"])
    ring.expect("nothing differs" in seen["check"], "sis-node check is clean", seen["check"])
    expected = {"networkd": set(), "ifupdown": {"ifupdown"}, "nm": {"network-manager"}}[STYLES[name]]
    words = seen["packages"].split()
    there = {package for package, status in zip(words[::2], words[1::2], strict=True) if status == "installed"}
    ring.expect(there == expected, f"of the two, it has {', '.join(expected) or 'none'}", seen["packages"])


def addresses(link: dict[str, Any]) -> set[str]:
    found = (each for each in link.get("addr_info", ()) if each["family"] == "inet")
    return {f"{each['local']}/{each['prefixlen']}" for each in found}
