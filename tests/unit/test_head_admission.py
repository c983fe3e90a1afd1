"""So many machines fetch at once: who has a place keeps it, others are told when to come back, and a node does."""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from sis.head import admission
from sis.head.admission import Admission
from sis.image.store.local import LocalStore
from sis.image.store.remote import HttpStore
from sis.image.store.sign import Signer
from sis.inventory import db
from sis.wire import Desired
from tests import node_calls, wire_taps
from tests.heads import Serving, serving
from tests.sim_nodes import defined, made_image


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_machine_keeps_its_place_until_it_is_quiet() -> None:
    clock = Clock()
    door = Admission(lambda: None, clock=clock)
    door.limit = 2
    with door.fetching("a"):
        assert door.admit("a") is None
    with door.fetching("b"):
        assert door.admit("c") is not None
        clock.now = 2.0
        assert door.admit("a") is None
        assert door.admit("c") is not None
        clock.now = 4.0
        assert door.admit("c") is None
    assert (door.active, door.refused) == (1, 2)


def test_the_more_wait_the_later_each_comes_back() -> None:
    door = Admission(lambda: None, clock=Clock())
    door.limit = 1
    with door.fetching("busy"):
        first = [door.admit("x") for _ in range(50)]
        crowd = [door.admit(f"n{number}") for number in range(100)]
    few = [wait for wait in first if wait is not None]
    assert min(few) >= admission.SHORTEST_WAIT_S
    assert len({round(wait, 3) for wait in few}) > 10
    last = crowd[-1]
    assert last is not None
    assert max(few) < last <= admission.LONGEST_WAIT_S


@pytest.fixture
def head(tmp_path: Path) -> Iterator[Serving]:
    made_image(tmp_path)
    with db.open(tmp_path / "state.db") as inventory:
        inventory.settings.set(transfers=1)
        with serving(tmp_path, inventory) as running:
            yield running


def get(head: Serving, path: str, source: str) -> tuple[int, str | None]:
    line = http.client.HTTPConnection("127.0.0.1", head.port, timeout=90, source_address=(source, 0))
    line.request("GET", path)
    response = line.getresponse()
    response.read()
    line.close()
    return response.status, response.getheader("retry-after")


def test_bulk_waits_its_turn_everything_else_does_not(head: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "SHORTEST_WAIT_S", 0.5)
    store = LocalStore(head.state / "store")
    pack = f"packs/{store.names('packs')[0]}"
    while get(head, f"/store/{pack}", "127.0.0.2")[0] == 200 and get(head, f"/store/{pack}", "127.0.0.3")[0] == 200:
        pass  # until the head has read its setting
    status, after = get(head, f"/store/{pack}", "127.0.0.3")
    if status == 200:
        status, after = get(head, f"/store/{pack}", "127.0.0.2")
    assert status == 503
    assert after is not None
    assert 0 <= int(after) <= admission.LONGEST_WAIT_S
    assert get(head, f"/store/versions/{store.ref('compute').generations['1']}", "127.0.0.4")[0] == 200
    assert get(head, "/api/v1/health", "127.0.0.4")[0] == 200
    # A node comes back as it is told, and gets its turn.
    with contextlib.closing(HttpStore(f"http://127.0.0.1:{head.port}")) as remote:
        assert b"".join(remote.read(pack, 0, 10)) == store.path.joinpath(pack).read_bytes()[:10]


def test_a_ticket_is_one_nodes_and_one_heads() -> None:
    tickets = Admission(lambda: None).tickets
    mine = tickets.of("n001")
    assert tickets.node(mine) == "n001"
    assert tickets.of("n001") == mine, "the same each time: it buys one place"
    for wrong in ("", "n001", mine[:-1] + "2", "0" + mine[1:], mine[:32], "ü" * 40):
        assert tickets.node(wrong) is None, wrong
    assert Admission(lambda: None).tickets.node(mine) is None


def test_nodes_of_one_address_count_each_and_strangers_by_address(
    head: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All ask from one address, as behind a NAT: who fetches does not take the others in with it."""
    monkeypatch.setattr(admission, "LINGER_S", 1e9)
    store = LocalStore(head.state / "store")
    pack = f"/store/packs/{store.names('packs')[0]}"
    key, tickets = Signer.make(), []
    for name in defined(head.inventory, 2):
        node_calls.put_key(head.inventory, name, key)
        told = node_calls.call(
            head.port, store.signer().public, "GET", node_calls.own(name, "desired"), node=name, key=key
        )
        tickets.append(msgspec.json.decode(told.body, type=Desired).ticket)

    def status(ticket: str = "") -> int:
        line = http.client.HTTPConnection("127.0.0.1", head.port, timeout=90)
        line.request("GET", pack, headers={"Sis-Ticket": ticket} if ticket else {})
        response = line.getresponse()
        response.read()
        line.close()
        return response.status

    while status(tickets[1]) == 200 and status() == 200:
        monkeypatch.setattr(admission, "LINGER_S", 0.0)  # until the head has read its setting
        status()
        monkeypatch.setattr(admission, "LINGER_S", 1e9)
    first, other = tickets if status(tickets[0]) == 200 else reversed(tickets)
    assert [status(first), status(first), status(other), status(), status("made up")] == [200, 200, 503, 503, 503]


def test_a_node_says_who_it_is(head: Serving) -> None:
    with (
        wire_taps.listening(head.port) as tap,
        contextlib.closing(HttpStore(f"http://127.0.0.1:{tap.port}", ticket="abc")) as remote,
    ):
        remote.ref("compute")
    assert b"\r\nSis-Ticket: abc\r\n" in bytes(tap.heard)
