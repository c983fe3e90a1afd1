"""What other programs read of the inventory: Ansible, Slurm, ClusterShell, Prometheus."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sis.inventory.model import Network, Node
from sis.inventory.names import fold


def ansible(nodes: Sequence[Node], networks: Mapping[str, Network]) -> str:
    """A dynamic inventory as `ansible-inventory --list` prints it: groups, and the variables of each host."""
    groups: dict[str, list[str]] = {}
    hosts: dict[str, dict[str, Any]] = {}
    for node in nodes:
        for group in node.groups:
            groups.setdefault(_identifier(group), []).append(node.name)
        said: dict[str, Any] = {"sis_state": node.state.state}
        if node.address:
            said["ansible_host"] = node.address
        if node.assignment is not None:
            said["sis_image"] = node.assignment.reference
            groups.setdefault(_identifier(f"image_{node.assignment.image}"), []).append(node.name)
        network = networks.get(node.interfaces[0].network or "") if node.interfaces else None
        if network is not None and network.domain:
            said["sis_fqdn"] = f"{node.name}.{network.domain}"
        said.update({_identifier(str(name)): value for name, value in (node.profile.get("vars") or {}).items()})
        hosts[node.name] = said
    grouped = {name for members in groups.values() for name in members}
    whole: dict[str, Any] = {"_meta": {"hostvars": hosts}, "all": {"children": ["ungrouped", *sorted(groups)]}}
    whole.update({name: {"hosts": members} for name, members in sorted(groups.items())})
    whole["ungrouped"] = {"hosts": [node.name for node in nodes if node.name not in grouped]}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def slurm(nodes: Sequence[Node], facts: Mapping[int, Mapping[str, Any]]) -> str:
    """NodeName and PartitionName lines for slurm.conf; CPUs and memory of what nodes told of themselves."""
    lines = ["# Written by: sis inventory export --format slurm"]
    alike: dict[str, list[Node]] = {}
    for node in nodes:
        alike.setdefault(_hardware(facts.get(node.id) or {}), []).append(node)
    for hardware, same in alike.items():
        names = fold(node.name for node in same)
        addresses = [node.address for node in same]
        addr = f" NodeAddr={','.join(str(each) for each in addresses)}" if len(same) == 1 and all(addresses) else ""
        lines.append(f"NodeName={names}{addr}{hardware} State=UNKNOWN")
    for group in sorted({group for node in nodes for group in node.groups}):
        members = fold(node.name for node in nodes if group in node.groups)
        lines.append(f"PartitionName={group} Nodes={members} State=UP")
    return "\n".join([*lines, ""])


def clustershell(nodes: Sequence[Node]) -> str:
    """A file for ClusterShell's groups.d: all nodes, each group, and each image as groups of the source `sis`."""
    groups: dict[str, list[str]] = {"all": [node.name for node in nodes]}
    for node in nodes:
        for group in node.groups:
            groups.setdefault(group, []).append(node.name)
        if node.assignment is not None:
            groups.setdefault(f"image-{node.assignment.image}", []).append(node.name)
    lines = ["# Written by: sis inventory export --format clustershell", "sis:"]
    return "\n".join(
        [*lines, *(f"  {json.dumps(name)}: {json.dumps(fold(each))}" for name, each in groups.items()), ""]
    )


def prometheus(nodes: Sequence[Node], *, port: int) -> str:
    """A file of `file_sd_configs`: one target a node that has an address, its groups and image as labels."""
    targets = [
        {
            "targets": [f"[{node.address}]:{port}" if ":" in node.address else f"{node.address}:{port}"],
            "labels": {
                "node": node.name,
                "image": node.assignment.reference if node.assignment else "",
                "groups": f",{','.join(node.groups)}," if node.groups else "",
            },
        }
        for node in nodes
        if node.address
    ]
    return json.dumps(targets, indent=1, ensure_ascii=False) + "\n"


def _hardware(facts: Mapping[str, Any]) -> str:
    cpu = facts.get("cpu") or {}
    sockets, cores = int(cpu.get("sockets") or 0), int(cpu.get("cores") or 0)
    threads, memory = int(cpu.get("threads") or 0), int(facts.get("memory_bytes") or 0)
    said = f" CPUs={threads or cores}" if threads or cores else ""
    if sockets and cores and cores % sockets == 0:
        said += f" Sockets={sockets} CoresPerSocket={cores // sockets}"
        said += f" ThreadsPerCore={threads // cores}" if threads and threads % cores == 0 else ""
    return said + (f" RealMemory={memory // (1 << 20)}" if memory else "")


def _identifier(name: str) -> str:
    """A name as Ansible wants groups and variables to be called."""
    plain = "".join(char if char.isalnum() or char == "_" else "_" for char in name)
    return plain if not plain[:1].isdigit() else f"_{plain}"
