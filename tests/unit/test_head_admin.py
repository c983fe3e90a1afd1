"""The admin API over real HTTP: who may do what, what it tells, the stream, the audit log, metrics."""

from __future__ import annotations

import functools
import http.client
import json
import re
import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sis.head import live
from sis.head.metrics import exposition
from sis.head.who import by_peer
from sis.image import commit
from sis.image.store import refs
from sis.image.store.local import LocalStore
from sis.image.store.sign import Signer
from sis.inventory import db
from sis.inventory.model import Assignment, Interface, Network, NewNode
from sis.netboot.installer import BootFile, BootFiles
from sis.sealed import ERA_HEADER, Question
from sis.sync.model import Change, Totals
from sis.wire import Event, Report
from tests import node_calls
from tests.heads import Serving, serving

STARTED = "2026-01-01T00:00:00.000Z"
READS = (
    "/api/v1/whoami", "/api/v1/nodes", "/api/v1/nodes/n1", "/api/v1/images", "/api/v1/images/compute",
    "/api/v1/images/compute/diff?before=1&after=2", "/api/v1/reports", "/api/v1/reports/1", "/api/v1/drift",
    "/api/v1/discoveries", "/api/v1/orders/1", "/api/v1/events", "/metrics",
)  # fmt: skip
ACTS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("POST", "/api/v1/deploy", {"nodeset": "n1"}),
    ("POST", "/api/v1/deploy/cancel", {"nodeset": "n1"}),
    ("POST", "/api/v1/orders", {"nodeset": "n[1-2]", "kind": "check"}),
    ("PUT", "/api/v1/images/compute/channels/stable", {"generation": 2}),
)


def made_store(state: Path) -> str:
    """An image with two generations, channel stable at the first, and boot files for it. Returns its version id."""
    tree = state / "tree"
    for folder in ("etc/network", "sbin", "usr/bin"):
        (tree / folder).mkdir(parents=True)
    (tree / "sbin/ifup").write_text("#!/bin/sh\n")
    (tree / "etc/motd").write_text("welcome\n")
    store = LocalStore(state / "store")
    spec = json.dumps({"image": "compute", "disk": "single"})
    first = commit.commit(store, "compute", tree, spec=spec, lock={"bash": "5.2", "nginx": "1.22"})
    (tree / "etc/motd").write_text("welcome back\n")
    commit.commit(store, "compute", tree, spec=spec, lock={"bash": "5.3", "curl": "8"}, note="<b>two</b>")
    with store.changing_ref("compute") as ref:
        assert ref is not None
        store.write_ref(refs.publish(ref, 1, "stable").ref)
    boot = state / "boot" / first.version_id
    boot.mkdir(parents=True)
    names = ("vmlinuz", "initrd", "root.squashfs")
    for name in names:
        (boot / name).write_bytes(b"x")
    found = tuple(BootFile(name=name, size_bytes=1, sha256="ab" * 32, blake3="cd" * 32) for name in names)
    described = BootFiles(version_id=first.version_id, kernel_release="6.1", inputs="", files=found)
    (boot / "boot.json").write_bytes(msgspec.json.encode(described))
    return first.version_id


@pytest.fixture
def head(tmp_path: Path) -> Iterator[Serving]:
    made_store(tmp_path)
    with db.open(tmp_path / "state.db") as inventory:
        inventory.networks.put(Network("mgmt", "10.77.0.0/24", data={"head": "10.77.0.1"}))
        inventory.nodes.add(
            [
                NewNode(
                    f"n{at}",
                    (Interface("eth0", f"52:54:00:00:00:0{at}", f"10.77.0.1{at}", "mgmt"),),
                    ("rack1",),
                    Assignment("compute", "stable"),
                )
                for at in (1, 2)
            ]
        )
        change = Change(action="update", path="/etc/motd", what=("content",))
        for node_id in (1, 2):
            report = Report(
                kind="check", outcome="ok", in_sync=False, image="compute", generation=1, version="ab" * 32,
                started=STARTED, seconds=1, changes=(change,), totals=Totals(bytes_fetched=7),
            )  # fmt: skip
            inventory.history.record_report(node_id, report)
        inventory.orders.create([1], "check")
        with serving(tmp_path, inventory) as running:
            yield running


