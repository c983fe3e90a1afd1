"""Kept-alive connections to one server, one for each thread; redirects are followed, also to other servers."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from typing import NamedTuple
from urllib.parse import SplitResult, urljoin, urlsplit

from sis.errors import Unreachable
from sis.image.store.answers import Answer
from sis.image.store.patience import Limits, Retry

REDIRECTS_MAX = 5
TICKET_HEADER = "Sis-Ticket"

_AGAIN = frozenset((408, 425, 429, 500, 502, 503, 504))


class _Got(NamedTuple):
    """A response that has begun, and the connection it comes on; `pooled`: one that is kept."""

    response: http.client.HTTPResponse
    connection: http.client.HTTPConnection
    pooled: bool

    def end(self) -> None:
        self.response.close()
        self.connection.close()


class Connections:
    """To the server of the URL `home`, for all threads of a process; a forked process opens its own.

    `ticket` says to the server, and to no other it redirects to, who asks.
    """

    def __init__(self, home: str, limits: Limits, ticket: str = "") -> None:
        self._home = urlsplit(home)
        self._limits = limits
        self._ticket = {TICKET_HEADER: ticket} if ticket else {}
        self._process = os.getpid()
        self._local = threading.local()
        self._connections: list[http.client.HTTPConnection] = []
        self._guard = threading.Lock()

    def close(self) -> None:
        """Close the connections of all threads. Whoever asks after opens a new one."""
        with self._guard:
            for connection in self._connections:
                connection.close()
            self._connections.clear()
            self._local = threading.local()

    def drop(self) -> None:
        """Close this thread's connection; the next request opens it again."""
        kept: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if kept is not None:
            kept.close()

    @contextlib.contextmanager
    def answer(self, url: str, headers: Mapping[str, str]) -> Iterator[Answer]:
        """The answer to a GET; at the end the connection is ready for the next request, or closed.

        Raises Retry for a status that may be another one soon, Unreachable for a redirect that is not followed.
        """
        got = self._get(url, headers)
        try:
            yield Answer(url, got.response, self._limits.read_s)
            if got.response.length == 0:
                got.response.read()
        finally:
            if not got.pooled or not got.response.isclosed():
                got.end()

    def _get(self, url: str, headers: Mapping[str, str]) -> _Got:
        """The end of a chain of redirects."""
        for _ in range(REDIRECTS_MAX + 1):
            parts = urlsplit(url)
            pooled = (parts.scheme, parts.netloc) == (self._home.scheme, self._home.netloc)
            connection = self._connection(parts) if pooled else _connect(parts, self._limits)
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            got = _request(connection, target, {**headers, **self._ticket} if pooled else headers, pooled)
            status = got.response.status
            if status not in (301, 302, 303, 307, 308):
                if status in _AGAIN:
                    after = got.response.headers.get("Retry-After", "")
                    got.end()
                    raise Retry(f"HTTP {status}", float(after) if after.isascii() and after.isdigit() else None)
                return got
            where = urljoin(url, got.response.headers.get("Location", ""))
            got.end()
            allowed = ("https",) if parts.scheme == "https" else ("http", "https")
            if urlsplit(where).scheme not in allowed or not urlsplit(where).hostname:
                raise Unreachable(f"{url} redirects to {where[:200]!r}, which is not followed")
            url = where
        raise Unreachable(f"{url}: more than {REDIRECTS_MAX} redirects")

    def _connection(self, parts: SplitResult) -> http.client.HTTPConnection:
        if self._process != os.getpid():
            self._process = os.getpid()
            self.close()
        kept: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if kept is None:
            kept = self._local.connection = _connect(parts, self._limits)
            with self._guard:
                self._connections.append(kept)
        return kept


def _connect(parts: SplitResult, limits: Limits) -> http.client.HTTPConnection:
    host = parts.hostname or ""
    if parts.scheme == "https":
        context = ssl.create_default_context()
        return _TlsConnection(host, parts.port or 443, timeout=limits.connect_s, context=context, read_s=limits.read_s)
    return _PlainConnection(host, parts.port or 80, timeout=limits.connect_s, read_s=limits.read_s)


class _PlainConnection(http.client.HTTPConnection):
    """One time limit for connecting, another for each read."""

    def __init__(self, host: str, port: int, *, timeout: float, read_s: float) -> None:
        super().__init__(host, port, timeout=timeout)
        self._read_s = read_s

    def connect(self) -> None:
        super().connect()
        self.sock.settimeout(self._read_s)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class _TlsConnection(http.client.HTTPSConnection):
    def __init__(self, host: str, port: int, *, timeout: float, context: ssl.SSLContext, read_s: float) -> None:
        super().__init__(host, port, timeout=timeout, context=context)
        self._read_s = read_s

    def connect(self) -> None:
        super().connect()
        self.sock.settimeout(self._read_s)


def _request(connection: http.client.HTTPConnection, target: str, headers: Mapping[str, str], pooled: bool) -> _Got:
    """Send a GET. A kept connection the server closed meanwhile is opened again once, without ado."""
    fresh = connection.sock is None
    sent = {"Accept-Encoding": "identity", "User-Agent": "sis", **headers}
    try:
        connection.request("GET", target, headers=sent)
        response = connection.getresponse()
    except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError, http.client.CannotSendRequest):
        connection.close()
        if fresh:
            raise
        connection.request("GET", target, headers=sent)
        response = connection.getresponse()
    return _Got(response, connection, pooled)
