"""What a node is held to now: image, disk layout, and its own layer rendered for what the image holds.

What many nodes share is made once and kept: a version's footprint, a layout, the cluster around a node.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from configurator import facts as configurator_facts
from configurator import render
from configurator.errors import ConfiguratorError
from configurator.footprint import Footprint, Found, of_tree
from configurator.rendered import RenderedFile
from sis.disk.model import Layout
from sis.errors import SisError, SpecInvalid
from sis.image import reference
from sis.image.model import Kind, Manifest, Version
from sis.image.reference import Reference, Resolved
from sis.image.store import LocalStore
from sis.inventory import records
from sis.inventory.db import Inventory
from sis.inventory.model import Node
from sis.inventory.profile import read_profile
from sis.sync.model import LayerFile
from sis.wire import Desired

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

Stamp = tuple[int, int, int]

_KINDS = {Kind.FILE: "file", Kind.DIR: "dir", Kind.SYMLINK: "symlink"}


class Kept(Generic[K, V]):
    """The newest few values of a costly function, each made once even when many ask at the same time."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: OrderedDict[K, V] = OrderedDict()
        self._locks: dict[K, threading.Lock] = {}
        self._guard = threading.Lock()

    def get(self, key: K, make: Callable[[], V]) -> V:
        with self._guard:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            with self._guard:
                if key in self._values:
                    return self._values[key]
            value = make()
            with self._guard:
                self._values[key] = value
                self._locks.pop(key, None)
                while len(self._values) > self._most:
                    self._values.popitem(last=False)
        return value


class Renders:
    """Answers for all nodes of one inventory and one store. Safe in threads."""

    def __init__(self, state: Path, inventory: Inventory) -> None:
        self.store = LocalStore(state / "store")
        self._state = state
        self._inventory = inventory
        self._images: Kept[tuple[Reference, Stamp], Resolved] = Kept(32)
        self._layouts: Kept[tuple[str, Stamp], Layout] = Kept(32)
        self._footprints: Kept[str, Footprint] = Kept(16)
        self._around: Kept[tuple[int, str], records.Surroundings] = Kept(2)
        self._key: str | None = None

    def desired(self, node: Node, *, head_address: str = "") -> Desired:
        """What `node` is held to.

        Raises SisError (NotFound with near names among them) when its image or layout is not there or does not fit.
        """
        image = self.image(node)
        layout = self.layout(node, image.version)
        return Desired(
            node=node.name,
            image=image.image,
            channel=image.channel,
            generation=image.generation,
            version=image.version_id,
            store="store",
            key=self.key(),
            layer=self.layer(node, image.version, image.version_id, layout, head_address=head_address),
            layout=layout,
            kernel_cmdline=records.kernel_command_line(node),
        )

    def image(self, node: Node) -> Resolved:
        """The version the node's assignment means now. Raises SisError without one, NotFound when it is not there."""
        if node.assignment is None:
            raise SisError(
                f"node {node.name} has no image", hint=f"give it one: sis node set {node.name} image=NAME@stable"
            )
        wanted = reference.parse(node.assignment.reference)
        stamp = _stamp(self.store.path / "refs" / wanted.image)
        return self._images.get((wanted, stamp), lambda: reference.resolve(self.store, wanted))

    def layout(self, node: Node, version: Version) -> Layout | None:
        """The disk layout by the node's assignment, else by the image's spec; None when neither names one."""
        name = layout_name(node, version)
        if name is None:
            return None
        profile = read_profile(node.profile, node.name)
        path = layout_path(self._state, name)
        layout = self._layouts.get((str(path), _stamp(path)), lambda: load_layout(self._state, str(path)))
        if profile.serial_console is not None:
            layout = msgspec.structs.replace(layout, serial_console=profile.serial_console)
        if node.arming is not None and node.arming.allow_foreign_disk:
            disks = tuple(msgspec.structs.replace(disk, wipe="always") for disk in layout.disks)
            layout = msgspec.structs.replace(layout, disks=disks)
        return layout

    def layer(
        self, node: Node, version: Version, version_id: str, layout: Layout | None, *, head_address: str = ""
    ) -> tuple[LayerFile, ...]:
        """The node's own files, as this version of its image wants them. Raises SpecInvalid for impossible values."""
        footprint = self._footprints.get(version_id, lambda: footprint_of(self.store.manifest(version.manifest)))
        around = self._around.get(
            (self._inventory.settings.revision(), head_address),
            lambda: records.surroundings(self._inventory, head_address=head_address),
        )
        record = records.compose(self._inventory, node, layout, around)
        try:
            rendered = render.render(record, self._facts(node), footprint)
        except ConfiguratorError as fault:
            raise SpecInvalid(
                f"the files of node {node.name} cannot be rendered: {fault}", hint=f"see: sis node show {node.name}"
            ) from fault
        return tuple(_layer_file(file) for file in rendered)

    def key(self) -> str:
        """The hex public key that signs this head's refs."""
        if self._key is None:
            self._key = self.store.signer().public
        return self._key

    def _facts(self, node: Node) -> configurator_facts.Facts:
        told = self._inventory.history.facts(node.id)
        try:
            return msgspec.convert(told or {}, configurator_facts.Facts)
        except msgspec.ValidationError:
            return configurator_facts.Facts()


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


def footprint_of(manifest: Manifest) -> Footprint:
    """The footprint of an image version, from its manifest alone."""
    return of_tree(
        {
            "/" + entry.path.decode("utf-8", "surrogateescape"): Found(
                _KINDS.get(entry.kind, "other"),  # type: ignore[arg-type]  # the four words Found knows
                entry.target.decode("utf-8", "surrogateescape"),
            )
            for entry in manifest.entries
            if entry.path != b"."
        }
    )


def _layer_file(file: RenderedFile) -> LayerFile:
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
