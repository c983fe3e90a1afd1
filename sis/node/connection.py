"""The node's line to its head: signed JSON over HTTP, each call with a deadline, patient with a head that is away."""

from __future__ import annotations

import contextlib
import http.client
import logging
import random
import time
from typing import TypeVar
from urllib.parse import quote, urlsplit

import msgspec

from sis.errors import Refused, SisError, Unreachable
from sis.image.store.sign import Signer
from sis.node.config import NodeConfig
from sis.sealed import ERA, ERA_HEADER, PROOF_HEADER, Question
from sis.wire import Desired, Event, Hello, Order, Report, Welcome

log = logging.getLogger(__name__)

T = TypeVar("T")

ANSWER_LIMIT_BYTES = 64 * 1024 * 1024
_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 15.0
_ERAS_TRIED = 3
_NO_ERA = "0" * 32
"""Of a first call: the head answers with the one in force."""


class HeadConnection:
    """Calls of one node to one head.

    key       the node's own, which signs what it says
    head_key  the head's public key (hex) as the node has it pinned: an answer it did not sign is refused

    `patience_s` bounds how long a call is tried again while the head does not answer or is overloaded (503); a
    refusal (4xx) is never tried again. Raises Unreachable, Refused, or SisError for answers that make no sense.
    """

    def __init__(self, url: str, node: str, key: Signer, head_key: str, *, timeout_s: float = 60.0) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise SisError(f"not a head's URL: {url}", hint="it looks like http://10.77.0.1:8700")
        self.url = url.rstrip("/")
        self.node = node
        self.key = key
        self._head_key = head_key
        self._era = _NO_ERA
        self.welcome = False
        """Whether the head knows this key."""
        self._host, self._port, self._base = parts.hostname, parts.port or 80, parts.path.rstrip("/")
        self._timeout_s = timeout_s

    @classmethod
    def of(cls, config: NodeConfig) -> HeadConnection:
        """The line of an installed node."""
        line = cls(config.head, config.node, Signer.of(config.secret), config.key)
        line.welcome = True
        return line

    def hello(self, hello: Hello, *, patience_s: float = 600.0) -> Welcome:
        """Introduce the node."""
        answer = self._call("POST", "/api/v1/hello", hello, Welcome, patience_s)
        assert answer is not None
        self.welcome = True
        return answer

    def desired(self, *, patience_s: float = 600.0) -> Desired:
        """What this node is held to now."""
        answer = self._call("GET", self._own("desired"), None, Desired, patience_s)
        assert answer is not None
        return answer

    def send_events(self, events: list[Event], *, patience_s: float = 0.0) -> None:
        self._call("POST", self._own("events"), events, None, patience_s)

    def send_report(self, report: Report, *, patience_s: float = 600.0) -> None:
        self._call("POST", self._own("report"), report, None, patience_s)

    def next_order(self, wait_s: int = 25) -> Order | None:
        """The next order for this node, or None when none came within `wait_s` seconds."""
        return self._call("GET", f"{self._own('orders')}?wait={wait_s}", None, Order, 0.0)

    def _own(self, what: str) -> str:
        return f"/api/v1/nodes/{quote(self.node, safe='')}/{what}"

    def _call(self, method: str, path: str, body: object, answer: type[T] | None, patience_s: float) -> T | None:
        payload = None if body is None else msgspec.json.encode(body)
        give_up = time.monotonic() + patience_s
        wait_s = _FIRST_WAIT_S
        while True:
            try:
                raw = self._exchange(method, path, payload)
                break
            except Unreachable as error:
                left_s = give_up - time.monotonic()
                if left_s <= 0:
                    raise
                log.info("%s; trying again", error.message)
                time.sleep(min(wait_s * random.uniform(0.5, 1.5), left_s))
                wait_s = min(wait_s * 2, _LONGEST_WAIT_S)
        if answer is None or raw is None:
            return None
        try:
            return msgspec.json.decode(raw, type=answer)
        except msgspec.MsgspecError as error:
            raise SisError(
                f"the head's answer to {method} {path} makes no sense: {error}",
                hint="is the node's software older or newer than the head's?",
            ) from error

    def _exchange(self, method: str, path: str, payload: bytes | None) -> bytes | None:
        """One call, asked anew when the head wants it signed for another era. Returns the answer's content, opened."""
        for _ in range(_ERAS_TRIED):
            question = Question(self.key, self.node, self._era, method, path, payload)
            response, raw = self._send(question, method, path, payload)
            era = response.headers.get(ERA_HEADER, "")
            if ERA.fullmatch(era):
                self._era = era
            if response.status != http.client.UNAUTHORIZED:
                break
        if response.status >= 500 or response.status == http.client.UNAUTHORIZED:
            raise Unreachable(f"the head at {self.url} answered {response.status} to {method} {path}: {_detail(raw)}")
        if response.status >= 400:
            raise Refused(
                f"the head refused {method} {path} ({response.status}): {_detail(raw)}",
                hint=_HINTS.get(response.status),
            )
        return question.open(self._head_key, response.status, response.headers.get(PROOF_HEADER), raw) or None

    def _send(
        self, question: Question, method: str, path: str, payload: bytes | None
    ) -> tuple[http.client.HTTPResponse, bytes]:
        headers = {"Accept": "application/json", "Authorization": question.authorization}
        if payload is not None:
            headers["Content-Type"] = "application/json"
        with contextlib.closing(http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s)) as line:
            try:
                line.request(method, self._base + path, payload, headers)
                response = line.getresponse()
                raw = response.read(ANSWER_LIMIT_BYTES + 1)
            except (OSError, http.client.HTTPException) as error:
                reason = str(error) or type(error).__name__
                raise Unreachable(
                    f"the head at {self.url} does not answer: {reason}",
                    hint="is 'sis head run' up, and the network between them?",
                ) from error
        if len(raw) > ANSWER_LIMIT_BYTES:
            raise SisError(f"the head's answer to {path} is longer than {ANSWER_LIMIT_BYTES} bytes")
        return response, raw


_HINTS = {
    403: "the token or key is not valid (any more): arm the node again with 'sis deploy NODE'",
    404: "does the head still know this node? see 'sis node list'",
}


def _detail(raw: bytes) -> str:
    try:
        said = msgspec.json.decode(raw)
    except msgspec.MsgspecError:
        return raw[:200].decode("utf-8", "replace")
    if isinstance(said, dict) and "detail" in said:
        return str(said["detail"])[:500]
    return str(said)[:500]
