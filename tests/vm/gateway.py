"""A way out of a lab: an HTTP proxy inside its namespace whose requests leave from outside, like a head's uplink."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import select
import shutil
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from urllib.parse import urlsplit

from tests.vm.lab import inside

_TIMEOUT_S = 120
_HOP = ("connection", "keep-alive", "proxy-connection", "transfer-encoding", "host")


@contextlib.contextmanager
def proxy(namespace: str) -> Iterator[str]:
    """The proxy's URL, as programs in the namespace reach it; for http and https."""
    with inside(namespace):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Out)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Out(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
        request = urllib.request.Request(self.path, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
                self._give(answer.status, answer)
        except urllib.error.HTTPError as refusal:
            with refusal:
                self._give(refusal.code, refusal)
        except OSError as fault:
            self.send_error(502, str(fault)[:200])

    def do_CONNECT(self) -> None:
        try:
            far = _line(self.path)
        except OSError as fault:
            self.send_error(502, str(fault)[:200])
            return
        self.close_connection = True
        self.send_response(200)
        self.end_headers()
        with far, contextlib.suppress(OSError):
            _join(self.connection, far)

    def _give(self, status: int, answer: http.client.HTTPResponse | urllib.error.HTTPError) -> None:
        self.send_response(status)
        for name, value in answer.headers.items():
            if name.lower() not in _HOP:
                self.send_header(name, value)
        if answer.headers.get("content-length") is None:
            self.send_header("connection", "close")
            self.close_connection = True
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            shutil.copyfileobj(answer, self.wfile)

    def log_message(self, *_: object) -> None:
        """Its own output is no one's concern."""


def _line(where: str) -> socket.socket:
    """A connection to HOST:PORT, by this machine's own proxy if it has one."""
    host, _, port = where.rpartition(":")
    upstream = urllib.request.getproxies().get("https")
    if upstream is None:
        return socket.create_connection((host.strip("[]"), int(port)), timeout=_TIMEOUT_S)
    parts = urlsplit(upstream)
    line = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=_TIMEOUT_S)
    line.set_tunnel(host, int(port))
    line.connect()
    return line.sock


def _join(near: socket.socket, far: socket.socket) -> None:
    """Carry bytes both ways until either side is done."""
    while True:
        ready, _, _ = select.select([near, far], [], [], _TIMEOUT_S)
        if not ready:
            return
        for end in ready:
            piece = end.recv(1 << 16)
            if not piece:
                return
            (far if end is near else near).sendall(piece)
