"""What each single node gets of a cluster file: its settings, and its interfaces with their addresses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sis.spec import yamlio
from sis.spec.addresses import Address, filled
from sis.spec.layers import Layers, Origins
from sis.spec.members import Members
from sis.spec.model import unknown
from sis.spec.places import Fault, Path, Place, dotted
from sis.spec.settings import BondSpec, BridgeSpec, InterfaceSpec, RouteSpec, Settings, VlanSpec

if TYPE_CHECKING:
    from sis.spec.cluster import ClusterSpec, NetworkSpec

_RESERVED = ("gateway", "head")


@dataclass(frozen=True)
class NodeInterface:
    """One interface, resolved. `address` and `addresses` are CIDR; `network` is None for members of other interfaces
    and for those that are only brought up."""

    name: str
    network: str | None
    mac: str | None
    address: str | None
    addresses: tuple[str, ...]
    gateway: str | None
    dhcp: bool
    mtu: int | None
    routes: tuple[RouteSpec, ...]
    bond: BondSpec | None
    vlan: VlanSpec | None
    bridge: BridgeSpec | None
    infiniband: str | None


@dataclass(frozen=True)
class NodeSpec:
    """One node, everything resolved. `interfaces` are here only, not in `settings`, which many nodes share."""

    name: str
    index: int
    profiles: tuple[str, ...]
    groups: tuple[str, ...]
    interfaces: tuple[NodeInterface, ...]
    domain: str
    nameservers: tuple[str, ...]
    search: tuple[str, ...]
    head: str
    """The head's address on the node's first network, or ""."""
    vars: Mapping[str, str]
    settings: Settings
    origins: Origins
    entries: tuple[str, ...]
    """The keys of `nodes` that name it, the widest first."""
    document: yamlio.Document

    def group_place(self, group: str) -> str:
        """Where the file makes the node a member of a group: by its own entries, else by the group's node set."""
        for key in reversed(self.entries):
            said = self.document.value["nodes"][key]
            named = said.get("groups") if isinstance(said, dict) else None
            if isinstance(named, list) and group in map(str, named):
                return str(self.document.place(("nodes", key, "groups", [*map(str, named)].index(group))))
        return str(self.document.place(("groups", group))) if group in (self.document.value.get("groups") or {}) else ""

    def place(self, *path: str | int) -> Place:
        """Where the setting at `path`, such as ("interfaces", "eth0", "mac"), is written."""
        return self.origins.place(path)


