"""The boot menu of a node: the image's kernel first, the kernels kept from before behind it."""

from __future__ import annotations

from pathlib import Path

from sis.disk import bootloader
from sis.disk.bootloader import KernelEntry
from sis.disk.model import Layout
from sis.errors import SisError
from sis.node.held import Held
from sis.wire import Desired


def write_boot_menu(root: Path, held: Held) -> tuple[KernelEntry, ...]:
    """Write the menu below `root` from the kernels that are there; the first of the answer boots by default.

    That is the one the node was told to start, else the newest of its image. Raises SisError without kernels.
    """
    layout = held.desired.layout
    kernels = menu_kernels(root, held)
    if not kernels or layout is None:
        raise SisError("no kernel below /boot: the node could not boot", hint="add a kernel to the image spec")
    bootloader.write_menu(
        root,
        kernels,
        root_spec=bootloader.root_spec(layout),
        cmdline=_cmdline(layout, held.desired),
        serial_console=layout.serial_console,
        timeout_s=1 if held.desired.boot_timeout_s is None else held.desired.boot_timeout_s,
    )
    return kernels


def menu_kernels(root: Path, held: Held) -> tuple[KernelEntry, ...]:
    """The kernels below `root` in the order of the menu."""
    chosen = held.desired.boot_kernel
    found = bootloader.kernels_in(root)
    return tuple(sorted(found, key=lambda each: (each.release != chosen, each.release not in held.kernels)))


def kernel_words(desired: Desired) -> tuple[str, ...] | None:
    """The kernel command line the menu of a node boots with, word by word; None for a node without a disk layout."""
    layout = desired.layout
    if layout is None:
        return None
    return bootloader.boot_words(
        root_spec=bootloader.root_spec(layout),
        cmdline=_cmdline(layout, desired),
        serial_console=layout.serial_console,
    )


def refresh_boot_menu(root: Path, held: Held) -> bool:
    """Write the menu where kernels, command line or the kernel to start are others than it says; whether it was."""
    place = root / "boot" / "grub" / "grub.cfg"
    before = place.read_bytes() if place.exists() else b""
    write_boot_menu(root, held)
    return place.read_bytes() != before


def _cmdline(layout: Layout, desired: Desired) -> str:
    return " ".join(filter(None, (layout.kernel_cmdline, desired.kernel_cmdline)))
