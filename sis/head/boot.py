"""Boot answers by MAC: install when armed, else the disk; strangers are recorded and left alone."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from sis.errors import SisError
from sis.head.renders import Renders
from sis.inventory import records
from sis.inventory.clock import now
from sis.inventory.db import Inventory
from sis.inventory.model import Node
from sis.inventory.names import check_mac
from sis.netboot import installer, ipxe
from sis.wire import Event

log = logging.getLogger(__name__)


def script(inventory: Inventory, renders: Renders, state: Path, mac: str, url: str, about: Mapping[str, str]) -> str:
    """The iPXE script for the machine with this MAC. `url` is the head's as the machine reaches it.

    An armed node whose installer cannot be served boots its disk and is marked failed with the reason. Raises
    UsageFault for what is no MAC.
    """
    known_mac = check_mac(mac)
    node = inventory.nodes.by_mac(known_mac)
    if node is None:
        inventory.discoveries.record(known_mac, about)
        return ipxe.answer(ipxe.Unknown(known_mac), head=url)
    if node.state.state == "quarantined":
        return ipxe.answer(ipxe.Quarantined(node.name), head=url)
    if node.arming is None:
        return ipxe.answer(ipxe.Local(node.name), head=url)
    try:
        return ipxe.answer(install(inventory, renders, state, node, url), head=url)
    except SisError as fault:
        log.warning("node %s cannot be installed: %s", node.name, fault.message)
        refusal = Event(time=now(), stage="hello", outcome="failed", message=fault.message, log=str(fault))
        inventory.history.record_events(node.id, [refusal])
        return ipxe.answer(ipxe.Local(node.name), head=url)


def install(inventory: Inventory, renders: Renders, state: Path, node: Node, url: str) -> ipxe.Install:
    """The install answer of an armed node, with a fresh token. Raises SisError when something it needs is missing."""
    image = renders.image(node)
    layout = renders.layout(node, image.version)
    root = installer.load(state / "boot" / image.version_id).root(f"{url}/boot/files/{image.version_id}")
    key = renders.key()
    token = inventory.access.issue_token(node.id)
    if token is None:
        raise SisError(f"node {node.name} is not armed any more")
    return ipxe.Install(
        node=node.name,
        token=token,
        key=key,
        root=root,
        console=layout.serial_console if layout is not None else None,
        kernel_cmdline=" ".join(records.kernel_words(node, layout)),
    )
