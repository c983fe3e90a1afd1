"""Name servers: a plain /etc/resolv.conf, or systemd-resolved's where it is enabled."""

from __future__ import annotations

from collections.abc import Iterator

from configurator.network import search_list
from configurator.rendered import RenderedFile, symlink, text_file
from configurator.renderers import Context, renderer

NAME = "resolv"
_TELL_RESOLVED = ("networkd", "netplan", "NetworkManager")
"""Stacks whose own files name the servers, and which hand them to resolved."""


@renderer(NAME, reads="domain nameservers search", owns=("/etc/systemd/resolved.conf.d/sis.conf",))
def resolv(context: Context) -> Iterator[RenderedFile]:
    record, footprint = context.record, context.footprint
    search = search_list(record)
    if footprint.resolver == "resolved":
        yield symlink("/etc/resolv.conf", NAME, "../run/systemd/resolve/stub-resolv.conf")
        if footprint.network not in _TELL_RESOLVED and (record.nameservers or search):
            lines = ["[Resolve]"]
            if record.nameservers:
                lines.append(f"DNS={' '.join(record.nameservers)}")
            if search:
                lines.append(f"Domains={' '.join(search)}")
            yield text_file("/etc/systemd/resolved.conf.d/sis.conf", NAME, lines)
    elif record.nameservers:
        lines = [f"search {' '.join(search)}"] if search else []
        lines.extend(f"nameserver {server}" for server in record.nameservers)
        yield text_file("/etc/resolv.conf", NAME, lines)
