"""SystemImager's cluster.xml: groups with images, overrides, nodes; and which of its two override rules was meant."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from configurator.importing import Imported
from configurator.importing.xmltree import Element
from configurator.importing.yamltext import yaml_text

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_HOST = re.compile(r"([A-Za-z0-9.-]*?)([0-9]+)?")
_MOST_NODES = 100_000


def read(root: Element) -> Imported:
    """Groups become groups and profiles; of a node's groups the one with the smallest priority gives the image."""
    report: list[str] = []
    profiles: dict[str, Any] = {}
    nodes: dict[str, dict[str, Any]] = {}
    found = sorted(root.all("group"), key=_priority)
    for element in root.children:
        if element.name in ("master", "name", "override"):
            what = {"master": "the head", "name": "the group of all nodes", "override": "site files of all nodes"}
            report.append(f"understood: line {element.line}: {element.text!a} is {what[element.name]}")
        elif element.name != "group":
            report.append(f"not understood: line {element.line}: <{element.name}> {element.text!a}")
    for element in found:
        name = _name(element)
        if not name:
            report.append(f"not understood: line {element.line}: a group without a name")
            continue
        _group(element, name, profiles, nodes, report)
    file: dict[str, Any] = {"cluster": _cluster_name(root)}
    file |= {"profiles": profiles} if profiles else {}
    file["nodes"] = {
        name: {"profiles": told["profiles"][:1], "groups": told["groups"]} for name, told in sorted(nodes.items())
    }
    comments = [
        "made from a SystemImager cluster.xml; read it before you use it",
        "overrides become site files; here the more specific one wins, and of several groups the later named",
    ]
    report.extend(_overrides(root, found))
    return Imported(yaml_text(file, comments), tuple(report))


def expand(text: str) -> list[str]:
    """Node names of SystemImager's ranges, zeros kept: "node001-node003,node010". Raises ValueError."""
    names: list[str] = []
    for word in re.split(r"[,\s]+", text.strip()):
        first, dash, last = word.partition("-") if _is_range(word) else (word, "", "")
        if not word:
            continue
        if not dash:
            names.append(word)
            continue
        start, end = _HOST.fullmatch(first), _HOST.fullmatch(last)
        if start is None or end is None or start.group(1) != end.group(1) or not start.group(2) or not end.group(2):
            raise ValueError(f"not a range of nodes: {word!a}")
        low, high, width = int(start.group(2)), int(end.group(2)), len(start.group(2))
        if not 0 <= high - low < _MOST_NODES:
            raise ValueError(f"not a range of nodes: {word!a}")
        names.extend(f"{start.group(1)}{number:0{width}d}" for number in range(low, high + 1))
    return names


def _is_range(word: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9.]*[0-9]-[A-Za-z0-9.]*[0-9]", word) is not None


def _priority(element: Element) -> int:
    told = next(iter(element.texts("priority")), "")
    return int(told) if re.fullmatch(r"[0-9]{1,9}", told) else 2**31


def _name(element: Element) -> str:
    name = next(iter(element.texts("name")), "")
    return name.lower() if _NAME.fullmatch(name) else ""


def _cluster_name(root: Element) -> str:
    name = next(iter(root.texts("name")), "")
    return name if re.fullmatch(r"[a-z0-9][a-z0-9-]*", name) else "imported"


def _group(
    element: Element,
    name: str,
    profiles: dict[str, Any],
    nodes: dict[str, dict[str, Any]],
    report: list[str],
) -> None:
    image = next(iter(element.texts("image")), "")
    profiles[name] = {"image": image.lower()} if image else {}
    report.append(f"understood: line {element.line}: group {name}{f' with image {image}' if image else ''}")
    for child in element.children:
        if child.name == "node":
            for member in _members(child, report):
                told = nodes.setdefault(member, {"profiles": [], "groups": []})
                told["profiles"].append(name)
                told["groups"].append(name)
        elif child.name not in ("name", "priority", "image", "override"):
            report.append(f"not understood: line {child.line}: <{child.name}> {child.text!a} of group {name}")


def _members(element: Element, report: list[str]) -> Iterator[str]:
    for word in re.split(r"[,\s]+", element.text):
        try:
            yield from expand(word)
        except ValueError as error:
            report.append(f"not understood: line {element.line}: {error}")


def _overrides(root: Element, found: list[Element]) -> list[str]:
    lines = []
    for element in (root, *found):
        for number, folder in enumerate(element.texts("override")):
            where = "all" if element is root else f"group/{_name(element)}"
            lines.append(
                f"understood: override {folder!a}: copy it to site/{where}"
                + ("" if number == 0 else "; it was laid over the one before it, or under it: look which you meant")
            )
    return lines