# --- who may


def test_without_a_key_nothing_is_told_or_done(head: Serving) -> None:
    for path in READS:
        answer = head.ask("GET", path)
        assert answer.status == 401, path
        assert answer.headers["www-authenticate"] == 'Bearer realm="sis"'
    for method, path, body in ACTS:
        assert head.ask(method, path, body).status == 401
        assert head.ask(method, path, body, token="made-up").status == 401
    assert head.inventory.audit.last() == ()


def test_each_role_may_what_it_says_and_no_more(head: Serving) -> None:
    view, operate, admin = (head.token(role) for role in ("view", "operate", "admin"))
    for path in READS:
        assert head.ask("GET", path, token=view).status == 200, path
    assert head.ask("GET", "/api/v1/audit", token=operate).status == 403
    assert head.ask("GET", "/api/v1/audit", token=admin).status == 200
    for method, path, body in ACTS:
        answer = head.ask(method, path, body, token=view)
        assert answer.status == 403
        assert "a-view has the role view" in answer.json["detail"]
    assert head.ask(*ACTS[3], token=operate).status == 403
    for method, path, body in ACTS:
        assert head.ask(method, path, body, token=admin).status == 200, path
    done = [(each.who, each.action, each.target, each.outcome) for each in head.inventory.audit.last()[::-1]]
    assert done == [
        ("a-view", "deploy", "/api/v1/deploy", "refused"),
        ("a-view", "deploy cancel", "/api/v1/deploy/cancel", "refused"),
        ("a-view", "order", "/api/v1/orders", "refused"),
        ("a-view", "publish", "/api/v1/images/compute/channels/stable", "refused"),
        ("a-operate", "publish", "/api/v1/images/compute/channels/stable", "refused"),
        ("a-admin", "deploy", "n1", "ok"),
        ("a-admin", "deploy cancel", "n1", "ok"),
        ("a-admin", "check", "n[1-2]", "ok"),
        ("a-admin", "publish", "compute@stable → 2", "ok"),
    ]


def test_a_nodes_key_opens_nothing_here_and_a_token_nothing_of_a_nodes(head: Serving) -> None:
    key, head_key = Signer.make(), LocalStore(head.state / "store").signer().public
    node_calls.put_key(head.inventory, "n1", key)
    asked = functools.partial(node_calls.call, head.port, head_key, "GET", node="n1", key=key)
    assert asked("/api/v1/nodes/n1/desired").status == 200
    for path in (*READS, "/api/v1/audit"):
        line = http.client.HTTPConnection("127.0.0.1", head.port, timeout=90)
        era = head.ask("GET", "/api/v1/nodes/n1/desired").headers[ERA_HEADER.lower()]
        line.request("GET", path, headers={"Authorization": Question(key, "n1", era, "GET", path).authorization})
        assert line.getresponse().status == 401
        line.close()
    admin = head.token("admin")
    for method, path in (("GET", "desired"), ("GET", "orders?wait=0"), ("POST", "events"), ("POST", "report")):
        answer = head.ask(method, f"/api/v1/nodes/n1/{path}", b"[]" if method == "POST" else None, token=admin)
        assert (answer.status, answer.json) == (401, {"detail": "ask again, signed for this era"})


def test_a_revoked_token_is_void_at_once(head: Serving) -> None:
    token = head.token("view")
    assert head.ask("GET", "/api/v1/nodes", token=token).status == 200
    head.inventory.admins.revoke_token("a-view")
    assert head.ask("GET", "/api/v1/nodes", token=token).status == 401


def test_root_needs_no_password_on_the_unix_socket(head: Serving) -> None:
    assert head.local.stat().st_mode & 0o007 == 0
    told = head.ask_locally("GET", "/api/v1/whoami").json
    assert told["via"] == "socket"
    assert told["role"] == "admin"
    assert head.ask_locally("POST", "/api/v1/orders", {"nodeset": "n1"}).status == 200
    assert head.inventory.audit.last()[0].via == "socket"


