"""Why a node is to be rebooted: what it runs that is not what its disk and its head say any more.

What follows from the running system (command line, kernel) is looked up each time, so that it is told until the node
has booted with it. What a resync replaced under the running system is remembered until the next boot.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from sis.node.boot import kernel_words, menu_kernels
from sis.node.held import Held
from sis.node.reports import boot_id
from sis.sync.model import Change, Outcome
from sis.system.files import atomic_write

REMEMBERED = "reboot.json"

_REPLACED = {
    "/boot/vmlinu": "kernel", "/boot/init": "initrd", "/libc.so.6": "C library", "/ld-linux-": "C library",
    "/systemd/systemd": "systemd",
}  # fmt: skip
"""Part of a path → what of the running system it is."""
_OF_THE_LOADER = ("BOOT_IMAGE=", "initrd=")


class Remembered(msgspec.Struct, frozen=True, kw_only=True):
    """What was replaced under the running system since the boot `boot_id`."""

    boot_id: str
    why: tuple[str, ...]


def reboot_due(state: Path, held: Held, outcome: Outcome, *, root: Path = Path("/"), early: bool = False) -> list[str]:
    """Each reason, in a few words, for which this running node needs a reboot; none when it needs none.

    `early`: services start on what is there now, only the kernel was there before (applied at boot).
    """
    words = kernel_words(held.desired)
    if words is None:
        why = []
    else:
        menu = menu_kernels(root, held)
        why = behind(Path("/proc/cmdline").read_text(), words, os.uname().release, menu[0].release if menu else "")
    replaced = () if early else _noted(state, outcome)
    told_of_kernel = any(reason.startswith("kernel ") for reason in why)
    return why + [each for each in replaced if not (told_of_kernel and each in ("kernel", "initrd"))]


def behind(running: str, words: Sequence[str], release: str, first: str) -> list[str]:
    """What of the running command line and kernel `release` is not as the menu has it (`words`, `first`); pure."""
    why = []
    if first and first != release:
        why.append(f"kernel {first} instead of {release}")
    has = [_plain(word) for word in running.split() if not word.startswith(_OF_THE_LOADER)]
    wants = [_plain(word) for word in words]
    if has != wants:
        signs = [f"+{word}" for word in wants if word not in has] + [f"-{word}" for word in has if word not in wants]
        why.append("kernel command line" + (f" ({' '.join(signs)})" if signs else " (other order)"))
    return why


def replaced(changes: Iterable[Change]) -> list[str]:
    """What of the running system is among `changes`, each once."""
    found = (
        what
        for change in changes
        if change.action not in ("keep", "metadata")
        for part, what in _REPLACED.items()
        if part in change.path
    )
    return list(dict.fromkeys(found))


def _plain(word: str) -> str:
    """A word without the quoting a boot loader adds on its way to the kernel."""
    return word.replace("\\", "").replace('"', "").replace("'", "")


def _noted(state: Path, outcome: Outcome) -> tuple[str, ...]:
    """What was replaced since this boot, this outcome's with it, kept for the next run."""
    before = _remembered(state)
    if not outcome.reboot_needed:
        return before
    why = tuple(dict.fromkeys((*before, *(replaced(outcome.changes) or ["system files"]))))
    if why != before:
        atomic_write(state / REMEMBERED, msgspec.json.encode(Remembered(boot_id=boot_id(), why=why)), mode=0o644)
    return why


def _remembered(state: Path) -> tuple[str, ...]:
    try:
        kept = msgspec.json.decode((state / REMEMBERED).read_bytes(), type=Remembered)
    except (FileNotFoundError, msgspec.MsgspecError):
        return ()
    return kept.why if kept.boot_id == boot_id() else ()
