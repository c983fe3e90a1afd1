"""Files of the older suites: SystemInstaller's --parse dumps, C3's c3.conf, SystemImager's cluster.xml."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence

from sis.inventory.exchange.told import Reading, Told, Wire, merged
from sis.inventory.model import Node
from sis.inventory.names import number_of

_RANGE = re.compile(r"([A-Za-z0-9.-]*)\[([0-9]+)-([0-9]+)\]")
_BRACED = re.compile(r"cluster\s+(\S+)\s*\{", re.ASCII)
_MOST = 100_000


def read_machines(reading: Reading) -> list[Told]:
    """`mksimachine --List --parse` and `mksiadapter --List --parse`, one after the other or either alone.

    Machines are Name:Hostname:Gateway:Image, adapters Machine:Adap:IP address:Netmask:MAC.
    """
    told: list[Told] = []
    section = ""
    for line, text in enumerate(reading.text.splitlines(), 1):
        row = text.strip()
        if row.startswith("#"):
            section = row[1:].split(":")[0].strip().lower() or section
        elif row and section == "name":
            told += _machine(row, line, reading)
        elif row and section == "machine":
            told += _adapter(row, line, reading)
        elif row:
            reading.fault(line, "stands under no heading (#Name:Hostname:Gateway:Image or #Machine:Adap:…)")
    return merged(told, reading)


def _machine(row: str, line: int, reading: Reading) -> Iterator[Told]:
    parts = row.split(":")
    if len(parts) != 4:
        reading.fault(line, f"{len(parts)} fields instead of Name:Hostname:Gateway:Image")
        return
    name = reading.node(line, parts[0])
    if name is not None:
        yield Told(name, line, image=parts[3].strip() or None)


def _adapter(row: str, line: int, reading: Reading) -> Iterator[Told]:
    parts = row.split(":", 4)
    if len(parts) != 5:
        reading.fault(line, f"{len(parts)} fields instead of Machine:Adap:IP address:Netmask:MAC")
        return
    name, mac, address = reading.node(line, parts[0]), reading.mac(line, parts[4]), reading.address(line, parts[2])
    if name is not None:
        yield Told(name, line, wires=(Wire(parts[1].strip() or "eth0", mac, address),))


def read_c3(reading: Reading) -> list[Told]:
    """C3's clusters: every node that is neither dead nor excluded, in a group of its cluster's name.

    C3 takes the zeros of node[01-64] away (node1 …), while those who wrote it mostly meant them: the inventory's own
    names decide, else C3's reading; either way it is noted.
    """
    told: list[Told] = []
    cluster, head_read = "", False
    last: dict[int, Told] = {}
    for line, text in enumerate(reading.text.splitlines(), 1):
        row = text.partition("#")[0].strip()
        opened = _BRACED.match(row)
        if opened:
            group = reading.group(line, opened[1])
            cluster, head_read, last = group or "", False, {}
            row = row[opened.end() :].strip()
        if not row:
            continue
        closes = row.endswith("}")
        row = row.rstrip("}").strip()
        if row and not cluster:
            reading.fault(line, "stands in no cluster { … }")
        elif row and not head_read:
            head_read = True
        elif row:
            last = _c3_line(row, line, cluster, last, told, reading)
        if closes:
            cluster = ""
    if cluster:
        reading.fault(len(reading.text.splitlines()), f"cluster {cluster} is not closed by a brace")
    return merged(told, reading)


def _c3_line(
    row: str, line: int, cluster: str, last: dict[int, Told], told: list[Told], reading: Reading
) -> dict[int, Told]:
    """One line of a cluster; returns the nodes of the range it is, by number, for an `exclude` behind it."""
    verb, _, what = row.partition(" ")
    if verb == "dead":
        if what.strip() != "remove_for_0-indexing":
            reading.note(line, f"{what.strip()} is dead: left out")
        return {}
    if verb == "exclude":
        numbers = _numbers(what.strip(), line, reading)
        if not last:
            reading.fault(line, "exclude stands behind no range")
        for number in numbers:
            if number in last:
                told.remove(last.pop(number))
                reading.note(line, f"number {number} is excluded: left out")
        return last
    found = _RANGE.fullmatch(row)
    if found is None:
        name = reading.node(line, row)
        if name is not None:
            told.append(Told(name, line, groups=(cluster,)))
        return {}
    made: dict[int, Told] = {}
    width = _width(found, line, reading)
    for number in _numbers(row[len(found[1]) :], line, reading):
        name = reading.node(line, f"{found[1]}{number:0{width}}")
        if name is not None:
            made[number] = Told(name, line, groups=(cluster,))
    told += made.values()
    return made


def _width(found: re.Match[str], line: int, reading: Reading) -> int:
    """The padding of a range's numbers."""
    written = len(found[2]) if found[2].startswith("0") and len(found[2]) > 1 else 0
    if not written:
        return 0
    padded = f"{found[1]}{int(found[2]):0{written}}"
    if padded in reading.known:
        reading.note(line, f"{found[0]} is read with its zeros ({padded}), as the inventory has them; C3 drops them")
        return written
    reading.note(line, f"{found[0]} is read as C3 does, without zeros ({found[1]}{int(found[2])}, not {padded})")
    return 0


