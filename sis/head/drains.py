"""Hooks that empty a node of work before it is changed, and take it back into service: the site's own programs.

`drain NODE` ends with 0 when the node is drained, with 75 when it is not yet (it is asked again), else it failed;
`undrain NODE` with 0. They may be run more than once for the same node.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from sis.errors import SisError
from sis.inventory.db import Inventory
from sis.system import process

log = logging.getLogger(__name__)

NOT_YET = 75
"""EX_TEMPFAIL of sysexits.h."""
TIMEOUT_S = 3600.0
AGAIN_AFTER_S = 10.0
UNDRAIN_TIMEOUT_S = 300.0
AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Hooks:
    """What the inventory's settings name; empty: none. The node's name is the last argument of each."""

    drain: tuple[str, ...] = ()
    undrain: tuple[str, ...] = ()
    timeout_s: float = TIMEOUT_S
    again_after_s: float = AGAIN_AFTER_S


def hooks_of(inventory: Inventory) -> Hooks:
    """The settings `drain`, `undrain` (argument lists) and `drain_timeout_s`."""
    known = inventory.settings.all()
    return Hooks(
        tuple(known.get("drain") or ()),
        tuple(known.get("undrain") or ()),
        float(known.get("drain_timeout_s") or TIMEOUT_S),
        AGAIN_AFTER_S,
    )


class Drains:
    """Hooks that run now and what came of them, by node; forgotten when the head ends, which then runs them again."""

    def __init__(self) -> None:
        self._states: dict[str, str] = {}
        self._guard = threading.Lock()
        self._slots = threading.Semaphore(AT_ONCE)
        self._stopping = threading.Event()

    def stop(self) -> None:
        self._stopping.set()

    def state(self, node: str) -> str:
        """ "" when no hook was run, "waiting", "done", or why it failed."""
        with self._guard:
            return self._states.get(node, "")

    def drain(self, node: str, hooks: Hooks) -> None:
        """Begin to drain a node; ask `state` how far it is."""
        with self._guard:
            if self._states.get(node) == "waiting":
                return
            self._states[node] = "waiting"
        self._in_background(lambda: self._drain(node, hooks), node)

    def undrain(self, node: str, hooks: Hooks) -> None:
        """Take a node back into service; a hook that fails is logged."""
        with self._guard:
            self._states.pop(node, None)
        if hooks.undrain:
            self._in_background(lambda: self._undrain(node, hooks), node)

    def _in_background(self, work: object, node: str) -> None:
        assert callable(work)
        # A daemon: a hook that hangs holds up no head that is to end.
        threading.Thread(target=work, name=f"hook {node}", daemon=True).start()

    def _drain(self, node: str, hooks: Hooks) -> None:
        deadline = time.monotonic() + hooks.timeout_s
        while not self._stopping.is_set():
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                self._put(node, f"not drained within {hooks.timeout_s:.0f} s")
                return
            outcome = self._run(hooks.drain, node, left_s)
            if outcome != "not yet":
                self._put(node, outcome or "done")
                return
            self._stopping.wait(min(hooks.again_after_s, max(left_s, 0.0)))

    def _undrain(self, node: str, hooks: Hooks) -> None:
        outcome = self._run(hooks.undrain, node, UNDRAIN_TIMEOUT_S)
        if outcome:
            log.warning("undrain of %s: %s", node, outcome)

    def _run(self, hook: Sequence[str], node: str, timeout_s: float) -> str:
        """ "" when it went well, "not yet", or why it failed."""
        with self._slots:
            try:
                done = process.run([*hook, node], check=False, timeout_s=timeout_s)
            except SisError as fault:
                return fault.message
        if done.returncode in (0, NOT_YET):
            return "not yet" if done.returncode else ""
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        return f"{hook[0]} ended with {done.returncode}" + (f": {said[-1]}" if said else "")

    def _put(self, node: str, state: str) -> None:
        with self._guard:
            if node in self._states:
                self._states[node] = state
