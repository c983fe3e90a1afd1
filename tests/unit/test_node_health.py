"""Health checks on real processes and ports; units are checked in the story with virtual machines."""

from __future__ import annotations

import socket
import sys
import threading
from pathlib import Path

from sis.node import health
from sis.wire import CommandCheck, HealthChecks
from tests.ports import free_port


def test_all_well() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        found = health.run(
            HealthChecks(ports=(str(port), f"127.0.0.1:{port}"), commands=(CommandCheck(run=("true",)),), timeout_s=0)
        )
    assert [(each.check, each.ok) for each in found] == [
        (f"port {port}", True), (f"port 127.0.0.1:{port}", True), ("command true", True),
    ]  # fmt: skip


def test_what_failed_says_why() -> None:
    port = free_port()
    program = "import sys; print('scratch is full'); sys.exit(3)"
    found = health.run(
        HealthChecks(
            ports=(str(port),),
            commands=(
                CommandCheck(run=(sys.executable, "-c", program)),
                CommandCheck(run=("sis-no-such-program",)),
                CommandCheck(run=("sleep", "30"), timeout_s=0.2),
                CommandCheck(run=("echo", "$HOME; exit 1")),
            ),
            timeout_s=0,
        )
    )
    assert [each.ok for each in found] == [False, False, False, False, True]
    assert found[0].output == "127.0.0.1: Connection refused"
    assert found[1].output == "scratch is full\nexit code 3"
    assert found[2].output == "program not found: sis-no-such-program"
    assert "sleep did not end within 0 s" in found[3].output


def test_what_comes_up_late_is_waited_for(tmp_path: Path) -> None:
    sign = tmp_path / "up"
    threading.Timer(0.3, sign.touch).start()
    checks = HealthChecks(commands=(CommandCheck(run=("test", "-e", str(sign))),), timeout_s=120)
    (found,) = health.run(checks, again_after_s=0.1)
    assert found.ok


def test_the_output_is_bounded() -> None:
    program = "print('x' * 100_000); raise SystemExit(1)"
    (found,) = health.run(HealthChecks(commands=(CommandCheck(run=(sys.executable, "-c", program)),), timeout_s=0))
    assert len(found.output) == health.OUTPUT_LIMIT_CHARS
    assert found.output.endswith("exit code 1")


def test_no_checks_no_results() -> None:
    assert health.run(HealthChecks()) == ()