class Expansion:
    """Works out what the entries come to: `nodes`. `found` are the faults by path; those of values laid over each other
    go to the faults it is given.
    """

    def __init__(self, spec: ClusterSpec, document: yamlio.Document, faults: list[Fault]) -> None:
        self._spec = spec
        self._document = document
        self._faults = faults
        members = Members(spec.groups, spec.nodes)
        self.found = members.found
        self._groups_of = members.groups_of
        self._layers = Layers(document, spec.profiles, spec.nodes, faults, self.found)
        self.nodes = tuple(self._node(name, members.keys_of[name]) for name in members.names)
        self._check_unique()

    def _node(self, name: str, keys: tuple[str, ...]) -> NodeSpec:
        laid = self._layers.of(keys)
        settings, origins = laid.settings, laid.origins
        index = _index(name)
        interfaces: list[NodeInterface] = []
        networks: list[NetworkSpec] = []
        used = _used_by_others(laid.interfaces)
        for it, written in laid.interfaces.items():
            network = self._network(origins, it, written, needed=it not in used)
            if network is None and (written.network is not None or written.ip is not None):
                continue
            routed = any(interface.gateway for interface in interfaces)
            interfaces.append(self._interface(name, index, it, written, network, origins, routed=routed))
            networks += [network] if network is not None else []
        first = networks[0] if networks else None
        return NodeSpec(
            name=name,
            index=index,
            profiles=laid.profiles,
            groups=self._groups_of.get(name, ()),
            interfaces=tuple(interfaces),
            domain=settings.domain or (first.domain if first else ""),
            nameservers=tuple(str(server) for server in settings.nameservers)
            or tuple(dict.fromkeys(str(server) for network in networks for server in network.nameservers)),
            search=settings.search or tuple(dict.fromkeys(domain for network in networks for domain in network.search)),
            head=str(first.head) if first and first.head else "",
            vars={key: filled(text, name, index) for key, text in settings.vars.items()},
            settings=settings,
            origins=origins,
            entries=keys,
            document=self._document,
        )

    def _network(self, origins: Origins, interface: str, written: InterfaceSpec, *, needed: bool) -> NetworkSpec | None:
        path: Path = ("interfaces", interface)
        if written.network is None:
            alone = needed and not (written.addresses or written.dhcp is not None or _is_made(written))
            if alone or written.ip is not None:
                self._fault(origins, path, "'network' is missing")
            return None
        network = self._spec.networks.get(written.network)
        if network is None:
            self._fault(origins, (*path, "network"), unknown("network", written.network, self._spec.networks))
        return network

    def _interface(
        self,
        node: str,
        index: int,
        name: str,
        written: InterfaceSpec,
        network: NetworkSpec | None,
        origins: Origins,
        *,
        routed: bool,
    ) -> NodeInterface:
        address = None
        if written.ip is not None and network is not None:
            path: Path = ("interfaces", name, "ip")
            address = self._address(node, filled(written.ip, node, index), network, origins, path)
        gateway = network.gateway if network is not None and not routed else None
        return NodeInterface(
            name=name,
            network=written.network,
            mac=written.mac,
            address=f"{address}/{network.cidr.prefixlen}" if network is not None and address is not None else None,
            addresses=tuple(filled(text, node, index) for text in written.addresses),
            gateway=str(gateway) if gateway is not None else None,
            dhcp=written.dhcp if written.dhcp is not None else network is not None and written.ip is None,
            mtu=written.mtu if written.mtu is not None else network.mtu if network is not None else None,
            routes=written.routes,
            bond=written.bond,
            vlan=written.vlan,
            bridge=written.bridge,
            infiniband=written.infiniband,
        )

    def _address(self, node: str, text: str, network: NetworkSpec, origins: Origins, path: Path) -> Address | None:
        cidr = network.cidr
        try:
            address = cidr.network_address + int(text[1:]) if text.startswith("+") else Address(text)
        except ValueError:
            self._fault(origins, path, f"'{text}' (of {node}) is not an address")
            return None
        if address not in cidr:
            self._fault(origins, path, f"{address} (of {node}) is outside {cidr}")
        elif cidr.prefixlen < 31 and address in (cidr.network_address, cidr.broadcast_address):
            self._fault(origins, path, f"{address} (of {node}) is the network's own address, not a node's")
        for what in _RESERVED:
            if address == getattr(network, what):
                self._fault(origins, path, f"{address} (of {node}) is the network's {what}")
                break
        return address

    def _check_unique(self) -> None:
        macs: dict[str, tuple[str, Place]] = {}
        addresses: dict[str, tuple[str, Place]] = {}
        for node in self.nodes:
            for it in node.interfaces:
                path: Path = ("interfaces", it.name)
                self._check_one("MAC", it.mac, node, (*path, "mac"), macs)
                self._check_one("address", _bare(it.address), node, (*path, "ip"), addresses)
                for at, text in enumerate(it.addresses):
                    self._check_one("address", _bare(text), node, (*path, "addresses", at), addresses)

    def _check_one(
        self, what: str, value: str | None, node: NodeSpec, path: Path, seen: dict[str, tuple[str, Place]]
    ) -> None:
        if value is None:
            return
        if value not in seen:
            seen[value] = (node.name, node.place(*path))
            return
        place = node.place(*path)
        other, first = seen[value]
        where = "" if first == place else f" in {first}"
        text = f"{what} {value} is that of {other}{where} and of {node.name}"
        if (place.file, place.line) not in ((fault.place.file, fault.place.line) for fault in self._faults):
            self._faults.append(Fault(place, dotted(path), text))

    def _fault(self, origins: Origins, path: Path, text: str) -> None:
        """One fault a written value: further nodes that share it add nothing."""
        place = origins.place(path)
        if not any(fault.place == place for fault in self._faults):
            self._faults.append(Fault(place, dotted(path), text))


def _used_by_others(interfaces: Mapping[str, InterfaceSpec]) -> set[str]:
    """Interfaces that bonds, bridges and VLANs are built upon: they may be on no network of their own."""
    used: set[str] = set()
    for written in interfaces.values():
        used.update(written.bond.members if written.bond is not None else ())
        used.update(written.bridge.members if written.bridge is not None else ())
        used.update((written.vlan.parent,) if written.vlan is not None else ())
    return used


def _is_made(written: InterfaceSpec) -> bool:
    return any(each is not None for each in (written.bond, written.vlan, written.bridge))


def _bare(address: str | None) -> str | None:
    return address.partition("/")[0].lower() if address else None


def _index(name: str) -> int:
    """The last number of a name: 12 of rack1-n012; 0 of one without."""
    numbers = re.findall(r"[0-9]+", name)
    return int(numbers[-1]) if numbers else 0
