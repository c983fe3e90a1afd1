"""The cluster as it is applied, and as it would be with today's cluster file and site files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from configurator.facts import Facts
from sis.disk.model import Layout
from sis.errors import NotFound
from sis.head import applied
from sis.head.applied import AppliedSite
from sis.head.renders import Inputs, Renders, facts_of
from sis.image.store.reference import Resolved
from sis.inventory import cluster_file, records
from sis.inventory import settings as cluster_settings
from sis.inventory.cluster import bring_in, network_of, node_of
from sis.inventory.host_keys import known_keys
from sis.inventory.model import Node
from sis.inventory.networks import all_networks
from sis.inventory.node_read import load
from sis.inventory.node_write import differs
from sis.inventory.records import Surroundings
from sis.spec import cluster as cluster_spec
from sis.spec.cluster import ClusterSpec
from sis.spec.expansion import NodeSpec


@dataclass(frozen=True)
class World:
    """All nodes with what they share. `specs` are the nodes of the cluster file `spec` by name, if it was asked for."""

    nodes: Mapping[str, Node]
    around: Surroundings
    site: AppliedSite
    facts: Mapping[int, Facts]
    specs: Mapping[str, NodeSpec]
    spec: ClusterSpec | None

    _images: dict[str, Resolved] = field(default_factory=dict)
    _layouts: dict[tuple[object, ...], Layout | None] = field(default_factory=dict)

    def inputs(self, renders: Renders, node: Node) -> Inputs:
        """What a node's files are made from in this world; no key is made for it. Raises SisError without an image."""
        image = self._image(renders, node)
        layout = self._layout(renders, node, image)
        record = records.record_of(node, layout, self.around, self.around.host_keys.get(node.id, ()))
        tree = renders.tree(image.version, image.version_id)
        return Inputs(record, self.facts.get(node.id, _NO_FACTS), tree, self.site.site, layout)

    def _image(self, renders: Renders, node: Node) -> Resolved:
        """Many nodes follow the same channel; it is looked up once."""
        if node.assignment is None or node.hold is not None:
            return renders.image(node)
        key = node.assignment.reference
        if key not in self._images:
            self._images[key] = renders.image(node)
        return self._images[key]

    def _layout(self, renders: Renders, node: Node, image: Resolved) -> Layout | None:
        own = node.assignment.layout if node.assignment is not None else None
        foreign = node.arming is not None and node.arming.allow_foreign_disk
        key = (own, image.version_id, node.profile.get("serial_console"), foreign)
        if key not in self._layouts:
            self._layouts[key] = renders.layout(node, image.version)
        return self._layouts[key]


_NO_FACTS = Facts()


def now(renders: Renders, *, with_spec: bool = False) -> World:
    """The world nodes live in: the inventory, and the site files (and the cluster file, if asked) applied last."""
    inventory = renders.inventory
    nodes = inventory.nodes.list()
    told = inventory.history.all_facts()
    around = records.surroundings_of(
        nodes, inventory.networks.list(), inventory.settings.all(), inventory.host_keys.known(), _hardware(nodes, told)
    )
    spec = applied_spec(renders) if with_spec else None
    return World(
        nodes={node.name: node for node in nodes},
        around=around,
        site=renders.site(),
        facts={node_id: facts_of(each) for node_id, each in told.items()},
        specs=_by_name(spec),
        spec=spec,
    )


def wanted(renders: Renders, before: World, spec: ClusterSpec | None, site: AppliedSite) -> World:
    """The world as it would be with this cluster file (None: as it is) and these site files; nothing is changed.

    Raises SisError for a file that cannot be brought in.
    """
    site = before.site if site.digest == before.site.digest else site
    if spec is None:
        return World(before.nodes, before.around, site, before.facts, before.specs, before.spec)
    nodes, around = _without_writing(before, spec) or _tried(renders, before, spec)
    if around.peers_digest == before.around.peers_digest:
        around = records.sharing_peers(around, before.around)
    return World(nodes, around, site, before.facts, _by_name(spec), spec)


