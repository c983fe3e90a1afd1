"""A store behind a URL: plain GETs with single ranges on kept-alive connections, every answer checked and bounded."""

from __future__ import annotations

import functools
from collections.abc import Generator, Iterator
from urllib.parse import urljoin, urlsplit

import msgspec

from sis.errors import Corrupt, SisError
from sis.image.store.connections import Connections
from sis.image.store.patience import FAILURES, Limits, Patience, Retry
from sis.image.store.reader import Beginning, DocumentStore, Tagged, immutable_name

_PROGRESS_BYTES = 64 << 10
"""A try that brings less than this of a range has failed as if it had brought nothing."""


class _Range(msgspec.Struct):
    """What is still missing of a range."""

    url: str
    at: int
    rest: int


class HttpStore(DocumentStore):
    """Reads a store over HTTP(S): a head's (`URL/store/…`) or any static copy (`URL/…`), found out at the first read.

    Safe to use in many threads and in forked processes; each has its own connection. Raises Unreachable when the server
    does not answer, breaks off again and again, or does not serve what was asked for; Corrupt when it serves a shorter
    file than it should. `ticket` says to the server, and to no other it redirects to, who asks.
    """

    def __init__(self, url: str, *, limits: Limits | None = None, ticket: str = "") -> None:
        self.url = url.rstrip("/") + "/"
        if urlsplit(self.url).scheme not in ("http", "https") or not urlsplit(self.url).hostname:
            raise SisError(f"not a URL of a store: {url}", hint="for example http://head:8080/store")
        self._base: str | None = None
        self._connections = Connections(self.url, limits or Limits(), ticket)
        self._patience = Patience(limits or Limits(), self._connections.drop)

    def close(self) -> None:
        """Close the connections of all threads. Whoever reads after opens a new one."""
        self._connections.close()

    def whole(self, name: str, limit: int) -> bytes | None:
        found = self.whole_unless(name, limit, None)
        return None if found is None else found.data

    def whole_unless(self, name: str, limit: int, tag: str | None) -> Tagged | None:
        for base in self._bases():
            url = urljoin(base, name)
            found = self._patience.until_done(url, functools.partial(self._whole, url, limit, tag))
            if found is not None:
                self._base = base
                return found
        return None

    def begin(self, name: str, limit: int) -> Beginning | None:
        immutable_name(name)
        for base in self._bases():
            url = urljoin(base, name)
            found = self._patience.until_done(url, functools.partial(self._begin, url, limit))
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
            pieces = self._range(_Range(urljoin(base, name), offset, length))
            first = next(pieces, None)
            if first is not None:
                self._base = base
                yield first
                yield from pieces
                return
        raise Corrupt(
            f"{name} is missing from the store at {self.url}",
            hint="'sis image verify' on the head tells whether it is there; a copy of the store is made anew",
        )

    def _bases(self) -> tuple[str, ...]:
        return (self._base,) if self._base else (self.url, urljoin(self.url, "store/"))

    def _whole(self, url: str, limit: int, tag: str | None) -> Tagged | None:
        with self._connections.answer(url, {} if tag is None else {"If-None-Match": tag}) as answer:
            if answer.is_missing():
                return None
            if tag is not None and answer.status == 304:
                return Tagged(None, tag)
            answer.expect(200)
            return Tagged(answer.whole(limit), answer.tag())

    def _begin(self, url: str, limit: int) -> Beginning | None:
        with self._connections.answer(url, {"Range": f"bytes=0-{limit - 1}"}) as answer:
            if answer.is_missing():
                return None
            if answer.status == 416:
                return Beginning(b"", 0)
            answer.expect(206, 200)
            size = answer.size()
            data = answer.read_at_most(min(limit, size))
            if len(data) != min(limit, size):
                raise Retry(f"{len(data)} of {min(limit, size)} bytes")
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
            except FAILURES as error:
                failures = failures + 1 if before - fetch.rest < _PROGRESS_BYTES else 1
                failures = self._patience.pause(fetch.url, error, failures)

    def _once(self, fetch: _Range) -> Generator[bytes, None, bool]:
        """One request for what is missing. Returns (as a generator) whether the file is there."""
        end = fetch.at + fetch.rest
        with self._connections.answer(fetch.url, {"Range": f"bytes={fetch.at}-{end - 1}"}) as answer:
            if answer.is_missing():
                return False
            if answer.status == 416:
                raise Corrupt(f"{fetch.url} is shorter than {end} bytes")
            answer.expect(206, 200)
            answer.begin_at(fetch.at, fetch.rest)
            while fetch.rest:
                piece = answer.read(fetch.rest)
                if not piece:
                    answer.refuse_short_file(end)
                    raise Retry(f"broke off {fetch.rest} bytes early")
                fetch.at += len(piece)
                fetch.rest -= len(piece)
                yield piece
        return True
