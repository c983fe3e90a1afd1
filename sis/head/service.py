"""The head as a running service: the HTTP server and, when asked, dnsmasq; both end together, nothing is left."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import Any, Literal

import uvicorn
from anyio import to_thread

from sis.errors import NotFound, ProgramFailed, Refused, SisError
from sis.head import app as head_app
from sis.head.peers import PeerProtocol, listen_locally
from sis.inventory.db import Inventory
from sis.inventory.model import Network
from sis.inventory.networks import dhcp_range
from sis.netboot import tftp
from sis.netboot.dnsmasq import BootNetwork, Lease
from sis.system import locks, process

log = logging.getLogger(__name__)

PORT = 8700
BACKLOG = 4096
LOOK_EVERY_S = 1.0
GRACE_S = 5

DhcpMode = Literal["full", "proxy", "off"]


@dataclass(frozen=True)
class Settings:
    """`address` and `port` to listen on; `interface` and `dhcp` for dnsmasq (None: as the network says)."""

    address: str = "0.0.0.0"  # noqa: S104  # nodes must reach it; --listen narrows it
    port: int = PORT
    interface: str | None = None
    dhcp: DhcpMode | None = None


def run(
    state: Path, inventory: Inventory, settings: Settings, *, ready: Callable[[str], None] = lambda _: None
) -> None:
    """Serve until SIGTERM or SIGINT. `ready` gets a line for each thing that is up.

    Raises Locked when another head serves this state, SisError when the port or the interface cannot be had.
    """
    (state / "run").mkdir(parents=True, exist_ok=True)
    (state / "logs").mkdir(parents=True, exist_ok=True)
    with locks.hold(state / "run" / "head.lock", "sis head run"), contextlib.closing(_listen(settings)) as listener:
        port = listener.getsockname()[1]
        boots = _boot_network(inventory, settings)
        url = inventory.settings.get("url")
        application = head_app.create(state, inventory, url=url)
        server = _Server(_config(application), application.state.head.stop)
        shown = url or f"http://{boots.address.ip if boots else _shown(settings.address)}:{port}"
        (state / "run" / "head.url").write_text(shown + "\n")
        with listen_locally(state / "run" / "api.sock") as local:
            asyncio.run(_serve(server, [listener, local], state, inventory, boots, shown, ready))


def boot_network(interface: str, mode: DhcpMode | None, networks: tuple[Network, ...]) -> BootNetwork | None:
    """The network nodes boot on by this interface, as the inventory defines it; None when DHCP is off there.

    Raises NotFound for an interface without IPv4 address, Refused when no network of the inventory fits it.
    """
    found = addresses_of(interface)
    if not found:
        raise NotFound(f"interface {interface} has no IPv4 address", hint=f"see: ip -4 addr show dev {interface}")
    for own in found:
        for network in networks:
            if network.range.version == 4 and own.ip in network.range:
                return _as_boot_network(interface, own, mode, network)
    raise Refused(
        f"interface {interface} has {', '.join(map(str, found))}, which is in no network of the inventory",
        hint=f"define it: sis head init --network mgmt={found[0].network} --address {found[0].ip}",
    )


def addresses_of(interface: str) -> list[IPv4Interface]:
    """The IPv4 addresses of one of this machine's interfaces, with their prefix. Raises NotFound."""
    try:
        said = process.run(["ip", "-j", "-4", "addr", "show", "dev", interface], timeout_s=10).stdout
    except ProgramFailed as error:
        links = json.loads(process.run(["ip", "-j", "link"], timeout_s=10).stdout)
        raise NotFound.of("interface", interface, [link["ifname"] for link in links if "ifname" in link]) from error
    return [
        IPv4Interface(f"{each['local']}/{each['prefixlen']}")
        for link in json.loads(said or "[]")
        for each in link.get("addr_info", ())
    ]


def leases(inventory: Inventory, network: BootNetwork) -> tuple[Lease, ...]:
    """The addresses dnsmasq gives to defined nodes on this network."""
    return tuple(
        Lease(mac=interface.mac, address=IPv4Address(interface.address), name=node.name)
        for node in inventory.nodes.list()
        for interface in node.interfaces
        if interface.mac and interface.address and IPv4Address(interface.address) in network.address.network
    )


class _Server(uvicorn.Server):
    """uvicorn's server, which on SIGTERM also lets waiting agents go: they ask again when the head is back."""

    def __init__(self, config: uvicorn.Config, stop: Callable[[], None]) -> None:
        super().__init__(config)
        self._stop = stop
        self.loop: asyncio.AbstractEventLoop | None = None

    def handle_exit(self, sig: int, frame: Any) -> None:
        super().handle_exit(signal.SIGTERM if sig == signal.SIGINT else sig, frame)
        self.end()

    def end(self) -> None:
        self.should_exit = True
        if self.loop is not None:
            self.loop.call_soon_threadsafe(self._stop)