def _without_writing(before: World, spec: ClusterSpec) -> tuple[Mapping[str, Node], Surroundings] | None:
    """The nodes after a file that adds none and moves no address; None for others, which the database must judge."""
    networks = {name: network_of(name, network) for name, network in spec.networks.items()}
    if any(before.around.networks.get(name) != network for name, network in networks.items()):
        return None
    nodes = dict(before.nodes)
    for each in spec.expand():
        old = before.nodes.get(each.name)
        if old is None:
            return None
        new = node_of(each, old)
        if new.interfaces != old.interfaces:
            return None
        if differs(old, new):
            nodes[each.name] = replace(old, groups=new.groups, assignment=new.assignment, profile=new.profile)
    around = replace(before.around, cluster=spec.cluster)
    if any(_as_peer(nodes[name]) != _as_peer(node) for name, node in before.nodes.items()):
        said = {"authorized_keys": around.authorized_keys, "cluster": spec.cluster}
        known = [*nodes.values()]
        around = records.surroundings_of(
            known, around.networks.values(), said, around.host_keys, _hardware_of(known, before)
        )
    return nodes, around


def _as_peer(node: Node) -> tuple[object, ...]:
    """What other nodes' files say of it, but for its addresses."""
    return node.groups, records.lists_cluster(node), bool(node.profile.get("kerrighed"))


def _tried(renders: Renders, before: World, spec: ClusterSpec) -> tuple[Mapping[str, Node], Surroundings]:
    """The nodes after a file that was brought in and taken back. Raises SisError where it cannot be brought in."""
    with renders.inventory.database.trial() as connection:
        bring_in(connection, spec)
        nodes = load(connection)
        networks = all_networks(connection).values()
        said = cluster_settings.everything(connection)
        keys = known_keys(connection)
    around = records.surroundings_of(nodes, networks, said, keys, _hardware_of(nodes, before))
    return {node.name: node for node in nodes}, around


def _hardware(nodes: Iterable[Node], told: Mapping[int, Mapping[str, Any]]) -> dict[int, records.Hardware]:
    if not any(map(records.lists_cluster, nodes)):
        return {}
    return {node_id: records.hardware_of(each) for node_id, each in told.items()}


def _hardware_of(nodes: Iterable[Node], before: World) -> dict[int, records.Hardware]:
    if not any(map(records.lists_cluster, nodes)):
        return {}
    return {
        node_id: records.hardware_of({"cpu": {"threads": facts.cpu.threads}, "memory_bytes": facts.memory_bytes})
        for node_id, facts in before.facts.items()
    }


def applied_spec(renders: Renders) -> ClusterSpec | None:
    """The cluster file applied last, as it was then; None before the first."""
    followed = cluster_file.of(renders.inventory.database)
    if followed is not None and followed.path.exists():
        raw = followed.path.read_bytes()
        if cluster_file.digest(raw) == followed.digest:
            return cluster_spec.parse(raw, str(followed.path))
    text = applied.cluster(renders.state)
    return cluster_spec.parse(text.text.encode(), text.file) if text is not None else None


def todays_file(renders: Renders, file: Path | None) -> Path | None:
    """The cluster file that is meant: the one given, else the one applied last, else STATE/cluster.yaml.

    None where there is none. Raises NotFound for one that is not there any more.
    """
    if file is not None:
        return file
    followed = cluster_file.of(renders.inventory.database)
    last = applied.cluster(renders.state)
    path = followed.path if followed is not None else Path(last.file) if last is not None else None
    if path is None:
        usual = renders.state / "cluster.yaml"
        return usual if usual.exists() else None
    if not path.exists():
        raise NotFound(f"the cluster file applied last is not there any more: {path}", hint="name the one you mean")
    return path


def _by_name(spec: ClusterSpec | None) -> dict[str, NodeSpec]:
    return {node.name: node for node in spec.expand()} if spec is not None else {}
