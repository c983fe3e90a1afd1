"""The line between node and head in hostile hands: who listens learns no secret, who meddles is refused by name."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from sis import wire
from sis.cli import main
from sis.errors import Refused, Unreachable
from sis.head import calls
from sis.image import commit
from sis.image.store.local import LocalStore
from sis.image.store.sign import Signer
from sis.inventory import db
from sis.inventory.model import Assignment, Interface, Network, NewNode
from sis.node import reports
from sis.node.config import NodeConfig, read_config, write_config
from sis.node.connection import HeadConnection
from sis.sealed import ERA_HEADER, PROOF_HEADER, Letterbox, Question, read_proof
from sis.sync.model import Change, Outcome
from tests import node_calls, wire_taps
from tests.heads import Serving, serving
from tests.wire_taps import Meddler

HOST_KEY = "/etc/ssh/ssh_host_ed25519_key"
EVENT = wire.Event(time="2026-01-01T00:00:00.000Z", stage="partitioning", outcome="start")


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A served head with two nodes whose image has an ssh server, so that their layers hold private keys."""
    state = tmp_path_factory.mktemp("head")
    tree = state / "tree"
    for folder in ("etc/network", "etc/ssh", "sbin", "usr/sbin"):
        (tree / folder).mkdir(parents=True)
    for program in ("sbin/ifup", "usr/sbin/sshd"):
        (tree / program).write_text("#!/bin/sh\n")
    commit.commit(LocalStore(state / "store"), "compute", tree, spec=json.dumps({"image": "compute", "disk": "single"}))
    with db.open(state / "state.db") as inventory:
        inventory.networks.put(Network("mgmt", "10.77.0.0/24", data={"head": "10.77.0.1"}))
        interfaces = ((f"n{at}", Interface("eth0", f"52:54:00:00:00:0{at}", f"10.77.0.1{at}", "mgmt")) for at in (1, 2))
        inventory.nodes.add([NewNode(name, (each,), (), Assignment("compute", "")) for name, each in interfaces])
        with serving(state, inventory) as running:
            yield running


def head_key(head: Serving) -> str:
    return LocalStore(head.state / "store").signer().public


def welcomed(head: Serving, port: int, name: str = "n1") -> HeadConnection:
    """A node's line by way of `port`, after its hello with a fresh token."""
    node = head.inventory.nodes.get(name)
    head.inventory.access.arm([node.id])
    token = head.inventory.access.issue_token(node.id)
    line = HeadConnection(f"http://127.0.0.1:{port}", name, Signer.make(), head_key(head))
    line.hello(wire.Hello(node=name, macs=node.macs, token=token, key=line.key.public))
    return line


@contextmanager
def in_the_middle(head: Serving) -> Iterator[tuple[HeadConnection, Meddler]]:
    with wire_taps.meddling(head.port) as meddler:
        yield welcomed(head, meddler.port), meddler


def secrets_of(desired: wire.Desired) -> list[bytes]:
    """Every line of the files not everyone may read, as it is and as JSON would hold it at each alignment."""
    found = []
    for file in desired.layer:
        if file.kind == "file" and not file.mode & 0o004:
            for text in (line for line in file.content.splitlines() if len(line) >= 24):
                found.append(text)
                found += [base64.b64encode(b"\0" * at + text)[8:-8] for at in range(3)]
    return found


# --- who listens


