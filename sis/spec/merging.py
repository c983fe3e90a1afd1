"""One spec laid over another: lists append, mappings merge, scalars override, `-item` removes; places are kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from sis.errors import near_names
from sis.spec.places import Fault, Path, Place, dotted
from sis.spec.removal import removed
from sis.spec.yamlio import Document, WrittenFloat, WrittenInt


@dataclass(frozen=True)
class Node:
    """A value with its places; `value` is a scalar, a list of nodes or a dict of text to nodes."""

    value: Any
    place: Place
    key_place: Place | None = None


@dataclass(frozen=True)
class Rules:
    """What `lay_over` must know of certain paths.

    `identities` names, for lists of mappings, the key whose equal value means "the same item": that item is replaced,
    and `-<value>` removes it. In the mappings at `ordered` the order matters: a key written again goes to the end.
    In the lists at `repeated` nothing is replaced. A "*" in a path stands for any second key.
    """

    identities: Mapping[Path, str] = field(default_factory=dict)
    ordered: frozenset[Path] = frozenset()
    repeated: frozenset[Path] = frozenset()

    def identity(self, path: Path) -> str | None:
        return self.identities.get(path) or self.identities.get(_any_second(path))

    def replaces(self, path: Path) -> bool:
        return path not in self.repeated and _any_second(path) not in self.repeated


def nodes(document: Document, path: Path = ()) -> Node:
    """The tree of a document's values."""
    value: Any = document.value
    for part in path:
        value = value[part]
    if isinstance(value, dict):
        value = {key: nodes(document, (*path, key)) for key in value}
    elif isinstance(value, list):
        value = [nodes(document, (*path, at)) for at in range(len(value))]
    return Node(value, document.place(path), document.keys.get(path))


def document(tree: Node, file: str) -> Document:
    """The document a tree stands for; its places may lie in several files."""
    places: dict[Path, Place] = {}
    keys: dict[Path, Place] = {}
    for path, node in _walk(tree, ()):
        places[path] = node.place
        if node.key_place is not None:
            keys[path] = node.key_place
    return Document(file, _plain(tree), MappingProxyType(places), MappingProxyType(keys))


def lay_over(lower: Node, upper: Node, rules: Rules, faults: list[Fault], path: Path = ()) -> Node:
    """`upper` over `lower`. A removal that finds nothing is added to `faults`."""
    if isinstance(lower.value, dict) and isinstance(upper.value, dict):
        merged = dict(lower.value)
        for key, node in upper.value.items():
            below = merged.pop(key, None) if path in rules.ordered else merged.get(key)
            merged[key] = lay_over(below, node, rules, faults, (*path, key)) if below is not None else node
        return replace(upper, value=merged)
    if isinstance(lower.value, list) and isinstance(upper.value, list):
        return replace(upper, value=_append(lower.value, upper.value, rules, faults, path))
    return upper


def settle(tree: Node, rules: Rules, faults: list[Fault], path: Path = ()) -> Node:
    """A tree whose lists have had their `-item` entries carried out; for the undermost of several specs."""
    if isinstance(tree.value, dict):
        below = {key: settle(node, rules, faults, (*path, key)) for key, node in tree.value.items()}
        return replace(tree, value=below)
    if isinstance(tree.value, list):
        return replace(tree, value=_append([], tree.value, rules, faults, path))
    return tree


def _append(lower: list[Node], upper: list[Node], rules: Rules, faults: list[Fault], path: Path) -> list[Node]:
    items = list(lower)
    identity = rules.identity(path)
    for node in upper:
        name = _name(node, identity)
        gone = removed(node.value)
        if gone is not None:
            left = [item for item in items if _name(item, identity) != gone]
            fault = Fault(node.place, dotted(path), _nothing(gone, [_name(item, identity) for item in items]))
            if len(left) == len(items) and fault not in faults:
                faults.append(fault)
            items = left
            continue
        if name is not None and rules.replaces(path):
            items = [item for item in items if _name(item, identity) != name]
        items.append(node)
    return items


def _name(node: Node, identity: str | None) -> str | None:
    value = node.value
    if isinstance(value, dict) and identity is not None and identity in value:
        value = value[identity].value
    value = value.text if isinstance(value, WrittenInt | WrittenFloat) else value
    return value if isinstance(value, str) else None


def _nothing(gone: str, there: list[str | None]) -> str:
    near = near_names(gone, [name for name in there if name is not None], 1)
    return f"nothing to remove: '{gone}' is not there before it" + (f"; did you mean '{near[0]}'?" if near else "")


def _any_second(path: Path) -> Path:
    return (path[0], "*", *path[2:]) if len(path) > 1 else path


def _walk(tree: Node, path: Path) -> Iterator[tuple[Path, Node]]:
    yield path, tree
    if isinstance(tree.value, dict):
        for key, node in tree.value.items():
            yield from _walk(node, (*path, key))
    elif isinstance(tree.value, list):
        for at, node in enumerate(tree.value):
            yield from _walk(node, (*path, at))


def _plain(tree: Node) -> Any:
    if isinstance(tree.value, dict):
        return {key: _plain(node) for key, node in tree.value.items()}
    if isinstance(tree.value, list):
        return [_plain(node) for node in tree.value]
    return tree.value