def _numbers(text: str, line: int, reading: Reading) -> Sequence[int]:
    found = re.fullmatch(r"\[?([0-9]+)(?:-([0-9]+))?\]?", text)
    if found is None:
        reading.fault(line, f"not a number or range: '{text}'")
        return ()
    first, last = int(found[1]), int(found[2] or found[1])
    if not 0 <= last - first < _MOST:
        reading.fault(line, f"not a range: '{text}'")
        return ()
    return range(first, last + 1)


def write_c3(nodes: Sequence[Node], *, cluster: str, head: str) -> str:
    """One cluster whose positions begin at 1, as OSCAR writes it: position 0 is a dead entry that holds its place."""
    lines = [f"cluster {cluster} {{", f"    {head}", "    dead remove_for_0-indexing"]
    run: list[str] = []
    for name in [*(node.name for node in nodes), ""]:
        if run and not _follows(run[-1], name):
            lines.append(f"    {_run(run)}")
            run = []
        run.append(name)
    return "\n".join([*lines, "}", ""])


def _follows(one: str, two: str) -> bool:
    """Whether two names are neighbours in a range of C3's, which has no zeros in front."""
    before, after = number_of(one), number_of(two)
    return (
        before is not None
        and after == before + 1
        and one.endswith(str(before))
        and two == f"{one.removesuffix(str(before))}{after}"
        and not one.removesuffix(str(before)).endswith("0")
    )


def _run(names: Sequence[str]) -> str:
    if len(names) == 1:
        return names[0]
    first, last = number_of(names[0]), number_of(names[-1])
    return f"{names[0].removesuffix(str(first))}[{first}-{last}]"


def read_cluster_xml(reading: Reading) -> list[Told]:
    """SystemImager's groups of nodes; of several groups the one with the smallest priority gives the image."""
    from configurator.errors import ConfiguratorError
    from configurator.importing import cluster_xml, xmltree

    try:
        root = xmltree.parse(reading.file, reading.text)
    except ConfiguratorError as error:
        place, _, fault = str(error).removeprefix(f"{reading.file}:").partition(": ")
        reading.fault(int(place) if place.isdigit() else 1, (fault or str(error)).partition("\nhint:")[0])
        return []
    told: dict[str, Told] = {}
    groups = sorted(root.all("group"), key=lambda each: _priority(each.texts("priority")))
    for element in groups:
        name = next(iter(element.texts("name")), "")
        group = reading.group(element.line, name) if name else None
        if not name:
            reading.fault(element.line, "a group without a name")
        image = next(iter(element.texts("image")), None)
        ranges = [address for text in element.texts("ip-range") for address in _addresses(text, element.line, reading)]
        members: list[str] = []
        for text in element.texts("node"):
            try:
                members += cluster_xml.expand(text)
            except ValueError as error:
                reading.fault(element.line, str(error))
        if ranges and len(ranges) != len(members):
            reading.note(element.line, f"{len(ranges)} addresses for {len(members)} nodes of {name}: left out")
            ranges = []
        for at, member in enumerate(members):
            node = reading.node(element.line, member)
            if node is None or group is None:
                continue
            known = told.get(node, Told(node, element.line))
            wires = known.wires or ((Wire("eth0", None, ranges[at]),) if ranges else ())
            told[node] = Told(node, known.line, known.image or image, None, (*known.groups, group), wires)
    return list(told.values())


def _priority(texts: list[str]) -> int:
    return int(texts[0]) if texts and re.fullmatch(r"[0-9]{1,9}", texts[0]) else 2**31


def _addresses(text: str, line: int, reading: Reading) -> list[str]:
    first, _, last = text.partition("-")
    try:
        low, high = ipaddress.IPv4Address(first.strip()), ipaddress.IPv4Address((last or first).strip())
    except ValueError:
        reading.fault(line, f"not a range of addresses: '{text}'")
        return []
    if not 0 <= int(high) - int(low) < _MOST:
        reading.fault(line, f"not a range of addresses: '{text}'")
        return []
    return [str(ipaddress.IPv4Address(number)) for number in range(int(low), int(high) + 1)]