def test_other_users_of_this_machine_are_no_one() -> None:
    assert by_peer(65534, 65534) is None
    assert by_peer(4_000_000, 4_000_000) is None
    root = by_peer(0, 0)
    assert root is not None
    assert (root.name, root.role) == ("root", "admin")


# --- what it tells


def test_nodes_are_told_with_what_is_wanted_and_what_is(head: Serving) -> None:
    rows = head.ask("GET", "/api/v1/nodes?nodeset=@rack1&state=drifted", token=head.token("view")).json
    assert [row["name"] for row in rows] == ["n1", "n2"]
    assert rows[0] | {"since": "", "seen": ""} == {
        "name": "n1", "state": "drifted", "since": "", "step": "", "reason": "", "groups": ["rack1"],
        "image": "compute@stable", "has": None, "differences": 1, "reboot_needed": False, "reboot_why": "",
        "armed": False, "seen": "", "held": None, "held_by": None,
    }  # fmt: skip
    detail = head.ask("GET", "/api/v1/nodes/n1", token=head.token("view")).json
    assert detail["interfaces"][0]["address"] == "10.77.0.11"
    assert "profile" not in detail


def test_what_is_not_there_is_told_with_near_names(head: Serving) -> None:
    view = head.token("view")
    for path, status, told in (
        ("/api/v1/nodes/n3", 404, "no such node: n3\nhint: there is: n1, n2"),
        ("/api/v1/nodes?nodeset=n[1-", 422, "not a node set"),
        ("/api/v1/nodes?nodeset=@rack9", 404, "no such group: rack9"),
        ("/api/v1/images/compute2", 404, "compute2"),
        ("/api/v1/images/compute/diff?before=1&after=9", 404, "9"),
        ("/api/v1/images/compute/diff?before=1", 422, "after: Field required"),
        ("/api/v1/reports/99", 404, "no such report: 99"),
        ("/api/v1/orders/x", 404, "no such order: x"),
        ("/api/v1/events?kind=gossip", 422, "kind is one or more of"),
        (f"/api/v1/events?since={10**30}", 422, "since: "),
        ("/api/v1/nodes/%00%ff", 404, "no such node"),
    ):
        answer = head.ask("GET", path, token=view)
        assert answer.status == status, path
        assert told in answer.json["detail"]


def test_drift_is_folded(head: Serving) -> None:
    told = head.ask("GET", "/api/v1/drift", token=head.token("view")).json
    assert told["nodes"] == "n[1-2]"
    assert [(each["nodes"], each["action"], each["path"]) for each in told["changes"]] == [
        ("n[1-2]", "update", "/etc/motd")
    ]


def test_two_versions_are_compared(head: Serving) -> None:
    told = head.ask("GET", "/api/v1/images/compute/diff?before=stable&after=2", token=head.token("view")).json
    assert (told["before"], told["after"]) == ("compute@1", "compute@2")
    assert told["packages"] == [
        {"package": "bash", "before": "5.2", "after": "5.3"},
        {"package": "curl", "before": None, "after": "8"},
        {"package": "nginx", "before": "1.22", "after": None},
    ]
    assert "/etc/motd" in [each["path"] for each in told["paths"]]


# --- what it does


def test_deploy_plans_then_arms_all_or_none(head: Serving) -> None:
    operate = head.token("operate")
    planned = head.ask("POST", "/api/v1/deploy", {"nodeset": "n[1-2]", "dry_run": True}, token=operate).json
    assert [each["image"] for each in planned["planned"]] == ["compute@1", "compute@1"]
    assert planned["armed"] == ""
    assert head.inventory.nodes.get("n1").arming is None
    assert head.ask("POST", "/api/v1/deploy", {"nodeset": "n[1-2]"}, token=operate).json["armed"] == "n[1-2]"
    assert head.inventory.nodes.get("n2").arming is not None
    cancelled = head.ask("POST", "/api/v1/deploy/cancel", {"nodeset": "@rack1"}, token=operate).json
    assert cancelled == {"disarmed": "n[1-2]"}
    head.inventory.nodes.add([NewNode("bare")])
    refused = head.ask("POST", "/api/v1/deploy", {"nodeset": "n1,bare"}, token=operate)
    assert refused.status == 409
    assert "none was armed" in refused.json["detail"]
    assert head.inventory.nodes.get("n1").arming is None
    assert head.inventory.audit.last()[0].outcome == "failed"


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"nodeset": 1}', b'{"nodeset": "n1", "kind": "wipe"}', b'{"nodeset": "n1", "x": 1}']
)
def test_bodies_that_do_not_fit_are_refused(head: Serving, body: bytes) -> None:
    assert head.ask("POST", "/api/v1/orders", body, token=head.token("operate")).status == 422
    assert len(head.inventory.orders.get(range(100))) == 1


