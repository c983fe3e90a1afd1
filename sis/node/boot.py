"""The boot menu of a node: the image's kernel first, the kernels kept from before behind it."""

from __future__ import annotations

from pathlib import Path

from sis.disk import bootloader
from sis.disk.bootloader import KernelEntry
from sis.errors import SisError
from sis.node.held import Held


def write_boot_menu(root: Path, held: Held) -> tuple[KernelEntry, ...]:
    """Write the menu below `root` from the kernels that are there; the first of the answer boots by default.

    That is the one the node was told to start, else the newest of its image. Raises SisError without kernels.
    """
    layout = held.desired.layout
    found = bootloader.kernels_in(root)
    if not found or layout is None:
        raise SisError("no kernel below /boot: the node could not boot", hint="add a kernel to the image spec")
    chosen = held.desired.boot_kernel
    kernels = tuple(sorted(found, key=lambda each: (each.release != chosen, each.release not in held.kernels)))
    bootloader.write_menu(
        root,
        kernels,
        root_spec=bootloader.root_spec(layout),
        cmdline=" ".join(filter(None, (layout.kernel_cmdline, held.desired.kernel_cmdline))),
        serial_console=layout.serial_console,
        timeout_s=1 if held.desired.boot_timeout_s is None else held.desired.boot_timeout_s,
    )
    return kernels


def refresh_boot_menu(root: Path, held: Held) -> bool:
    """Write the menu where kernels, command line or the kernel to start are others than it says; whether it was."""
    place = root / "boot" / "grub" / "grub.cfg"
    before = place.read_bytes() if place.exists() else b""
    write_boot_menu(root, held)
    return place.read_bytes() != before
