"""Where each value of a node comes from: a line of the cluster file, or who set it by which change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sis.inventory.changes import shown
from sis.inventory.db import Inventory
from sis.inventory.model import Node, StoredChange
from sis.inventory.profile import shown_profile

if TYPE_CHECKING:
    from sis.spec.expansion import NodeSpec

_CHANGES_SEARCHED = 500
_PATHS: dict[str, tuple[str, ...]] = {"layout": ("disk",), "boot_kernel": ("boot",), "boot_timeout_s": ("boot",)}


@dataclass(frozen=True, slots=True)
class Origin:
    """One setting's value and where it comes from: "cluster.yaml:14", or "root (command) 2026-01-01 10:00"."""

    setting: str
    value: str
    origin: str


def blame(inventory: Inventory, node: Node, spec: NodeSpec | None) -> tuple[Origin, ...]:
    """Every setting of a node that was said, with its origin; `spec` is the node in the cluster file, if it is there.

    A value that the inventory has otherwise than the file was set by a command, and says so.
    """
    changes = inventory.changes.last(_CHANGES_SEARCHED, node=node.name)
    found = []
    for setting, value in _values(node).items():
        place = ""
        if spec is not None:
            group = setting.startswith("group ")
            place = spec.group_place(str(value)) if group else _place(spec, setting, value)
        found.append(Origin(setting, shown(value), place or _set_by(changes, setting)))
    return tuple(found)


def _values(node: Node) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if node.assignment is not None:
        values["image"] = node.assignment.reference
        if node.assignment.layout:
            values["layout"] = node.assignment.layout
    for interface in node.interfaces:
        for what in ("mac", "address", "network"):
            value = getattr(interface, what)
            if value:
                values[f"interfaces.{interface.name}.{what}"] = value
    for group in node.groups:
        values[f"group {group}"] = group
    profile = shown_profile(node.profile)
    site = profile.pop("vars", {})
    return {**values, **profile, **{f"vars.{name}": value for name, value in site.items()}}


def _place(spec: NodeSpec, setting: str, value: Any) -> str:
    if setting == "profiles":
        return _profiles_place(spec)
    path = _path(setting)
    return str(spec.place(*path)) if _written(spec, setting, path, value) else ""


def _profiles_place(spec: NodeSpec) -> str:
    """Where its narrowest entry that names profiles does so."""
    for key in reversed(spec.entries):
        said = spec.document.value["nodes"][key]
        if isinstance(said, dict) and said.get("profiles"):
            return str(spec.document.place(("nodes", key, "profiles")))
    return ""


def _path(setting: str) -> tuple[str, ...]:
    if setting.startswith("interfaces."):
        _, name, what = setting.split(".", 2)
        return ("interfaces", name, {"address": "ip"}.get(what, what))
    if setting.startswith("vars."):
        return ("vars", setting.removeprefix("vars."))
    return _PATHS.get(setting, (setting,))


def _written(spec: NodeSpec, setting: str, path: tuple[str, ...], value: Any) -> bool:
    """Whether the file says something at the path, and the same as the inventory has where that can be told."""
    said: Any = spec.origins.value
    for part in path:
        if not isinstance(said, Mapping) or part not in said:
            return False
        said = said[part]
    if setting in ("image", "layout", "timezone", "resync", "serial_console"):
        return str(said) == str(value)
    if setting.endswith(".mac"):
        return str(said).lower().replace("-", ":") == str(value)
    return True


def _set_by(changes: tuple[StoredChange, ...], setting: str) -> str:
    """The newest change that set it."""
    name = "interfaces" if setting.startswith("interfaces.") else setting.partition(".")[0]
    name = "groups" if setting.startswith("group ") else name
    for change in changes:
        if any(line.setting == name for line in change.lines):
            return f"{change.who} ({change.via}) {change.time[:16].replace('T', ' ')}"
    return "the inventory"
