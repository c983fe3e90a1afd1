"""The record of one node, from everything the inventory knows: what its own files are rendered from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from configurator import record as configurator
from sis.disk.model import Layout
from sis.inventory.db import Inventory
from sis.inventory.model import Interface, Network, Node
from sis.inventory.profile import read_profile


@dataclass(frozen=True)
class Surroundings:
    """What all nodes of a cluster share at one revision of the inventory; made once, used for every record.

    `head_address` is the head's on networks that name none of their own; `authorized_keys` may log in as root on
    every node, the head's own key among them.
    """

    cluster: str
    networks: Mapping[str, Network]
    peers: tuple[configurator.Peer, ...]
    head_address: str = ""
    authorized_keys: tuple[str, ...] = ()


def surroundings(inventory: Inventory, *, head_address: str = "") -> Surroundings:
    """The inventory's networks and all its nodes as peers."""
    nodes = inventory.nodes.list()
    return Surroundings(
        cluster=str(inventory.settings.get("cluster", "cluster")),
        networks={network.name: network for network in inventory.networks.list()},
        peers=tuple(_peer(node) for node in nodes if node.address),
        head_address=head_address,
        authorized_keys=tuple(inventory.settings.get("authorized_keys", ())),
    )


def compose(
    inventory: Inventory, node: Node, layout: Layout | None, around: Surroundings | None = None
) -> configurator.Record:
    """Everything the node's own files are made from. Host keys are made at the node's first record and kept.

    `around` saves reading all nodes again when many records are made. Raises UsageFault for a profile that makes no
    sense.
    """
    shared = around or surroundings(inventory)
    profile = read_profile(node.profile, node.name)
    networks = [shared.networks[each.network] for each in node.interfaces if each.network]
    first = networks[0] if networks else None
    return configurator.Record(
        name=node.name,
        id=node.id,
        domain=profile.domain or (first.domain if first else ""),
        cluster=shared.cluster,
        head=str(first.data.get("head") or "") or shared.head_address if first else shared.head_address,
        interfaces=_interfaces(node, shared.networks),
        nameservers=profile.nameservers or _each(networks, "nameservers"),
        search=profile.search or _each(networks, "search"),
        mounts=mounts_of(layout),
        modules=profile.modules,
        blacklist=profile.blacklist,
        peers=shared.peers,
        kerrighed=profile.kerrighed,
        host_keys=inventory.host_keys.of(node),
        root_authorized_keys=tuple(dict.fromkeys((*shared.authorized_keys, *profile.root_authorized_keys))),
        machine_id=node.machine_id,
        timezone=profile.timezone,
        resync=profile.resync,
    )


def kernel_command_line(node: Node) -> str:
    """What the node's profile adds to its kernel's command line."""
    return read_profile(node.profile, node.name).kernel_cmdline


def mounts_of(layout: Layout | None) -> tuple[configurator.Mount, ...]:
    """The fstab of a layout."""
    if layout is None:
        return ()
    from sis.disk.mounts import fstab_mounts

    return tuple(
        configurator.Mount(
            source=mount.source,
            path=mount.path,
            filesystem=mount.filesystem,
            options=mount.options,
            dump=mount.dump,
            passno=mount.passno,
        )
        for mount in fstab_mounts(layout)
    )


def _interfaces(node: Node, networks: Mapping[str, Network]) -> tuple[configurator.Interface, ...]:
    made = []
    routed = False
    for interface in node.interfaces:
        network = networks.get(interface.network) if interface.network else None
        gateway = network.gateway if network and interface.address and not routed else None
        if interface.data.get("gateway") is False:
            gateway = None
        routed = routed or gateway is not None
        made.append(_interface(interface, network, gateway))
    return tuple(made)


def _interface(interface: Interface, network: Network | None, gateway: str | None) -> configurator.Interface:
    address = str(network.with_prefix(interface.address)) if network and interface.address else None
    mtu = interface.data.get("mtu") or (network.data.get("mtu") if network else None)
    return configurator.Interface(
        name=interface.name,
        mac=interface.mac,
        address=address,
        gateway=gateway,
        dhcp=address is None,
        mtu=int(mtu) if mtu else None,
        routes=tuple(
            configurator.Route(to=route["to"], via=route["via"]) for route in interface.data.get("routes") or ()
        ),
    )


def _peer(node: Node) -> configurator.Peer:
    interface = next(each for each in node.interfaces if each.address)
    assert interface.address is not None
    return configurator.Peer(
        name=node.name,
        address=interface.address,
        id=node.id,
        interface=interface.name,
        kerrighed=bool(node.profile.get("kerrighed")),
    )


def _each(networks: list[Network], what: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for network in networks for value in network.data.get(what) or ()))
