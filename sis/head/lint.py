"""Every node's files rendered before any node asks for them: faults and notices, each with the line it comes from."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from configurator import render
from configurator.checks import check
from configurator.errors import ConfiguratorError
from configurator.record import Boot
from sis.errors import SisError, SpecInvalid
from sis.head.origins import Origins
from sis.head.renders import Inputs, Renders
from sis.head.worlds import World
from sis.inventory import records
from sis.inventory.cluster import network_of, node_of
from sis.inventory.model import Node
from sis.inventory.names import fold
from sis.spec.cluster import ClusterSpec

_SOME_MACHINE = "5" * 32
_KEY = re.compile(r"((?:record|facts)(?:\.[A-Za-z_]+|\[[0-9]+\])+): (.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Found:
    """One thing about some nodes. `place` is the line it comes from, or who said it; `key` the record's key, if any."""

    is_fault: bool
    nodes: str
    place: str
    key: str
    text: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{f'{self.place}: ' if self.place else ''}{self.nodes}: {self.text}"


def lint(renders: Renders, world: World, nodes: Sequence[Node]) -> tuple[Found, ...]:
    """All faults, then all notices; nodes with the same one are folded."""
    alike: dict[tuple[bool, str, str, str, str], list[str]] = {}
    for node in nodes:
        for is_fault, place, key, text, hint in _of_node(renders, world, node):
            alike.setdefault((is_fault, place, key, text, hint), []).append(node.name)
    found = [
        Found(fault, fold(names), place, key, text, hint) for (fault, place, key, text, hint), names in alike.items()
    ]
    return tuple(sorted(found, key=lambda each: not each.is_fault))


def _of_node(renders: Renders, world: World, node: Node) -> Iterator[tuple[bool, str, str, str, str]]:
    if node.assignment is None:
        yield False, "", "", "has no image: nothing can be rendered for it", ""
        return
    try:
        inputs = world.inputs(renders, node)
    except SisError as fault:
        yield True, "", "", fault.message, fault.hint or ""
        return
    try:
        inputs.files()
    except ConfiguratorError as fault:
        origins = origins_of(world, node, inputs)
        for line in _lines(fault):
            key, text = _split(line)
            yield True, origins.of(key) if key else "", key, _without_name(text, node.name), fault.hint or ""
    for text in render.notices(inputs.record, inputs.tree.footprint):
        yield False, "", "", f"{text} ({node.assignment.reference})", ""


def check_values(spec: ClusterSpec) -> None:
    """Raise SpecInvalid for every value of a cluster file that no image could make a file of, each with its line.

    Nodes with the same settings are looked at once, images not at all: `lint` does that.
    """
    around = records.surroundings_of((), (network_of(*each) for each in spec.networks.items()), {}, {}, {})
    lines: dict[str, None] = {}
    seen: set[int] = set()
    for each in spec.expand():
        if id(each.settings) in seen:
            continue
        seen.add(id(each.settings))
        new = node_of(each, None)
        node = Node(0, new.name, None, _SOME_MACHINE, "", new.profile, new.interfaces, new.groups, new.assignment)
        record = records.record_of(node, None, around, ())
        words = tuple(each.settings.kernel_cmdline.split())
        boot = record.boot or Boot(parameters=words, kernel=each.settings.boot.kernel)
        try:
            check(msgspec.structs.replace(record, boot=boot))
        except ConfiguratorError as fault:
            origins = Origins(node, record, None, spec=each, cluster=spec)
            for line in _lines(fault):
                key, text = _split(line)
                lines[f"{origins.of(key)}: {text}" if key else text] = None
    if lines:
        number = "1 fault" if len(lines) == 1 else f"{len(lines)} faults"
        raise SpecInvalid(f"{spec.place().file}: {number}", details=[*lines])


def origins_of(world: World, node: Node, inputs: Inputs) -> Origins:
    """Where the values of a node of this world come from."""
    return Origins(node, inputs.record, inputs.layout, spec=world.specs.get(node.name), cluster=world.spec)


def _lines(fault: ConfiguratorError) -> Sequence[str]:
    """The single faults: of a record that is refused those of its details, else the message too."""
    if fault.details and not _KEY.match(fault.message):
        return fault.details
    return [fault.message, *fault.details]


def _split(line: str) -> tuple[str, str]:
    found = _KEY.fullmatch(line)
    return (found[1], f"{found[1].removeprefix('record.')}: {found[2]}") if found else ("", line)


def _without_name(text: str, name: str) -> str:
    """The same fault of many nodes reads the same."""
    return text.replace(f"on {name}", "on the node")
