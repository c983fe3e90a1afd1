"""NetworkManager: one keyfile an interface, matched by MAC, readable by root only."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

from configurator.footprint import Footprint
from configurator.network import Port, ports
from configurator.rendered import RenderedFile, text_file
from configurator.renderers import Context, renderer
from configurator.templating import from_template

NAME = "network_manager"
_NAMESPACE = uuid.UUID("7c1f1a52-0c5e-5a0e-9d7c-5f0a5c0a7b1e")


def _speaks(footprint: Footprint) -> bool:
    return footprint.network == "NetworkManager"


@renderer(
    NAME,
    reads="domain interfaces nameservers search",
    speaks=_speaks,
    owns=("/etc/NetworkManager/system-connections/sis-*.nmconnection",),
)
def network_manager(context: Context) -> Iterator[RenderedFile]:
    found = [*ports(context.record)]
    ids = {port.name: _uuid(port) for port in found}
    for port in found:
        path = f"/etc/NetworkManager/system-connections/sis-{port.name}.nmconnection"
        values = {
            "port": port,
            "families": [_family(port, version) for version in (4, 6)],
            "uuid": ids[port.name],
            # By its connection: a card found by its MAC has the kernel's name here, whatever the record calls it.
            "parent": ids.get(port.vlan.parent, port.vlan.parent) if port.vlan else "",
        }
        yield from_template(path, NAME, "network_manager/connection.j2", values, mode=0o600)
    if context.record.nameservers and context.footprint.resolver == "file":
        # /etc/resolv.conf is the record's; NetworkManager would write its own over it.
        yield text_file("/etc/NetworkManager/conf.d/sis.conf", NAME, ["[main]", "dns=none"])


def _uuid(port: Port) -> str:
    """The same connection has the same id at every render."""
    return str(uuid.uuid5(_NAMESPACE, f"{port.name} {port.mac}"))


def _family(port: Port, version: int) -> dict[str, object]:
    """The section of one address family: method, addresses, routes and name servers of that family."""
    here = port.of(version)
    idle = "disabled" if version == 4 else "link-local"
    method = "manual" if here else "auto" if port.dhcp else idle
    gateway = f",{port.gateway}" if port.gateway and port.gateway_version == version else ""
    first = not port.addresses or port.addresses[0].version == version
    return {
        "version": version,
        "method": method,
        "addresses": [ip.cidr + (gateway if at == 0 else "") for at, ip in enumerate(here)],
        "routes": [route for route in port.routes if route.version == version],
        # NetworkManager refuses a connection with name servers of a family that has no address.
        "servers": [server for server in port.nameservers if method != idle and (":" in server) == (version == 6)],
        "search": port.search if (here and first) or (port.dhcp and version == 4) else (),
    }
