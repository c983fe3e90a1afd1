"""A head on a loopback port, in a thread of the test, and a small client for it."""

from __future__ import annotations

import http.client
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec
import uvicorn

from sis.head import app as head_app
from sis.head.peers import PeerProtocol, listen_locally
from sis.inventory.db import Inventory
from sis.inventory.model import Role


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass
class Serving:
    """A running head. `port` on 127.0.0.1, `local` its unix socket."""

    state: Path
    inventory: Inventory
    port: int
    local: Path
    keys: dict[str, str] = field(default_factory=dict)

    def token(self, role: Role) -> str:
        if role not in self.keys:
            self.keys[role] = self.inventory.admins.add_token(f"a-{role}", role)
        return self.keys[role]

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        token: str = "",
        session: str = "",
        headers: dict[str, str] | None = None,
    ) -> Answer:
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=90)
        line.request(method, path, _payload(body), _keys(token, session, headers))
        return _read(line)

    def ask_locally(self, method: str, path: str, body: object = None) -> Answer:
        line = http.client.HTTPConnection("head", timeout=90)
        line.sock = socket.socket(socket.AF_UNIX)
        line.sock.connect(str(self.local))
        line.request(method, path, _payload(body))
        return _read(line)

    def log_in(self, role: Role, name: str = "ada") -> str:
        """The session cookie of a new login."""
        answer = self.ask("GET", f"/login?code={self.inventory.admins.new_login(name, role)}")
        assert answer.status == 200
        found = re.match(r"sis_session=([^;]+);", answer.headers["set-cookie"])
        assert found
        return found[1]

    def form(self, path: str, session: str, fields: dict[str, str], headers: dict[str, str] | None = None) -> Answer:
        return self.ask("POST", path, urlencode(fields).encode(), session=session, headers=headers)

    @contextmanager
    def listening(
        self, query: str = "", *, token: str, last: int | None = None
    ) -> Iterator[Iterator[tuple[str, int, Any]]]:
        """The stream as (event, id, data); heartbeats are left out."""
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=90)
        sent = {"Accept": "text/event-stream", "Authorization": f"Bearer {token}"}
        if last is not None:
            sent["Last-Event-ID"] = str(last)
        line.request("GET", f"/api/v1/events{query}", headers=sent)
        response = line.getresponse()
        assert response.status == 200, response.read()
        assert response.getheader("content-type") == "text/event-stream; charset=utf-8"
        try:
            yield _frames(response)
        finally:
            response.close()
            line.close()


@contextmanager
def serving(state: Path, inventory: Inventory) -> Iterator[Serving]:
    """A head over a state directory, ended at the end of the block."""
    (state / "run").mkdir(exist_ok=True)
    listener = socket.create_server(("127.0.0.1", 0))
    local = state / "run" / "api.sock"
    app = head_app.create(state, inventory)
    config = uvicorn.Config(app, http=PeerProtocol, log_config=None, access_log=False, timeout_graceful_shutdown=2)
    server = uvicorn.Server(config)
    with listen_locally(local) as unix:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener, unix]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield Serving(state, inventory, listener.getsockname()[1], local)
        finally:
            app.state.head.stop()
            server.should_exit = True
            thread.join()
            listener.close()


def _payload(body: object) -> bytes | None:
    return body if isinstance(body, bytes) or body is None else msgspec.json.encode(body)


def _keys(token: str, session: str, headers: dict[str, str] | None) -> dict[str, str]:
    sent = dict(headers or {})
    if token:
        sent["Authorization"] = f"Bearer {token}"
    if session:
        sent["Cookie"] = f"sis_session={session}"
    return sent


def _read(line: http.client.HTTPConnection) -> Answer:
    response = line.getresponse()
    raw = response.read()
    line.close()
    return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, raw)


def _frames(response: http.client.HTTPResponse) -> Iterator[tuple[str, int, Any]]:
    fields: dict[str, str] = {}
    while True:
        line = response.readline().decode().rstrip("\n")
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
            continue
        if "data" in fields:
            yield fields["event"], int(fields["id"]), json.loads(fields["data"])
        fields = {}
