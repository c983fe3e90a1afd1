"""systemd-networkd: one file an interface, and the links `systemctl enable` would make."""

from __future__ import annotations

from collections.abc import Iterator

from configurator.footprint import Footprint
from configurator.network import ports
from configurator.rendered import RenderedFile, symlink
from configurator.renderers import Context, renderer
from configurator.templating import from_template

NAME = "network_networkd"
_LINKS = (
    ("dbus-org.freedesktop.network1.service", "systemd-networkd.service"),
    ("multi-user.target.wants/systemd-networkd.service", "systemd-networkd.service"),
    ("sockets.target.wants/systemd-networkd.socket", "systemd-networkd.socket"),
    ("sysinit.target.wants/systemd-network-generator.service", "systemd-network-generator.service"),
    ("network-online.target.wants/systemd-networkd-wait-online.service", "systemd-networkd-wait-online.service"),
)


def _speaks(footprint: Footprint) -> bool:
    return footprint.network == "networkd"


@renderer(NAME, speaks=_speaks, owns=("/etc/systemd/network/10-sis-*.network",))
def network_networkd(context: Context) -> Iterator[RenderedFile]:
    footprint = context.footprint
    for port in ports(context.record):
        path = f"/etc/systemd/network/10-sis-{port.name}.network"
        yield from_template(path, NAME, "network_networkd/network.j2", {"port": port})
    if context.record.interfaces:
        for link, unit in _LINKS:
            if unit in footprint.units:
                yield symlink(f"/etc/systemd/system/{link}", NAME, f"{footprint.unit_dir}/{unit}")
