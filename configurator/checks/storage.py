"""Mounts and exports."""

from __future__ import annotations

import re
from collections.abc import Iterator

from configurator.checks.values import (
    PLAIN_PATH,
    Fault,
    is_absolute_path,
    is_host_name,
    parsed_address,
    parsed_interface,
    repeated_faults,
    shown,
)
from configurator.record import Export, Mount, Record

_FILESYSTEM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}", re.ASCII)
_MOUNT_OPTIONS = re.compile(r"[!-\[\]-~]{1,1024}", re.ASCII)
_EXPORT_OPTIONS = re.compile(r"[a-z0-9_]+(?:=[A-Za-z0-9:./_-]+)?(?:,[a-z0-9_]+(?:=[A-Za-z0-9:./_-]+)?)*", re.ASCII)
_CLIENT_PATTERN = re.compile(r"[A-Za-z0-9*?][A-Za-z0-9*?.-]{0,252}", re.ASCII)
_NAMED_CLIENTS = re.compile(r"(?:@|group:)[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_NFS_SOURCE = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):/.*")
_LONGEST_PATH = 1024


def storage_faults(record: Record) -> Iterator[Fault]:
    for at, mount in enumerate(record.mounts):
        yield from _mount(f"record.mounts[{at}]", mount)
    yield from repeated_faults("record.mounts", "path", [_mount_point(mount) for mount in record.mounts])
    for at, export in enumerate(record.exports):
        yield from _export(f"record.exports[{at}]", export)
    yield from repeated_faults("record.exports", "path", [export.path for export in record.exports])


def _mount_point(mount: Mount) -> str:
    return "" if mount.path in ("none", "swap") else mount.path


def _mount(place: str, mount: Mount) -> Iterator[Fault]:
    source = mount.source
    if not source or not source.isprintable() or source[0] == "#" or len(source) > _LONGEST_PATH:
        yield Fault(f"{place}.source", f"not the source of a mount: {shown(source)}")
    elif mount.filesystem in ("nfs", "nfs4") and not _NFS_SOURCE.fullmatch(source):
        yield Fault(f"{place}.source", f"NFS comes from SERVER:/PATH, not {shown(source)}")
    if not _FILESYSTEM.fullmatch(mount.filesystem):
        yield Fault(f"{place}.filesystem", f"not a file system's name: {shown(mount.filesystem)}")
    if mount.path in ("none", "swap"):
        if mount.filesystem != "swap":
            yield Fault(f"{place}.path", f"only swap is mounted nowhere: {shown(mount.path)}")
    elif not is_absolute_path(mount.path):
        yield Fault(f"{place}.path", f"not an absolute path without '.', '..' and '//': {shown(mount.path)}")
    if not _MOUNT_OPTIONS.fullmatch(mount.options):
        yield Fault(f"{place}.options", f"not mount options (one word, commas between): {shown(mount.options)}")
    for field, value in (("dump", mount.dump), ("passno", mount.passno)):
        if not 0 <= value <= 9:
            yield Fault(f"{place}.{field}", f"not 0..9: {value}")


def _export(place: str, export: Export) -> Iterator[Fault]:
    if not is_absolute_path(export.path) or not (PLAIN_PATH.fullmatch(export.path) or export.path == "/"):
        yield Fault(f"{place}.path", f"not an absolute path of plain letters: {shown(export.path)}")
    if not export.clients:
        yield Fault(f"{place}.clients", 'nobody may mount it; write "*" for everybody')
    for at, client in enumerate(export.clients):
        if not _is_client(client):
            yield Fault(
                f"{place}.clients[{at}]",
                f"not an address, a network, a host name, @NETGROUP or group:NAME: {shown(client)}",
            )
    if len(export.options) > _LONGEST_PATH or not _EXPORT_OPTIONS.fullmatch(export.options):
        yield Fault(f"{place}.options", f"not options of exports(5): {shown(export.options)}")


def _is_client(client: str) -> bool:
    if _NAMED_CLIENTS.fullmatch(client) or is_host_name(client):
        return True
    network = parsed_interface(client)
    if network is not None:
        return network.ip == network.network.network_address
    return parsed_address(client) is not None or _CLIENT_PATTERN.fullmatch(client) is not None
