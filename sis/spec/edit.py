"""Changing a few values of a YAML text in place: comments, order and all that is not changed stay."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from sis.errors import SisError
from sis.spec import yamlio
from sis.spec.places import dotted

Keys = tuple[str, ...]
"""Mapping keys from the top of a document to a value."""

_PLAIN = re.compile(r"(?!.*:( |$))[A-Za-z0-9/._+][A-Za-z0-9/._+@: -]*")
_NOT_RAW = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
"""What YAML takes for a line's end, or refuses, unless it is escaped; JSON does not escape it."""


@dataclass(frozen=True)
class _Entry:
    """A key and its value in a mapping."""

    key: yaml.Node
    value: yaml.Node


class Text:
    """A YAML text being changed. Each change is made in the text at once, and the next one sees it.

    Raises SisError for what cannot be changed so: values written by an alias, or keys of what is no mapping.
    """

    def __init__(self, raw: bytes, file: str) -> None:
        self.file = file
        self.text = raw.decode("utf-8-sig")
        self._top: yaml.Node | None = None
        self._known: dict[int, dict[str, _Entry]] = {}

    @property
    def raw(self) -> bytes:
        return self.text.encode()

    def has(self, path: Keys) -> bool:
        return self._find(path) is not None

    def set(self, path: Keys, value: Any) -> None:
        """Have the value at `path` be `value`: text, number, bool, None, list or mapping of such."""
        found = self._find(path)
        if found is not None:
            self._replace(found, value)
            return
        parent = self._find(path[:-1]) if len(path) > 1 else None
        if len(path) > 1 and (parent is None or _is_empty(parent.value)):
            self.set(path[:-1], {path[-1]: value})
            return
        self._insert(parent.value if parent is not None else self._root(), path, {path[-1]: value})

    def add(self, path: Keys, entries: Mapping[str, Any]) -> None:
        """Have the mapping at `path` hold these entries too, none of which it has; many cost no more than one."""
        if not entries:
            return
        found = self._find(path)
        if found is None or _is_empty(found.value):
            self.set(path, dict(entries))
        else:
            self._insert(found.value, (*path, next(iter(entries))), entries)

    def remove(self, path: Keys) -> None:
        """Take the key at `path` and its value away; a mapping that is left empty goes too, but those at the top."""
        while len(path) > 2:
            parent = self._find(path[:-1])
            if parent is None or len(_entries(parent.value)) != 1:
                break
            path = path[:-1]
        found = self._find(path)
        if found is None:
            return
        parent_node = self._find(path[:-1])
        mapping = parent_node.value if parent_node is not None else self._root()
        if len(_entries(mapping)) == 1 and parent_node is not None:
            self._replace(parent_node, {})
        elif _flows(mapping):
            self._cut_flow(mapping, found)
        else:
            self._cut_block(found)

    def rename(self, path: Keys, key: str) -> None:
        """Have the key at `path` be called `key`."""
        found = self._find(path)
        assert found is not None, path
        self._put(found.key.start_mark.index, found.key.end_mark.index, scalar(key))

    def _root(self) -> yaml.Node:
        if self._top is None:
            made = yaml.compose(self.text, Loader=yaml.CSafeLoader)
            if made is None:
                self.text = self.text.rstrip("\n") + ("\n" if self.text.strip() else "") + "{}\n"
                made = yaml.compose(self.text, Loader=yaml.CSafeLoader)
            if not isinstance(made, yaml.MappingNode):
                raise SisError(f"{self.file} is no mapping", hint="edit it by hand")
            self._top = made
        return self._top

    def _find(self, path: Keys) -> _Entry | None:
        node: yaml.Node = self._root()
        entry: _Entry | None = None
        for part in path:
            entry = self._keys_of(node).get(part)
            if entry is None:
                return None
            if entry.value.start_mark.index < entry.key.end_mark.index:
                line = entry.key.start_mark.line + 1
                raise SisError(
                    f"{self.file}:{line}: {dotted(path)} is written by an alias", hint="change that line by hand"
                )
            node = entry.value
        return entry

    def _put(self, start: int, end: int, text: str) -> None:
        self.text = self.text[:start] + text + self.text[end:]
        self._top = None
        self._known.clear()

    def _keys_of(self, node: yaml.Node) -> dict[str, _Entry]:
        """The entries of a mapping by key; none of what is no mapping."""
        found = self._known.get(id(node))
        if found is None:
            found = self._known[id(node)] = {each.key.value: each for each in _entries(node)}
        return found

    def _replace(self, entry: _Entry, value: Any) -> None:
        start, end = entry.value.start_mark.index, _end(self.text, entry.value)
        if entry.value.start_mark.index == entry.value.end_mark.index:
            colon = self.text.index(":", entry.key.end_mark.index) + 1
            self._put(colon, colon, f" {flow(value)}")
            return
        block = isinstance(entry.value, yaml.CollectionNode) and not entry.value.flow_style
        if block:
            colon = self.text.index(":", entry.key.end_mark.index) + 1
            self._put(colon, end, f" {flow(value)}")
        else:
            self._put(start, end, flow(value))

    def _insert(self, mapping: yaml.Node, path: Keys, new: Mapping[str, Any]) -> None:
        if not isinstance(mapping, yaml.MappingNode):
            line = mapping.start_mark.line + 1
            raise SisError(f"{self.file}:{line}: {dotted(path[:-1])} is no mapping", hint="change it by hand")
        written = [f"{scalar(key)}: {flow(value)}" for key, value in new.items()]
        entries = _entries(mapping)
        if _flows(mapping):
            close = mapping.end_mark.index - 1
            last = _end(self.text, entries[-1].value) if entries else close
            at = max(last, entries[-1].key.end_mark.index) if entries else close
            self._put(at, at, ("" if not entries else ", ") + ", ".join(written))
            return
        last = max(_end(self.text, entries[-1].value), entries[-1].key.end_mark.index)
        at = self.text.find("\n", last)
        at = len(self.text) if at < 0 else at
        indent = " " * entries[0].key.start_mark.column
        self._put(at, at, "".join(f"\n{indent}{line}" for line in written))
        if not self.text.endswith("\n"):
            self._put(len(self.text), len(self.text), "\n")

    def _cut_flow(self, mapping: yaml.Node, gone: _Entry) -> None:
        entries = _entries(mapping)
        at = [each.key.start_mark.index for each in entries].index(gone.key.start_mark.index)
        if at + 1 < len(entries):
            self._put(gone.key.start_mark.index, entries[at + 1].key.start_mark.index, "")
        else:
            before = entries[at - 1]
            self._put(max(_end(self.text, before.value), before.key.end_mark.index), _end(self.text, gone.value), "")

    def _cut_block(self, gone: _Entry) -> None:
        start = self.text.rfind("\n", 0, gone.key.start_mark.index) + 1
        last = max(_end(self.text, gone.value), gone.key.end_mark.index)
        end = self.text.find("\n", last)
        self._put(start, len(self.text) if end < 0 else end + 1, "")


