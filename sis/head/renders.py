"""What a node is held to now: image, disk layout, and its own layer rendered for what the image holds.

What many nodes share is made once and kept: a version's footprint, a layout, the cluster around a node; so are
layers, by the content they are made from.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from blake3 import blake3

from configurator import render
from configurator.errors import ConfiguratorError
from configurator.facts import Facts
from configurator.record import HostKey, Record
from configurator.rendered import RenderedFile
from configurator.renderers import Context
from configurator.site import Site, lay_over
from sis.disk.model import Layout
from sis.errors import SisError, SpecInvalid
from sis.head import applied
from sis.head.kept import Kept
from sis.head.version_tree import VersionTree
from sis.image.model import Version
from sis.image.store import reference
from sis.image.store.local import LocalStore
from sis.image.store.reference import Reference, Resolved
from sis.inventory import records
from sis.inventory.db import Inventory
from sis.inventory.model import Node
from sis.inventory.profile import read_profile
from sis.inventory.records import Surroundings
from sis.sync.model import LayerFile
from sis.wire import Desired

HARDWARE_OLD_S = 30
LAYERS_KEPT = 10_000
"""Layers are kept by content: two states of a cluster of 5,000 nodes."""

Stamp = tuple[int, int, int]


class Inputs(NamedTuple):
    """All that one node's own files are made from; nothing else has a part."""

    record: Record
    facts: Facts
    tree: VersionTree
    site: Site
    layout: Layout | None

    def files(self) -> tuple[RenderedFile, ...]:
        """The files. Raises ConfiguratorError for values that are not what they mean, or not for this image."""
        return self._with_site(render.render(self.record, self.facts, self.tree.footprint, shared=self.tree.shared))

    def files_of(self, keys: frozenset[str]) -> tuple[RenderedFile, ...]:
        """Only the files that are made of these keys of the record, and the site's: for a comparison."""
        footprint, shared = self.tree.footprint, self.tree.shared
        return self._with_site(render.render_again(self.record, self.facts, footprint, of=keys, shared=shared))

    def _with_site(self, rendered: tuple[RenderedFile, ...]) -> tuple[RenderedFile, ...]:
        if not self.site.layers:
            return rendered
        return lay_over(rendered, self.site, Context(self.record, self.facts, self.tree.footprint), self.tree.tree)