def test_who_listens_to_a_whole_story_learns_no_secret(head: Serving, tmp_path: Path) -> None:
    with wire_taps.listening(head.port) as tap:
        line = welcomed(head, tap.port)
        desired = line.desired()
        line.send_events([EVENT])
        node = head.inventory.nodes.get("n1")
        head.inventory.orders.create([node.id], "check")
        order = line.next_order(5)
        assert order is not None
        assert order.kind == "check"
        write_config(tmp_path, NodeConfig(head=line.url, node="n1", secret=line.key.private, key=head_key(head)))
        again = HeadConnection.of(read_config(tmp_path))
        assert again.desired() == desired
    files = {file.path: file for file in desired.layer}
    assert b"PRIVATE KEY" in files[HOST_KEY].content
    heard = bytes(tap.heard)
    assert heard.count(b"/api/v1/nodes/n1/desired") >= 2
    secrets = secrets_of(desired)
    assert len(secrets) >= 8
    for secret in (*secrets, line.key.private.encode(), bytes.fromhex(line.key.private), b"PRIVATE KEY"):
        assert secret not in heard
    assert b'"layer"' not in heard
    assert b"10.77.0.12" not in heard


def test_who_listens_to_a_check_learns_nothing_of_what_files_hold(head: Serving) -> None:
    diffs = (wire.FileDiff(path="/etc/app.conf", text="--- a\n+++ b\n@@ -1 +1 @@\n-token = <b>\n+token = tr0ub4dor"),)
    with wire_taps.listening(head.port) as tap:
        line = welcomed(head, tap.port)
        desired = line.desired()
        change = Change(action="update", path="/etc/app.conf", what=("content",))
        told = {"started": "2026-01-01T00:00:00.000Z", "seconds": 1.0, "diffs": diffs}
        outcome = Outcome(changes=(change,), in_sync=False)
        line.send_report(reports.of_outcome("check", desired, outcome, **told))  # type: ignore[arg-type]
    assert b"/etc/app.conf" in tap.heard
    assert b"tr0ub4dor" not in tap.heard
    assert base64.b64encode(b"tr0ub4dor")[:8] not in bytes(tap.heard)
    assert head.inventory.overview.diffs(["n1"]) == {"n1": diffs}
    session = head.log_in("view")
    for page in ("/nodes/n1", "/nodes/n1/file?path=/etc/hosts"):
        assert "<b>" not in head.ask("GET", page, session=session).text.split("<main")[1].split("token =")[-1][:4]
    assert "+token = tr0ub4dor" in head.ask("GET", "/nodes/n1", session=session).text
    done = CliRunner().invoke(main, ["--state", str(head.state), "drift", "n1", "--diff"])
    assert done.exit_code == 4
    assert "n1 /etc/app.conf\n--- a\n" in done.stdout

    # A letter to a head that has been started anew since cannot be opened: the report counts without it.
    stray = msgspec.structs.replace(desired, letterbox=Letterbox().share)
    late = {**told, "started": "2026-01-01T00:00:01.000Z"}
    line = HeadConnection(f"http://127.0.0.1:{head.port}", "n1", line.key, head_key(head))
    line.send_report(reports.of_outcome("check", stray, outcome, **late))  # type: ignore[arg-type]
    assert head.inventory.overview.diffs(["n1"]) == {}
    assert head.inventory.nodes.get("n1").state.state == "drifted"


def test_the_same_question_is_answered_in_other_bytes_each_time(head: Serving) -> None:
    with in_the_middle(head) as (line, meddler):
        assert line.desired() == line.desired()
        first, second = [each.answer for each in meddler.passed if each.path.endswith("desired")][-2:]
        assert first[:32] != second[:32]
        assert first[32:] != second[32:]


# --- who meddles with answers


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize("at", [0, 31, 32, 200, -1])
def test_an_answer_changed_by_one_bit_is_refused(head: Serving, at: int) -> None:
    with in_the_middle(head) as (line, meddler):
        meddler.change = lambda seen: (seen.status, seen.answer_headers, flipped(seen.answer, at % len(seen.answer)))
        with pytest.raises(
            Refused, match=r"the answer to GET /api/v1/nodes/n1/desired is not signed by the head's key"
        ):
            line.desired()


