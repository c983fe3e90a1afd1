"""netplan: one YAML file for all interfaces, readable by root only."""

from __future__ import annotations

from collections.abc import Iterator

from configurator.footprint import Footprint
from configurator.network import Port, ports
from configurator.rendered import RenderedFile
from configurator.renderers import Context, renderer
from configurator.templating import from_template

NAME = "network_netplan"


def _speaks(footprint: Footprint) -> bool:
    return footprint.network == "netplan"


@renderer(NAME, reads="domain interfaces nameservers search", speaks=_speaks, owns=("/etc/netplan/10-sis.yaml",))
def network_netplan(context: Context) -> Iterator[RenderedFile]:
    found = [*ports(context.record)]
    if found:
        values = {"sections": [*_sections(found)]}
        yield from_template("/etc/netplan/10-sis.yaml", NAME, "network_netplan/netplan.j2", values, mode=0o600)


def _sections(found: list[Port]) -> Iterator[tuple[str, list[Port]]]:
    """netplan knows no InfiniBand section: those ports are ethernets to it."""
    for section, kinds in (
        ("ethernets", ("ethernet", "infiniband")),
        ("bonds", ("bond",)),
        ("bridges", ("bridge",)),
        ("vlans", ("vlan",)),
    ):
        members = [port for port in found if port.kind in kinds]
        if members:
            yield section, members
