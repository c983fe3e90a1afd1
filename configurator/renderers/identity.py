"""hostname, mailname, machine-id, hostid and motd: the files of one value."""

from __future__ import annotations

from collections.abc import Iterator

from configurator.rendered import RenderedFile, plain_file
from configurator.renderers import Context, renderer


@renderer("hostname", reads="mail_name name")
def hostname(context: Context) -> Iterator[RenderedFile]:
    # No header: Kerrighed's kernel takes the first line as the name.
    yield plain_file("/etc/hostname", "hostname", [context.record.name])
    if context.record.mail_name is not None:
        yield plain_file("/etc/mailname", "hostname", [context.record.mail_name])


@renderer("machine_id", reads="machine_id")
def machine_id(context: Context) -> Iterator[RenderedFile]:
    if context.record.machine_id is not None:
        yield plain_file("/etc/machine-id", "machine_id", [context.record.machine_id], mode=0o444)


@renderer("hostid", reads="hostid")
def hostid(context: Context) -> Iterator[RenderedFile]:
    if context.record.hostid is not None:
        content = int(context.record.hostid, 16).to_bytes(4, "little")
        yield RenderedFile(path="/etc/hostid", content=content, origin="hostid")


@renderer("motd", reads="motd")
def motd(context: Context) -> Iterator[RenderedFile]:
    # No header: every login sees this file.
    if context.record.motd:
        yield plain_file("/etc/motd", "motd", context.record.motd)