def test_an_answer_in_clear_without_proof_or_with_anothers_is_refused(head: Serving) -> None:
    with in_the_middle(head) as (line, meddler):
        forged = msgspec.json.encode(line.desired())
        stranger = Signer.make()
        for headers in ({}, {PROOF_HEADER: stranger.sign(forged).hex()}, {PROOF_HEADER: "00" * 64}):
            meddler.change = lambda _, headers=headers: (200, headers, forged)  # type: ignore[misc]
            with pytest.raises(Refused, match="is not signed by the head's key") as told:
                line.desired()
            assert "someone between node and head" in (told.value.hint or "")


def test_an_older_answer_played_again_is_refused(head: Serving) -> None:
    with in_the_middle(head) as (line, meddler):
        line.desired()
        old = meddler.passed[-1]
        meddler.change = lambda _: (old.status, old.answer_headers, old.answer)
        with pytest.raises(Refused, match="is not signed"):
            line.desired()


def test_an_answer_to_another_node_is_refused(head: Serving) -> None:
    with in_the_middle(head) as (line, meddler):
        other = welcomed(head, meddler.port, "n2")
        other.desired()
        foreign = meddler.passed[-1]
        meddler.change = lambda _: (foreign.status, foreign.answer_headers, foreign.answer)
        with pytest.raises(Refused, match="is not signed"):
            line.desired()


def test_another_head_is_refused_however_well_it_signs(head: Serving) -> None:
    with in_the_middle(head) as (line, _):
        pinned = Signer.make().public
        with pytest.raises(Refused, match=f"is not signed by the head's key {pinned[:16]}…") as told:
            HeadConnection(line.url, "n1", line.key, pinned).desired()
        assert "a head with a new key has its nodes installed again" in (told.value.hint or "")


def test_an_order_cannot_be_made_up_nor_a_report_swallowed(head: Serving) -> None:
    with in_the_middle(head) as (line, meddler):
        meddler.change = lambda _: (200, {}, b'{"id":1,"kind":"reboot"}')
        with pytest.raises(Refused, match=r"the answer to GET .*/orders\?wait=0 is not signed"):
            line.next_order(0)
        meddler.change = lambda _: (204, {}, b"")
        with pytest.raises(Refused, match="is not signed"):
            line.send_events([EVENT])


def test_a_status_made_another_is_refused(head: Serving) -> None:
    with in_the_middle(head) as (line, meddler):
        line.next_order(0)
        meddler.change = lambda seen: (200, seen.answer_headers, seen.answer)
        with pytest.raises(Refused, match="is not signed"):
            line.next_order(0)


# --- who meddles with requests


def test_a_request_played_again_does_nothing(head: Serving) -> None:
    with in_the_middle(head) as (line, meddler):
        line.send_events([EVENT])
        once = next(each for each in reversed(meddler.passed) if each.status == 204)
        before = len(head.inventory.history.events("n1"))
        for _ in range(2):
            again = wire_taps.send(head.port, once.method, once.path, once.headers, once.body)
            assert (again.status, json.loads(again.answer)) == (401, {"detail": "ask again, signed for this era"})
        assert len(head.inventory.history.events("n1")) == before


def test_a_request_changed_on_the_way_is_denied(head: Serving) -> None:
    with in_the_middle(head) as (line, meddler):
        line.next_order(0)
        era = meddler.passed[-1].answer_headers[ERA_HEADER.lower()]

    def tried(method: str, path: str, body: bytes, asked: Question) -> int:
        return wire_taps.send(head.port, method, path, {"Authorization": asked.authorization}, body).status

    events = msgspec.json.encode([EVENT])
    own = node_calls.own("n1", "events")
    good = Question(line.key, "n1", era, "POST", own, events)
    assert tried("POST", own, events.replace(b"start", b"ok"), good) == 403
    assert tried("POST", own.replace("n1", "n2"), events, Question(line.key, "n1", era, "POST", own, events)) == 403
    asked = Question(line.key, "n1", era, "GET", node_calls.own("n1", "orders?wait=0"))
    assert tried("GET", node_calls.own("n1", "orders?wait=60"), b"", asked) == 403
    assert tried("GET", node_calls.own("n1", "desired"), b"", asked) == 403
    stranger = Question(Signer.make(), "n1", era, "GET", node_calls.own("n1", "desired"))
    assert tried("GET", node_calls.own("n1", "desired"), b"", stranger) == 403
    shared = re.sub(r"share=\w+", f"share={'00' * 32}", asked.authorization)
    assert (
        wire_taps.send(head.port, "GET", node_calls.own("n1", "orders?wait=0"), {"Authorization": shared}, b"").status
        == 403
    )


