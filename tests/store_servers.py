"""HTTP servers for the store tests: one that is plain, one that misbehaves as told, and nginx."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.ports import free_port

Answer = Callable[["Handler", bytes], None]


class Handler(BaseHTTPRequestHandler):
    """Serves `server.root` with single ranges; `server.answers` (used up first) misbehave instead."""

    protocol_version = "HTTP/1.1"
    server: FileServer
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self.server.requests.append((self.path, self.headers.get("Range")))
        self.server.clients.add(self.client_address)
        path = self.server.root / self.path.removeprefix(self.server.prefix).lstrip("/")
        known = self.path.startswith(self.server.prefix) and path.is_file()
        if not known:
            self.send(404, b"not here")
            return
        data = path.read_bytes()
        if self.server.answers and (self.server.only is None or self.server.only in self.path):
            self.server.answers.pop(0)(self, data)
        else:
            self.serve(data)

    def serve(self, data: bytes) -> None:
        wanted = self.range()
        if wanted is None:
            self.send(200, data)
        elif wanted[0] >= len(data):
            self.send(416, b"", {"Content-Range": f"bytes */{len(data)}"})
        else:
            first, last = wanted[0], min(wanted[1], len(data) - 1)
            self.send(206, data[first : last + 1], {"Content-Range": f"bytes {first}-{last}/{len(data)}"})

    def range(self) -> tuple[int, int] | None:
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or "")
        return (int(match[1]), int(match[2])) if match else None

    def part(self, data: bytes) -> tuple[bytes, dict[str, str], int]:
        """The right answer to this request: body, headers, status."""
        wanted = self.range()
        if wanted is None:
            return data, {}, 200
        first, last = wanted[0], min(wanted[1], len(data) - 1)
        return data[first : last + 1], {"Content-Range": f"bytes {first}-{last}/{len(data)}"}, 206

    def send(self, status: int, body: bytes, headers: dict[str, str] | None = None, length: int | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    def reset(self) -> None:
        """Break the connection off without ado."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.wfile.flush()
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


class FileServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, root: Path, prefix: str = "/") -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.root = root
        self.prefix = prefix
        self.answers: list[Answer] = []
        self.only: str | None = None
        self.requests: list[tuple[str, str | None]] = []
        self.clients: set[tuple[str, int]] = set()
        """The connections that asked for something, by address and port."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        pass


@contextlib.contextmanager
def serving(root: Path, prefix: str = "/") -> Iterator[FileServer]:
    server = FileServer(root, prefix)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def nginx(root: Path, work: Path) -> Iterator[str]:
    """A plain nginx over a directory; gives its URL."""
    port = free_port()
    for parent in (work, *work.parents[:3]):
        parent.chmod(parent.stat().st_mode | 0o711)
    config = work / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    config.write_text(
        f"{user} daemon off; pid {work}/nginx.pid; error_log {work}/error.log; worker_processes 1;\n"
        "events { worker_connections 64; }\n"
        f"http {{ access_log off; client_body_temp_path {work}/body; proxy_temp_path {work}/proxy;"
        f" fastcgi_temp_path {work}/fastcgi; uwsgi_temp_path {work}/uwsgi; scgi_temp_path {work}/scgi;\n"
        f" server {{ listen 127.0.0.1:{port}; root {root}; }} }}\n"
    )
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin") or "nginx"
    child = subprocess.Popen([program, "-c", str(config), "-p", str(work), "-e", f"{work}/error.log"])
    try:
        wait_for_port(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        child.terminate()
        child.wait(90)


def wait_for_port(port: int, seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5):
            return
        time.sleep(0.02)
    raise TimeoutError(f"nothing listens on port {port}")
