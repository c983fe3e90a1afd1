"""The cluster as it is applied, and as it would be with today's cluster file and site files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from configurator.facts import Facts
from sis.errors import NotFound
from sis.head import applied
from sis.head.applied import AppliedSite
from sis.head.renders import Inputs, Renders, facts_of
from sis.inventory import cluster_file, records
from sis.inventory import settings as cluster_settings
from sis.inventory.cluster import bring_in
from sis.inventory.host_keys import known_keys
from sis.inventory.model import Node
from sis.inventory.networks import all_networks
from sis.inventory.nodes import load
from sis.inventory.records import Surroundings
from sis.spec import cluster as cluster_spec
from sis.spec.cluster import ClusterSpec
from sis.spec.expansion import NodeSpec


@dataclass(frozen=True)
class World:
    """All nodes with what they share. `specs` are the nodes of the cluster file `spec`, by name, if it was asked for."""

    nodes: Mapping[str, Node]
    around: Surroundings
    site: AppliedSite
    facts: Mapping[int, Facts]
    specs: Mapping[str, NodeSpec]
    spec: ClusterSpec | None

    def inputs(self, renders: Renders, node: Node) -> Inputs:
        """What a node's files are made from in this world; no key is made for it. Raises SisError without an image."""
        image = renders.image(node)
        layout = renders.layout(node, image.version)
        record = records.record_of(node, layout, self.around, self.around.host_keys.get(node.id, ()))
        tree = renders.tree(image.version, image.version_id)
        return Inputs(record, self.facts.get(node.id, Facts()), tree, self.site.site, layout)


def now(renders: Renders, *, with_spec: bool = False) -> World:
    """The world nodes live in: the inventory, and the site files (and the cluster file, if asked) applied last."""
    inventory = renders.inventory
    nodes = inventory.nodes.list()
    around = records.surroundings_of(
        nodes, inventory.networks.list(), inventory.settings.all(), inventory.host_keys.known()
    )
    spec = applied_spec(renders) if with_spec else None
    return World(
        nodes={node.name: node for node in nodes},
        around=around,
        site=renders.site(),
        facts={node_id: facts_of(told) for node_id, told in inventory.history.all_facts().items()},
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
    with renders.inventory.database.trial() as connection:
        bring_in(connection, spec)
        nodes = load(connection)
        networks = all_networks(connection).values()
        said = cluster_settings.everything(connection)
        keys = known_keys(connection)
    around = records.surroundings_of(nodes, networks, said, keys)
    if around.peers_digest == before.around.peers_digest:
        around = records.sharing_peers(around, before.around)
    return World({node.name: node for node in nodes}, around, site, before.facts, _by_name(spec), spec)


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