def test_a_share_no_key_comes_of_is_the_askers_own_fault(head: Serving) -> None:
    """A node that signs a share of low order gets no answer, and the head no fault of its own."""
    from sis import sealed

    with in_the_middle(head) as (line, meddler):
        line.next_order(0)
        era = meddler.passed[-1].answer_headers[ERA_HEADER.lower()]
    path = node_calls.own("n1", "desired")
    asked = sealed.Asked("n1", "GET", path, era, "00" * 32, sealed.digest_of(b""))
    proof = line.key.sign(asked.claim, domain=b"sis request 1\n").hex()
    header = f"Sis era={era}, share={asked.share}, body={asked.body}, proof={proof}"
    assert read_proof(header) is not None
    answer = wire_taps.send(head.port, "GET", path, {"Authorization": header}, b"")
    assert (answer.status, json.loads(answer.answer)) == (409, {"detail": "the request's share is not a key"})


@pytest.mark.parametrize("header", ["", "Sis", "Bearer x", "Sis era=, share=, body=, proof=", "Sis " + "a" * 5000, "é"])
def test_what_is_no_proof_is_asked_for_one(head: Serving, header: str) -> None:
    headers = {"Authorization": header.encode().decode("latin-1")} if header else {}
    answer = wire_taps.send(head.port, "GET", node_calls.own("n1", "desired"), headers, b"")
    assert answer.status == 401
    assert re.fullmatch("[0-9a-f]{32}", answer.answer_headers[ERA_HEADER.lower()])
    assert answer.answer_headers["www-authenticate"] == 'Sis realm="sis"'


def test_a_head_that_always_wants_another_era_is_given_up(head: Serving) -> None:
    with in_the_middle(head) as (line, meddler):
        meddler.change = lambda _: (401, {ERA_HEADER: "ab" * 16}, b"{}")
        with pytest.raises(Unreachable, match="answered 401 to GET"):
            line.next_order(0)
        assert len([each for each in meddler.passed if "orders" in each.path]) == 3


def test_many_calls_at_once_each_get_their_own_answer(head: Serving) -> None:
    with in_the_middle(head) as (line, _):
        got: list[str] = []
        threads = [threading.Thread(target=lambda: got.append(line.desired().node)) for _ in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    assert got == ["n1"] * 8


# --- eras


def test_a_proof_counts_once_and_for_two_eras() -> None:
    moment = [0.0]
    eras = calls.Eras(lambda: moment[0])
    key = Signer.make()

    def proof(era: str) -> calls.Proof:
        found = read_proof(Question(key, "n1", era, "GET", "/").authorization)
        assert found is not None
        return found

    first = eras.current()
    used, kept = proof(first), proof(first)
    assert eras.spend(used)
    assert not eras.spend(used)
    moment[0] = calls.ERA_LIFE_S
    assert eras.current() != first
    assert not eras.spend(used)
    assert eras.spend(kept)
    assert not eras.spend(kept)
    moment[0] = 2 * calls.ERA_LIFE_S
    eras.current()
    assert not eras.knows(proof(first))
    assert not eras.spend(kept)
    second = eras.current()
    moment[0] = 10 * calls.ERA_LIFE_S
    assert not eras.knows(proof(second))
    assert not calls.Eras().knows(proof(eras.current()))
    assert not eras.knows(proof("0" * 32))
