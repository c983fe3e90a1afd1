"""Drives rollouts: what is known of their nodes goes into the pure step, what it asks for is done, in one transaction.

Everything it needs is in SQL, so a head that was killed goes on where it was.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from anyio import to_thread
from sqlalchemy.engine import Connection

from configurator import windows
from sis.errors import SisError
from sis.head.drains import Drains, Hooks, hooks_of
from sis.head.renders import Renders
from sis.head.rollouts_node import Ask, Known, Rules
from sis.head.rollouts_step import Step, Told, step
from sis.image.store import reference
from sis.inventory import access, history, node_read, node_write, orders, rollouts, schema, settings
from sis.inventory.clock import now
from sis.inventory.db import Inventory
from sis.inventory.model import Assignment, StoredReport
from sis.inventory.nodes import Change
from sis.inventory.profile import read_profile
from sis.inventory.rollout import ENDED, Held, Rollout, RolloutNode
from sis.inventory.stream import append, row

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.5
QUIET_EVERY_S = 3.0
"""How often rollouts are looked at when nothing has happened: time alone moves them too."""
SETTLE_EVERY_S = 30.0
RESTS = 4
"""So many times as long as a round took nothing is looked at."""
REACH_S = 120.0
"""A node that gave no sign of life for so long is not reachable; agents ask at least every 30 s."""

_ORDERS: tuple[Ask, ...] = ("sync", "stage", "reboot")
_KINDS = {"asked": ("install",), "rebooting": ("check", "sync"), "staged": ("check", "sync")}


@dataclass(frozen=True, slots=True)
class Senses:
    """What the driver knows besides SQL. `blind`: the head was away, so that no one was seen is no one's fault."""

    hooks: Hooks = field(default_factory=Hooks)
    drained: Callable[[str], str] = lambda _: ""
    blind: bool = False


class Driver:
    """Moves every open rollout on, for as long as the head runs."""

    def __init__(self, inventory: Inventory, renders: Renders) -> None:
        self._inventory = inventory
        self._renders = renders
        self.drains = Drains()
        self._stopping = asyncio.Event()
        self._sighted = time.monotonic() + REACH_S
        self._newest = -1
        self._quiet_until = 0.0
        self._settled = 0.0
        self._rests_until = 0.0

    def stop(self) -> None:
        self._stopping.set()
        self.drains.stop()

    async def follow(self) -> None:
        while not self._stopping.is_set():
            try:
                await to_thread.run_sync(self.look)
            except SisError as fault:
                log.warning("rollouts: %s", fault.message)
            except Exception:  # a fault of ours in one round must not end all rounds, nor go unseen
                log.exception("rollouts: a round failed; the next one tries again")
            try:
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._stopping.wait()
            except TimeoutError:
                pass

    def look(self) -> None:
        """One round: nothing but a query while no rollout is open or nothing has happened."""
        moment = time.monotonic()
        if moment < self._rests_until:
            return
        if moment >= self._settled:
            self._settled = moment + SETTLE_EVERY_S
            settle_holds(self._inventory, self._renders)
        open_ids = self._inventory.rollouts.open()
        if not open_ids:
            return
        newest = self._inventory.stream.newest()
        if newest == self._newest and moment < self._quiet_until:
            return
        self._newest, self._quiet_until = newest, moment + QUIET_EVERY_S
        senses = Senses(hooks_of(self._inventory), self.drains.state, blind=moment < self._sighted)
        for rollout_id in open_ids:
            is_due = True
            while is_due:
                after = move(self._inventory, rollout_id, senses)
                self._run_hooks(after, senses.hooks)
                is_due = after.is_next_due
        # Thousands of nodes at work make many rows: what is looked at less often is seen to all the same.
        self._rests_until = time.monotonic() + RESTS * (time.monotonic() - moment)

    def _run_hooks(self, after: Step, hooks: Hooks) -> None:
        for node_id, ask in after.asks:
            name = after.nodes[node_id].name
            if ask == "drain":
                self.drains.drain(name, hooks)
            elif ask == "undrain":
                self.drains.undrain(name, hooks)


