"""The node's standing service: waits for orders from the head and runs each in a program of its own."""

from __future__ import annotations

import logging
import os
import random
import sys
import time
from pathlib import Path

from sis.errors import Refused, SisError
from sis.node.config import read_config
from sis.node.connection import HeadConnection
from sis.system import process
from sis.wire import Order

log = logging.getLogger(__name__)

_LONGEST_WAIT_S = 60.0
REBOOT_WITHIN_S = 600.0
PROGRAM = "/usr/bin/sis-node"


def serve() -> None:
    """Say at start how this node is, then take orders until ended.

    A head that is away or refuses is asked again with growing, jittered waits.
    """
    config = read_config()
    head = HeadConnection.of(config)
    own = _stamp()
    wait_s = 1.0
    process.run([PROGRAM, "resync", "--check"], check=False, timeout_s=None, on_line=_to_journal)
    while True:
        try:
            order = head.next_order()
            wait_s = 1.0
        except Refused as error:
            log.warning("%s", error.message)
            wait_s = _LONGEST_WAIT_S
            order = None
            _pause(wait_s)
        except SisError as error:
            log.info("%s", error.message)
            order = None
            _pause(wait_s)
            wait_s = min(wait_s * 2, _LONGEST_WAIT_S)
        if order is not None:
            carry_out(order)
            if _stamp() != own:
                log.info("the node's software changed: starting anew")
                os.execv(PROGRAM, [PROGRAM, "agent"])  # noqa: S606  (this process becomes the new program)


def carry_out(order: Order) -> None:
    """Run one order to its end; its outcome reaches the head by the report of the program that runs it."""
    if order.kind == "reboot":
        if process.run(["systemctl", "reboot"], check=False).returncode == 0:
            # The next order is for the node as it comes back.
            time.sleep(REBOOT_WITHIN_S)
        return
    words = [PROGRAM, "resync", "--order", str(order.id)]
    if order.kind in ("check", "stage"):
        words.append(f"--{order.kind}")
    if order.full:
        words.append("--full")
    process.run(words, check=False, timeout_s=None, on_line=_to_journal)


def _to_journal(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _pause(seconds: float) -> None:
    time.sleep(seconds * random.uniform(0.5, 1.5))


def _stamp() -> int:
    """Changes when a resync brought another version of this program."""
    return Path(__file__).stat().st_mtime_ns
