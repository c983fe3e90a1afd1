"""What a foreign file tells of nodes, with the place of every word; faults are collected, not raised one by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from sis.errors import SpecInvalid, UsageFault
from sis.inventory.names import check_address, check_group, check_mac, check_name


@dataclass(frozen=True, slots=True)
class Wire:
    """One interface as told; None where nothing is told of it. `network` is a name of the inventory's."""

    name: str
    mac: str | None = None
    address: str | None = None
    network: str | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """One node as told; what a form does not know is None or empty, and stays as the inventory has it.

    `image` is a reference as written; `settings` are words of `sis node set`.
    """

    name: str
    line: int
    image: str | None = None
    layout: str | None = None
    groups: tuple[str, ...] = ()
    wires: tuple[Wire, ...] = ()
    settings: tuple[str, ...] = ()


@dataclass
class Reading:
    """A foreign file while it is read. `notes` are remarks that hinder nothing."""

    file: str
    text: str
    known: frozenset[str] = frozenset()
    """Names of nodes the inventory has."""
    faults: list[tuple[int, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def fault(self, line: int, text: str) -> None:
        self.faults.append((line, text))

    def note(self, line: int, text: str) -> None:
        self.notes.append(f"{self.file}:{line}: {text}")

    def node(self, line: int, text: str) -> str | None:
        """A node's name: the first part of a host name, in small letters; None and a fault when it cannot be one."""
        return self._checked(line, check_name, text.strip().partition(".")[0].lower())

    def group(self, line: int, text: str) -> str | None:
        return self._checked(line, check_group, text.strip())

    def mac(self, line: int, text: str) -> str | None:
        return self._checked(line, check_mac, text) if text.strip() else None

    def address(self, line: int, text: str) -> str | None:
        return self._checked(line, check_address, text.partition("/")[0]) if text.strip() else None

    def refuse(self) -> None:
        """Raise SpecInvalid with every fault, in the order of the lines, when there are any."""
        if not self.faults:
            return
        lines = [f"{self.file}:{line}: {text}" for line, text in sorted(dict.fromkeys(self.faults))]
        raise SpecInvalid(
            f"{self.file}: {len(lines)} fault" + ("" if len(lines) == 1 else "s"),
            details=lines[:50],
            hint="nothing was imported",
        )

    def _checked(self, line: int, check: Callable[[str], str], text: str) -> str | None:
        try:
            return check(text)
        except UsageFault as fault:
            self.fault(line, fault.message)
            return None


def merged(told: list[Told], reading: Reading) -> list[Told]:
    """Several mentions of a node as one, in the order of the first; what contradicts is a fault."""
    by_name: dict[str, Told] = {}
    for each in told:
        known = by_name.get(each.name)
        by_name[each.name] = _joined(known, each, reading) if known is not None else each
    return list(by_name.values())


def _joined(one: Told, two: Told, reading: Reading) -> Told:
    for what in ("image", "layout"):
        before, after = getattr(one, what), getattr(two, what)
        if before and after and before != after:
            reading.fault(two.line, f"{two.name}: {what} {after}, but line {one.line} says {before}")
    wires: dict[str, Wire] = {wire.name: wire for wire in one.wires}
    for wire in two.wires:
        known = wires.get(wire.name)
        if known is not None and known != wire:
            reading.fault(two.line, f"{two.name}: {wire.name} is told otherwise in line {one.line}")
        wires[wire.name] = wire
    return Told(
        one.name,
        one.line,
        one.image or two.image,
        one.layout or two.layout,
        tuple(dict.fromkeys((*one.groups, *two.groups))),
        tuple(wires.values()),
        tuple(dict.fromkeys((*one.settings, *two.settings))),
    )


Reader = Callable[[Reading], list[Told]]