def test_orders_can_be_followed(head: Serving) -> None:
    operate = head.token("operate")
    asked = head.ask("POST", "/api/v1/orders", {"nodeset": "n[1-2]", "kind": "sync", "full": True}, token=operate).json
    assert asked["nodes"] == "n[1-2]"
    told = head.ask("GET", f"/api/v1/orders/{asked['orders'][1]}", token=operate).json
    assert (told["node"], told["kind"], told["full"], told["done"]) == ("n2", "sync", True, None)


def test_a_channel_moves_and_is_told_in_the_stream(head: Serving) -> None:
    admin = head.token("admin")
    path = "/api/v1/images/compute/channels/stable"
    with head.listening("?kind=published", token=admin, last=0) as stream:
        assert next(stream)[2]["text"] == "generation 1"
        assert head.ask("PUT", path, {"generation": 2}, token=admin).json == {
            "name": "compute@stable", "before": 1, "after": 2,
        }  # fmt: skip
        kind, _, row = next(stream)
        assert (kind, row["subject"], row["text"]) == ("published", "compute@stable", "generation 2 (was 1)")
        assert head.ask("PUT", path, {"generation": None}, token=admin).json["after"] == 1
        moves = (row["text"] for _, _, row in stream if row["text"] != "deltas made")
        assert next(moves) == "generation 1 (was 2)"
    assert head.ask("PUT", path, {"generation": 9}, token=admin).status == 404


# --- the stream


def test_the_stream_is_live_and_resumable(head: Serving) -> None:
    view = head.token("view")
    since = head.inventory.stream.newest()
    told = [Event(time=STARTED, stage="apply", outcome="note", message=f"{at}") for at in range(10)]
    with head.listening("?kind=event", token=view) as stream:
        writer = threading.Timer(0.3, head.inventory.history.record_events, (1, told))
        writer.start()
        first = list(islice(stream, 4))
        writer.join()
    assert [row["text"] for _, _, row in first] == ["0", "1", "2", "3"]
    with head.listening("?kind=event", token=view, last=first[-1][1]) as stream:
        assert [row["text"] for _, _, row in islice(stream, 6)] == ["4", "5", "6", "7", "8", "9"]
    with head.listening(f"?kind=event&since={since}&node=n1", token=view) as stream:
        assert [each for each, _, _ in islice(stream, 10)] == ["event"] * 10
    page = head.ask("GET", f"/api/v1/events?since={since}&kind=event&limit=3", token=view).json
    assert [row["text"] for row in page["events"]] == ["0", "1", "2"]
    rest = head.ask("GET", f"/api/v1/events?since={page['next']}&kind=event", token=view).json
    assert [row["text"] for row in rest["events"]] == ["3", "4", "5", "6", "7", "8", "9"]
    assert rest["next"] == rest["newest"]


def test_who_was_away_too_long_is_told_so(head: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "BACKLOG_ROWS", 2)
    newest = head.inventory.stream.newest()
    with head.listening(token=head.token("view"), last=0) as stream:
        kind, place, left_out = next(stream)
        assert (kind, place, left_out) == ("skipped", newest - 2, {"after": 0, "until": newest - 2})
        assert [at for _, at, _ in islice(stream, 2)] == [newest - 1, newest]


