"""The cluster file: networks, profiles, nodes as node sets, groups; and what each single node gets of them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PrivateAttr, WithJsonSchema

from sis.spec import merging, yamlio
from sis.spec.merging import Node, Rules
from sis.spec.model import Console, Count, Flag, Name, Reading, Spec, Text, TimeZone, matching, said, unknown
from sis.spec.places import Fault, Path, Place, dotted

if TYPE_CHECKING:
    from ClusterShell.NodeSet import NodeSet

Address = ipaddress.IPv4Address
Network = ipaddress.IPv4Network

MAX_NODES = 100_000

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_HOSTNAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_TEMPLATE = re.compile(r"\{(index|name)(?:\s*\+\s*([0-9]+))?\}")


def _mac(value: object) -> object:
    written = str(value).lower().replace("-", ":")
    if not _MAC.fullmatch(written):
        raise ValueError(f"must be a MAC such as 52:54:00:12:34:56, not {said(value)}")
    if int(written[:2], 16) & 1:
        raise ValueError(f"must be the MAC of one interface, not the group address '{value}'")
    return written


def _address(value: object) -> object:
    try:
        return Address(str(value))
    except ValueError as error:
        raise ValueError(f"must be an IPv4 address such as 10.77.0.11, not {said(value)}") from error


def _network(value: object) -> object:
    try:
        return Network(str(value))
    except ValueError as error:
        fixed = ""
        if "host bits" in str(error):
            fixed = f"; did you mean '{ipaddress.ip_network(str(value), strict=False)}'?"
        raise ValueError(f"must be a network such as 10.77.0.0/24, not {said(value)}{fixed}") from error


def _ip_template(value: object) -> object:
    if isinstance(value, str):
        shape = _TEMPLATE.sub("1", value)
        if not (re.fullmatch(r"\+[0-9]+", shape) or _is_address(shape)):
            raise ValueError(f"must be an address, may hold {{index}}, or '+{{index}}' in the network, not '{value}'")
    return value


def _is_address(text: str) -> bool:
    try:
        Address(text)
    except ValueError:
        return False
    return True


_AS_TEXT = WithJsonSchema({"type": "string"})
MacText = Annotated[str, BeforeValidator(_mac), _AS_TEXT]
AddressText = Annotated[Address, BeforeValidator(_address), _AS_TEXT]
NetworkText = Annotated[Network, BeforeValidator(_network), _AS_TEXT]
ImageReference = Annotated[
    Text, matching(r"[a-z0-9][a-z0-9._-]*(@[A-Za-z0-9._:-]+)?", "must be an image such as compute or compute@stable")
]
InterfaceName = Annotated[Text, matching(r"[A-Za-z0-9._-]{1,15}", "must be an interface name of 1 to 15 characters")]


@dataclass(frozen=True)
class AddressRange:
    """Addresses from `first` to `last`, both included."""

    first: Address
    last: Address


def _range(value: object) -> object:
    if isinstance(value, AddressRange):
        return value
    first, dash, last = str(value).partition("-")
    if not dash or not _is_address(first.strip()) or not _is_address(last.strip()):
        raise ValueError(f"must be a range such as 10.77.0.200-10.77.0.250, not {said(value)}")
    return AddressRange(Address(first.strip()), Address(last.strip()))


class DhcpSpec(Spec):
    """How addresses are given: by us (`full`), beside a foreign server that gives them (`proxy`), or not (`off`)."""

    range: Annotated[AddressRange | None, BeforeValidator(_range), _AS_TEXT] = None
    mode: Literal["full", "proxy", "off"] = "full"


class NetworkSpec(Spec):
    """One network; `head` is the head's address on it."""

    cidr: NetworkText
    gateway: AddressText | None = None
    domain: Text = ""
    nameservers: tuple[AddressText, ...] = ()
    search: tuple[Text, ...] = ()
    mtu: Annotated[Count, Field(ge=68, le=65535)] | None = None
    dhcp: DhcpSpec = DhcpSpec()
    head: AddressText | None = None


