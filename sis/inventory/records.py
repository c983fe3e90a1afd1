"""The record of one node, from everything the inventory knows: what its own files are rendered from."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import msgspec
from blake3 import blake3

from configurator import kernel
from configurator import record as configurator
from sis.disk.model import Layout
from sis.inventory.db import Inventory
from sis.inventory.model import Interface, Network, Node
from sis.inventory.profile import Profile, read_profile


@dataclass(frozen=True)
class Surroundings:
    """What all nodes of a cluster share at one revision of the inventory; made once, used for every record.

    `head_address` is the head's on networks that name none of their own; `authorized_keys` may log in as root on
    every node, the head's own key among them.
    """

    cluster: str
    networks: Mapping[str, Network]
    peers: tuple[configurator.Peer, ...]
    peers_digest: bytes
    """Names the peers by their content."""
    host_keys: Mapping[int, tuple[configurator.HostKey, ...]]
    """By the id of the node."""
    head_address: str = ""
    authorized_keys: tuple[str, ...] = ()


class Hardware(NamedTuple):
    """What files that list the cluster say of a node's machine."""

    cpus: int = 0
    memory_mib: int = 0


def surroundings(inventory: Inventory, *, head_address: str = "") -> Surroundings:
    """The inventory's networks and all its nodes as peers. Nodes without host keys get theirs."""
    nodes = inventory.nodes.list()
    facts = inventory.history.all_facts() if any(map(lists_cluster, nodes)) else {}
    return surroundings_of(
        nodes,
        inventory.networks.list(),
        inventory.settings.all(),
        inventory.host_keys.of_all(nodes),
        {node_id: hardware_of(told) for node_id, told in facts.items()},
        head_address=head_address,
    )


def lists_cluster(node: Node) -> bool:
    """Whether the node gets files that list the cluster, with what machines it is made of."""
    return bool(node.profile.get("peer_files"))


def hardware_of(facts: Mapping[str, Any]) -> Hardware:
    """CPUs (threads) and memory of a machine by what it told; zeros where it told nothing sensible."""
    cpu, memory = facts.get("cpu"), facts.get("memory_bytes")
    threads = cpu.get("threads") if isinstance(cpu, Mapping) else 0
    return Hardware(
        threads if isinstance(threads, int) and 0 <= threads <= _MOST_CPUS else 0,
        memory >> 20 if isinstance(memory, int) and 0 <= memory < 2**60 else 0,
    )


_MOST_CPUS = 65_536
_NO_HARDWARE = Hardware()


def surroundings_of(
    nodes: Sequence[Node],
    networks: Iterable[Network],
    settings: Mapping[str, Any],
    host_keys: Mapping[int, tuple[configurator.HostKey, ...]],
    hardware: Mapping[int, Hardware],
    *,
    head_address: str = "",
) -> Surroundings:
    """Like `surroundings`, of what is told; `hardware` is by the id of the node."""
    peers = tuple(
        _peer(node, host_keys.get(node.id, ()), hardware.get(node.id, _NO_HARDWARE)) for node in nodes if node.address
    )
    return Surroundings(
        cluster=str(settings.get("cluster", "cluster")),
        networks={network.name: network for network in networks},
        peers=peers,
        peers_digest=blake3(msgspec.msgpack.encode(peers)).digest(),
        host_keys=host_keys,
        head_address=head_address,
        authorized_keys=tuple(settings.get("authorized_keys", ())),
    )


def sharing_peers(around: Surroundings, other: Surroundings) -> Surroundings:
    """`around` with the very tuple of equal peers that `other` has: what is made of them is made once."""
    return replace(around, peers=other.peers)