def test_a_quiet_stream_beats_and_many_listeners_are_bounded(head: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    import http.client

    monkeypatch.setattr(live, "HEARTBEAT_S", 0.2)
    monkeypatch.setattr(live, "MOST_LISTENERS", 1)
    newest = head.inventory.stream.newest()
    line = http.client.HTTPConnection("127.0.0.1", head.port, timeout=90)
    keys = {"Accept": "text/event-stream", "Authorization": f"Bearer {head.token('view')}"}
    line.request("GET", "/api/v1/events", headers=keys)
    response = line.getresponse()
    lines = [response.readline() for _ in range(8)]
    assert b": alive\n" in lines
    assert b"id: %d\n" % max(newest, head.inventory.stream.newest()) in lines[4:]
    busy = head.ask("GET", "/api/v1/events", headers=keys)
    assert (busy.status, busy.headers["retry-after"]) == (503, "5")
    response.close()
    line.close()


# --- metrics and the description

_SAMPLE = re.compile(
    r'([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\"n])*",?)*)\})? (-?[0-9.e+-]+|NaN)'
)


def parsed(text: str) -> dict[str, dict[str, float]]:
    """Prometheus text read strictly: HELP, TYPE, then samples of that one family, each label set once."""
    assert text.endswith("\n")
    found: dict[str, dict[str, float]] = {}
    current = kind = ""
    lines = text.splitlines()
    for at, line in enumerate(lines):
        if line.startswith("# HELP "):
            current = line.split(" ", 3)[2]
            assert current not in found, "a family is told once"
            found[current] = {}
            assert lines[at + 1].startswith(f"# TYPE {current} ")
        elif line.startswith("# TYPE "):
            kind = line.split(" ")[3]
            assert kind in ("gauge", "counter")
        else:
            sample = _SAMPLE.fullmatch(line)
            assert sample, line
            assert sample[1] == current
            assert (sample[2] or "") not in found[current]
            found[current][sample[2] or ""] = float(sample[3])
    return found


def test_metrics_are_sound_prometheus_text(head: Serving) -> None:
    answer = head.ask("GET", "/metrics", token=head.token("view"))
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found = parsed(answer.text)
    assert found["sis_nodes"]['state="drifted"'] == 2
    assert found["sis_drifted_paths"][""] == 2
    assert found["sis_moved_bytes_total"]['from="fetched"'] == 14
    assert found["sis_reports_total"]['kind="check",outcome="ok"'] == 2
    assert set(found["sis_node_last_report_timestamp_seconds"]) == {'node="n1"', 'node="n2"'}
    assert parsed(exposition(head.inventory))


def test_the_grafana_dashboard_asks_only_for_what_is_there(head: Serving) -> None:
    path = Path(__file__).parents[2] / "docs" / "grafana-dashboard.json"
    asked = set(re.findall(r"\b(?:sis|process)_[a-z_]+\b", path.read_text()))
    assert asked
    assert asked <= set(parsed(exposition(head.inventory)))
    json.loads(path.read_text())


def test_every_admin_call_is_described_with_its_role_and_answers(head: Serving) -> None:
    described = head.ask("GET", "/api/v1/openapi.json").json
    calls = [
        (path, call)
        for path, methods in described["paths"].items()
        for call in methods.values()
        if call.get("tags") == ["admin"]
    ]
    assert len(calls) >= 17
    for path, call in calls:
        assert call["x-sis-role"] in ("view", "operate", "admin"), path
        assert {"200", "401", "403"} <= set(call["responses"]), path
        assert {"token": []} in call["security"]
        assert call["description"], path
    references = set(re.findall(r"#/components/schemas/([A-Za-z_]+)", json.dumps(described)))
    assert references <= set(described["components"]["schemas"])
    secured = {"token", "node", "session"}
    assert secured <= set(described["components"]["securitySchemes"])


def test_what_is_no_plain_file_among_the_refs_holds_no_one_up(head: Serving) -> None:
    import os

    folder = head.state / "store" / "refs"
    os.mkfifo(folder / "pipe")
    (folder / "link").symlink_to(head.state / "state.db")
    view = head.token("view")
    assert [each["name"] for each in head.ask("GET", "/api/v1/images", token=view).json] == ["compute"]
    assert head.ask("GET", "/api/v1/images/pipe", token=view).status == 404
