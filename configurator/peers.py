"""The peers as files list them: by id, folded, in the format of each program that wants to know the cluster."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from configurator.errors import NotRenderable
from configurator.record import Peer, PeerFile, Record

_MOST_POSITIONS = 100_000


class Cluster(NamedTuple):
    """What a format may look at. `peers` are without the head, by id."""

    name: str
    domain: str
    head_name: str
    peers: tuple[Peer, ...]


class Format(NamedTuple):
    """`path` is the usual place of the file; `comments` whether its readers allow a header line."""

    path: str
    lines: Callable[[Cluster], Iterator[str]]
    comments: bool


class Same:
    """A tuple of peers as a cache key: known by identity, and kept alive while it is one."""

    def __init__(self, peers: tuple[Peer, ...]) -> None:
        self.peers = peers

    def __hash__(self) -> int:
        return id(self.peers)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and other.peers is self.peers


def peer_file_text(record: Record, file: PeerFile) -> str:
    """The lines of a file as one text. Records that share their peers share the work.

    A node that is not among its own peers is not in its list. Raises NotRenderable where the format has no room.
    """
    return _text(Same(record.peers), record.cluster, record.domain, record.head_name, record.head, file)


def in_groups(peers: Iterable[Peer], groups: Sequence[str]) -> Iterator[Peer]:
    """The peers in any of the groups; all without groups."""
    return (peer for peer in peers if not groups or not {*groups}.isdisjoint(peer.groups))


def fold(names: Iterable[str]) -> str:
    """Names as one node set: "n[001-003,007]"; padding is kept, the order of first sight too."""
    split = [(name, re.fullmatch(r"(.*?)([0-9]{1,18})([^0-9]*)", name)) for name in names]
    found = [(each.group(1), each.group(3), each.group(2)) for _, each in split if each]
    padded = {(start, end, len(digits)) for start, end, digits in found if digits[0] == "0" and len(digits) > 1}
    ranges: dict[tuple[str, str, int], set[int]] = {}
    for name, each in split:
        if each is None:
            ranges[name, "", -1] = set()
            continue
        start, digits, end = each.groups()
        # n010 belongs to the range of n001, n10 to that of n9.
        width = len(digits) if (start, end, len(digits)) in padded else 0
        ranges.setdefault((start, end, width), set()).add(int(digits))
    return ",".join(_folded(*key, sorted(numbers)) for key, numbers in ranges.items())


def _folded(start: str, end: str, width: int, numbers: list[int]) -> str:
    if not numbers:
        return start
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1] = [runs[-1][0], number]
        else:
            runs.append([number])
    words = ["-".join(f"{number:0{width}d}" for number in run) for run in runs]
    whole = words[0] if len(runs) == 1 and len(runs[0]) == 1 else f"[{','.join(words)}]"
    return f"{start}{whole}{end}"


@functools.lru_cache(maxsize=64)
def _text(peers: Same, name: str, domain: str, head_name: str, head: str, file: PeerFile) -> str:
    members = (peer for peer in peers.peers if peer.name != head_name and peer.address != head)
    listed = sorted(in_groups(members, file.groups), key=lambda peer: peer.id)
    lines = FORMATS[file.format].lines(Cluster(name, domain, head_name, tuple(listed)))
    return "".join(f"{line}\n" for line in lines)


def _slurm(cluster: Cluster) -> Iterator[str]:
    """NodeName lines, one for each kind of node."""
    kinds: dict[tuple[int, int], list[str]] = {}
    for peer in cluster.peers:
        kinds.setdefault((peer.cpus, peer.memory_mib), []).append(peer.name)
    for (cpus, memory_mib), names in kinds.items():
        words = [f"NodeName={fold(names)}"]
        words.extend([f"CPUs={cpus}"] if cpus else [])
        words.extend([f"RealMemory={memory_mib}"] if memory_mib else [])
        yield " ".join([*words, "State=UNKNOWN"])


def _openmpi(cluster: Cluster) -> Iterator[str]:
    for peer in cluster.peers:
        yield f"{peer.name} slots={peer.cpus}" if peer.cpus else peer.name


def _mpich(cluster: Cluster) -> Iterator[str]:
    for peer in cluster.peers:
        yield f"{peer.name}:{peer.cpus}" if peer.cpus else peer.name


def _genders(cluster: Cluster) -> Iterator[str]:
    for peer in cluster.peers:
        words = [*dict.fromkeys(("all", *peer.groups)), f"id={peer.id}"]
        words.extend([f"cpus={peer.cpus}"] if peer.cpus else [])
        yield f"{peer.name} {','.join(words)}"


def _clustershell(cluster: Cluster) -> Iterator[str]:
    """One group source called cluster: @cluster:all and one group for each of the peers' groups."""
    yield "cluster:"
    yield f'  all: "{fold(peer.name for peer in cluster.peers)}"'
    for group in sorted({group for peer in cluster.peers for group in peer.groups} - {"all"}):
        names = fold(peer.name for peer in cluster.peers if group in peer.groups)
        yield f'  "{group}": "{names}"'


def _c3(cluster: Cluster) -> Iterator[str]:
    """C3 counts positions from 0, and OSCAR made position 0 a dead one so that `:1-3` means the first three nodes.

    A position is a node's id: ids that are no more are dead positions too. Names stand alone, as C3 loses the zeros
    of `node[01-03]`.
    """
    by_id = {peer.id: peer.name for peer in cluster.peers}
    highest = max(by_id, default=0)
    if 0 in by_id or highest > _MOST_POSITIONS:
        wrong = 0 if 0 in by_id else highest
        raise NotRenderable(
            f"record.peers: c3.conf has no position for node id {wrong} ({by_id[wrong]})",
            hint=f"C3 wants ids from 1 to {_MOST_POSITIONS}",
        )
    yield f"cluster {cluster.name} {{"
    yield f"    {cluster.head_name}"
    yield "    dead remove_for_0-indexing"
    for position in range(1, highest + 1):
        yield f"    {by_id[position]}" if position in by_id else f"    dead no_node_{position}"
    yield "}"


def _trusted(cluster: Cluster) -> Iterator[str]:
    for peer in cluster.peers:
        yield peer.name
        if cluster.domain and "." not in peer.name:
            yield f"{peer.name}.{cluster.domain}"


FORMATS: dict[str, Format] = {
    "slurm": Format("/etc/slurm/nodes.conf", _slurm, comments=True),
    "openmpi": Format("/etc/openmpi/openmpi-default-hostfile", _openmpi, comments=True),
    "mpich": Format("/etc/mpich/hosts", _mpich, comments=True),
    "genders": Format("/etc/genders", _genders, comments=True),
    "clustershell": Format("/etc/clustershell/groups.d/cluster.yaml", _clustershell, comments=True),
    "c3": Format("/etc/c3.conf", _c3, comments=True),
    "hosts.equiv": Format("/etc/hosts.equiv", _trusted, comments=True),
    "shosts.equiv": Format("/etc/ssh/shosts.equiv", _trusted, comments=True),
}
"""Each is one function: a new format is one more."""
