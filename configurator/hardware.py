"""Which modules a machine's devices need of a given kernel: modaliases against its modules.alias, as modprobe does."""

from __future__ import annotations

import fnmatch
import functools
import re
from collections.abc import Iterator
from typing import NamedTuple

from configurator.facts import Facts
from configurator.footprint import Footprint, Kernel
from configurator.record import Record

_CLASSES = re.compile(r"pci:.*bc(?:01|02|0Csc04|0Csc06)", re.ASCII)
"""Mass storage, network, Fibre Channel and InfiniBand: what a node must reach before udev and the root are there."""
_WILD = re.compile(r"[*?\[]")


class Aliases:
    """The aliases of one kernel's modules.alias, found by their start: the part before the first wildcard."""

    def __init__(self, text: str) -> None:
        self._by_start: dict[str, list[tuple[str, str]]] = {}
        for line in text.splitlines():
            words = line.split()
            if len(words) == 3 and words[0] == "alias":
                pattern, module = words[1], words[2].replace("-", "_")
                start = _WILD.split(pattern, maxsplit=1)[0]
                self._by_start.setdefault(start, []).append((pattern, module))
        self._lengths = sorted({len(start) for start in self._by_start})

    def matching(self, modalias: str) -> tuple[str, ...]:
        """The modules for a device, in the order of the file."""
        found = [
            module
            for length in self._lengths
            if length <= len(modalias)
            for pattern, module in self._by_start.get(modalias[:length], ())
            if fnmatch.fnmatchcase(modalias, pattern)
        ]
        return tuple(dict.fromkeys(found))


@functools.lru_cache(maxsize=8)
def aliases_of(text: str) -> Aliases:
    """The aliases of a modules.alias; the newest few are kept."""
    return Aliases(text)


class Unreachable(NamedTuple):
    """A fact, such as "facts.disks[0]", whose device the kernel has no driver for."""

    place: str
    what: str
    mac: str
    """Of a network interface; "" for a disk."""


class Needs(NamedTuple):
    """`load` are the kernel's modules for storage, network and the root's file system, in the order of the facts."""

    load: tuple[str, ...]
    unreachable: tuple[Unreachable, ...]


def default_kernel(record: Record, footprint: Footprint) -> Kernel | None:
    """The kernel a node starts: the record's, else the newest that is in /boot, else the newest; None without any."""
    kernels = footprint.kernels
    if record.boot is not None and record.boot.kernel is not None:
        return next((kernel for kernel in kernels if kernel.release == record.boot.kernel), None)
    return next(iter([kernel for kernel in reversed(kernels) if kernel.image] or kernels[::-1]), None)


def is_known(kernel: Kernel, module: str) -> bool:
    """Whether the kernel has a module, built in or under an alias; True where its modules cannot be told."""
    if kernel.modules is None or kernel.builtin is None:
        return True
    name = module.replace("-", "_")
    return name in kernel.modules or name in kernel.builtin or bool(aliases_of(kernel.aliases).matching(module))


def needs(facts: Facts, kernel: Kernel) -> Needs:
    """What a machine needs of a kernel; nothing where the kernel's modules cannot be told."""
    if kernel.modules is None:
        return Needs((), ())
    wanted: list[str] = []
    missing: list[Unreachable] = []
    for device in facts.devices:
        if _CLASSES.match(device.modalias):
            wanted.extend(_for_device(kernel, device.modalias, device.driver))
    by_address = {device.address: device.modalias for device in facts.devices}
    for place, mac, driver, address, what in _drivers(facts):
        if not driver:
            continue
        wanted.append(driver.replace("-", "_"))
        modalias = by_address.get(address, "")
        if not is_known(kernel, driver) and not _for_device(kernel, modalias, driver):
            missing.append(Unreachable(place, what, mac))
    if any(interface.kind == "infiniband" for interface in facts.interfaces):
        wanted.append("ib_ipoib")
    load = tuple(name for name in dict.fromkeys(wanted) if name in kernel.modules)
    return Needs(load, tuple(missing))


def _drivers(facts: Facts) -> Iterator[tuple[str, str, str, str, str]]:
    """Place, MAC, driver, PCI address and name of every interface and every disk that may hold the root."""
    for at, interface in enumerate(facts.interfaces):
        yield f"facts.interfaces[{at}]", interface.mac, interface.driver, interface.bus, interface.name
    for at, disk in enumerate(facts.disks):
        if not disk.removable:
            yield f"facts.disks[{at}]", "", disk.driver, "", disk.name


def _for_device(kernel: Kernel, modalias: str, driver: str) -> tuple[str, ...]:
    """The modules for a device; the one at work alone where it is among several."""
    found = aliases_of(kernel.aliases).matching(modalias) if modalias else ()
    working = driver.replace("-", "_")
    return (working,) if working in found else found