class Renders:
    """Answers for all nodes of one inventory and one store. Safe in threads."""

    def __init__(self, state: Path, inventory: Inventory) -> None:
        self.store = LocalStore(state / "store")
        self.state = state
        self.inventory = inventory
        self._images: Kept[tuple[Reference, Stamp], Resolved] = Kept(32)
        self._layouts: Kept[tuple[str, Stamp], Layout] = Kept(32)
        self._trees: Kept[str, VersionTree] = Kept(8)
        self._lists: Kept[int, bool] = Kept(2)
        self._around: Kept[tuple[int, int, str], Surroundings] = Kept(2)
        self._last_around: Surroundings | None = None
        self._sites: Kept[Stamp, applied.AppliedSite] = Kept(2)
        self._layers: Kept[bytes, tuple[LayerFile, ...]] = Kept(LAYERS_KEPT)
        self._key: str | None = None

    def desired(self, node: Node, *, head_address: str = "") -> Desired:
        """What `node` is held to.

        Raises SisError (NotFound with near names among them) when its image or layout is not there or does not fit.
        """
        image = self.image(node)
        layout = self.layout(node, image.version)
        words = records.kernel_words(node, layout)
        profile = read_profile(node.profile, node.name)
        return Desired(
            node=node.name,
            image=image.image,
            channel=image.channel,
            generation=image.generation,
            version=image.version_id,
            store="store",
            key=self.key(),
            layer=self.layer(node, image.version, image.version_id, layout, head_address=head_address),
            layout=msgspec.structs.replace(layout, kernel_cmdline="") if layout is not None else None,
            kernel_cmdline=" ".join(words),
            boot_kernel=profile.boot_kernel,
            boot_timeout_s=profile.boot_timeout_s,
            health=profile.health,
            windows=profile.windows,
            timezone=profile.timezone,
            set_aside=node.state.reason if node.state.state == "maintenance" else "",
        )

    def image(self, node: Node) -> Resolved:
        """The version a rollout holds the node to, else what its assignment means now.

        Raises SisError without an assignment, NotFound when the version is not there.
        """
        if node.hold is not None:
            return self._resolved(node.hold.held.name)
        if node.assignment is None:
            raise SisError(
                f"node {node.name} has no image", hint=f"give it one: sis node set {node.name} image=NAME@stable"
            )
        return self._resolved(node.assignment.reference)

    def _resolved(self, name: str) -> Resolved:
        wanted = reference.parse(name)
        stamp = _stamp(self.store.path / "refs" / wanted.image)
        return self._images.get((wanted, stamp), lambda: reference.resolve(self.store, wanted))

    def layout(self, node: Node, version: Version) -> Layout | None:
        """The disk layout by the node's assignment, else by the image's spec; None when neither names one."""
        name = layout_name(node, version)
        if name is None:
            return None
        profile = read_profile(node.profile, node.name)
        path = layout_path(self.state, name)
        layout = self._layouts.get((str(path), _stamp(path)), lambda: load_layout(self.state, str(path)))
        if profile.serial_console is not None:
            layout = msgspec.structs.replace(layout, serial_console=profile.serial_console)
        if node.arming is not None and node.arming.allow_foreign_disk:
            disks = tuple(msgspec.structs.replace(disk, wipe="always") for disk in layout.disks)
            layout = msgspec.structs.replace(layout, disks=disks)
        return layout

    def layer(
        self, node: Node, version: Version, version_id: str, layout: Layout | None, *, head_address: str = ""
    ) -> tuple[LayerFile, ...]:
        """The node's own files, as this version of its image wants them; what was made of equal values before is not
        made again. Raises SpecInvalid for impossible values.
        """
        around = self.around(head_address)
        record = records.record_of(node, layout, around, around.host_keys.get(node.id) or self._own_keys(node))
        inputs = Inputs(record, self.facts(node), self.tree(version, version_id), self.site().site, layout)
        return self._layers.get(self._layer_key(inputs, version_id, around), lambda: self._made(inputs))

    def inputs(self, node: Node, *, head_address: str = "") -> Inputs:
        """What the node's files are made from now. Raises SisError as `desired` does."""
        image = self.image(node)
        layout = self.layout(node, image.version)
        around = self.around(head_address)
        record = records.record_of(node, layout, around, around.host_keys.get(node.id) or self._own_keys(node))
        return Inputs(record, self.facts(node), self.tree(image.version, image.version_id), self.site().site, layout)

    def around(self, head_address: str = "") -> Surroundings:
        """What the cluster's records share, at the inventory's present revision; the hardware they list may be some
        seconds old, so that thousands of nodes that say hello cost one look a while.
        """
        revision = self.inventory.settings.revision()
        moment = int(time.monotonic() / HARDWARE_OLD_S) if self._lists.get(revision, self._is_listing) else 0
        key = (revision, moment, head_address)
        return self._around.get(key, lambda: self._look_around(head_address))

    def _look_around(self, head_address: str) -> Surroundings:
        found = records.surroundings(self.inventory, head_address=head_address)
        last = self._last_around
        if last is not None and last.peers_digest == found.peers_digest:
            found = records.sharing_peers(found, last)
        self._last_around = found
        return found

    def _is_listing(self) -> bool:
        return any(map(records.lists_cluster, self.inventory.nodes.list()))

    def tree(self, version: Version, version_id: str) -> VersionTree:
        """A version as the configurator needs it, read once."""
        return self._trees.get(version_id, lambda: VersionTree(self.store, version))

    def site(self) -> applied.AppliedSite:
        """The site files applied last."""
        return self._sites.get(applied.stamp(self.state), lambda: applied.site(self.state))

    def facts(self, node: Node) -> Facts:
        """The facts the node told last; empty ones before, or when they make no sense."""
        return facts_of(self.inventory.history.facts(node.id))

    def _own_keys(self, node: Node) -> tuple[HostKey, ...]:
        return self.inventory.host_keys.of(node)

    def _layer_key(self, inputs: Inputs, version_id: str, around: Surroundings) -> bytes:
        """Names all that has a part in a layer. The peers, thousands in every record, count by their own digest."""
        hashed = blake3(msgspec.msgpack.encode(msgspec.structs.replace(inputs.record, peers=())))
        hashed.update(msgspec.msgpack.encode((inputs.facts, version_id, around.peers_digest, self.site().digest)))
        return hashed.digest()

    def _made(self, inputs: Inputs) -> tuple[LayerFile, ...]:
        try:
            return tuple(layer_file(file) for file in inputs.files())
        except ConfiguratorError as fault:
            name = inputs.record.name
            raise SpecInvalid(
                f"the files of node {name} cannot be rendered: {fault.message}",
                details=fault.details,
                hint=fault.hint or f"see where each value is written: sis config lint {name}",
            ) from fault

    def key(self) -> str:
        """The hex public key that signs this head's refs."""
        if self._key is None:
            self._key = self.store.signer().public
        return self._key


def facts_of(told: Mapping[str, Any] | None) -> Facts:
    """Stored facts as a value."""
    try:
        return msgspec.convert(told or {}, Facts)
    except msgspec.ValidationError:
        return Facts()


def layout_name(node: Node, version: Version) -> str | None:
    """The name of a node's disk layout: its own, else that of its image's spec."""
    if node.assignment is not None and node.assignment.layout:
        return node.assignment.layout
    if version.spec is None:
        return None
    try:
        said = msgspec.json.decode(version.spec)
    except msgspec.DecodeError:
        return None
    name = said.get("disk") if isinstance(said, dict) else None
    return name if isinstance(name, str) else None


def load_layout(state: Path, name: str) -> Layout:
    """A layout by name (STATE/imagespecs/disks first) or path. Raises NotFound with near names, SpecInvalid."""
    from sis.disk.translate import layout_from_spec
    from sis.spec import layout as layout_spec

    return layout_from_spec(layout_spec.load(layout_path(state, name)))


def layout_path(state: Path, name: str) -> Path:
    """The file of a layout. Raises NotFound with near names."""
    from sis.spec import search

    places = [folder / "disks" for folder in search.folders((state / "imagespecs",))]
    return search.find("disk layout", name, places)


def _stamp(path: Path) -> Stamp:
    """Differs when a file was written or replaced."""
    try:
        status = path.stat()
    except OSError:
        return (0, 0, 0)
    return (status.st_ino, status.st_mtime_ns, status.st_size)


def layer_file(file: RenderedFile) -> LayerFile:
    """A rendered file as it travels."""
    return LayerFile(
        path=file.path,
        kind=file.kind,
        mode=file.mode,
        uid=file.uid,
        gid=file.gid,
        content=file.content,
        target=file.target,
        origin=file.origin,
    )
