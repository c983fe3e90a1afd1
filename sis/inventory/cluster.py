"""The cluster file into the inventory: networks, nodes, groups and assignments, in one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy.engine import Connection

from sis.inventory import settings as cluster_settings
from sis.inventory.db import Inventory
from sis.inventory.from_spec import interface_of, profile_of
from sis.inventory.model import Assignment, Network, NewNode, Node
from sis.inventory.names import natural_key
from sis.inventory.networks import put_network
from sis.inventory.node_read import load
from sis.inventory.node_write import add_nodes, differs, rewrite_nodes
from sis.spec.cluster import ClusterSpec, NetworkSpec, NodeSpec


@dataclass(frozen=True)
class Loaded:
    """What bringing a cluster file in changed (or would): names of nodes, in natural order."""

    networks: tuple[str, ...]
    added: tuple[str, ...]
    changed: tuple[str, ...]
    unchanged: tuple[str, ...]
    left_alone: tuple[str, ...]
    """Nodes of the inventory the file does not name; they stay as they are."""


def load_cluster(inventory: Inventory, spec: ClusterSpec, *, dry_run: bool = False) -> Loaded:
    """Make the inventory say what the cluster file says.

    Nodes the file does not name are left alone. A MAC or image the file leaves out is kept as the inventory has it.
    Raises SisError when a MAC or address of the file belongs to a node outside it.
    """
    database = inventory.database
    with database.trial() if dry_run else database.write() as connection:
        return bring_in(connection, spec)


def bring_in(connection: Connection, spec: ClusterSpec) -> Loaded:
    """What `load_cluster` does, in a transaction of the caller's: one that is tried may be looked at and dropped."""
    for name, network in spec.networks.items():
        put_network(connection, network_of(name, network))
    known = {node.name: node for node in load(connection)}
    wanted = [node_of(node, known.get(node.name)) for node in spec.expand()]
    there = [(known[new.name], new) for new in wanted if new.name in known]
    changed = [(old, new) for old, new in there if differs(old, new)]
    rewrite_nodes(connection, [old for old, _ in changed], [new for _, new in changed])
    added = [new for new in wanted if new.name not in known]
    add_nodes(connection, added)
    cluster_settings.put(connection, "cluster", spec.cluster)
    for name, value in spec.head.model_dump(mode="json", exclude_none=True).items():
        cluster_settings.put(connection, name, value)
    cluster_settings.touch(connection)
    return _summary(spec, known, added, [new for _, new in changed])


def network_of(name: str, spec: NetworkSpec) -> Network:
    """A network of the cluster file as the inventory keeps it."""
    data: dict[str, Any] = {"dhcp": {"mode": spec.dhcp.mode}}
    if spec.dhcp.range is not None:
        data["dhcp"]["range"] = f"{spec.dhcp.range.first}-{spec.dhcp.range.last}"
    if spec.head is not None:
        data["head"] = str(spec.head)
    if spec.mtu is not None:
        data["mtu"] = spec.mtu
    if spec.nameservers:
        data["nameservers"] = [str(server) for server in spec.nameservers]
    if spec.search:
        data["search"] = list(spec.search)
    return Network(
        name=name,
        cidr=str(spec.cidr),
        gateway=str(spec.gateway) if spec.gateway is not None else None,
        domain=spec.domain,
        data=data,
    )


def node_of(spec: NodeSpec, known: Node | None) -> NewNode:
    """A node of the cluster file as the inventory keeps it, with what only the inventory knows kept."""
    macs = {interface.name: interface.mac for interface in known.interfaces} if known else {}
    written = spec.settings
    assignment = known.assignment if known else None
    if written.image is not None:
        image, _, selector = written.image.partition("@")
        assignment = Assignment(image, selector, assignment.layout if assignment else None)
    if assignment is not None and written.disk is not None:
        assignment = replace(assignment, layout=written.disk)
    return NewNode(
        name=spec.name,
        interfaces=tuple(interface_of(interface, macs.get(interface.name)) for interface in spec.interfaces),
        groups=tuple(sorted(spec.groups, key=natural_key)),
        assignment=assignment,
        profile=profile_of(spec),
    )


def _summary(spec: ClusterSpec, known: Mapping[str, Node], added: list[NewNode], changed: list[NewNode]) -> Loaded:
    named = {node.name for node in spec.expand()}
    touched = {node.name for node in (*added, *changed)}
    return Loaded(
        networks=tuple(spec.networks),
        added=tuple(node.name for node in added),
        changed=tuple(node.name for node in changed),
        unchanged=tuple(name for name in known if name in named and name not in touched),
        left_alone=tuple(name for name in known if name not in named),
    )
