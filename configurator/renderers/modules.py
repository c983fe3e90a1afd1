"""Kernel modules: modules-load.d (or /etc/modules), modprobe.d, and modules.conf in its 2.4 form."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from configurator.checks import check_drivers, shown
from configurator.errors import NotRenderable
from configurator.facts import Facts
from configurator.record import Module, Record
from configurator.rendered import RenderedFile, text_file
from configurator.renderers import Context, renderer

NAME = "modules"
MODPROBE = "/etc/modprobe.d/zz-sis.conf"
"""Such files are read in order of their names and the last word wins: after systemd.conf, which speaks of bonding."""
_FAMILIES = ("eth", "tr", "scsi_hostadapter")
_TOO_CLEVER_FOR_2_4 = re.compile(r"[^A-Za-z0-9_=,.:/\" +-]", re.ASCII)


@renderer(NAME, reads="blacklist modules facts", owns=("/etc/modules-load.d/sis.conf", MODPROBE))
def modules(context: Context) -> Iterator[RenderedFile]:
    record, styles = context.record, context.footprint.modules
    load = [*dict.fromkeys(module.name for module in record.modules if module.load)]
    if load and "modules-load.d" in styles:
        yield text_file("/etc/modules-load.d/sis.conf", NAME, load)
    if load and "modules" in styles:
        yield text_file("/etc/modules", NAME, load)
    settings = [*_aliases(record.modules), *_options(record.modules)]
    if "modprobe.d" in styles:
        lines = [*settings, *(f"blacklist {name}" for name in record.blacklist)]
        if lines:
            yield text_file(MODPROBE, NAME, lines)
    if "modules.conf" in styles:
        lines = [*_modules_conf(record, context.facts)]
        if lines:
            yield text_file("/etc/modules.conf", NAME, lines)


def _aliases(found: Sequence[Module], detected: Sequence[tuple[str, list[str]]] = ()) -> Iterator[str]:
    """`alias` lines: numbered ones by family, then the others as they stand."""
    drivers = dict(detected)
    for family in _FAMILIES:
        yield from _family_aliases(family, found, drivers.get(family, []))
    for module in found:
        if module.alias is not None and _family_of(module.alias) is None:
            yield f"alias {module.alias} {module.name}"


def _family_aliases(family: str, found: Sequence[Module], detected: list[str]) -> Iterator[str]:
    """eth0, eth1, … in the order of the record, equal drivers together; numbers the record gives stand as they are.

    What was detected only speaks where the record gives no number.
    """
    given = {module.alias: module.name for module in found if module.alias and _family_of(module.alias) == family}
    bare = [module.name for module in found if module.alias == family]
    given.pop(family, None)
    order = [module.name for module in found]
    drivers = [*dict.fromkeys([*bare, *([] if given else detected)])]
    drivers.sort(key=lambda driver: order.index(driver) if driver in order else len(order))
    queue = [driver for driver in drivers for _ in range(max(1, 0 if given else detected.count(driver)))]
    names = dict(given)
    number = 0
    for driver in queue:
        while (name := _numbered(family, number)) in names:
            number += 1
        names[name] = driver
    for name in sorted(names, key=lambda name: int(name[len(family) :] or 0)):
        yield f"alias {name} {names[name]}"


def _numbered(family: str, number: int) -> str:
    """The first SCSI adapter has no number, the first network interface has."""
    return family if family == "scsi_hostadapter" and number == 0 else f"{family}{number}"


def _family_of(alias: str) -> str | None:
    return next((family for family in _FAMILIES if re.fullmatch(rf"{family}[0-9]*", alias, re.ASCII)), None)


def _options(found: Sequence[Module]) -> Iterator[str]:
    for module in found:
        if module.options:
            yield f"options {module.name} {module.options}"


def _modules_conf(record: Record, facts: Facts) -> Iterator[str]:
    check_drivers(facts)
    for at, module in enumerate(record.modules):
        if _TOO_CLEVER_FOR_2_4.search(module.options):
            raise NotRenderable(
                f"record.modules[{at}].options: modules.conf of a 2.4 kernel would expand {shown(module.options)}",
                hint='use letters, digits, blanks and = , . : / + - " only',
            )
    ethernet = [found.driver for found in facts.interfaces if found.driver and found.kind == "ethernet"]
    adapters = [*dict.fromkeys(disk.driver for disk in facts.disks if disk.driver)]
    yield from _aliases(record.modules, [("eth", ethernet), ("scsi_hostadapter", adapters)])
    yield from _options(record.modules)
    for name in record.blacklist:
        yield f"alias {name} off"