async def _serve(
    server: _Server,
    listeners: list[socket.socket],
    state: Path,
    inventory: Inventory,
    boots: BootNetwork | None,
    url: str,
    ready: Callable[[str], None],
) -> None:
    server.loop = asyncio.get_running_loop()
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(_ended_by_signals(server))
        if boots is not None:
            await stack.enter_async_context(_dnsmasq(server, state, inventory, boots, url, ready))
        ready(f"head: {url}")
        await server.serve(sockets=listeners)


@contextlib.asynccontextmanager
async def _dnsmasq(
    server: _Server,
    state: Path,
    inventory: Inventory,
    boots: BootNetwork,
    url: str,
    ready: Callable[[str], None],
) -> AsyncIterator[None]:
    """dnsmasq for as long as the block lasts, its hosts following the inventory; a dnsmasq that dies ends the head."""
    revision = inventory.settings.revision()
    argv = tftp.prepare(state, boots, leases(inventory, boots), head=url)
    output = state / "logs" / "dnsmasq.log"
    child = process.start(argv, output=output)
    failed: list[SisError] = []

    async def follow() -> None:
        nonlocal revision
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            if child.poll() is not None:
                failed.append(_dnsmasq_failed(argv, child.returncode, output))
                server.end()
                return
            try:
                now = await to_thread.run_sync(inventory.settings.revision)
                if now != revision:
                    await to_thread.run_sync(lambda: tftp.write_hosts(state, leases(inventory, boots)))
                    child.send_signal(signal.SIGHUP)
                    revision = now
            except SisError as fault:
                log.warning("%s", fault.message)

    try:
        await asyncio.sleep(0.2)
        if child.poll() is not None:
            raise _dnsmasq_failed(argv, child.returncode, output)
        ready(f"dnsmasq: {boots.dhcp} DHCP and TFTP on {boots.interface} ({boots.address})")
        task = asyncio.create_task(follow())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if failed:
            raise failed[0]
    finally:
        await to_thread.run_sync(process.stop, child)


def _dnsmasq_failed(argv: tuple[str, ...], returncode: int, output: Path) -> SisError:
    told = output.read_text(errors="replace") if output.exists() else ""
    hint = "another DHCP server on this port? see: ss -lunp 'sport = 67'" if "in use" in told[-2000:] else None
    return ProgramFailed(argv, returncode, told, hint=hint)


def _boot_network(inventory: Inventory, settings: Settings) -> BootNetwork | None:
    if settings.interface is None or settings.dhcp == "off":
        return None
    return boot_network(settings.interface, settings.dhcp, inventory.networks.list())


def _as_boot_network(interface: str, own: IPv4Interface, mode: DhcpMode | None, network: Network) -> BootNetwork | None:
    chosen = mode or (network.data.get("dhcp") or {}).get("mode") or "full"
    if chosen not in ("full", "proxy"):
        return None
    first, last = dhcp_range(network)
    pool = (first, last) if isinstance(first, IPv4Address) and isinstance(last, IPv4Address) else None
    return BootNetwork(
        interface=interface,
        address=IPv4Interface(f"{own.ip}/{network.range.prefixlen}"),
        dhcp=chosen,
        pool=pool,
        gateway=IPv4Address(network.gateway) if network.gateway else None,
        nameservers=tuple(IPv4Address(server) for server in network.data.get("nameservers") or ()),
        domain=network.domain or None,
    )


def _config(application: Any) -> uvicorn.Config:
    return uvicorn.Config(
        application,
        http=PeerProtocol,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=GRACE_S,
        backlog=BACKLOG,
        lifespan="on",
    )


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.address, settings.port))
    except OSError as error:
        listener.close()
        raise SisError(
            f"cannot listen on {settings.address}:{settings.port}: {error.strerror}",
            hint=f"see who has it: ss -ltnp 'sport = {settings.port}', or give --listen ADDRESS:PORT",
        ) from error
    listener.listen(BACKLOG)
    return listener


def _shown(address: str) -> str:
    return "127.0.0.1" if address in ("0.0.0.0", "::") else address  # noqa: S104  # only compared


@contextlib.contextmanager
def _ended_by_signals(server: _Server) -> Iterator[None]:
    """SIGTERM and SIGINT end the server in order, also before it serves; uvicorn raises them again after it did."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in kept:
        signal.signal(number, lambda *_: server.end())
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
