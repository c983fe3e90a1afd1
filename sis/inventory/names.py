"""Names of nodes: what is a good one, natural order, ClusterShell node sets with groups, MAC and IP addresses."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence

from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet, NodeSetException
from ClusterShell.NodeUtils import GroupResolver, GroupResolverError, GroupSource

from sis.errors import NotFound, UsageFault

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
GROUP_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
MOST_NODES = 200_000

_NUMBERED = re.compile(r"([A-Za-z0-9.-]*?)([0-9]{1,15})([A-Za-z.-]*)")
_DIGITS = re.compile(r"(\d+)")
_RANGE = re.compile(r"(\d+)-(\d+)")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


def natural_key(name: str) -> tuple[tuple[int, int | str], ...]:
    """A sorting key by which n2 comes before n10."""
    return tuple((0, int(part)) if part.isdigit() else (1, part) for part in _DIGITS.split(name) if part)


def number_of(name: str) -> int | None:
    """The last number in a name: 12 for "rack3-n012"."""
    digits = _DIGITS.findall(name)
    return int(digits[-1]) if digits else None


def check_name(name: str) -> str:
    """The name itself when it can be a host name. Raises UsageFault."""
    if not NAME.fullmatch(name):
        raise UsageFault(
            f"{name!r} cannot be a node's name",
            hint="use a host name: small letters, digits and dashes, at most 63, no dot (the domain is the network's)",
        )
    return name


def check_group(name: str) -> str:
    """The name itself when it can be a group's. Raises UsageFault."""
    if not GROUP_NAME.fullmatch(name):
        raise UsageFault(f"{name!r} cannot be a group's name", hint="use letters, digits, dots, dashes and underscores")
    return name


def check_mac(text: str) -> str:
    """A MAC in its one form, "52:54:00:12:34:56" (dashes and capitals are taken too). Raises UsageFault."""
    mac = text.strip().lower().replace("-", ":")
    if re.fullmatch(r"[0-9a-f]{12}", mac):
        mac = ":".join(mac[at : at + 2] for at in range(0, 12, 2))
    if not _MAC.fullmatch(mac):
        raise UsageFault(f"not a MAC address: {text!r}", hint="it looks like 52:54:00:12:34:56")
    if int(mac[:2], 16) & 1:
        raise UsageFault(f"{mac} is a multicast address, no interface has it", hint="is the first pair right?")
    return mac


def check_address(text: str) -> str:
    """An IP address in its one form. Raises UsageFault."""
    try:
        return str(ipaddress.ip_address(text.strip()))
    except ValueError as error:
        raise UsageFault(f"not an IP address: {text!r}") from error


def expand(text: str, groups: Mapping[str, Sequence[str]], everyone: Iterable[str] = ()) -> list[str]:
    """The names of a node set ("n[001-004]!n003", "@rack1", "@*"), in natural order, each once.

    Raises UsageFault for what is no node set, NotFound for an unknown group.
    """
    for first, last in _RANGE.findall(text):
        if int(last) - int(first) > MOST_NODES:
            raise UsageFault(f"the node set {text} has more than {MOST_NODES} nodes")
    try:
        found = NodeSet(text, resolver=_Groups(GroupSource("sis", {}, runs(everyone)), groups))
    except (NodeSetException, GroupResolverError) as error:
        raise UsageFault(
            f"not a node set: {text}: {error}", hint="write n001, n[001-016], n[001-016]!n004, @group or @*"
        ) from error
    return sorted(found, key=natural_key)


def fold(names: Iterable[str]) -> str:
    """Names as one node set: n001 n002 n003 → "n[001-003]"."""
    return str(NodeSet(runs(names), resolver=RESOLVER_NOGROUP))


def runs(names: Iterable[str]) -> str:
    """Names in few words, n[001-003],x1: ClusterShell takes its time for each name on its own."""
    numbers: dict[tuple[str, int, str], list[int]] = {}
    others = []
    for name in names:
        found = _NUMBERED.fullmatch(name)
        if found is None:
            others.append(name)
        else:
            numbers.setdefault((found[1], len(found[2]), found[3]), []).append(int(found[2]))
    words = []
    for (before, width, after), known in numbers.items():
        ranges: list[list[int]] = []
        for number in sorted(known):
            if ranges and number <= ranges[-1][1] + 1:
                ranges[-1][1] = number
            else:
                ranges.append([number, number])
        inner = ",".join(
            f"{first:0{width}}" if first == last else f"{first:0{width}}-{last:0{width}}" for first, last in ranges
        )
        words.append(f"{before}[{inner}]{after}")
    return ",".join([*words, *others])


class _Groups(GroupResolver):  # type: ignore[misc]
    """Groups of the inventory; an unknown one is a fault, not an empty set."""

    def __init__(self, source: GroupSource, groups: Mapping[str, Sequence[str]]) -> None:
        super().__init__(source)
        self._known = groups

    def group_nodes(self, group: str, namespace: str | None = None) -> list[str]:  # noqa: ARG002  # ClusterShell's
        if group not in self._known:
            raise NotFound.of("group", group, self._known)
        return [runs(self._known[group])]
