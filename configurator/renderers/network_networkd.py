"""systemd-networkd: one file an interface, and the links `systemctl enable` would make."""

from __future__ import annotations

from collections.abc import Iterator

from configurator.footprint import Footprint
from configurator.network import Port, ports
from configurator.rendered import RenderedFile, symlink, text_file
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


@renderer(
    NAME,
    reads="domain interfaces nameservers search",
    speaks=_speaks,
    owns=(
        "/etc/systemd/network/10-sis-*.network",
        "/etc/systemd/network/10-sis-*.netdev",
        "/etc/udev/rules.d/80-sis-ipoib.rules",
    ),
)
def network_networkd(context: Context) -> Iterator[RenderedFile]:
    footprint = context.footprint
    found = [*ports(context.record)]
    for port in found:
        if port.made:
            path = f"/etc/systemd/network/10-sis-{port.name}.netdev"
            yield from_template(path, NAME, "network_networkd/netdev.j2", {"port": port})
        path = f"/etc/systemd/network/10-sis-{port.name}.network"
        yield from_template(path, NAME, "network_networkd/network.j2", {"port": port})
    connected = [_connected_mode(port) for port in found if port.connected]
    if connected:
        yield text_file("/etc/udev/rules.d/80-sis-ipoib.rules", NAME, connected)
    if found:
        for link, unit in _LINKS:
            if unit in footprint.units:
                yield symlink(f"/etc/systemd/system/{link}", NAME, f"{footprint.unit_dir}/{unit}")


def _connected_mode(port: Port) -> str:
    """networkd has no word for the mode of a found IPoIB port; udev sets it when the port appears."""
    which = f'ATTR{{address}}=="{port.mac}"' if port.mac else f'KERNEL=="{port.name}"'
    return f'ACTION=="add", SUBSYSTEM=="net", {which}, ATTR{{mode}}="connected"'
