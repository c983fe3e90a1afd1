"""What this node exports over NFS."""

from __future__ import annotations

import functools
from collections.abc import Iterator

from configurator.errors import NotRenderable
from configurator.peers import Same, in_groups
from configurator.record import Record
from configurator.rendered import RenderedFile, text_file
from configurator.renderers import Context, renderer

NAME = "exports"


@renderer(
    NAME,
    reads="exports name peers",
    speaks=lambda footprint: footprint.nfs_server,
    owns=("/etc/exports.d/sis.exports",),
)
def exports(context: Context) -> Iterator[RenderedFile]:
    record = context.record
    lines = []
    for at, export in enumerate(record.exports):
        clients = [
            f"{name}({export.options})"
            for number, client in enumerate(export.clients)
            for name in _clients(record, client, f"record.exports[{at}].clients[{number}]")
        ]
        lines.append(f"{export.path} {' '.join(clients)}")
    if lines:
        yield text_file("/etc/exports.d/sis.exports", NAME, lines)


def _clients(record: Record, client: str, place: str) -> list[str]:
    if not client.startswith("group:"):
        return [client]
    group = client.removeprefix("group:")
    names = [name for name in _members(Same(record.peers), group) if name != record.name]
    if not names:
        raise NotRenderable(f"{place}: no peer is in group {group}", hint="an export for nobody is a mistake")
    return names


@functools.lru_cache(maxsize=64)
def _members(peers: Same, group: str) -> tuple[str, ...]:
    return tuple(peer.name for peer in in_groups(peers.peers, [group]))
