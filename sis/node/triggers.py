"""What has to follow changes on a node: boot menu, units, host name, keyboard."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sis.disk.bootloader import kernels_in
from sis.node.boot import refresh_boot_menu
from sis.node.held import Held
from sis.sync.model import Outcome
from sis.system import process

_KEYBOARD = {"/etc/default/keyboard": "console-setup.service", "/etc/vconsole.conf": "systemd-vconsole-setup.service"}
"""Who reads a keyboard's file, Debian's and the others'; at boot only, unless asked."""


def triggers(root: Path, held: Held, outcome: Outcome) -> Iterator[str]:
    """Do what the changes call for, on a live node; each is named, for the report of the stage."""
    touched = [change.path for change in outcome.changes]
    is_bootable = outcome.boot_changed or bool(kernels_in(root))
    if held.desired.layout is not None and is_bootable and refresh_boot_menu(root, held):
        yield "boot menu written"
    if root != Path("/") or process.find("systemctl") is None:
        return
    if any("/systemd/system" in path for path in touched):
        process.run(["systemctl", "daemon-reload"], check=False, timeout_s=60)
        yield "units reloaded"
    if "/etc/hostname" in touched and (name := Path("/etc/hostname").read_text().strip()):
        process.run(["hostname", name], check=False, timeout_s=10)
        yield f"host name set to {name}"
    for path, unit in _KEYBOARD.items():
        if path in touched:
            process.run(["systemctl", "try-restart", unit], check=False, timeout_s=120)
            yield "keyboard set"
