"""The node's ssh host keys, and who may log in as root."""

from __future__ import annotations

from collections.abc import Iterator

from configurator.footprint import Footprint
from configurator.rendered import RenderedFile, directory, plain_file, text_file
from configurator.renderers import Context, renderer


def _has_sshd(footprint: Footprint) -> bool:
    return footprint.sshd


@renderer("ssh_host_keys", reads="host_keys", speaks=_has_sshd)
def ssh_host_keys(context: Context) -> Iterator[RenderedFile]:
    for key in context.record.host_keys:
        path = f"/etc/ssh/ssh_host_{key.type}_key"
        yield plain_file(path, "ssh_host_keys", key.private.splitlines(), mode=0o600)
        yield plain_file(f"{path}.pub", "ssh_host_keys", key.public.splitlines())


@renderer("ssh_authorized_keys", reads="root_authorized_keys")
def ssh_authorized_keys(context: Context) -> Iterator[RenderedFile]:
    origin = "ssh_authorized_keys"
    if context.record.root_authorized_keys:
        yield directory("/root", origin, mode=0o700)
        yield directory("/root/.ssh", origin, mode=0o700)
        yield text_file("/root/.ssh/authorized_keys", origin, context.record.root_authorized_keys, mode=0o600)
