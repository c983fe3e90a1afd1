"""hostname, mailname, machine-id and time zone: the files of one value."""

from __future__ import annotations

from collections.abc import Iterator

from configurator.rendered import RenderedFile, plain_file, symlink
from configurator.renderers import Context, renderer


@renderer("hostname")
def hostname(context: Context) -> Iterator[RenderedFile]:
    # No header: Kerrighed's kernel takes the first line as the name.
    yield plain_file("/etc/hostname", "hostname", [context.record.name])
    if context.record.mail_name is not None:
        yield plain_file("/etc/mailname", "hostname", [context.record.mail_name])


@renderer("machine_id")
def machine_id(context: Context) -> Iterator[RenderedFile]:
    if context.record.machine_id is not None:
        yield plain_file("/etc/machine-id", "machine_id", [context.record.machine_id], mode=0o444)


@renderer("timezone")
def timezone(context: Context) -> Iterator[RenderedFile]:
    zone = context.record.timezone
    yield symlink("/etc/localtime", "timezone", f"/usr/share/zoneinfo/{zone}")
    if context.footprint.timezone_file:
        yield plain_file("/etc/timezone", "timezone", [zone])