def move(inventory: Inventory, rollout_id: int, senses: Senses) -> Step:
    """One step of one rollout: looked at, decided, done and told, all in one transaction; none when all stays."""
    with inventory.database.read() as connection:
        rollout = rollouts.load(connection, rollout_id)
        members = rollouts.nodes_of(connection, rollout_id)
        known, rules = look_at(connection, rollout, members, senses)
        after = step(rollout, members, known, rules)
    if after.rollout == rollout and not after.asks and tuple(after.nodes.values()) == members:
        return after
    with inventory.database.write() as connection:
        rollout = rollouts.load(connection, rollout_id, lock=True)
        members = rollouts.nodes_of(connection, rollout_id)
        known, rules = look_at(connection, rollout, members, senses)
        after = step(rollout, members, known, rules)
        carry_out(connection, rollout, members, after)
        return after


def look_at(
    connection: Connection,
    rollout: Rollout,
    members: Collection[RolloutNode],
    senses: Senses,
    *,
    everyone: bool = False,
) -> tuple[dict[int, Known], Rules]:
    """What is known of the nodes whose turn has come and that have not come to an end, or of everyone."""
    rules = Rules(rollout.plan, now(), drains=bool(senses.hooks.drain))
    concerned = [
        node
        for node in members
        if everyone or node.state == "failed" or (node.state not in ENDED and node.wave <= rollout.wave)
    ]
    ids = [node.node_id for node in concerned]
    states = {each.node_id: each for each in _rows(connection, schema.states, ids)}
    armed = {each.node_id for each in _rows(connection, schema.armings, ids)}
    beginning = [node.node_id for node in concerned if node.state in ("waiting", "put-off")]
    closed = {} if rollout.plan.ignore_windows else _closed_windows(connection, beginning)
    newest = history.newest_report_ids(connection, ids)
    asked = {each.id: each for each in orders.load(connection, [n.order_id for n in concerned if n.order_id])}
    answers = history.reports_of(connection, [each.report_id for each in asked.values() if each.report_id])
    later = _later_reports(connection, rollout, concerned, newest)
    known = {}
    for node in concerned:
        state = states.get(node.node_id)
        order = asked.get(node.order_id) if node.order_id else None
        answered = answers.get(order.report_id) if order is not None and order.report_id else None
        known[node.node_id] = Known(
            state=state.state if state is not None else "defined",
            reason=state.reason if state is not None else "",
            reachable=senses.blind or is_recent(state.seen if state is not None else None),
            armed=node.node_id in armed,
            order=order,
            report=later.get(node.node_id, answered),
            newest_report_id=newest.get(node.node_id),
            window=closed.get(node.node_id, ""),
            drained=senses.drained(node.name) if node.state == "draining" else "",
        )
    return known, rules


def carry_out(connection: Connection, before: Rollout, members: Collection[RolloutNode], after: Step) -> None:
    """Write the step down and do what it asks for; hooks are the head's own, and run after the transaction."""
    moment = after.rules.now
    was = {node.node_id: node for node in members}
    asked: dict[Ask, list[int]] = {}
    for node_id, ask in after.asks:
        asked.setdefault(ask, []).append(node_id)
    taken_back = [after.nodes[node_id].order_id for node_id in asked.get("cancel", ())]
    orders.cancel(connection, [each for each in taken_back if each], "taken back by its rollout")
    armed = {each.node_id for each in _rows(connection, schema.armings, asked.get("disarm", ()))}
    if armed:
        access.disarm(connection, armed)
    for which in ("target", "before"):
        held = {}
        for node_id in asked.get(f"hold-{which}", ()):  # type: ignore[call-overload]
            version = held_of(after.nodes[node_id], which)
            if version is not None:
                held[node_id] = version
        if held:
            rollouts.hold(connection, held, before.id, moment)
    rollouts.let_go(connection, asked.get("let-go", ()))
    if asked.get("arm"):
        access.arm(connection, asked["arm"], allow_foreign_disk=before.plan.allow_foreign_disk)
    for kind in _ORDERS:
        ids = asked.get(kind, [])
        made = orders.create(connection, ids, kind) if ids else ()  # type: ignore[arg-type]
        for node_id, order_id in zip(ids, made, strict=True):
            if kind != "reboot":
                after.nodes[node_id] = replace(after.nodes[node_id], order_id=order_id)
    if after.rollout.state == "done" and before.state != "done":
        _settle(connection, after)
    rollouts.save_nodes(connection, [node for node in after.nodes.values() if was.get(node.node_id) != node])
    if after.rollout != before:
        rollouts.save(connection, after.rollout)
    tell(connection, [(before.id, told) for told in after.told])


