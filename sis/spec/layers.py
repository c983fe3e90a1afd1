"""Settings laid over each other, key by key: defaults, profiles, entries; what many nodes share is worked out once."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import TypeAdapter

from configurator import kernel
from sis.spec import merging, yamlio
from sis.spec.merging import Node, Rules
from sis.spec.model import unknown
from sis.spec.places import Fault, Path, Place
from sis.spec.settings import IDENTITIES, REPEATED, NodeEntry, Settings

_OWN = "interfaces"
"""The key that differs from node to node; the others are shared by many."""
_WORDS = "kernel_cmdline"
"""The key whose texts are joined word by word instead of replaced."""


@dataclass(frozen=True)
class Origins:
    """Where the settings of one node are written. `entry` is the place of its own entry."""

    parts: Mapping[str, yamlio.Document]
    entry: Place

    def place(self, path: Path) -> Place:
        """The place of the setting at `path`, or of the nearest thing around it that was written."""
        part = self.parts.get(str(path[0])) if path else None
        return part.place(path) if part is not None else self.entry

    def says(self, key: str) -> bool:
        """Whether the file says anything of this setting for the node."""
        return key in self.parts

    @property
    def value(self) -> dict[str, Any]:
        """The settings as they are written, laid over each other; what the file does not say is not in it."""
        return {name: part.value[name] for name, part in self.parts.items()}


@dataclass(frozen=True)
class Laid:
    """What the entries of a node come to; `interfaces` are in no part of `settings`."""

    settings: Settings
    interfaces: Mapping[str, Any]
    profiles: tuple[str, ...]
    origins: Origins


class Layers:
    """The settings of a cluster file by entries. Faults of values laid over each other go to `faults`, of profiles
    that are not there to `found`."""

    def __init__(
        self,
        document: yamlio.Document,
        profiles: Mapping[str, Settings],
        entries: Mapping[str, NodeEntry],
        faults: list[Fault],
        found: list[tuple[Path, str]],
    ) -> None:
        self._document = document
        self._tree = merging.nodes(document)
        self._profiles = profiles
        self._entries = entries
        self._faults = faults
        self._found = found
        self._known_parts: dict[tuple[str, tuple[Path, ...]], tuple[Any, yamlio.Document]] = {}
        self._known_settings: dict[tuple[Any, ...], Settings] = {}
        self._known_profiles: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._known_layers: dict[Path, Node | None] = {}

    def of(self, keys: Sequence[str]) -> Laid:
        """Defaults, then the profiles in order, then the entries at `keys`, the last winning."""
        profiles = self._profiles_of(tuple(keys))
        paths: list[Path] = [("defaults",), *(("profiles", name) for name in profiles)]
        paths += [("nodes", key) for key in keys]
        said: dict[str, list[Path]] = {}
        for path in paths:
            layer = self._layer(path)
            for name in layer.value if layer is not None and isinstance(layer.value, dict) else ():
                if name in Settings.model_fields:
                    said.setdefault(name, []).append(path)
        parts = {name: self._part(name, tuple(of)) for name, of in said.items()}
        own = parts.get(_OWN)
        shared = tuple((name, tuple(of)) for name, of in said.items() if name != _OWN)
        settings = self._known_settings.get(shared)
        if settings is None:
            values = {name: value for name, (value, _) in parts.items() if name != _OWN}
            settings = self._known_settings.setdefault(shared, Settings.model_construct(**values))
        entry = self._document.place(("nodes", keys[-1])) if keys else Place(self._document.file, 1)
        origins = Origins({name: document for name, (_, document) in parts.items()}, entry)
        return Laid(settings, own[0] if own is not None else {}, profiles, origins)

    def _layer(self, path: Path) -> Node | None:
        if path not in self._known_layers:
            self._known_layers[path] = _below(self._tree, path)
        return self._known_layers[path]

    def _part(self, name: str, paths: tuple[Path, ...]) -> tuple[Any, yamlio.Document]:
        """One setting laid over from the layers at `paths`: its value, and where its pieces are written."""
        known = self._known_parts.get((name, paths))
        if known is not None:
            return known
        merged: Node | None = None
        for path in paths:
            layer = self._layer(path)
            assert layer is not None
            node: Node = layer.value[name]
            if merged is None:
                merged = merging.settle(node, _RULES, self._faults, (name,))
            elif name == _WORDS:
                merged = replace(node, value=_joined(merged.value, node.value))
            else:
                merged = merging.lay_over(merged, node, _RULES, self._faults, (name,))
        assert merged is not None
        document = merging.document(Node({name: merged}, merged.place), self._document.file)
        value = _validator(name).validate_python(document.value[name])
        self._known_parts[name, paths] = (value, document)
        return value, document

    def _profiles_of(self, keys: tuple[str, ...]) -> tuple[str, ...]:
        known = self._known_profiles.get(keys)
        if known is not None:
            return known
        names: dict[str, None] = {}
        for key in keys:
            for at, name in enumerate(self._entries[key].profiles):
                if name in self._profiles:
                    names[name] = None
                else:
                    self._found.append((("nodes", key, "profiles", at), unknown("profile", name, self._profiles)))
        return self._known_profiles.setdefault(keys, tuple(names))


_RULES = Rules(IDENTITIES, repeated=REPEATED)


@functools.cache
def _validator(name: str) -> TypeAdapter[Any]:
    """Reads one setting: all others would be given their defaults anew for each node."""
    return TypeAdapter(Settings.model_fields[name].rebuild_annotation())


def _joined(below: Any, above: Any) -> str:
    """Words of a kernel's command line: a later `key=` replaces an earlier one, `-key` takes it away."""
    return " ".join(kernel.joined_parameters([str(text).split() for text in (below, above)]))


def _below(tree: Node, path: Path) -> Node | None:
    node: Node | None = tree
    for part in path:
        value: Any = node.value if node is not None else None
        node = value.get(part) if isinstance(value, dict) else None
    return node
