"""A store behind a URL: plain GETs with single ranges on kept-alive connections, every answer checked and bounded."""

from __future__ import annotations

import contextlib
import functools
import http.client
import os
import random
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeVar
from urllib.parse import SplitResult, urljoin, urlsplit

from sis.errors import Corrupt, SisError, Unreachable
from sis.image.store import PIECE_BYTES, Beginning, DocumentStore, Tagged, immutable_name

CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 30.0
ATTEMPTS = 6
"""Tries in a row that bring next to nothing (_PROGRESS_BYTES) before a fetch is given up."""

BACKOFF_S = 0.2
BACKOFF_MAX_S = 10.0
RETRY_AFTER_MAX_S = 30.0
TOLD_TO_WAIT_MAX = 500
"""How often a server may say when to come back before that counts as a failure: hours, with many others before us."""
REDIRECTS_MAX = 5
_PROGRESS_BYTES = 64 << 10
_RATE_MIN = 4096
"""Bytes a second a server must send, on average, after the first READ_TIMEOUT_S."""

_SKIPPED_MAX = 64 << 20
"""How much a server that ignores ranges may make us read past, before it is told off."""

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_ENTITY_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e]{1,200}"')
_AGAIN = frozenset((408, 425, 429, 500, 502, 503, 504))


class _Retry(Exception):
    """An answer, or the lack of one, that is worth another try."""

    def __init__(self, reason: str, after_s: float | None = None) -> None:
        super().__init__(reason)
        self.after_s = after_s


@dataclass(frozen=True)
class Limits:
    """How patient to be. Seconds; tests make them small."""

    connect_s: float = CONNECT_TIMEOUT_S
    read_s: float = READ_TIMEOUT_S
    attempts: int = ATTEMPTS
    backoff_s: float = BACKOFF_S


_T = TypeVar("_T")


class _Answer(NamedTuple):
    response: http.client.HTTPResponse
    connection: http.client.HTTPConnection
    pooled: bool


TICKET_HEADER = "Sis-Ticket"