class RouteSpec(Spec):
    to: NetworkText
    via: AddressText


class InterfaceSpec(Spec):
    """One interface of a node. `ip` may hold `{index}` or `{index+10}`; `+{index}` counts from the network's start."""

    network: Text | None = None
    mac: MacText | None = None
    ip: Annotated[Text, BeforeValidator(_ip_template)] | None = None
    mtu: Annotated[Count, Field(ge=68, le=65535)] | None = None
    routes: tuple[RouteSpec, ...] = ()


class ModuleSpec(Spec):
    """A kernel module; written as its name alone, or with an alias such as eth0 and options."""

    name: Text
    alias: Text | None = None
    options: Text = ""
    load: Flag = True


class KerrighedSpec(Spec):
    """Kerrighed's session; node ids are the inventory's own."""

    session: Annotated[Count, Field(ge=1, le=9999)]
    min_nodes: Annotated[Count, Field(ge=1, le=256)]
    autonodeid: Flag = False


def _module(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


class Settings(Spec):
    """What defaults, profiles and node entries may say. Lists append, mappings merge, scalars override."""

    image: ImageReference | None = None
    disk: Name | None = None
    interfaces: dict[InterfaceName, InterfaceSpec] = Field(default_factory=dict)
    modules: tuple[Annotated[ModuleSpec, BeforeValidator(_module)], ...] = ()
    blacklist: tuple[Text, ...] = ()
    kerrighed: KerrighedSpec | None = None
    timezone: TimeZone = "UTC"
    serial_console: Console | None = None
    kernel_cmdline: Text = ""
    resync: Literal["nightly", "hourly", "off"] = "nightly"
    root_authorized_keys: tuple[Text, ...] = ()
    vars: dict[str, Text] = Field(default_factory=dict)


class NodeEntry(Settings):
    """Settings of the nodes a node set names."""

    profiles: tuple[Text, ...] = ()
    groups: tuple[Name, ...] = ()


@dataclass(frozen=True)
class NodeInterface:
    """One interface, resolved. `address` is CIDR, or None: then it is configured by DHCP."""

    name: str
    network: str
    mac: str | None
    address: str | None
    gateway: str | None
    mtu: int | None
    routes: tuple[RouteSpec, ...]

    @property
    def dhcp(self) -> bool:
        return self.address is None


@dataclass(frozen=True)
class NodeSpec:
    """One node, everything resolved. `settings.interfaces` is as written; `interfaces` is what it comes to."""

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
    origins: yamlio.Document

    def place(self, *path: str | int) -> Place:
        """Where the setting at `path`, such as ("interfaces", "eth0", "mac"), is written."""
        return self.origins.place(path)


class ClusterSpec(Spec):
    """The cluster file."""

    cluster: Name
    networks: dict[Name, NetworkSpec] = Field(default_factory=dict)
    defaults: Settings = Settings()
    profiles: dict[Name, Settings] = Field(default_factory=dict)
    nodes: dict[str, NodeEntry] = Field(default_factory=dict)
    groups: dict[Name, Text] = Field(default_factory=dict)

    _document: yamlio.Document = PrivateAttr()
    _expanded: tuple[NodeSpec, ...] = PrivateAttr(default=())
    _groups: Mapping[str, tuple[str, ...]] = PrivateAttr(default={})

    def expand(self) -> tuple[NodeSpec, ...]:
        """Every node with its resolved settings, in the order of node sets (n2 before n10)."""
        return self._expanded

    def group_members(self) -> Mapping[str, tuple[str, ...]]:
        """Group → names of its nodes, from `groups` and from the nodes' own."""
        return self._groups

    def place(self, *path: str | int) -> Place:
        """Where the value at `path` is written."""
        return self._document.place(path)


def load(path: str | FilePath) -> ClusterSpec:
    """Read a cluster file. Raises NotFound, or SpecInvalid with every fault."""
    faults: list[Fault] = []
    document = yamlio.load(path, faults)
    reading = Reading[ClusterSpec](document, faults=faults)
    expansions: list[_Expansion] = []

    def expands(spec: ClusterSpec) -> Iterator[tuple[Path, str]]:
        expansion = _Expansion(spec, replace(document, value=reading.sound), reading.faults)
        expansions.append(expansion)
        return iter(expansion.found)

    spec = reading.finish(ClusterSpec, _networks_hold, expands)
    spec._document = document
    spec._expanded = expansions[0].nodes
    spec._groups = expansions[0].groups
    return spec


def _networks_hold(spec: ClusterSpec) -> Iterator[tuple[Path, str]]:
    for name, network in spec.networks.items():
        path: Path = ("networks", name)
        for what, address in (("gateway", network.gateway), ("head", network.head)):
            if address is not None and address not in network.cidr:
                yield (*path, what), f"{address} is outside {network.cidr}"
        wanted = network.dhcp.range
        if wanted is not None:
            if wanted.first not in network.cidr or wanted.last not in network.cidr:
                yield (*path, "dhcp", "range"), f"{wanted.first}-{wanted.last} is outside {network.cidr}"
            elif wanted.last < wanted.first:
                yield (*path, "dhcp", "range"), "ends before it begins"
    named = list(spec.networks.items())
    for at, (name, network) in enumerate(named):
        for other_name, other in named[:at]:
            if network.cidr.overlaps(other.cidr):
                yield ("networks", name, "cidr"), f"{network.cidr} overlaps {other.cidr} of network '{other_name}'"


_RULES = Rules({("modules",): "name"})
_RESERVED = ("gateway", "head")


class _Expansion:
    """Works the node sets out: which entries name each node, and what they come to.

    `nodes` and `groups` are the outcome, `found` the faults by path, `faults` those of values laid over each other.
    """

    def __init__(self, spec: ClusterSpec, document: yamlio.Document, faults: list[Fault]) -> None:
        self.found: list[tuple[Path, str]] = []
        self._spec = spec
        self._document = document
        self._faults = faults
        self._tree = merging.nodes(document)
        self._known_settings: dict[tuple[str, ...], tuple[Settings, yamlio.Document, tuple[str, ...]]] = {}
        sets = self._resolve_groups()
        self._entries = {key: self._node_set(key, ("nodes", key), sets) for key in spec.nodes}
        names = self._all_nodes()
        self._keys_of = self._entries_of_each(names)
        self.groups = self._all_groups(sets, names)
        self._groups_of = _inverted(self.groups)
        self.nodes = tuple(self._node(name) for name in names)
        self._check_unique()

    # node sets

    def _resolve_groups(self) -> dict[str, NodeSet]:
        resolved: dict[str, NodeSet] = {}
        for name in self._spec.groups:
            self._resolve_group(name, resolved, ())
        return resolved

    def _resolve_group(self, name: str, resolved: dict[str, NodeSet], below: tuple[str, ...]) -> None:
        if name in resolved:
            return
        path: Path = ("groups", name)
        for other in _group_names(self._spec.groups[name]):
            if other in (*below, name):
                self.found.append((path, f"goes in a circle: {' → '.join((*below, name, other))}"))
                resolved[name] = _no_nodes()
                return
            if other in self._spec.groups:
                self._resolve_group(other, resolved, (*below, name))
        resolved.setdefault(name, self._node_set(self._spec.groups[name], path, resolved))

    def _node_set(self, written: str, path: Path, groups: Mapping[str, NodeSet]) -> NodeSet:
        """The nodes a text names; a fault and no nodes when it cannot be read."""
        from ClusterShell.NodeSet import NodeSet, NodeSetException
        from ClusterShell.NodeUtils import GroupResolver, GroupSource

        lost = [name for name in _group_names(written) if name not in groups]
        for name in lost:
            self.found.append((path, unknown("group", name, groups)))
        if lost:
            return _no_nodes()
        source = GroupSource("cluster", {name: str(members) for name, members in groups.items()})
        try:
            members = NodeSet(written, resolver=GroupResolver(source))
        except NodeSetException as error:
            self.found.append((path, f"is not a node set: {error}"))
            return _no_nodes()
        if len(members) > MAX_NODES:
            self.found.append((path, f"names {len(members)} nodes; {MAX_NODES} is the most"))
            return _no_nodes()
        return members

    def _all_nodes(self) -> list[str]:
        """Names of all nodes, in the order of node sets. A group in a key adds none: it names what is there."""
        everyone = _no_nodes()
        for key, members in self._entries.items():
            if "@" in key:
                continue
            strange = next((name for name in members if not _HOSTNAME.fullmatch(name)), None)
            if strange is not None:
                self.found.append((("nodes", key), f"'{strange}' is not a host name (small letters, digits and '-')"))
            everyone.update(members)
        return [str(name) for name in everyone]

    def _entries_of_each(self, names: Sequence[str]) -> dict[str, list[str]]:
        """Node → the keys that name it: those that name more nodes first, equally wide ones in the file's order."""
        keys_of: dict[str, list[str]] = {name: [] for name in names}
        for key in sorted(self._entries, key=lambda key: -len(self._entries[key])):
            for name in self._entries[key]:
                if name in keys_of:
                    keys_of[name].append(key)
        return keys_of

    def _all_groups(self, sets: Mapping[str, NodeSet], names: Sequence[str]) -> dict[str, tuple[str, ...]]:
        known = set(names)
        groups = {name: members.copy() for name, members in sets.items()}
        for name, members in sets.items():
            stranger = next((node for node in members if node not in known), None)
            if stranger is not None:
                self.found.append((("groups", name), unknown("node", stranger, names)))
        for key, entry in self._spec.nodes.items():
            for group in entry.groups:
                groups.setdefault(group, _no_nodes()).update(self._entries[key])
        return {name: tuple(str(node) for node in members) for name, members in groups.items()}

    # one node

    def _node(self, name: str) -> NodeSpec:
        settings, origins, profiles = self._settings(tuple(self._keys_of[name]))
        index = _index(name)
        interfaces: list[NodeInterface] = []
        networks: list[NetworkSpec] = []
        for it, written in settings.interfaces.items():
            network = self._network(origins, it, written)
            if network is None:
                continue
            routed = any(interface.gateway for interface in interfaces)
            interfaces.append(self._interface(name, index, it, written, network, origins, routed=routed))
            networks.append(network)
        first = networks[0] if networks else None
        return NodeSpec(
            name=name,
            index=index,
            profiles=profiles,
            groups=self._groups_of.get(name, ()),
            interfaces=tuple(interfaces),
            domain=first.domain if first else "",
            nameservers=tuple(dict.fromkeys(str(server) for network in networks for server in network.nameservers)),
            search=tuple(dict.fromkeys(domain for network in networks for domain in network.search)),
            head=str(first.head) if first and first.head else "",
            vars={key: _fill(text, name, index) for key, text in settings.vars.items()},
            settings=settings,
            origins=origins,
        )

    def _settings(self, keys: tuple[str, ...]) -> tuple[Settings, yamlio.Document, tuple[str, ...]]:
        """What the entries at `keys` come to, and the profiles; many nodes share it, so it is worked out once."""
        known = self._known_settings.get(keys)
        if known is None:
            profiles = self._profiles(keys)
            paths: list[Path] = [("defaults",), *(("profiles", name) for name in profiles)]
            paths += [("nodes", key) for key in keys]
            merged = Node({}, self._tree.place)
            for path in paths:
                layer = _below(self._tree, path)
                if layer is not None and isinstance(layer.value, dict):
                    merged = merging.lay_over(merged, layer, _RULES, self._faults)
            own = {key: node for key, node in merged.value.items() if key in Settings.model_fields}
            origins = merging.document(replace(merged, value=own), self._document.file)
            known = (Settings.model_validate(origins.value), origins, profiles)
            self._known_settings[keys] = known
        return known

    def _profiles(self, keys: Sequence[str]) -> tuple[str, ...]:
        names: dict[str, None] = {}
        for key in keys:
            for at, name in enumerate(self._spec.nodes[key].profiles):
                if name in self._spec.profiles:
                    names[name] = None
                else:
                    self.found.append((("nodes", key, "profiles", at), unknown("profile", name, self._spec.profiles)))
        return tuple(names)

    def _network(self, origins: yamlio.Document, interface: str, written: InterfaceSpec) -> NetworkSpec | None:
        path: Path = ("interfaces", interface)
        if written.network is None:
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
        network: NetworkSpec,
        origins: yamlio.Document,
        *,
        routed: bool,
    ) -> NodeInterface:
        address = None
        if written.ip is not None:
            path: Path = ("interfaces", name, "ip")
            address = self._address(node, _fill(written.ip, node, index), network, origins, path)
        assert written.network is not None
        return NodeInterface(
            name=name,
            network=written.network,
            mac=written.mac,
            address=f"{address}/{network.cidr.prefixlen}" if address is not None else None,
            gateway=str(network.gateway) if network.gateway is not None and not routed else None,
            mtu=written.mtu if written.mtu is not None else network.mtu,
            routes=tuple(written.routes),
        )

    def _address(
        self, node: str, filled: str, network: NetworkSpec, origins: yamlio.Document, path: Path
    ) -> Address | None:
        cidr = network.cidr
        try:
            address = cidr.network_address + int(filled[1:]) if filled.startswith("+") else Address(filled)
        except ValueError:
            self._fault(origins, path, f"'{filled}' (of {node}) is not an address")
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

    # all nodes together

    def _check_unique(self) -> None:
        macs: dict[str, tuple[str, Place]] = {}
        addresses: dict[str, tuple[str, Place]] = {}
        for node in self.nodes:
            for it in node.interfaces:
                address = it.address.partition("/")[0] if it.address else None
                self._check_one("MAC", it.mac, node, ("interfaces", it.name, "mac"), macs)
                self._check_one("address", address, node, ("interfaces", it.name, "ip"), addresses)

    def _check_one(
        self, what: str, value: str | None, node: NodeSpec, path: Path, seen: dict[str, tuple[str, Place]]
    ) -> None:
        if value is None:
            return
        place = node.place(*path)
        if value not in seen:
            seen[value] = (node.name, place)
            return
        other, first = seen[value]
        where = "" if first == place else f" in {first}"
        text = f"{what} {value} is that of {other}{where} and of {node.name}"
        if (place.file, place.line) not in ((fault.place.file, fault.place.line) for fault in self._faults):
            self._faults.append(Fault(place, dotted(path), text))

    def _fault(self, origins: yamlio.Document, path: Path, text: str) -> None:
        """One fault a written value: further nodes that share it add nothing."""
        place = origins.place(path)
        if not any(fault.place == place for fault in self._faults):
            self._faults.append(Fault(place, dotted(path), text))


def _below(tree: Node, path: Path) -> Node | None:
    node: Node | None = tree
    for part in path:
        value: Any = node.value if node is not None else None
        node = value.get(part) if isinstance(value, dict) else None
    return node


def _inverted(groups: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    inverted: dict[str, tuple[str, ...]] = {}
    for group, members in groups.items():
        for name in members:
            inverted[name] = (*inverted.get(name, ()), group)
    return inverted


def _group_names(written: str) -> list[str]:
    return re.findall(r"@([A-Za-z0-9._-]+)", written)


def _no_nodes() -> NodeSet:
    from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet

    return NodeSet(resolver=RESOLVER_NOGROUP)


def _index(name: str) -> int:
    """The last number of a name: 12 of rack1-n012; 0 of one without."""
    numbers = re.findall(r"[0-9]+", name)
    return int(numbers[-1]) if numbers else 0


def _fill(text: str, name: str, index: int) -> str:
    def value(found: re.Match[str]) -> str:
        return name if found[1] == "name" else str(index + int(found[2] or 0))

    return _TEMPLATE.sub(value, text)
