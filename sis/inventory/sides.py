"""What is wanted of a node and what is known of it, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sis.inventory.model import Node
from sis.system.amounts import human_bytes


@dataclass(frozen=True, slots=True)
class Side:
    """One thing: `requested` by the admin, `observed` by the node's last reports and facts; "" where nothing is known.

    `agrees` is None where nothing is requested or nothing observed.
    """

    what: str
    requested: str
    observed: str
    agrees: bool | None = None


def sides(node: Node, facts: Mapping[str, Any] | None, *, means: str | None = None) -> tuple[Side, ...]:
    """Requested and observed of one node. `means` is what its image reference means now ("compute@12")."""
    known = dict(facts or {})
    return (_image(node, means), _state(node), _layout(node, known), *_interfaces(node, known), *_machine(known))


def _image(node: Node, means: str | None) -> Side:
    wanted = node.assignment.reference if node.assignment else ""
    shown = f"{wanted} = {means}" if means and means != wanted else wanted
    held = f"{node.state.image}@{node.state.generation}" if node.state.image else ""
    return Side("image", shown, held, held == means if held and means else None)


def _state(node: Node) -> Side:
    state = node.state
    wanted = "install at the next network boot" if node.arming else "in-sync" if node.assignment else ""
    told = state.state + (f": {state.step}: {state.reason}" if state.state == "failed" else "")
    if state.drift:
        told += f", {state.drift} differences"
    if state.reboot_needed:
        told += f", reboot needed{f' ({state.reboot_why})' if state.reboot_why else ''}"
    settled = state.state in ("in-sync", "drifted", "failed")
    return Side("state", wanted, told, state.state == "in-sync" if settled and wanted else None)


def _layout(node: Node, facts: Mapping[str, Any]) -> Side:
    disks = [each for each in facts.get("disks") or () if isinstance(each, Mapping)]
    seen = ", ".join(
        f"{each.get('name', '')} {human_bytes(int(each.get('size_bytes') or 0))} {each.get('model', '')}".strip()
        for each in disks
    )
    return Side("disks", (node.assignment.layout if node.assignment else None) or "", seen)


def _interfaces(node: Node, facts: Mapping[str, Any]) -> list[Side]:
    """Each interface defined, and those the node has beyond them; a MAC that is defined and not there disagrees."""
    there = {
        str(each.get("mac", "")).lower(): each
        for each in facts.get("interfaces") or ()
        if isinstance(each, Mapping) and each.get("mac")
    }
    rows = []
    for interface in node.interfaces:
        parts = [interface.mac, interface.address, f"on {interface.network}" if interface.network else None]
        found = there.pop(interface.mac, None) if interface.mac else None
        agrees = found is not None if interface.mac and facts.get("interfaces") else None
        rows.append(Side(interface.name, " ".join(part for part in parts if part), _seen(found), agrees))
    rows += [Side(str(each.get("name", mac)), "", _seen(each)) for mac, each in there.items()]
    return rows


def _seen(interface: Mapping[str, Any] | None) -> str:
    if interface is None:
        return ""
    link = "link" if interface.get("link") else "no link"
    speed = interface.get("speed_mbps")
    parts = [interface.get("name"), interface.get("mac"), interface.get("driver"), link]
    return " ".join(str(part) for part in parts if part) + (f" {speed} Mbit/s" if speed else "")


def _machine(facts: Mapping[str, Any]) -> list[Side]:
    cpu = facts.get("cpu")
    model = str(cpu.get("model", "")) if isinstance(cpu, Mapping) else ""
    cores = int(cpu.get("cores") or 0) if isinstance(cpu, Mapping) else 0
    memory = int(facts.get("memory_bytes") or 0)
    told = {
        "machine": f"{facts.get('manufacturer', '')} {facts.get('product', '')}".strip(),
        "serial": str(facts.get("serial") or ""),
        "cpu": ", ".join(part for part in (model, f"{cores} cores" if cores else "") if part),
        "memory": human_bytes(memory) if memory else "",
        "boot mode": str(facts.get("boot_mode") or ""),
        "kernel": str(facts.get("kernel") or ""),
    }
    return [Side(what, "", value) for what, value in told.items() if value]
