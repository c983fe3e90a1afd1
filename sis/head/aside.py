"""Nodes set aside by an admin, or by failed installs, and taken back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sis.errors import Refused
from sis.inventory.db import Inventory
from sis.inventory.names import fold


@dataclass(frozen=True, slots=True)
class SetAside:
    """The nodes whose state changed, folded; "" for none."""

    nodes: str


def maintenance(inventory: Inventory, nodeset: str, *, on: bool, why: str) -> SetAside:
    """Set nodes aside, or take back those that were. Raises NotFound, UsageFault, Refused without a reason."""
    nodes = inventory.nodes.select(nodeset)
    if on:
        reason = "".join(sign for sign in why if sign.isprintable()).strip()
        if not reason:
            raise Refused("maintenance needs a reason", hint="say it: --why 'new fan'")
        inventory.standing.maintenance([node.id for node in nodes], reason)
        return SetAside(fold(node.name for node in nodes))
    ended = set(inventory.standing.resume([node.id for node in nodes]))
    return SetAside(_fold(node.name for node in nodes if node.id in ended))


def release(inventory: Inventory, nodeset: str) -> SetAside:
    """Free nodes from quarantine and from what a rollout holds them to."""
    nodes = inventory.nodes.select(nodeset)
    freed = set(inventory.standing.release([node.id for node in nodes]))
    return SetAside(_fold(node.name for node in nodes if node.id in freed))


def _fold(names: Iterable[str]) -> str:
    found = list(names)
    return fold(found) if found else ""
