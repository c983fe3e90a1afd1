"""The cluster file: networks, profiles, nodes as node sets, groups; and what each single node gets of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Annotated, Literal

from pydantic import Field, PrivateAttr

from sis.spec import yamlio
from sis.spec.addresses import AddressText, AnyAddressText, NetworkText, RangeText
from sis.spec.expansion import Expansion, NodeSpec
from sis.spec.health import HeadSpec
from sis.spec.model import Count, Name, Reading, Spec, Text
from sis.spec.places import Fault, Path, Place
from sis.spec.settings import NodeEntry, Settings

__all__ = ["ClusterSpec", "DhcpSpec", "NetworkSpec", "NodeSpec", "load", "parse"]


class DhcpSpec(Spec):
    """How addresses are given: by us (`full`), beside a foreign server that gives them (`proxy`), or not (`off`)."""

    range: RangeText = None
    mode: Literal["full", "proxy", "off"] = "full"


class NetworkSpec(Spec):
    """One network; `head` is the head's address on it."""

    cidr: NetworkText
    gateway: AddressText | None = None
    domain: Text = ""
    nameservers: tuple[AnyAddressText, ...] = ()
    search: tuple[Text, ...] = ()
    mtu: Annotated[Count, Field(ge=68, le=65535)] | None = None
    dhcp: DhcpSpec = DhcpSpec()
    head: AddressText | None = None


class ClusterSpec(Spec):
    """The cluster file."""

    cluster: Name
    networks: dict[Name, NetworkSpec] = Field(default_factory=dict)
    defaults: Settings = Settings()
    profiles: dict[Name, Settings] = Field(default_factory=dict)
    nodes: dict[str, NodeEntry] = Field(default_factory=dict)
    groups: dict[Name, Text] = Field(default_factory=dict)
    head: HeadSpec = HeadSpec()

    _document: yamlio.Document = PrivateAttr()
    _expanded: tuple[NodeSpec, ...] = PrivateAttr(default=())

    def expand(self) -> tuple[NodeSpec, ...]:
        """Every node with its resolved settings, in the order of node sets (n2 before n10)."""
        return self._expanded

    def place(self, *path: str | int) -> Place:
        """Where the value at `path` is written."""
        return self._document.place(path)


def load(path: str | FilePath) -> ClusterSpec:
    """Read a cluster file. Raises NotFound, or SpecInvalid with every fault."""
    faults: list[Fault] = []
    return _read(yamlio.load(path, faults), faults)


def parse(raw: bytes, file: str) -> ClusterSpec:
    """Like `load`, of bytes; `file` is the name that places show."""
    faults: list[Fault] = []
    return _read(yamlio.parse(raw, file, faults), faults)


def _read(document: yamlio.Document, faults: list[Fault]) -> ClusterSpec:
    reading = Reading[ClusterSpec](document, faults=faults)
    expansions: list[Expansion] = []

    def expands(spec: ClusterSpec) -> Iterator[tuple[Path, str]]:
        expansion = Expansion(spec, replace(document, value=reading.sound), reading.faults)
        expansions.append(expansion)
        return iter(expansion.found)

    spec = reading.finish(ClusterSpec, _networks_hold, expands)
    spec._document = document
    spec._expanded = expansions[0].nodes
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