class HttpStore(DocumentStore):
    """Reads a store over HTTP(S): a head's (`URL/store/…`) or any static copy (`URL/…`), found out at the first read.

    Safe to use in many threads and in forked processes; each has its own connection. Raises Unreachable when the server
    does not answer, breaks off again and again, or does not serve what was asked for; Corrupt when it serves a shorter
    file than it should. `ticket` says to the server, and to no other it redirects to, who asks.
    """

    def __init__(self, url: str, *, limits: Limits | None = None, ticket: str = "") -> None:
        self.url = url.rstrip("/") + "/"
        if urlsplit(self.url).scheme not in ("http", "https") or not urlsplit(self.url).hostname:
            raise SisError(f"not a URL of a store: {url}")
        self.limits = limits or Limits()
        self._ticket = {TICKET_HEADER: ticket} if ticket else {}
        self._base: str | None = None
        self._process = os.getpid()
        self._local = threading.local()
        self._connections: list[http.client.HTTPConnection] = []
        self._guard = threading.Lock()
        self._told_to_wait = 0

    def close(self) -> None:
        """Close the connections of all threads. Whoever reads after opens a new one."""
        with self._guard:
            for connection in self._connections:
                connection.close()
            self._connections.clear()
            self._local = threading.local()

    def whole(self, name: str, limit: int) -> bytes | None:
        for base in self._bases():
            found = self._whole(urljoin(base, name), limit)
            if found is not None:
                self._base = base
                return found
        return None

    def whole_unless(self, name: str, limit: int, tag: str | None) -> Tagged | None:
        for base in self._bases():
            found = self._whole_tagged(urljoin(base, name), limit, tag)
            if found is not None:
                self._base = base
                return found
        return None

    def begin(self, name: str, limit: int) -> Beginning | None:
        immutable_name(name)
        for base in self._bases():
            url = urljoin(base, name)
            found = self._patiently(url, functools.partial(self._begin, url, limit))
            if found is not None:
                self._base = base
                return found
        return None

    def read(self, name: str, offset: int, length: int) -> Iterator[bytes]:
        """A range of an immutable file, in pieces as they arrive. Broken off, only the rest is asked for again."""
        immutable_name(name)
        if length <= 0:
            return
        for base in self._bases():
            fetch = _Range(urljoin(base, name), offset, length)
            pieces = self._range(fetch)
            first = next(pieces, None)
            if first is not None:
                self._base = base
                yield first
                yield from pieces
                return
        raise Corrupt(f"{name} is missing from the store at {self.url}")

    def _bases(self) -> tuple[str, ...]:
        return (self._base,) if self._base else (self.url, urljoin(self.url, "store/"))

    def _whole(self, url: str, limit: int) -> bytes | None:
        found = self._whole_tagged(url, limit, None)
        return None if found is None else found.data

    def _whole_tagged(self, url: str, limit: int, tag: str | None) -> Tagged | None:
        def attempt() -> Tagged | None:
            answer = self._get(url, {} if tag is None else {"If-None-Match": tag})
            with self._finished(answer):
                if answer.response.status in (404, 410):
                    _drain(answer, self.limits)
                    return None
                if tag is not None and answer.response.status == 304:
                    return Tagged(None, tag)
                _expect(answer.response, url, 200)
                data = _read_at_most(answer.response, limit + 1, _Pace(self.limits))
                if len(data) > limit:
                    raise Corrupt(f"{url} is longer than {limit} bytes")
                announced = answer.response.headers.get("Content-Length")
                if announced is not None and announced.isdigit() and len(data) != int(announced):
                    raise _Retry(f"{len(data)} of {announced} bytes")
                return Tagged(data, _tag_of(answer.response))

        return self._patiently(url, attempt)

    def _begin(self, url: str, limit: int) -> Beginning | None:
        answer = self._get(url, {"Range": f"bytes=0-{limit - 1}"})
        with self._finished(answer):
            response = answer.response
            if response.status in (404, 410):
                _drain(answer, self.limits)
                return None
            if response.status == 416:
                return Beginning(b"", 0)
            _expect(response, url, 206, 200)
            size = _size_of(response)
            data = _read_at_most(response, min(limit, size), _Pace(self.limits))
            if len(data) != min(limit, size):
                raise _Retry(f"{len(data)} of {min(limit, size)} bytes")
            return Beginning(data, size)

    def _range(self, fetch: _Range) -> Iterator[bytes]:
        """The pieces of a range; nothing at all if there is no such file."""
        failures = 0
        while fetch.rest:
            before = fetch.rest
            try:
                found = yield from self._once(fetch)
                if not found:
                    return
                continue
            except (OSError, http.client.HTTPException, _Retry) as error:
                self._drop()
                failures = failures + 1 if before - fetch.rest < _PROGRESS_BYTES else 1
                failures = self._pause(fetch.url, error, failures)

    def _once(self, fetch: _Range) -> Generator[bytes, None, bool]:
        """One request for what is missing. Returns (as a generator) whether the file is there."""
        headers = {"Range": f"bytes={fetch.at}-{fetch.at + fetch.rest - 1}"}
        answer = self._get(fetch.url, headers)
        with self._finished(answer):
            response = answer.response
            if response.status in (404, 410):
                _drain(answer, self.limits)
                return False
            if response.status == 416:
                raise Corrupt(f"{fetch.url} is shorter than {fetch.at + fetch.rest} bytes")
            _expect(response, fetch.url, 206, 200)
            if response.status == 206:
                _check_content_range(response, fetch)
            else:
                _skip_to(response, fetch, _Pace(self.limits))
            pace = _Pace(self.limits)
            while fetch.rest:
                piece = pace.read(response, fetch.rest)
                if not piece:
                    _refuse_short_file(response, fetch)
                    raise _Retry(f"broke off {fetch.rest} bytes early")
                fetch.at += len(piece)
                fetch.rest -= len(piece)
                yield piece
        return True

    def _patiently(self, url: str, attempt: Callable[[], _T]) -> _T:
        failures = 0
        while True:
            try:
                return attempt()
            except (OSError, http.client.HTTPException, _Retry) as error:
                self._drop()
                failures = self._pause(url, error, failures + 1)

    def _pause(self, url: str, error: Exception, failures: int) -> int:
        """Wait before another try, longer each time, jittered so that a thousand nodes do not come back at once.

        Returns how many failures that makes: a server that says when to come back has not failed, for a long while.
        """
        if isinstance(error, _Retry) and error.after_s and self._told_to_wait < TOLD_TO_WAIT_MAX:
            self._told_to_wait += 1
            time.sleep(min(error.after_s, RETRY_AFTER_MAX_S) * random.uniform(1.0, 1.2))
            return failures - 1
        if failures >= self.limits.attempts:
            raise Unreachable(
                f"{url}: {_reason(error)} ({failures} attempts)", hint="is the head's service running, and reachable?"
            ) from error
        wait_s = min(self.limits.backoff_s * 2 ** (failures - 1), BACKOFF_MAX_S) * random.uniform(0.5, 1.5)
        asked_s = error.after_s if isinstance(error, _Retry) and error.after_s is not None else 0.0
        time.sleep(max(wait_s, min(asked_s, RETRY_AFTER_MAX_S) * random.uniform(1.0, 1.2)))
        return failures

    def _get(self, url: str, headers: dict[str, str]) -> _Answer:
        """The answer to one GET, redirects followed."""
        home = urlsplit(self.url)
        for _ in range(REDIRECTS_MAX + 1):
            parts = urlsplit(url)
            pooled = (parts.scheme, parts.netloc) == (home.scheme, home.netloc)
            connection = self._connection(parts) if pooled else _connect(parts, self.limits)
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            answer = _request(connection, target, {**headers, **self._ticket} if pooled else headers, pooled)
            status = answer.response.status
            if status not in (301, 302, 303, 307, 308):
                if status in _AGAIN:
                    after = answer.response.headers.get("Retry-After", "")
                    self._end(answer)
                    raise _Retry(f"HTTP {status}", float(after) if after.isascii() and after.isdigit() else None)
                return answer
            where = urljoin(url, answer.response.headers.get("Location", ""))
            self._end(answer)
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
            kept = self._local.connection = _connect(parts, self.limits)
            with self._guard:
                self._connections.append(kept)
        return kept

    def _drop(self) -> None:
        """Close this thread's connection; the next request opens it again."""
        kept: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if kept is not None:
            kept.close()

    @contextlib.contextmanager
    def _finished(self, answer: _Answer) -> Iterator[None]:
        """Leave the connection ready for the next request, or closed."""
        try:
            yield
            if answer.response.length == 0:
                answer.response.read()
        finally:
            if not answer.pooled or not answer.response.isclosed():
                self._end(answer)

    def _end(self, answer: _Answer) -> None:
        answer.response.close()
        answer.connection.close()


