"""Changing an image spec's text in place: what is not changed, comments among it, stays as the admin wrote it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from sis.errors import UsageFault
from sis.spec import yamlio

_PLAIN = re.compile(r"[A-Za-z0-9/_.+][A-Za-z0-9 /_.+@=,()~*%-]*(?<! )")
_ITEM = re.compile(r"(\s*)- +(\S+)\s*(#.*)?")


def set_key(text: str, key: str, value: Any) -> str:
    """The text with a key of its top level set to a plain value (None: taken out). Raises UsageFault, SpecInvalid."""
    document = _document(text)
    if document.value.get(key) == value and (value is not None) == (key in document.value):
        return text
    lines = text.splitlines()
    block = [] if value is None else _block(key, value)
    if key not in document.value:
        return _joined([*lines, *block])
    first, end = _span(document, lines, key)
    return _joined([*lines[:first], *block, *lines[end:]])


def add_package(text: str, name: str) -> str:
    """The text with a package more; one that it takes away (`-name`) is no longer taken away."""
    own = _packages(text)
    if name in own:
        return text
    if f"-{name}" in own:
        return _without(text, f"-{name}")
    return _with(text, name)


def remove_package(text: str, name: str, *, inherited: bool) -> str:
    """The text without a package: its own entry goes, and what it inherits is taken away by `-name`."""
    if name in _packages(text):
        text = _without(text, name)
    return _with(text, f"-{name}") if inherited and f"-{name}" not in _packages(text) else text


def own_packages(text: str) -> list[str]:
    """The entries the text itself has, those that take packages away among them."""
    return _packages(text)


def written(value: Any) -> str:
    """A plain value as YAML text of its own, a line an item."""
    if isinstance(value, list | tuple):
        return "\n".join(f"- {_flow(item)}" for item in value)
    if isinstance(value, Mapping):
        return "\n".join(line for key, below in value.items() for line in _block(key, below))
    return _flow(value)


def _with(text: str, item: str) -> str:
    document = _document(text)
    lines = text.splitlines()
    own = _packages(text)
    at = _item_lines(document, lines, own)
    if not own or at is None:
        return set_key(text, "packages", [*own, item])
    indent = re.match(r"\s*", lines[at[-1]])
    assert indent is not None
    lines.insert(at[-1] + 1, f"{indent[0]}- {_scalar(item)}")
    return _joined(lines)


def _without(text: str, item: str) -> str:
    document = _document(text)
    lines = text.splitlines()
    own = _packages(text)
    left = [each for each in own if each != item]
    at = _item_lines(document, lines, own)
    if not left or at is None:
        return set_key(text, "packages", left or None)
    gone = {line for line, each in zip(at, own, strict=True) if each == item}
    return _joined([line for number, line in enumerate(lines) if number not in gone])


def _packages(text: str) -> list[str]:
    value = _document(text).value.get("packages")
    return [str(each) for each in value] if isinstance(value, list) else []


def _item_lines(document: yamlio.Document, lines: Sequence[str], own: Sequence[str]) -> list[int] | None:
    """The line of each package when each has one to itself; None when they are written another way."""
    found = [document.places[("packages", at)].line - 1 for at in range(len(own))]
    alone = len(set(found)) == len(found) and all(_ITEM.fullmatch(lines[number]) for number in found)
    return found if alone else None


def _document(text: str) -> yamlio.Document:
    document = yamlio.parse(text.encode(), "spec")
    if document.value is None:
        return yamlio.Document("spec", {}, {}, {})
    if not isinstance(document.value, dict) or any(
        document.keys[(key,)].column != 1 for key in document.value if (key,) in document.keys
    ):
        raise UsageFault("this text is written in a way that only its author can change", hint="edit the text itself")
    return document


def _span(document: yamlio.Document, lines: Sequence[str], key: str) -> tuple[int, int]:
    """The lines of a key with its value; comments above the next key are that key's."""
    first = document.keys[(key,)].line - 1
    later = [place.line - 1 for path, place in document.keys.items() if len(path) == 1 and place.line - 1 > first]
    end = min(later, default=len(lines))
    while end > first + 1 and (not lines[end - 1].strip() or lines[end - 1].startswith("#")):
        end -= 1
    return first, end


def _block(key: str, value: Any) -> list[str]:
    if isinstance(value, Mapping) and value:
        return [f"{_key(key)}:", *(f"  {line}" for name, below in value.items() for line in _block(name, below))]
    if isinstance(value, list | tuple) and value:
        return [f"{_key(key)}:", *(f"  - {_flow(item)}" for item in value)]
    return [f"{_key(key)}: {_flow(value)}"]


def _flow(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(name)}: {_flow(below)}" for name, below in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
    if isinstance(value, str):
        return _scalar(value)
    return json.dumps(value)


def _key(name: str) -> str:
    return _scalar(name)


def _scalar(value: str) -> str:
    """Text as it is where it reads back as the same text, else in double quotes."""
    plain = _PLAIN.fullmatch(value) and isinstance(yamlio.scalar(value), str) and "," not in value
    if plain or re.fullmatch(r"-[a-z0-9][a-z0-9.+-]*", value):
        return value
    quoted = json.dumps(value, ensure_ascii=False)
    return "".join(char if char.isprintable() else f"\\U{ord(char):08x}" for char in quoted)


def _joined(lines: Sequence[str]) -> str:
    return "\n".join(lines) + "\n" if lines else ""
