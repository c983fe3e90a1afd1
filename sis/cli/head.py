"""`sis head`: prepare a state directory, and run the service nodes boot from and report to."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sis.cli.context import Context
from sis.errors import UsageFault

if TYPE_CHECKING:
    from sis.head import tls
    from sis.head.netboot import DhcpMode
    from sis.inventory.db import Inventory


@click.group("head")
def head() -> None:
    """The head: API, boot answers, the store over HTTP, DHCP and TFTP."""


@head.command(epilog="Example: sis head init --network mgmt=10.77.0.0/24 --address 10.77.0.1")
@click.option("--cluster", metavar="NAME", help="Name of the cluster.")
@click.option("--network", "networks", multiple=True, metavar="NAME=CIDR", help="A network nodes are on.")
@click.option("--address", metavar="IP", help="The head's address on the first --network.")
@click.option("--gateway", metavar="IP", help="Gateway of the first --network.")
@click.option("--domain", default="", metavar="DOMAIN", help="Domain of the first --network.")
@click.option("--dhcp-range", metavar="FIRST-LAST", help="Addresses for machines that are no node's.")
@click.option("--database", metavar="URL", help="Keep the inventory in PostgreSQL: postgresql://sis@/sis")
@click.option("--url", metavar="URL", help="The head's URL as nodes reach it, when it is not what they connected to.")
@click.option("--tls", "with_tls", is_flag=True, help="Make a certificate: console and admin API by TLS only.")
@click.option("--tls-name", "tls_names", multiple=True, metavar="NAME", help="One more name the console is reached by.")
@click.pass_obj
def init(
    context: Context,
    cluster: str | None,
    networks: tuple[str, ...],
    address: str | None,
    gateway: str | None,
    domain: str,
    dhcp_range: str | None,
    database: str | None,
    url: str | None,
    with_tls: bool,
    tls_names: tuple[str, ...],
) -> None:
    """Make the state directory: store, signing key, inventory, and the key root on the head logs in to nodes with.

    Safe to run again.
    """
    from sis.image.store.local import LocalStore
    from sis.inventory import host_keys
    from sis.inventory.model import Network

    if (address or gateway or domain or dhcp_range) and not networks:
        raise UsageFault("--address, --gateway, --domain and --dhcp-range need --network")
    if database:
        context.keep_database(database)
    store = LocalStore(context.store)
    store.prepare()
    key = store.signer().public
    with context.open_inventory(create=True) as inventory:
        for at, text in enumerate(networks):
            name, _, cidr = text.partition("=")
            data: dict[str, object] = {}
            if at == 0 and address:
                data["head"] = address
            if at == 0 and dhcp_range:
                data["dhcp"] = {"mode": "full", "range": dhcp_range}
            first = at == 0
            inventory.networks.put(Network(name, cidr, gateway if first else None, domain if first else "", data))
        login_key = host_keys.own(context.state / "keys" / "ssh")
        inventory.settings.set(authorized_keys=[login_key])
        if cluster:
            inventory.settings.set(cluster=cluster)
        if url:
            inventory.settings.set(url=url)
        certificate = _certificate(context, inventory, tls_names) if with_tls or tls_names else None
    click.echo(f"state: {context.state}")
    click.echo(f"signing key: {key}")
    click.echo(f"login key: {login_key}")
    if certificate is not None:
        click.echo(f"certificate: {certificate.cert} (until {certificate.ends:%Y-%m-%d})")
        click.echo(f"certificate SHA-256: {certificate.fingerprint}")


@head.command(epilog="Example: sis head run --interface eth1 --dhcp")
@click.option("--listen", default="0.0.0.0:8700", show_default=True, metavar="ADDR:PORT", help="Where to serve HTTP.")
@click.option("--database", metavar="URL", help="Keep the inventory in PostgreSQL from now on: postgresql://sis@/sis")
@click.option("--interface", metavar="IF", help="Interface nodes boot on: serve DHCP and TFTP there.")
@click.option("--dhcp", "mode", flag_value="full", help="Give addresses (the default with --interface).")
@click.option("--proxy", "mode", flag_value="proxy", help="Another DHCP server gives addresses; add boot answers only.")
@click.option("--no-dhcp", "mode", flag_value="off", help="Serve HTTP only.")
@click.option(
    "--tls-listen",
    default="0.0.0.0:8743",
    show_default=True,
    metavar="ADDR:PORT",
    help="Where to serve console and admin API by TLS, when there is a certificate.",
)
@click.option("--tls-cert", metavar="FILE", help="A certificate (PEM, with its chain) instead of the head's own.")
@click.option("--tls-key", metavar="FILE", help="Its private key.")
@click.pass_obj
def run(
    context: Context,
    listen: str,
    database: str | None,
    interface: str | None,
    mode: str | None,
    tls_listen: str,
    tls_cert: str | None,
    tls_key: str | None,
) -> None:
    """Run the head in the foreground until SIGTERM or ^C. Nodes at work wait for it and go on when it is back."""
    from sis.head import service

    address, port = _endpoint(listen, "--listen 10.77.0.1:8700")
    secure = _tls(context, tls_listen, tls_cert, tls_key)
    chosen: DhcpMode | None = "full" if mode == "full" else "proxy" if mode == "proxy" else "off" if mode else None
    if chosen in ("full", "proxy") and interface is None:
        raise UsageFault(f"--{'dhcp' if chosen == 'full' else 'proxy'} needs --interface")
    if not context.verbose:
        logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s: %(message)s")
    if database:
        context.keep_database(database)
    with context.open_inventory(create=True) as inventory:
        settings = service.Settings(address=address, port=port, interface=interface, dhcp=chosen, tls=secure)
        service.run(context.state, inventory, settings, ready=_say)
    click.echo("head: ended", err=True)


@head.command(epilog="Example: sis head netboot --interface eth1")
@click.option("--interface", metavar="IF", help="Interface nodes boot on: serve DHCP and TFTP there.")
@click.option("--dhcp", "mode", flag_value="full", help="Give addresses.")
@click.option("--proxy", "mode", flag_value="proxy", help="Another DHCP server gives addresses; add boot answers only.")
@click.option("--off", is_flag=True, help="Serve neither.")
@click.pass_obj
def netboot(context: Context, interface: str | None, mode: str | None, off: bool) -> None:
    """Say where nodes boot from the network; a running head follows within seconds, a later one from its start.

    What `sis head run` is told on its command line counts before this. Without options: show what is said.
    """
    from sis.head import netboot as service

    if off and (interface or mode):
        raise UsageFault("--off goes alone")
    if mode and not interface:
        raise UsageFault(f"--{'proxy' if mode == 'proxy' else 'dhcp'} needs --interface")
    with context.open_inventory() as inventory:
        if off:
            service.write(inventory, None)
        elif interface:
            chosen: DhcpMode | None = "full" if mode == "full" else "proxy" if mode else None
            service.write(inventory, service.Wanted(interface, chosen))
        wanted = service.read(inventory)
    if wanted is None:
        click.echo("netboot: off")
    else:
        click.echo(f"netboot: {wanted.mode or 'as the network says'} on {wanted.interface}")


def _say(line: str) -> None:
    click.echo(line, err=True)


def _certificate(context: Context, inventory: Inventory, names: tuple[str, ...]) -> tls.Certificate:
    """The head's own, for all names and addresses the head is known to have."""
    import socket
    from urllib.parse import urlsplit

    from sis.head import tls

    told = urlsplit(inventory.settings.get("url") or "").hostname
    heads = [str(each.data["head"]) for each in inventory.networks.list() if each.data.get("head")]
    host = socket.gethostname()
    known = ("localhost", "127.0.0.1", "::1", host, host.partition(".")[0], *heads, *([told] if told else []), *names)
    return tls.make(context.state, known)


def _tls(context: Context, listen: str, cert: str | None, key: str | None) -> tls.Settings | None:
    """How to serve TLS: with the files given, else with the head's own certificate; None without either."""
    from sis.head import tls

    if (cert is None) != (key is None):
        raise UsageFault("--tls-cert and --tls-key go together")
    known = tls.read(Path(cert), Path(key)) if cert is not None and key is not None else tls.own(context.state)
    if known is None:
        return None
    if known.is_to_be_renewed:
        _say(f"the certificate {known.cert} ends on {known.ends:%Y-%m-%d}: make it anew (sis head init --tls)")
    address, port = _endpoint(listen, "--tls-listen 10.77.0.1:8743")
    return tls.Settings(known, address, port)


def _endpoint(text: str, example: str) -> tuple[str, int]:
    from ipaddress import ip_address

    address, _, port = text.rpartition(":")
    address = address.strip("[]") or "0.0.0.0"  # noqa: S104  # nodes must reach it; --listen narrows it
    try:
        ip_address(address)
        valid = 0 <= int(port) <= 65535
    except ValueError:
        valid = False
    if not valid:
        raise UsageFault(f"not an address and port: {text}", hint=f"write {example}")
    return address, int(port)
