"""Modules the machine's own devices need, loaded early and put into initial ramdisks; drivers that are not there."""

from __future__ import annotations

from collections.abc import Iterator

from configurator.checks import check_drivers, shown
from configurator.errors import NotRenderable
from configurator.facts import Facts
from configurator.footprint import Footprint, Kernel
from configurator.hardware import Unreachable, default_kernel, is_known, needs
from configurator.record import Record
from configurator.rendered import RenderedFile, text_file
from configurator.renderers import Context, renderer

NAME = "hardware"


def _speaks(footprint: Footprint) -> bool:
    return any(kernel.modules is not None for kernel in footprint.kernels)


@renderer(
    NAME,
    reads="blacklist boot interfaces modules mounts facts",
    speaks=_speaks,
    owns=("/etc/modules-load.d/sis-hardware.conf", "/etc/dracut.conf.d/sis.conf"),
)
def hardware(context: Context) -> Iterator[RenderedFile]:
    record, facts, footprint = context
    kernel = default_kernel(record, footprint)
    if kernel is None:
        return
    _check_modules(record, kernel)
    check_drivers(facts)
    found = needs(facts, kernel)
    _check_reach(record, facts, kernel, found.unreachable)
    load = [name for name in found.load if name not in {each.replace("-", "_") for each in record.blacklist}]
    if load and "modules-load.d" in footprint.modules:
        yield text_file("/etc/modules-load.d/sis-hardware.conf", NAME, load)
    early = [*load, *_of_root(record, kernel)]
    if early and "initramfs-tools" in footprint.initramfs:
        yield text_file("/etc/initramfs-tools/modules", NAME, early)
    if early and "dracut" in footprint.initramfs:
        yield text_file("/etc/dracut.conf.d/sis.conf", NAME, [f'add_drivers+=" {" ".join(early)} "'])


def _check_modules(record: Record, kernel: Kernel) -> None:
    """A module the kernel lacks is a fault here, not a node without it."""
    lacking = [
        f"record.modules[{at}].name: the image's kernel {kernel.release} has no module {module.name}"
        for at, module in enumerate(record.modules)
        if not is_known(kernel, module.name)
    ]
    if lacking:
        raise NotRenderable(
            lacking[0], hint="look below /lib/modules in the image, or leave the module out", details=lacking[1:]
        )


def _check_reach(record: Record, facts: Facts, kernel: Kernel, unreachable: tuple[Unreachable, ...]) -> None:
    """The interfaces of the record, and a disk for its root, have a driver in the image's kernel."""
    macs = {interface.mac.lower(): at for at, interface in enumerate(record.interfaces) if interface.mac}
    for each in unreachable:
        at = macs.get(each.mac)
        if each.mac and at is not None:
            raise _no_driver(f"record.interfaces[{at}].mac", each, facts, kernel)
    disks = [f"facts.disks[{at}]" for at, disk in enumerate(facts.disks) if disk.driver and not disk.removable]
    lost = {each.place: each for each in unreachable if not each.mac}
    root = next((at for at, mount in enumerate(record.mounts) if mount.path == "/"), None)
    if root is not None and disks and all(place in lost for place in disks):
        raise _no_driver(f"record.mounts[{root}]", lost[disks[0]], facts, kernel)


def _no_driver(place: str, lost: Unreachable, facts: Facts, kernel: Kernel) -> NotRenderable:
    drivers = {
        **{f"facts.interfaces[{at}]": interface.driver for at, interface in enumerate(facts.interfaces)},
        **{f"facts.disks[{at}]": disk.driver for at, disk in enumerate(facts.disks)},
    }
    return NotRenderable(
        f"{place}: the image's kernel {kernel.release} has no driver for {shown(lost.what)} "
        f"({lost.place}, driven by {drivers[lost.place]} when it was seen)",
        hint="build the image with a kernel that has it, or the package its module is in",
    )


def _of_root(record: Record, kernel: Kernel) -> Iterator[str]:
    """The root's file system, and what makes disks of SCSI devices."""
    loadable = kernel.modules or frozenset()
    for mount in record.mounts:
        if mount.path == "/":
            yield from (name for name in ("sd_mod", mount.filesystem.replace("-", "_")) if name in loadable)
