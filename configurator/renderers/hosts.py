"""/etc/hosts: localhost, the node itself, the head, and every peer (or those of some groups) with its full name."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator

from configurator.network import own_address
from configurator.peers import Same, in_groups
from configurator.record import Peer, Record
from configurator.rendered import RenderedFile, text_file
from configurator.renderers import Context, renderer

_LOCALHOST = (
    "127.0.0.1\tlocalhost",
    "::1\tlocalhost ip6-localhost ip6-loopback",
    "ff02::1\tip6-allnodes",
    "ff02::2\tip6-allrouters",
    "",
)


@renderer("hosts", reads="domain head head_name hosts_groups interfaces name peers")
def hosts(context: Context) -> Iterator[RenderedFile]:
    record = context.record
    peers = _peer_table(record)
    lines: list[str] = [*_LOCALHOST]
    if record.name not in peers.names:
        # Without a fixed address the name must still resolve: Debian's 127.0.1.1.
        lines.append(_line(own_address(record) or "127.0.1.1", record.name, record.domain))
    if record.head and record.head not in peers.addresses and record.head_name not in (*peers.names, record.name):
        lines.append(_line(record.head, record.head_name, record.domain))
    yield RenderedFile(path="/etc/hosts", content=_content(tuple(lines), peers.block), origin="hosts")


@functools.lru_cache(maxsize=16)
def _content(lines: tuple[str, ...], block: tuple[str, ...]) -> bytes:
    """One bytes object for all nodes with the same file: those that are among their own peers."""
    return text_file("/etc/hosts", "hosts", [*lines, *block]).content


class _PeerTable:
    """The peers by id; `block` holds all their lines as one text, as thousands of records share it."""

    def __init__(self, peers: Iterable[Peer], domain: str) -> None:
        ordered = sorted(peers, key=lambda peer: peer.id)
        self.names = frozenset(peer.name for peer in ordered)
        self.addresses = frozenset(peer.address for peer in ordered)
        text = "\n".join(_line(peer.address, peer.name, domain) for peer in ordered)
        self.block = (text,) if text else ()


def _peer_table(record: Record) -> _PeerTable:
    return _cached_table(Same(record.peers), record.domain, record.hosts_groups)


@functools.lru_cache(maxsize=16)
def _cached_table(peers: Same, domain: str, groups: tuple[str, ...]) -> _PeerTable:
    return _PeerTable(in_groups(peers.peers, groups), domain)


def _line(address: str, name: str, domain: str) -> str:
    if not domain or "." in name:
        return f"{address}\t{name}"
    return f"{address}\t{name}.{domain} {name}"
