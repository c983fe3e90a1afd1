"""Kerrighed: the node list its kernel reads, within that kernel's limits, and the defaults of its start scripts."""

from __future__ import annotations

from collections.abc import Iterator

from configurator.record import Kerrighed, Peer, Record
from configurator.rendered import RenderedFile, header, plain_file, text_file
from configurator.renderers import Context, renderer
from configurator.templating import from_template

NAME = "kerrighed"
_KERNEL_BUFFER_BYTES = 4096
"""The kernel's buffer: a file of this size or more overflows it."""


@renderer(NAME, reads="head head_name id interfaces kerrighed name peers")
def kerrighed(context: Context) -> Iterator[RenderedFile]:
    record, wanted, version = context.record, context.record.kerrighed, context.footprint.kerrighed
    if wanted is None:
        return
    yield plain_file("/etc/kerrighed_nodes", NAME, _node_list(record, wanted))
    legacy = f"LEGACY_SCHED={'true' if wanted.legacy_scheduler else 'false'}"
    if version == "2.4":
        yield text_file("/etc/default/kerrighed", NAME, ["ENABLE=true", legacy])
    elif version == "3.0":
        yield text_file("/etc/default/kerrighed", NAME, [f'ADD_OPTS="--total {wanted.min_nodes}"', legacy])
        yield from_template("/etc/default/kerrighed-host", NAME, "kerrighed/kerrighed-host.j2", {})


def _node_list(record: Record, wanted: Kerrighed) -> list[str]:
    """Every member when that fits the kernel's buffer, else the node's own line, all the kernel needs."""
    start = [header(NAME), f"session={wanted.session}", f"nbmin={wanted.min_nodes}"]
    own = Peer(name=record.name, address="", id=record.id, interface=_interface(record))
    members = [own, *(peer for peer in record.peers if _is_other_member(record, peer))]
    lines = start + [f"{node.name}:{node.id}:{node.interface}" for node in sorted(members, key=lambda node: node.id)]
    if sum(len(line) + 1 for line in lines) < _KERNEL_BUFFER_BYTES:
        return lines
    return [*start, f"{own.name}:{own.id}:{own.interface}"]


def _is_other_member(record: Record, peer: Peer) -> bool:
    """The head is no member: the server of a session must not be in it."""
    return peer.kerrighed and peer.name not in (record.name, record.head_name) and peer.address != record.head


def _interface(record: Record) -> str:
    for peer in record.peers:
        if peer.name == record.name:
            return peer.interface
    return record.interfaces[0].name if record.interfaces else "eth0"
