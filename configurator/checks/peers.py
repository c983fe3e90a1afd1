"""Peers: the cluster's nodes as each of them knows the others, and Kerrighed's limits on them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from configurator.checks.keys import public_key_faults
from configurator.checks.values import (
    PLAIN_PATH,
    Fault,
    address_faults,
    host_name_faults,
    is_absolute_path,
    is_interface_name,
    repeated_faults,
    shown,
)
from configurator.record import Kerrighed, Peer, Record

_GROUP = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_KERRIGHED_IDS = {False: 127, True: 255}


def group_faults(place: str, name: str) -> Iterator[Fault]:
    if not _GROUP.fullmatch(name):
        yield Fault(place, f"not a group's name (letters, digits, '.', '_', '-'): {shown(name)}")


def peers_faults(record: Record) -> Iterator[Fault]:
    """The peers (checked once for all records that share them), and this node among them."""
    checked = _last_peers.of(record.peers)
    yield from checked.faults
    yield from _self_among_peers(record, checked)
    for at, file in enumerate(record.peer_files):
        if file.path and (not is_absolute_path(file.path) or not PLAIN_PATH.fullmatch(file.path)):
            yield Fault(f"record.peer_files[{at}].path", f"not an absolute path of plain letters: {shown(file.path)}")
        for number, group in enumerate(file.groups):
            yield from group_faults(f"record.peer_files[{at}].groups[{number}]", group)
    for at, group in enumerate(record.hosts_groups):
        yield from group_faults(f"record.hosts_groups[{at}]", group)


class _CheckedPeers(NamedTuple):
    peers: tuple[Peer, ...]
    faults: tuple[Fault, ...]
    by_name: dict[str, int]
    by_id: dict[int, int]


class _LastPeers:
    """The peers checked last, known by identity: a cluster's records share one tuple of thousands, or two when what is
    is compared with what is to be."""

    def __init__(self) -> None:
        self._last: tuple[_CheckedPeers, ...] = ()

    def of(self, peers: tuple[Peer, ...]) -> _CheckedPeers:
        known = next((each for each in self._last if each.peers is peers), None)
        if known is None:
            by_name = {peer.name: at for at, peer in enumerate(peers)}
            by_id = {peer.id: at for at, peer in enumerate(peers)}
            known = _CheckedPeers(peers, tuple(_peers(peers)), by_name, by_id)
            self._last = (*self._last[-1:], known)
        return known


_last_peers = _LastPeers()


def _peers(peers: tuple[Peer, ...]) -> Iterator[Fault]:
    for at, peer in enumerate(peers):
        place = f"record.peers[{at}]"
        yield from host_name_faults(f"{place}.name", peer.name)
        yield from address_faults(f"{place}.address", peer.address)
        if not 0 <= peer.id < 2**31:
            yield Fault(f"{place}.id", f"not a node id (0..2147483647): {peer.id}")
        if not is_interface_name(peer.interface):
            yield Fault(f"{place}.interface", f"not an interface's name: {shown(peer.interface)}")
        for number, group in enumerate(peer.groups):
            yield from group_faults(f"{place}.groups[{number}]", group)
        if not 0 <= peer.cpus <= 65_536:
            yield Fault(f"{place}.cpus", f"not a number of CPUs (0..65536): {peer.cpus}")
        if not 0 <= peer.memory_mib < 2**40:
            yield Fault(f"{place}.memory_mib", f"not an amount of memory: {peer.memory_mib}")
        for number, key in enumerate(peer.host_keys):
            yield from public_key_faults(f"{place}.host_keys[{number}]", key)
    yield from repeated_faults("record.peers", "name", [peer.name for peer in peers])
    yield from repeated_faults("record.peers", "address", [peer.address for peer in peers])
    yield from repeated_faults("record.peers", "id", [str(peer.id) for peer in peers])


def _self_among_peers(record: Record, checked: _CheckedPeers) -> Iterator[Fault]:
    named = checked.by_name.get(record.name)
    if named is not None and record.peers[named].id != record.id:
        yield Fault(f"record.peers[{named}].id", f"this node's id is {record.id}, not {record.peers[named].id}")
    numbered = checked.by_id.get(record.id)
    if numbered is not None and record.peers[numbered].name != record.name:
        yield Fault(f"record.peers[{numbered}].id", f"{record.id} is the id of {shown(record.name)} itself")


def kerrighed_faults(record: Record, kerrighed: Kerrighed) -> Iterator[Fault]:
    highest = _KERRIGHED_IDS[kerrighed.autonodeid]
    why = "with autonodeid" if kerrighed.autonodeid else "without autonodeid"
    if not 1 <= kerrighed.session <= 9999:
        yield Fault("record.kerrighed.session", f"not a session (1..9999): {kerrighed.session}")
    if not 1 <= kerrighed.min_nodes <= highest + 1:
        yield Fault("record.kerrighed.min_nodes", f"not 1..{highest + 1}: {kerrighed.min_nodes}")
    if record.id > highest:
        yield Fault("record.id", f"Kerrighed's kernel stops at node id {highest} {why}: {record.id}")
    for at, peer in enumerate(record.peers):
        if peer.kerrighed and peer.id > highest:
            yield Fault(
                f"record.peers[{at}].id",
                f"Kerrighed's kernel stops at node id {highest} {why}: {peer.id} ({peer.name})",
            )
