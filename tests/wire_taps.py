"""Someone on the line between node and head: one who listens to every byte, and one who changes answers."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Tap:
    """A listener in front of a head. `heard` is all that went by, both ways."""

    port: int
    heard: bytearray = field(default_factory=bytearray)


@contextmanager
def listening(head_port: int) -> Iterator[Tap]:
    """Forward connections to the head and write down what goes by."""
    listener = socket.create_server(("127.0.0.1", 0))
    tap = Tap(listener.getsockname()[1])
    threads: list[threading.Thread] = []

    def pump(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                tap.heard += piece
                target.sendall(piece)
            target.shutdown(socket.SHUT_WR)

    def serve(client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", head_port)) as head:
            back = threading.Thread(target=pump, args=(head, client))
            back.start()
            pump(client, head)
            back.join()

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                threads.append(threading.Thread(target=serve, args=(client,)))
                threads[-1].start()

    door = threading.Thread(target=accept)
    door.start()
    try:
        yield tap
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        door.join()
        for thread in threads:
            thread.join()


@dataclass(frozen=True)
class Passed:
    """One exchange as it went by: the request, and the answer the head gave."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    status: int
    answer_headers: dict[str, str]
    answer: bytes


Change = Callable[[Passed], tuple[int, dict[str, str], bytes]]


@dataclass
class Meddler:
    """A man in the middle. `change` makes the answer the node gets of each exchange; None: the head's own."""

    port: int
    passed: list[Passed] = field(default_factory=list)
    change: Change | None = None


@contextmanager
def meddling(head_port: int) -> Iterator[Meddler]:
    """Forward whole exchanges, as `change` wants them."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            seen = send(head_port, self.command, self.path, dict(self.headers.items()), body)
            meddler.passed.append(seen)
            status, headers, answer = (
                meddler.change(seen) if meddler.change else (seen.status, seen.answer_headers, seen.answer)
            )
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() not in ("content-length", "date", "connection"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_POST = do_GET  # noqa: N815  # as http.server wants it

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    meddler = Meddler(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield meddler
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def send(port: int, method: str, path: str, headers: dict[str, str], body: bytes) -> Passed:
    """One exchange with whoever listens at `port`, the request's bytes as given."""
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=90)
    line.request(method, path, body or None, headers)
    response = line.getresponse()
    answer = response.read()
    line.close()
    return Passed(method, path, headers, body, response.status, dict(response.getheaders()), answer)
