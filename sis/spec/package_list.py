"""The packages of an image spec changed in its text: a line an item comes and goes, all else stays as written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from sis.spec import edit, yamlio

_ITEM = re.compile(r"(\s*)- +(\S+)\s*(#.*)?")
_KEY = "packages"


def own(text: str) -> list[str]:
    """The entries the text itself has, `-name` (which takes an inherited one away) among them. Raises SpecInvalid."""
    value = _value(text)
    return [str(each) for each in value] if isinstance(value, list) else []


def add(text: str, name: str) -> str:
    """The text with a package more; one that it takes away (`-name`) is no longer taken away."""
    listed = own(text)
    if name in listed:
        return text
    return _without(text, f"-{name}") if f"-{name}" in listed else _with(text, name)


def remove(text: str, name: str, *, inherited: bool) -> str:
    """The text without a package: its own entry goes, and what it inherits is taken away by `-name`."""
    if name in own(text):
        text = _without(text, name)
    return _with(text, f"-{name}") if inherited and f"-{name}" not in own(text) else text


def set_keys(text: str, values: dict[str, Any]) -> str:
    """The text with keys of its top level set to plain values (None: taken out); those that differ only."""
    known = _document(text).value or {}
    changing = edit.Text(text.encode(), "spec")
    for key, value in values.items():
        if value is None:
            changing.remove((key,))
        elif known.get(key) != value:
            changing.set((key,), value)
    return changing.text


def _with(text: str, item: str) -> str:
    listed, lines = own(text), text.splitlines()
    at = _item_lines(text, lines, listed)
    if not listed or at is None:
        return set_keys(text, {_KEY: [*listed, item]})
    indent = re.match(r"\s*", lines[at[-1]])
    assert indent is not None
    lines.insert(at[-1] + 1, f"{indent[0]}- {item}")
    return "\n".join(lines) + "\n"


def _without(text: str, item: str) -> str:
    listed, lines = own(text), text.splitlines()
    at = _item_lines(text, lines, listed)
    left = [each for each in listed if each != item]
    if not left or at is None:
        return set_keys(text, {_KEY: left or None})
    gone = {line for line, each in zip(at, listed, strict=True) if each == item}
    return "".join(f"{line}\n" for number, line in enumerate(lines) if number not in gone)


def _item_lines(text: str, lines: Sequence[str], listed: Sequence[str]) -> list[int] | None:
    """The line of each package when each has one to itself; None when they are written another way."""
    places = _document(text).places
    found = [places[(_KEY, at)].line - 1 for at in range(len(listed))]
    alone = len(set(found)) == len(found) and all(_ITEM.fullmatch(lines[number]) for number in found)
    return found if alone else None


def _value(text: str) -> Any:
    value = _document(text).value
    return value.get(_KEY) if isinstance(value, dict) else None


def _document(text: str) -> yamlio.Document:
    return yamlio.parse(text.encode(), "spec")
