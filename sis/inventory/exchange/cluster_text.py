"""The whole inventory as a cluster file: what `sis cluster apply` makes the same inventory of."""

from __future__ import annotations

from collections.abc import Sequence

from sis.inventory.cluster_edit import Edit
from sis.inventory.model import Network, Node
from sis.spec.edit import flow, scalar


def write(cluster: str, networks: Sequence[Network], nodes: Sequence[Node]) -> str:
    """One entry for nodes that are alike, one more for what is a node's own. Password hashes are in it."""
    lines = [f"cluster: {scalar(cluster)}"]
    if networks:
        lines.append("networks:")
        lines += [f"  {scalar(network.name)}: {flow(_network(network))}" for network in networks]
    profiles = sorted({str(name) for node in nodes for name in node.profile.get("profiles") or ()})
    if profiles:
        lines.append(f"profiles: {flow({name: {} for name in profiles})}")
    if not nodes:
        return "\n".join([*lines, ""])
    seed = "sis-export-seed"
    edit = Edit("\n".join([*lines, "nodes:", f"  {seed}: {{}}", ""]).encode(), "cluster.yaml")
    edit.add(nodes)
    return edit.raw.decode().replace(f"  {seed}: {{}}\n", "")


def _network(network: Network) -> dict[str, object]:
    said: dict[str, object] = {"cidr": network.cidr}
    if network.gateway:
        said["gateway"] = network.gateway
    if network.domain:
        said["domain"] = network.domain
    known = ("dhcp", "head", "mtu", "nameservers", "search")
    return said | {name: network.data[name] for name in known if network.data.get(name)}