def tell(connection: Connection, rows: Sequence[tuple[int, Told]]) -> None:
    """Rows of the stream, each of a rollout by its id."""
    append(
        connection,
        [
            row(
                "rollout",
                told.node_id,
                subject=f"rollout {rollout_id}",
                what=told.what,
                outcome=told.outcome,
                text=told.text,
                ref=rollout_id,
                size_bytes=told.bytes,
                seconds=told.seconds,
            )
            for rollout_id, told in rows
        ],
    )


def held_of(node: RolloutNode, which: str) -> Held | None:
    """The version a node of a rollout aims at ("target") or had ("before")."""
    name, version = (node.target, node.target_version) if which == "target" else (node.before, node.before_version)
    image, _, generation = name.rpartition("@")
    return Held(image, int(generation), version) if version else None


def settle_holds(inventory: Inventory, renders: Renders) -> None:
    """Let go of nodes that a rollout of the past holds to what their assignment means by now."""
    holds = inventory.rollouts.holds()
    if not holds:
        return
    open_ids = set(inventory.rollouts.open())
    settled = []
    for node in inventory.nodes.list(list(holds)):
        if node.hold is None or node.hold.rollout_id in open_ids or node.assignment is None:
            continue
        try:
            wanted = renders.image(replace(node, hold=None))
        except SisError:
            continue
        if wanted.version_id == node.hold.held.version:
            settled.append(node.id)
    if settled:
        with inventory.database.write() as connection:
            rollouts.let_go(connection, settled)


def _settle(connection: Connection, after: Step) -> None:
    """The rollout is done: its nodes follow their assignment again, which is the image the rollout was for."""
    members = [node for node in after.nodes.values() if node.state != "left" or node.begun or node.order_id]
    rollouts.let_go_of(connection, after.rollout.id)
    if not after.rollout.plan.image:
        return
    wanted = reference.parse(after.rollout.plan.image)

    def assign(known: Assignment | None) -> Assignment:
        selector = after.rollout.plan.image.partition("@")[2]
        return Assignment(wanted.image, selector, known.layout if known else None)

    defined = node_read.load(connection, [node.name for node in members])
    node_write.rewrite_nodes(connection, defined, [Change(assignment=assign).of(node) for node in defined])
    settings.touch(connection)


def _later_reports(
    connection: Connection, rollout: Rollout, members: Collection[RolloutNode], newest: Mapping[int, int]
) -> dict[int, StoredReport]:
    """The newest report after the one that counted last, of nodes whose step waits for one that answers no order."""
    found: dict[int, StoredReport] = {}
    for state, kinds in _KINDS.items():
        if state == "asked" and rollout.plan.method != "install":
            continue
        news = [node for node in members if node.state == state and newest.get(node.node_id, 0) > (node.report_id or 0)]
        ids = history.newest_report_ids(connection, [node.node_id for node in news], kinds)
        reports = history.reports_of(connection, ids.values())
        for node in news:
            report = reports.get(ids.get(node.node_id, 0))
            if report is not None and report.id > (node.report_id or 0):
                found[node.node_id] = report
    return found


def _closed_windows(connection: Connection, node_ids: Collection[int]) -> dict[int, str]:
    """Of the nodes whose maintenance windows are all closed: when the next one opens, in words."""
    moment = datetime.now(UTC)
    closed = {}
    for each in _rows(connection, schema.nodes, node_ids, key="id"):
        if not each.data.get("windows"):
            continue
        profile = read_profile(each.data, each.name)
        if not windows.is_open(profile.windows, moment, profile.timezone):
            opening = windows.next_opening(profile.windows, moment, profile.timezone)
            shown = opening.astimezone(windows.zone_of(profile.timezone)).strftime("%a %Y-%m-%d %H:%M")
            closed[each.id] = f"opens {shown} {profile.timezone}"
    return closed


def is_recent(seen: str | None) -> bool:
    """Whether a node last seen then is taken for reachable."""
    if not seen:
        return False
    return (datetime.now(UTC) - datetime.fromisoformat(seen)).total_seconds() < REACH_S


def _rows(connection: Connection, table: sa.Table, ids: Collection[int], *, key: str = "node_id") -> list[Any]:
    wanted = list(ids)
    found: list[Any] = []
    for at in range(0, len(wanted), 500):
        found += connection.execute(sa.select(table).where(table.c[key].in_(wanted[at : at + 500])))
    return found