def flow(value: Any) -> str:
    """A value in one line of YAML that our reader reads as just that."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{scalar(str(key))}: {flow(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(flow, value)) + "]"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, int | float):
        return str(value)
    return scalar(str(value))


def scalar(text: str) -> str:
    """A text as a plain scalar where that reads back as itself, anywhere in a line, else in double quotes."""
    if _PLAIN.fullmatch(text) and not text.endswith(" ") and isinstance(yamlio.scalar(text), str):
        return text
    return _NOT_RAW.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(text, ensure_ascii=False))


def _entries(node: yaml.Node) -> list[_Entry]:
    if not isinstance(node, yaml.MappingNode):
        return []
    return [_Entry(key, value) for key, value in node.value]


def _flows(node: yaml.Node) -> bool:
    return bool(isinstance(node, yaml.CollectionNode) and node.flow_style)


def _is_empty(node: yaml.Node) -> bool:
    """A value that can be replaced by a mapping: nothing at all, or null."""
    return isinstance(node, yaml.ScalarNode) and not node.style and yamlio.scalar(node.value) is None


def _end(text: str, node: yaml.Node) -> int:
    """Where a value's own text ends: what a parser calls the end of a block lies after comments and blank lines."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        key, value = last if isinstance(last, tuple) else (None, last)
        return max(_end(text, value), key.end_mark.index if key is not None else 0)
    end: int = node.end_mark.index
    if isinstance(node, yaml.ScalarNode) and node.style in ("|", ">"):
        return len(text[:end].rstrip())
    return end
