"""Cluster files as text: mappings, lists and scalars in YAML that means the same to every reader."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./@-]*(?:\[[0-9,-]+\][A-Za-z0-9_.-]*)?")
_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})


def yaml_text(value: Mapping[str, Any], comments: Sequence[str] = ()) -> str:
    """The mapping with `comments` above it; texts are quoted unless no reader could take them for something else."""
    lines = [f"# {line}" for line in comments]
    lines.extend(_mapping(value, 0))
    return "".join(f"{line}\n" for line in lines)


def _mapping(value: Mapping[str, Any], depth: int) -> Iterator[str]:
    for key, item in value.items():
        yield from _item(f"{'  ' * depth}{_scalar(key)}:", item, depth)


def _item(start: str, item: object, depth: int) -> Iterator[str]:
    if isinstance(item, Mapping) and item:
        yield start
        yield from _mapping(item, depth + 1)
    elif isinstance(item, Mapping):
        yield f"{start} {{}}"
    elif isinstance(item, list | tuple):
        yield f"{start} [{', '.join(_flow(each) for each in item)}]"
    else:
        yield f"{start} {_scalar(item)}"


def _flow(value: object) -> str:
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_scalar(key)}: {_flow(item)}' for key, item in value.items())}}}"
    return _scalar(value)


def _scalar(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    text = str(value)
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS and "[" not in text:
        return text
    return json.dumps(text)
