"""The files that list the cluster, in the formats the record asks for; and the peers' ssh host keys."""

from __future__ import annotations

import functools
from collections.abc import Iterator

from configurator.errors import NotRenderable
from configurator.peers import FORMATS, Same, in_groups, peer_file_text
from configurator.rendered import RenderedFile, header
from configurator.renderers import Context, renderer


@renderer("peer_files", reads="cluster domain head head_name peer_files peers")
def peer_files(context: Context) -> Iterator[RenderedFile]:
    made: dict[str, int] = {}
    for at, file in enumerate(context.record.peer_files):
        path = file.path or FORMATS[file.format].path
        first = made.setdefault(path, at)
        if first != at:
            raise NotRenderable(f"record.peer_files[{at}]: makes {path}, as record.peer_files[{first}] does")
        content = _encoded("peer_files", peer_file_text(context.record, file))
        yield RenderedFile(path=path, content=content, origin="peer_files")


@renderer("known_hosts", reads="domain hosts_groups peers")
def known_hosts(context: Context) -> Iterator[RenderedFile]:
    record = context.record
    lines = _known_hosts(Same(record.peers), record.domain, record.hosts_groups)
    if lines:
        content = _encoded("known_hosts", lines)
        yield RenderedFile(path="/etc/ssh/ssh_known_hosts", content=content, origin="known_hosts")


@functools.lru_cache(maxsize=4)
def _known_hosts(peers: Same, domain: str, groups: tuple[str, ...]) -> str:
    """One line for each key of each peer that /etc/hosts lists, by id."""
    lines = []
    for peer in sorted(in_groups(peers.peers, groups), key=lambda peer: peer.id):
        names = [peer.name, f"{peer.name}.{domain}"] if domain and "." not in peer.name else [peer.name]
        for key in peer.host_keys:
            kind, blob = key.split(" ")[:2]
            lines.append(f"{','.join([*names, peer.address])} {kind} {blob}\n")
    return "".join(lines)


@functools.lru_cache(maxsize=64)
def _encoded(origin: str, text: str) -> bytes:
    """The same bytes object for all nodes that share a list: it may be a megabyte."""
    return f"{header(origin)}\n{text}".encode()
