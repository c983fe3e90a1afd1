"""What proves a node healthy after a resync or a boot: units active, ports answered, commands that end well."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable
from functools import partial

from sis.errors import SisError
from sis.system import process
from sis.wire import CommandCheck, HealthChecks, HealthResult

AGAIN_AFTER_S = 2.0
CONNECT_TIMEOUT_S = 5.0
OUTPUT_LIMIT_CHARS = 2000

Check = Callable[[], str | None]
"""None when all is well, else the end of what was said."""


def run(checks: HealthChecks, *, again_after_s: float = AGAIN_AFTER_S) -> tuple[HealthResult, ...]:
    """Every check's outcome: units, ports, commands. What fails is tried again until `timeout_s` have passed."""
    deadline = time.monotonic() + checks.timeout_s
    named: list[tuple[str, Check]] = [
        *((f"unit {unit}", partial(_unit, unit)) for unit in checks.units),
        *((f"port {port}", partial(_port, port)) for port in checks.ports),
        *((f"command {' '.join(each.run)}", partial(_command, each)) for each in checks.commands),
    ]
    results: dict[str, HealthResult] = {}
    while True:
        for name, check in named:
            if name not in results or not results[name].ok:
                results[name] = _tried(name, check)
        failed = [result for result in results.values() if not result.ok]
        if not failed or time.monotonic() + again_after_s > deadline:
            return tuple(results[name] for name, _ in named)
        time.sleep(again_after_s)


def _tried(name: str, check: Check) -> HealthResult:
    started = time.monotonic()
    said = check()
    seconds = round(time.monotonic() - started, 3)
    return HealthResult(check=name, ok=said is None, seconds=seconds, output=(said or "")[-OUTPUT_LIMIT_CHARS:])


def _unit(name: str) -> str | None:
    """Whether a unit is active; when it is not, its status, its state last."""
    try:
        state = process.run(["systemctl", "is-active", "--", name], check=False, timeout_s=30).stdout.strip()
        if state == "active":
            return None
        status = process.run(
            ["systemctl", "status", "--no-pager", "--full", "--lines=10", "--", name], check=False, timeout_s=30
        )
    except SisError as fault:
        return fault.message
    return f"{status.stdout}\n{state or 'unknown'}"


def _port(text: str) -> str | None:
    """Whether something accepts connections at a port of this node, or at "ADDRESS:PORT"."""
    address, _, number = text.rpartition(":")
    tried = (address.strip("[]"),) if address else ("127.0.0.1", "::1")
    said = ""
    for host in tried:
        try:
            with contextlib.closing(socket.create_connection((host, int(number)), CONNECT_TIMEOUT_S)):
                return None
        except (OSError, ValueError) as error:
            said = said or f"{host}: {getattr(error, 'strerror', None) or error}"
    return said


def _command(check: CommandCheck) -> str | None:
    """Whether a program ends with 0 in time; when not, the end of its output and how it ended."""
    try:
        done = process.run(check.run, check=False, timeout_s=check.timeout_s)
    except SisError as fault:
        return "\n".join([*fault.details, fault.message])
    if done.returncode == 0:
        return None
    return f"{done.stdout}{done.stderr}".rstrip() + f"\nexit code {done.returncode}"
