"""The head as a running service: the HTTP server and, when asked, dnsmasq; both end together, nothing is left."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvicorn

from sis.errors import SisError
from sis.head import app as head_app
from sis.head import tls
from sis.head.netboot import DhcpMode, Netboot, Wanted, boot_network
from sis.head.peers import PeerProtocol, listen_locally
from sis.inventory.db import Inventory
from sis.netboot.dnsmasq import BootNetwork
from sis.system import locks

log = logging.getLogger(__name__)

PORT = 8700
BACKLOG = 4096
GRACE_S = 5
CONSOLE_URL = "console.url"
"""In STATE/run while the console is served by TLS: where."""


@dataclass(frozen=True)
class Settings:
    """`address` and `port` to listen on; `interface` and `dhcp` for dnsmasq (None: as the network says)."""

    address: str = "0.0.0.0"  # noqa: S104  # nodes must reach it; --listen narrows it
    port: int = PORT
    interface: str | None = None
    dhcp: DhcpMode | None = None
    tls: tls.Settings | None = None


def run(
    state: Path, inventory: Inventory, settings: Settings, *, ready: Callable[[str], None] = lambda _: None
) -> None:
    """Serve until SIGTERM or SIGINT. `ready` gets a line for each thing that is up.

    Raises Locked when another head serves this state, SisError when the port or the interface cannot be had.
    """
    (state / "run").mkdir(parents=True, exist_ok=True)
    (state / "logs").mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        stack.enter_context(locks.hold(state / "run" / "head.lock", "sis head run"))
        listener = stack.enter_context(contextlib.closing(_listen(settings.address, settings.port, "--listen")))
        port = listener.getsockname()[1]
        secure = None
        if settings.tls is not None:
            asked = _listen(settings.tls.address, settings.tls.port, "--tls-listen")
            secure = stack.enter_context(contextlib.closing(asked))
        tls_port = secure.getsockname()[1] if secure is not None else None
        url = inventory.settings.get("url")
        fixed = Wanted(settings.interface, settings.dhcp) if settings.interface and settings.dhcp != "off" else None
        boots = boot_network(fixed.interface, fixed.mode, inventory.networks.list()) if fixed else None
        netboot = Netboot(state, inventory, lambda address: url or f"http://{address}:{port}", fixed)
        application = head_app.create(state, inventory, url=url, netboot=netboot, port=port, tls_port=tls_port)
        server = _Server(_config(application), application.state.head.stop)
        host = str(boots.address.ip) if boots else _shown(settings.address)
        shown = url or f"http://{host}:{port}"
        (state / "run" / "head.url").write_text(shown + "\n")
        (state / "run" / CONSOLE_URL).unlink(missing_ok=True)
        if settings.tls is not None and secure is not None:
            server.beside = _Beside(_config(application, settings.tls.certificate)), secure
            console = f"https://{_console_host(settings.tls.address, url, host)}:{tls_port}"
            (state / "run" / CONSOLE_URL).write_text(console + "\n")
            ready(f"console: {console}, certificate SHA-256 {settings.tls.certificate.fingerprint}")
        local = stack.enter_context(listen_locally(state / "run" / "api.sock"))
        asyncio.run(_serve(server, [listener, local], netboot, shown, ready))


class _Beside(uvicorn.Server):
    """The same application by TLS. Signals and the application's life are the other server's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


class _Server(uvicorn.Server):
    """uvicorn's server, which on SIGTERM also lets waiting agents go: they ask again when the head is back."""

    def __init__(self, config: uvicorn.Config, stop: Callable[[], None]) -> None:
        super().__init__(config)
        self._stop = stop
        self.loop: asyncio.AbstractEventLoop | None = None
        self.beside: tuple[_Beside, socket.socket] | None = None

    def handle_exit(self, sig: int, frame: Any) -> None:
        super().handle_exit(signal.SIGTERM if sig == signal.SIGINT else sig, frame)
        self.end()

    def end(self) -> None:
        self.should_exit = True
        if self.beside is not None:
            self.beside[0].should_exit = True
        if self.loop is not None:
            self.loop.call_soon_threadsafe(self._stop)

    async def serve_beside(self) -> None:
        """Serve by TLS too, once the application has begun, until it ends."""
        while not self.started and not self.should_exit:
            await asyncio.sleep(0.01)
        if self.beside is not None and self.started:
            beside, listener = self.beside
            await beside.serve(sockets=[listener])


async def _serve(
    server: _Server, listeners: list[socket.socket], netboot: Netboot, url: str, ready: Callable[[str], None]
) -> None:
    server.loop = asyncio.get_running_loop()
    with _ended_by_signals(server):
        try:
            await netboot.begin()
            if netboot.status.network is not None:
                ready(_serving(netboot.status.network))
            following = asyncio.create_task(_follow(netboot, server))
            ready(f"head: {url}")
            await asyncio.gather(server.serve(sockets=listeners), server.serve_beside())
            following.cancel()
            (ended,) = await asyncio.gather(following, return_exceptions=True)
            if isinstance(ended, SisError):
                raise ended
        finally:
            await netboot.end()


async def _follow(netboot: Netboot, server: _Server) -> None:
    """Keep dnsmasq as it is wanted; when the command line's dies, the head ends too."""
    try:
        await netboot.follow()
    finally:
        server.end()


def _serving(network: BootNetwork) -> str:
    return f"dnsmasq: {network.dhcp} DHCP and TFTP on {network.interface} ({network.address})"


def _config(application: Any, certificate: tls.Certificate | None = None) -> uvicorn.Config:
    """Of the server that begins and ends the application; with a certificate, of the one beside it."""
    return uvicorn.Config(
        application,
        ssl_certfile=certificate.cert if certificate is not None else None,
        ssl_keyfile=certificate.key if certificate is not None else None,
        http=PeerProtocol,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=GRACE_S,
        backlog=BACKLOG,
        lifespan="on" if certificate is None else "off",
    )


def _listen(address: str, port: int, option: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address, port))
    except OSError as error:
        listener.close()
        raise SisError(
            f"cannot listen on {address}:{port}: {error.strerror}",
            hint=f"see who has it: ss -ltnp 'sport = {port}', or give {option} ADDRESS:PORT",
        ) from error
    listener.listen(BACKLOG)
    return listener


def _console_host(address: str, url: str | None, host: str) -> str:
    """How the console is reached: at the address it listens on, else by the host of the head's own URL."""
    told = urlsplit(url or "").hostname
    shown = address if _shown(address) == address else told or host
    return f"[{shown}]" if ":" in shown else shown


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