@dataclass
class _Range:
    """What is still missing of a range."""

    url: str
    at: int
    rest: int


class _Pace:
    """Reads of one answer; a server that trickles is taken for one that does not answer."""

    def __init__(self, limits: Limits) -> None:
        self._patience_s = limits.read_s
        self._bytes = 0
        self._waited_s = 0.0

    def read(self, response: http.client.HTTPResponse, limit: int) -> bytes:
        started = time.monotonic()
        piece = response.read1(min(limit, PIECE_BYTES))
        self._waited_s += time.monotonic() - started
        self._bytes += len(piece)
        if piece and self._waited_s > self._patience_s + self._bytes / _RATE_MIN:
            raise _Retry(f"{self._bytes} bytes in {self._waited_s:.0f} s are too slow")
        return piece


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


def _request(connection: http.client.HTTPConnection, target: str, headers: dict[str, str], pooled: bool) -> _Answer:
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
    return _Answer(response, connection, pooled)


def _expect(response: http.client.HTTPResponse, url: str, *statuses: int) -> None:
    if response.status not in statuses:
        hint = "the server refuses: check its permissions" if response.status in (401, 403) else None
        raise Unreachable(f"{url}: HTTP {response.status} {response.reason[:80]}", hint=hint)
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise Unreachable(f"{url} is served compressed on the way", hint="switch off Content-Encoding for the store")


def _check_content_range(response: http.client.HTTPResponse, fetch: _Range) -> None:
    text = response.headers.get("Content-Range", "")
    match = _CONTENT_RANGE.fullmatch(text)
    if match is None or int(match[1]) != fetch.at:
        raise _Retry(f"asked for bytes from {fetch.at}, got {text[:60]!r}")
    if match[3] != "*" and int(match[3]) < fetch.at + fetch.rest:
        raise Corrupt(f"{fetch.url} is {match[3]} bytes long, shorter than {fetch.at + fetch.rest}")


def _size_of(response: http.client.HTTPResponse) -> int:
    """The length of the file that an answer begins."""
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if response.status == 206 and match is not None and int(match[1]) == 0 and match[3] != "*":
        return int(match[3])
    announced = response.headers.get("Content-Length", "")
    if response.status == 200 and announced.isascii() and announced.isdigit():
        return int(announced)
    raise _Retry(f"asked for the beginning, got {response.headers.get('Content-Range', '')[:60]!r}")


def _tag_of(response: http.client.HTTPResponse) -> str | None:
    """Its entity tag, if it is one we can send back."""
    tag = response.headers.get("ETag", "")
    return tag if _ENTITY_TAG.fullmatch(tag) else None


def _skip_to(response: http.client.HTTPResponse, fetch: _Range, pace: _Pace) -> None:
    """Read past what a server that ignores ranges sends first."""
    if fetch.at > _SKIPPED_MAX:
        raise Unreachable(f"{fetch.url}: the server ignores ranges", hint="serve the store with one that knows them")
    skip = fetch.at
    while skip:
        piece = pace.read(response, skip)
        if not piece:
            _refuse_short_file(response, fetch)
            raise _Retry("broke off early")
        skip -= len(piece)


def _refuse_short_file(response: http.client.HTTPResponse, fetch: _Range) -> None:
    """A whole-file answer that came to its announced end before our range did: the file itself is too short."""
    announced = response.headers.get("Content-Length", "")
    if (
        response.status == 200
        and announced.isdigit()
        and int(announced) < fetch.at + fetch.rest
        and response.length == 0
    ):
        raise Corrupt(f"{fetch.url} is {announced} bytes long, shorter than {fetch.at + fetch.rest}")


def _read_at_most(response: http.client.HTTPResponse, limit: int, pace: _Pace) -> bytes:
    pieces = []
    while limit:
        piece = pace.read(response, limit)
        if not piece:
            break
        pieces.append(piece)
        limit -= len(piece)
    return b"".join(pieces)


def _drain(answer: _Answer, limits: Limits) -> None:
    """Read a short error page to its end, so that the connection can be used again."""
    _read_at_most(answer.response, 64 << 10, _Pace(limits))


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