def record_of(
    node: Node, layout: Layout | None, shared: Surroundings, host_keys: tuple[configurator.HostKey, ...]
) -> configurator.Record:
    """Everything the node's own files are made from. Raises UsageFault for a profile that makes no sense."""
    profile = read_profile(node.profile, node.name)
    networks = [shared.networks[each.network] for each in node.interfaces if each.network]
    first = networks[0] if networks else None
    mounts = (*mounts_of(layout), *profile.mounts)
    return configurator.Record(
        name=node.name,
        id=node.id,
        domain=profile.domain or (first.domain if first else ""),
        cluster=shared.cluster,
        head=str(first.data.get("head") or "") or shared.head_address if first else shared.head_address,
        head_name=profile.head_name,
        hostid=profile.hostid,
        mail_name=profile.mail_name,
        interfaces=_interfaces(node, shared.networks),
        nameservers=profile.nameservers or _each(networks, "nameservers"),
        search=profile.search or _each(networks, "search"),
        mounts=mounts,
        modules=profile.modules,
        blacklist=profile.blacklist,
        peers=shared.peers,
        kerrighed=profile.kerrighed,
        host_keys=host_keys,
        root_authorized_keys=tuple(dict.fromkeys((*shared.authorized_keys, *profile.root_authorized_keys))),
        machine_id=node.machine_id,
        timezone=profile.timezone,
        resync=profile.resync,
        windows=profile.windows,
        profiles=profile.profiles,
        groups=node.groups,
        vars=profile.vars,
        hosts_groups=profile.hosts_groups,
        motd=profile.motd,
        time_servers=profile.time_servers,
        locale=profile.locale,
        keyboard=profile.keyboard,
        peer_files=profile.peer_files,
        boot=_boot(profile, layout, mounts),
        exports=profile.exports,
        accounts=profile.accounts,
        environment=profile.environment,
    )


def kernel_words(node: Node, layout: Layout | None) -> tuple[str, ...]:
    """Everything node and layout say on the kernel's command line; the node's words go before the layout's."""
    profile = read_profile(node.profile, node.name)
    own = kernel.joined_parameters([_layout_words(layout), profile.kernel_cmdline.split()])
    if profile.kerrighed is None:
        return own
    session = configurator.Record(name=node.name, id=node.id, kerrighed=profile.kerrighed)
    return kernel.joined_parameters([own, kernel.kernel_parameters(session)])


def _boot(profile: Profile, layout: Layout | None, mounts: tuple[configurator.Mount, ...]) -> configurator.Boot | None:
    """What boot entries say; none for a node that starts without a disk."""
    words = kernel.joined_parameters([_layout_words(layout), profile.kernel_cmdline.split()])
    if not any(mount.path == "/" for mount in mounts) and not any(word.startswith("root=") for word in words):
        return None
    console = profile.serial_console or (layout.serial_console if layout is not None else None)
    if console and not any(word.startswith("console=") for word in words):
        words = (*words, "console=tty0", f"console={console}")
    boot = configurator.Boot(parameters=words, kernel=profile.boot_kernel)
    return boot if profile.boot_timeout_s is None else msgspec.structs.replace(boot, timeout_s=profile.boot_timeout_s)


def _layout_words(layout: Layout | None) -> list[str]:
    return layout.kernel_cmdline.split() if layout is not None else []


@functools.lru_cache(maxsize=64)
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
    address = f"{interface.address}/{network.cidr.partition('/')[2]}" if network and interface.address else None
    mtu = interface.data.get("mtu") or (network.data.get("mtu") if network else None)
    made = {name: msgspec.convert(interface.data[name], kind) for name, kind in _MADE.items() if name in interface.data}
    return configurator.Interface(
        name=interface.name,
        mac=interface.mac,
        address=address,
        gateway=gateway,
        dhcp=bool(interface.data.get("dhcp", address is None)),
        mtu=int(mtu) if mtu else None,
        **made,
    )


_MADE: dict[str, Any] = {
    "addresses": tuple[str, ...],
    "routes": tuple[configurator.Route, ...],
    "bond": configurator.Bond,
    "vlan": configurator.Vlan,
    "bridge": configurator.Bridge,
    "infiniband": str,
}
"""What an interface's data holds under the record's own names."""


def _peer(node: Node, host_keys: tuple[configurator.HostKey, ...], hardware: Hardware) -> configurator.Peer:
    interface = next(each for each in node.interfaces if each.address)
    assert interface.address is not None
    return configurator.Peer(
        name=node.name,
        address=interface.address,
        id=node.id,
        interface=interface.name,
        kerrighed=bool(node.profile.get("kerrighed")),
        groups=node.groups,
        cpus=hardware.cpus,
        memory_mib=hardware.memory_mib,
        host_keys=tuple(key.public for key in host_keys),
    )


def _each(networks: list[Network], what: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for network in networks for value in network.data.get(what) or ()))
