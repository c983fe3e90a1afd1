"""`sis events`, `drift`, `audit`, `token` and `web`, on a real inventory; and the head's socket as a process has it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sis.cli import main
from sis.inventory import db
from sis.inventory.db import Inventory
from sis.inventory.model import NewNode
from sis.sync.model import Change
from sis.wire import Report
from tests.ports import free_port
from tests.unit.test_head_run import running


@pytest.fixture
def inventory(tmp_path: Path) -> Iterator[Inventory]:
    with db.open(tmp_path / "state.db") as opened:
        opened.nodes.add([NewNode("n1"), NewNode("n2")])
        yield opened


def sis(state: Path, *words: str) -> Result:
    return CliRunner().invoke(main, ["--state", str(state), *words])


def test_events_are_shown_oldest_first_and_filtered(inventory: Inventory, tmp_path: Path) -> None:
    assert sis(tmp_path, "events").output == ""
    inventory.access.arm([1, 2])
    table = sis(tmp_path, "events", "--node", "n2").output
    assert [line.split()[2:5] for line in table.splitlines()] == [
        ["KIND", "NODE", "WHAT"], ["arming", "n2", "armed"], ["state", "n2", "armed"],
    ]  # fmt: skip
    rows = json.loads(sis(tmp_path, "events", "--kind", "state", "--since", "1", "-o", "json").output)
    assert [(row["kind"], row["node"], row["subject"]) for row in rows] == [
        ("state", "n1", "defined"), ("state", "n2", "defined"),
    ]  # fmt: skip
    wrong = sis(tmp_path, "events", "--kind", "gossip")
    assert (wrong.exit_code, wrong.stderr.splitlines()[0]) == (2, "sis: no such kind: gossip")
    assert "no such node: n9" in sis(tmp_path, "events", "--node", "n9").stderr


def test_events_are_followed_until_interrupted(inventory: Inventory, tmp_path: Path) -> None:
    argv = [
        sys.executable,
        "-m",
        "sis",
        "--state",
        str(tmp_path),
        "events",
        "--follow",
        "--kind",
        "state",
        "-o",
        "json",
    ]
    inventory.access.arm([1])
    child = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    guard = threading.Timer(120, child.kill)
    guard.start()
    try:
        assert child.stdout is not None
        assert json.loads(child.stdout.readline())["node"] == "n1"
        inventory.access.arm([2])
        assert json.loads(child.stdout.readline())["node"] == "n2"
        child.send_signal(signal.SIGINT)
        _, told = child.communicate(timeout=90)
        assert (child.returncode, told) == (130, "\nsis: interrupted\n")
    finally:
        guard.cancel()
        child.kill()
        child.wait()


def test_drift_is_folded_and_told_by_exit_code(inventory: Inventory, tmp_path: Path) -> None:
    clean = sis(tmp_path, "drift")
    assert (clean.exit_code, clean.output) == (0, "no drift is known\n")
    change = Change(action="update", path="/etc/a\nb", what=("content",))
    for node_id in (1, 2):
        report = Report(
            kind="check", outcome="ok", in_sync=False, image="compute", generation=1, version="x",
            started="2026-01-01T00:00:00.000Z", seconds=1, changes=(change,),
        )  # fmt: skip
        inventory.history.record_report(node_id, report)
    done = sis(tmp_path, "drift")
    assert (done.exit_code, done.stdout) == (4, "n[1-2] update /etc/a\\x0ab (content)\n")
    assert done.stderr == "sis: 2 nodes differ: n[1-2]\nhint: repair: sis sync n[1-2]\n"
    assert json.loads(sis(tmp_path, "drift", "-o", "json").stdout)[0]["count"] == 2


def test_tokens_are_made_listed_and_revoked(inventory: Inventory, tmp_path: Path) -> None:
    token = sis(tmp_path, "token", "add", "grafana").output.strip()
    known = inventory.admins.by_token(token)
    assert known is not None
    assert known.role == "view"
    listed = sis(tmp_path, "token", "list").output
    assert "grafana" in listed
    assert token not in listed
    assert sis(tmp_path, "token", "add", "grafana").exit_code == 2
    assert sis(tmp_path, "token", "revoke", "grafana").output == "token grafana is void\n"
    assert inventory.admins.by_token(token) is None


def test_a_login_address_is_printed_for_where_the_head_is(inventory: Inventory, tmp_path: Path) -> None:
    address = sis(tmp_path, "web", "login", "--role", "operate", "--name", "ada").output.strip()
    base, _, code = address.partition("/login?code=")
    assert base == "http://127.0.0.1:8700"
    session = inventory.admins.log_in(code)
    assert session
    known = inventory.admins.by_session(session)
    assert known is not None
    assert (known.name, known.role) == ("ada", "operate")
    assert sis(tmp_path, "web", "logout").output == "1 session ended\n"
    assert inventory.admins.by_session(session) is None
    other = sis(tmp_path, "web", "login", "--url", "https://head.example/")
    assert other.output.startswith("https://head.example/login?code=")


def test_the_audit_log_is_listed(inventory: Inventory, tmp_path: Path) -> None:
    inventory.audit.begin("eve", "view", "token", "deploy", "n1", outcome="refused")
    (entry,) = json.loads(sis(tmp_path, "audit", "-o", "json").output)
    assert (entry["who"], entry["action"], entry["outcome"]) == ("eve", "deploy", "refused")


def test_a_running_head_has_its_socket_and_ends_with_listeners(tmp_path: Path) -> None:
    import http.client
    import socket

    assert sis(tmp_path, "head", "init").exit_code == 0
    port = free_port()
    local = tmp_path / "run" / "api.sock"
    with running(tmp_path, "--listen", f"127.0.0.1:{port}") as child:
        line = http.client.HTTPConnection("head", timeout=90)
        line.sock = socket.socket(socket.AF_UNIX)
        line.sock.connect(str(local))
        line.request("GET", "/api/v1/events", headers={"Accept": "text/event-stream"})
        assert line.getresponse().status == 200
        assert sis(tmp_path, "web", "login").output.startswith(f"http://127.0.0.1:{port}/login?code=")
        child.send_signal(signal.SIGTERM)
        assert child.wait(90) == 0
        line.close()
    assert not local.exists()
