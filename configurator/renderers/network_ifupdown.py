"""ifupdown: /etc/network/interfaces, names pinned to MACs by .link files where udev reads them."""

from __future__ import annotations

from collections.abc import Iterator

from configurator.footprint import Footprint
from configurator.network import ports
from configurator.rendered import RenderedFile, text_file
from configurator.renderers import Context, renderer
from configurator.templating import from_template

NAME = "network_ifupdown"


def _speaks(footprint: Footprint) -> bool:
    return footprint.network == "ifupdown"


@renderer(
    NAME, reads="domain interfaces nameservers search", speaks=_speaks, owns=("/etc/systemd/network/10-sis-*.link",)
)
def network_ifupdown(context: Context) -> Iterator[RenderedFile]:
    record, footprint = context.record, context.footprint
    found = [*ports(record)]
    if not found:
        return
    yield from_template("/etc/network/interfaces", NAME, "network_ifupdown/interfaces.j2", {"ports": found})
    if footprint.init == "systemd":
        for port in found:
            if port.mac and not port.made:
                path = f"/etc/systemd/network/10-sis-{port.name}.link"
                yield from_template(path, NAME, "network_ifupdown/link.j2", {"port": port})
    if footprint.dhclient_hooks and record.nameservers and any(port.dhcp for port in found):
        # The record's name servers win; dhclient would write its own over them at every lease.
        yield text_file("/etc/dhcp/dhclient-enter-hooks.d/sis", NAME, ["make_resolv_conf() { :; }"])
