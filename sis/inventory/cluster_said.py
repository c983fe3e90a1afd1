"""Nodes as the cluster file says them: what an entry says of one, and which of it becomes another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sis.inventory.model import Assignment, Interface, Node
from sis.spec.edit import Keys

GONE = object()
BY_HAND = ("accounts", "environment", "mounts", "exports", "peer_files")
"""Settings with parts: text belongs in the file, not in a word on a command line."""
_PATHS: dict[str, Keys] = {"boot_kernel": ("boot", "kernel"), "boot_timeout_s": ("boot", "timeout_s")}


def shared_of(interface: Interface) -> dict[str, Any]:
    """What nodes share of an interface."""
    said: dict[str, Any] = {"network": interface.network} if interface.network else {}
    return said | {name: value for name, value in interface.data.items() if name != "gateway"}


def settings_of(profile: Mapping[str, Any]) -> dict[str, Any]:
    """A profile's data as the file says it."""
    said = {name: value for name, value in profile.items() if name not in (*_PATHS, "environment")}
    boot = {_PATHS[name][1]: profile[name] for name in _PATHS if profile.get(name) is not None}
    environment = dict(profile.get("environment") or {})
    if environment.get("defaults"):
        environment["defaults"] = {each["name"]: each["version"] for each in environment["defaults"]}
    environment = {name: value for name, value in environment.items() if value}
    if "modules" in said:
        said["modules"] = [plain(item) for item in said["modules"]]
    return said | ({"boot": boot} if boot else {}) | ({"environment": environment} if environment else {})


def own_of(node: Node, templates: Mapping[str, str]) -> dict[str, Any]:
    """What an entry of its own says of a node: its MACs, and addresses no template gives."""
    wired = {}
    for each in node.interfaces:
        said: dict[str, str] = {"mac": each.mac} if each.mac else {}
        if each.address and each.name not in templates:
            said["ip"] = each.address
        if said:
            wired[each.name] = said
    return {"interfaces": wired} if wired else {}


def assignment_of(assignment: Assignment | None) -> dict[str, str]:
    """What says which image and disks a node is to have."""
    if assignment is None:
        return {}
    image = {"image": assignment.reference}
    return {**image, "disk": assignment.layout} if assignment.layout else image


def changed_values(old: Node, new: Node) -> list[tuple[Keys, Any]]:
    """By path in an entry, the single values that become others; GONE for what is said no more."""
    found: list[tuple[Keys, Any]] = []
    if old.assignment != new.assignment:
        said, says = assignment_of(old.assignment), assignment_of(new.assignment)
        found += [((key,), says.get(key, GONE)) for key in {**said, **says} if said.get(key) != says.get(key)]
    wires = {each.name: each for each in old.interfaces}
    for interface in new.interfaces:
        was = wires.get(interface.name, Interface(interface.name))
        for key, one, two in (
            ("mac", was.mac, interface.mac),
            ("ip", was.address, interface.address),
            ("network", was.network, interface.network),
        ):
            if one != two:
                found.append((("interfaces", interface.name, key), two or GONE))
    for name in dict.fromkeys((*old.profile, *new.profile)):
        value, was_value = new.profile.get(name), old.profile.get(name)
        if value == was_value or isinstance(value or was_value, list):
            continue
        if name == "vars":
            site, was_site = value or {}, was_value or {}
            found += [
                (("vars", key), site.get(key, GONE))
                for key in dict.fromkeys((*was_site, *site))
                if site.get(key) != was_site.get(key)
            ]
        elif name in BY_HAND:
            found.append(((name,), GONE if value is None else value))
        else:
            found.append((_PATHS.get(name, (name,)), GONE if value is None else value))
    return found


def changed_lists(old: Node, new: Node) -> list[tuple[str, list[Any], list[Any]]]:
    """The lists of settings that become others: name, before, after."""
    found = []
    for name in dict.fromkeys((*old.profile, *new.profile)):
        one, two = old.profile.get(name) or [], new.profile.get(name) or []
        if one != two and isinstance(one, list) and isinstance(two, list):
            found.append((name, one, two))
    return found


def item_name(item: Any) -> str:
    """What names an item of a list."""
    if isinstance(item, Mapping):
        return str(item.get("name", item))
    return str(getattr(item, "name", item))


def plain(item: Any) -> Any:
    """An item as the file writes it; a module without options is its name."""
    if hasattr(item, "model_dump"):
        item = item.model_dump(mode="json", exclude_defaults=True)
    if isinstance(item, Mapping):
        return item["name"] if set(item) == {"name"} else dict(item)
    return item
