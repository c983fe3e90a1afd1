"""ifcfg: the network scripts of RPM systems without NetworkManager."""

from __future__ import annotations

from collections.abc import Iterator

from configurator.footprint import Footprint
from configurator.network import ports
from configurator.rendered import RenderedFile, text_file
from configurator.renderers import Context, renderer
from configurator.templating import from_template

NAME = "network_ifcfg"
_SCRIPTS = "/etc/sysconfig/network-scripts"


def _speaks(footprint: Footprint) -> bool:
    return footprint.network == "ifcfg"


@renderer(NAME, reads="domain interfaces nameservers search", speaks=_speaks)
def network_ifcfg(context: Context) -> Iterator[RenderedFile]:
    for port in ports(context.record):
        yield from_template(f"{_SCRIPTS}/ifcfg-{port.name}", NAME, "network_ifcfg/ifcfg.j2", {"port": port})
        for version, name in ((4, "route"), (6, "route6")):
            routes = [
                f"{route.to} via {route.via} dev {port.name}" for route in port.routes if route.version == version
            ]
            if routes:
                yield text_file(f"{_SCRIPTS}/{name}-{port.name}", NAME, routes)
