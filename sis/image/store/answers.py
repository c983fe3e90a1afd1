"""What a server answers to a GET, checked: its status, its ranges and lengths; read in pieces, and none too slowly."""

from __future__ import annotations

import http.client
import re
import time

from sis.errors import Corrupt, Unreachable
from sis.image.store.patience import Retry
from sis.image.store.reader import PIECE_BYTES

_RATE_MIN = 4096
"""Bytes a second a server must send, on average, once the time it may take for one read has passed."""

_SKIPPED_MAX = 64 << 20
"""How much a server that ignores ranges may make us read past, before it is told off."""

_ERROR_PAGE_BYTES_MAX = 64 << 10
_CUT_OFF = "that copy of the store is not whole, or something else is served in its place"
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_ENTITY_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e]{1,200}"')


class Answer:
    """One answer; a server that trickles is taken for one that does not answer.

    All that can be asked raises Retry for what another try may mend, Unreachable for what none will.
    """

    def __init__(self, url: str, response: http.client.HTTPResponse, read_s: float) -> None:
        self.status = response.status
        self._url = url
        self._response = response
        self._patience_s = read_s
        self._bytes = 0
        self._waited_s = 0.0

    def is_missing(self) -> bool:
        """Whether there is no such file; the page that says so is read, and the connection can be used again."""
        if self.status not in (404, 410):
            return False
        self.read_at_most(_ERROR_PAGE_BYTES_MAX)
        return True

    def expect(self, *statuses: int) -> None:
        """Raise Unreachable unless it has one of these statuses, and is the file's own bytes."""
        response = self._response
        if response.status not in statuses:
            hint = "the server refuses: check its permissions" if response.status in (401, 403) else None
            raise Unreachable(f"{self._url}: HTTP {response.status} {response.reason[:80]}", hint=hint)
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise Unreachable(
                f"{self._url} is served compressed on the way", hint="switch off Content-Encoding for the store"
            )

    def read(self, limit: int) -> bytes:
        """The next bytes, at most `limit`; b"" at the end."""
        started = time.monotonic()
        piece = self._response.read1(min(limit, PIECE_BYTES))
        self._waited_s += time.monotonic() - started
        self._bytes += len(piece)
        if piece and self._waited_s > self._patience_s + self._bytes / _RATE_MIN:
            raise Retry(f"{self._bytes} bytes in {self._waited_s:.0f} s are too slow")
        return piece

    def read_at_most(self, limit: int) -> bytes:
        """All bytes up to the end, or `limit` of them."""
        pieces = []
        while limit:
            piece = self.read(limit)
            if not piece:
                break
            pieces.append(piece)
            limit -= len(piece)
        return b"".join(pieces)

    def whole(self, limit: int) -> bytes:
        """All of a file. Raises Corrupt if it is longer than `limit`."""
        data = self.read_at_most(limit + 1)
        if len(data) > limit:
            raise Corrupt(f"{self._url} is longer than {limit} bytes")
        announced = self._response.headers.get("Content-Length")
        if announced is not None and announced.isdigit() and len(data) != int(announced):
            raise Retry(f"{len(data)} of {announced} bytes")
        return data

    def size(self) -> int:
        """The length of the file that it begins."""
        headers = self._response.headers
        match = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
        if self.status == 206 and match is not None and int(match[1]) == 0 and match[3] != "*":
            return int(match[3])
        announced = headers.get("Content-Length", "")
        if self.status == 200 and announced.isascii() and announced.isdigit():
            return int(announced)
        raise Retry(f"asked for the beginning, got {headers.get('Content-Range', '')[:60]!r}")

    def tag(self) -> str | None:
        """Its entity tag, if it is one we can send back."""
        tag = self._response.headers.get("ETag", "")
        return tag if _ENTITY_TAG.fullmatch(tag) else None

    def begin_at(self, offset: int, length: int) -> None:
        """Make what is read next the range that was asked for. Raises Corrupt if the file is too short for it."""
        if self.status == 206:
            self._check_range(offset, length)
            return
        if offset > _SKIPPED_MAX:
            raise Unreachable(
                f"{self._url}: the server ignores ranges", hint="serve the store with one that knows them"
            )
        skip = offset
        while skip:
            piece = self.read(skip)
            if not piece:
                self.refuse_short_file(offset + length)
                raise Retry("broke off early")
            skip -= len(piece)

    def refuse_short_file(self, end: int) -> None:
        """Raise Corrupt if a whole file came to its announced end, and that is before `end`."""
        announced = self._response.headers.get("Content-Length", "")
        if self.status == 200 and announced.isdigit() and int(announced) < end and self._response.length == 0:
            raise Corrupt(f"{self._url} is {announced} bytes long, shorter than {end}", hint=_CUT_OFF)

    def _check_range(self, offset: int, length: int) -> None:
        text = self._response.headers.get("Content-Range", "")
        match = _CONTENT_RANGE.fullmatch(text)
        if match is None or int(match[1]) != offset:
            raise Retry(f"asked for bytes from {offset}, got {text[:60]!r}")
        if match[3] != "*" and int(match[3]) < offset + length:
            raise Corrupt(f"{self._url} is {match[3]} bytes long, shorter than {offset + length}", hint=_CUT_OFF)
