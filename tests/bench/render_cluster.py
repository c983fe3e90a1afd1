"""A cluster to render: a head's state with one image and thousands of nodes, a bit of everything in their records."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec

from configurator.facts import Facts, decode_facts
from sis.image import commit
from sis.image.store.local import LocalStore
from sis.inventory import cluster as inventory_cluster
from sis.inventory import db
from sis.inventory.db import Inventory
from sis.inventory.facts import put_facts
from sis.spec import cluster as cluster_spec
from tests.trees import FIXTURES, make_tree, read_listing

IMAGE = "compute"
_TREE = FIXTURES / "render" / "trees" / "debian12-compute.json"
_MACHINE = FIXTURES / "facts" / "two-socket.json"

_SITE = {
    "all/etc/motd.d/site": "property of the lab\n",
    "all/etc/security/limits.d/site.conf.j2": "* - memlock {{ vars.memlock }}\n",
    "profile/compute/etc/sysctl.d/60-site.conf": "vm.swappiness = 10\n",
    "group/rack1/etc/site/rack.j2": "{{ record.name }} is in rack 1 with {{ facts.cpu.threads }} threads\n",
}


def cluster_text(nodes: int, timezone: str = "Europe/Madrid") -> str:
    """The cluster file of `nodes` nodes; each has an entry of its own with its MACs, as a real one would."""
    macs = [
        f"  n{number:04d}: {{interfaces: {{eth0: {{mac: {mac(number, 0)}}}, eth1: {{mac: {mac(number, 1)}}},"
        f" eth2: {{mac: {mac(number, 2)}}}}}}}"
        for number in range(1, nodes + 1)
    ]
    users = "\n".join(
        f"      - {{name: user{number:02d}, uid: {20000 + number}, gid: 20000, home: /home/user{number:02d}}}"
        for number in range(50)
    )
    return f"""\
cluster: bench
networks:
  mgmt: {{cidr: 10.0.0.0/16, head: 10.0.0.1, gateway: 10.0.0.1, domain: bench.lan, nameservers: [10.0.0.1]}}
  data: {{cidr: 10.1.0.0/16, mtu: 9000}}
  ib: {{cidr: 10.2.0.0/16}}
defaults:
  image: {IMAGE}@1
  disk: single
  timezone: {timezone}
  locale: en_US.UTF-8
  keyboard: {{layout: de, keymap: de-latin1}}
  time_servers: [10.0.0.1]
  motd: [Welcome to bench]
  kernel_cmdline: console=tty0 console=ttyS0,115200
  mounts:
    - {{source: "head:/home", path: /home, filesystem: nfs4, options: "hard,noatime"}}
  exports: [{{path: /scratch, clients: ["group:rack1"]}}]
  environment: {{defaults: {{mpi/openmpi: "4.1", gcc: "12.2"}}, load: [mpi/openmpi]}}
  peer_files: [slurm, openmpi, mpich, genders, clustershell, c3, hosts.equiv, shosts.equiv]
  root_authorized_keys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJDZDYx8npvN/0FdP43HmLabL8o+QYdrv9nNUo4HjCaq admin@bench"]
  modules: [{{name: bonding, options: "max_bonds=0"}}]
  blacklist: [pcspkr]
  vars: {{memlock: unlimited}}
  accounts:
    groups: [{{name: staff2, gid: 20000}}]
    sudo: [{{name: admins, who: "%staff2"}}]
    users:
{users}
profiles:
  compute: {{}}
nodes:
  "n[0001-{nodes:04d}]":
    profiles: [compute]
    groups: [compute]
    interfaces:
      eth0: {{network: mgmt, ip: "+{{index+256}}"}}
      eth1: {{}}
      eth2: {{}}
      bond0: {{network: data, ip: "+{{index+256}}", bond: {{members: [eth1, eth2], mode: 802.3ad}}}}
      vlan12: {{vlan: {{id: 12, parent: bond0}}, addresses: ["fd12::{{index}}/64"]}}
      ib0: {{network: ib, ip: "+{{index+256}}", infiniband: connected}}
{chr(10).join(macs)}
groups:
  rack1: "n[0001-{max(nodes // 40, 2):04d}]"
"""


def mac(number: int, port: int) -> str:
    return f"52:54:{port:02x}:00:{number >> 8:02x}:{number & 255:02x}"


def make_state(folder: Path, nodes: int) -> Inventory:
    """A state directory with the image committed, the cluster applied, facts and host keys of every node."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tree = make_tree(read_listing(_TREE), folder / "tree")
    store = LocalStore(folder / "store")
    store.prepare()
    commit.commit(store, IMAGE, tree)
    for path, text in _SITE.items():
        file = folder / "site" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (folder / "cluster.yaml").write_text(cluster_text(nodes))
    inventory = db.open(folder / "state.db")
    inventory_cluster.load_cluster(inventory, cluster_spec.load(folder / "cluster.yaml"))
    machine = decode_facts(_MACHINE.read_bytes())
    with inventory.database.write() as connection:
        for node in inventory.nodes.list():
            put_facts(connection, node.id, msgspec.to_builtins(_of_node(machine, node.number or 0)))
    return inventory


def _of_node(machine: Facts, number: int) -> Facts:
    """The recorded machine with this node's MACs."""
    ports = [
        msgspec.structs.replace(port, mac=mac(number, at)) if at < 3 else port
        for at, port in enumerate(machine.interfaces)
    ]
    return msgspec.structs.replace(machine, interfaces=tuple(ports), serial=f"SN{number:06d}")
