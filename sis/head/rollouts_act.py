"""What can be done with rollouts: planned and looked at, made, paused, resumed, aborted. Each is one transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
from sqlalchemy.engine import Connection

from sis.errors import NotFound, Refused, SisError, UsageFault
from sis.head import installs, rollouts_drive, rollouts_step, waves
from sis.head.drains import hooks_of
from sis.head.installs import Install
from sis.head.renders import Renders
from sis.head.rollouts_drive import Senses
from sis.head.rollouts_node import Known, Rules
from sis.head.rollouts_step import Step, Told
from sis.image.store.reference import Resolved
from sis.inventory import access, acting, orders, rollouts
from sis.inventory.clock import now
from sis.inventory.db import Inventory
from sis.inventory.model import Assignment, Node
from sis.inventory.names import fold
from sis.inventory.rollout import TIMEOUT_S, Held, Hold, Method, Plan, RebootPolicy, Rollout, RolloutNode

NEVER_INSTALLED = "was never installed"


@dataclass(frozen=True, slots=True)
class Planned:
    """A rollout as it would be. `installs` are what an install does to each node; `taken_over`: from open rollouts."""

    nodes: tuple[Node, ...]
    plan: Plan
    members: tuple[RolloutNode, ...]
    installs: tuple[Install, ...]
    taken_over: Mapping[int, tuple[str, ...]]


def wanted(
    method: Method | None = None,
    *,
    canary: str = "",
    then: Sequence[str] = (),
    max_fail: str | None = None,
    image: str = "",
    reboot: RebootPolicy = "when-needed",
    at_boot: bool = False,
    allow_foreign_disk: bool = False,
    ignore_windows: bool = False,
    timeout_s: float = TIMEOUT_S,
) -> Plan:
    """The plan these words mean.

    Without waves an install, and whatever fails is borne; in waves a resync, which wipes nothing, and no failure is
    borne: unless it is said otherwise. Raises UsageFault.
    """
    in_waves = bool(canary or then)
    chosen = method or ("sync" if in_waves else "install")
    borne = max_fail if max_fail is not None else "0" if in_waves else ""
    return check_plan(
        Plan(
            method=chosen,
            canary=canary,
            then=tuple(then),
            max_fail=borne,
            image=image,
            reboot=reboot,
            at_boot=at_boot,
            allow_foreign_disk=allow_foreign_disk,
            ignore_windows=ignore_windows,
            timeout_s=timeout_s,
        )
    )


def check_plan(plan: Plan) -> Plan:
    """The plan itself. Raises UsageFault for amounts that are none, and for what cannot go together."""
    for amount, option in ((plan.canary, "--canary"), (plan.max_fail, "--max-fail")):
        if amount:
            waves.check_amount(amount, option)
    for amount in plan.then:
        waves.check_amount(amount, "--then")
    if plan.canary in ("0", "0%") or any(amount in ("0", "0%") for amount in plan.then):
        raise UsageFault("a wave of no nodes", hint="leave the option out, or give at least 1")
    if plan.at_boot and plan.method == "install":
        raise UsageFault("--at-boot is for resyncs: an install happens at a boot anyway", hint="leave out --at-boot")
    if plan.allow_foreign_disk and plan.method == "sync":
        raise UsageFault("a resync touches no disk layout", hint="leave out --allow-foreign-disk, or say --reinstall")
    return plan


def plan(state: Path, inventory: Inventory, renders: Renders, nodeset: str, asked: Plan) -> Planned:
    """What a rollout would be; nothing is changed.

    Raises Refused with every hindrance of all nodes, NotFound, UsageFault.
    """
    check_plan(asked)
    nodes = inventory.nodes.select(nodeset)
    aimed, targets, faults = _aim(renders, nodes, asked)
    planned = tuple(installs.plan(state, renders, aimed)) if asked.method == "install" else ()
    if faults:
        raise Refused("these nodes have nothing to be made equal to, nothing was begun", details=faults)
    with inventory.database.read() as connection:
        if asked.method == "install":
            access.refuse_quarantined(connection, [node.id for node in nodes])
        good = rollouts.last_good_of(connection, [node.id for node in nodes])
        open_places = rollouts.unfinished_of(connection, [node.id for node in nodes])
    if asked.method == "sync":
        _refuse_bare(nodes)
    candidates = [_candidate(node) for node in nodes]
    made = waves.waves(candidates, asked)
    settled = msgspec.structs.replace(asked, whys=tuple(wave.why for wave in made))
    by_name = {node.name: node for node in nodes}
    moment = now()
    members = tuple(
        _member(by_name[name], number, position, targets[name], good, moment)
        for number, wave in enumerate(made)
        for position, name in enumerate(wave.names)
    )
    taken: dict[int, list[str]] = {}
    for place in open_places:
        taken.setdefault(place.rollout_id, []).append(place.name)
    return Planned(nodes, settled, members, planned, {each: tuple(names) for each, names in taken.items()})


def make(inventory: Inventory, planned: Planned) -> Rollout:
    """Make the rollout and take its first step: orders and armings are there when this returns.

    Raises Refused when a node to be installed is quarantined.
    """
    senses = Senses(hooks_of(inventory))
    with inventory.database.write() as connection:
        made = rollouts.insert(
            connection,
            who=acting.current().who,
            nodeset=fold(node.name for node in planned.nodes),
            plan=planned.plan,
            nodes=planned.members,
            moment=now(),
        )
        _take_over(connection, planned, made.id)
        members = rollouts.nodes_of(connection, made.id)
        if planned.plan.method == "sync":
            before = {node.node_id: rollouts_drive.held_of(node, "before") for node in members}
            rollouts.hold(connection, {node: held for node, held in before.items() if held}, made.id, now())
        known, rules = rollouts_drive.look_at(connection, made, members, senses)
        first = rollouts_step.start(made, members, known, rules)
        rollouts_drive.carry_out(connection, made, members, first)
        return first.rollout


def pause(inventory: Inventory, rollout_id: int) -> Rollout:
    """Begin no more nodes; those at work come to their end. Raises NotFound, Refused when it is not running."""

    def paused(rollout: Rollout, members: Sequence[RolloutNode], known: Mapping[int, Known], rules: Rules) -> Step:
        _must_be(rollout, ("running",), "paused")
        why = f"by {acting.current().who}"
        after = Step(replace(rollout, state="paused", reason=why), _by_id(members), known, rules)
        after.told.append(Told("rollout", "note", f"paused {why}"))
        return after

    return _change(inventory, rollout_id, paused)


def resume(inventory: Inventory, rollout_id: int, *, max_fail: str | None = None) -> Rollout:
    """Go on; after a stop the nodes that failed are tried again. Raises NotFound, Refused, UsageFault."""
    if max_fail:
        waves.check_amount(max_fail, "--max-fail")

    def resumed(rollout: Rollout, members: Sequence[RolloutNode], known: Mapping[int, Known], rules: Rules) -> Step:
        _must_be(rollout, ("paused", "stopped"), "resumed")
        returning = [node.name for node in members if node.state == "returning"]
        if returning:
            raise Refused(f"{fold(returning)} still goes back", hint=f"wait for it: sis rollout status {rollout_id}")
        again = {node.node_id: node for node in rollouts_step.retry(rollout, members)}
        plan_now = rollout.plan if max_fail is None else msgspec.structs.replace(rollout.plan, max_fail=max_fail)
        going = replace(rollout, state="running", reason="", ended=None, plan=plan_now)
        after = Step(going, {**_by_id(members), **again}, known, rules)
        words = f"resumed by {acting.current().who}"
        if again:
            words += f"; tried again: {fold(node.name for node in again.values())}"
        after.told.append(Told("rollout", "note", words))
        return after

    return _change(inventory, rollout_id, resumed)


def abort(inventory: Inventory, rollout_id: int, *, back: bool = False) -> Rollout:
    """End it: what has not begun stays as it is, what failed goes back; with `back` also what is good at the target.

    Raises NotFound, Refused when it is done.
    """

    def aborted(rollout: Rollout, members: Sequence[RolloutNode], known: Mapping[int, Known], rules: Rules) -> Step:
        allowed = ("running", "paused", "stopped", "done", "aborted") if back else ("running", "paused", "stopped")
        _must_be(rollout, allowed, "aborted")
        why = f"by {acting.current().who}" + (", good nodes go back too" if back else "")
        return rollouts_step.abort(rollout, members, known, rules, why, back=back)

    return _change(inventory, rollout_id, aborted)


def number(text: str) -> int:
    """A rollout's number as typed. Raises NotFound."""
    if not text.isascii() or not text.isdecimal() or len(text) > 15:
        raise NotFound(f"no such rollout: {text}", hint="a rollout is named by its number: sis rollout list")
    return int(text)


def held_by(resolved: Resolved) -> Held:
    return Held(resolved.image, resolved.generation, resolved.version_id)


def _change(
    inventory: Inventory,
    rollout_id: int,
    work: Callable[[Rollout, Sequence[RolloutNode], Mapping[int, Known], Rules], Step],
) -> Rollout:
    senses = Senses(hooks_of(inventory))
    with inventory.database.write() as connection:
        rollout = rollouts.load(connection, rollout_id, lock=True)
        members = rollouts.nodes_of(connection, rollout_id)
        known, rules = rollouts_drive.look_at(connection, rollout, members, senses, everyone=True)
        after = work(rollout, members, known, rules)
        rollouts_drive.carry_out(connection, rollout, members, after)
        return after.rollout


def _must_be(rollout: Rollout, states: tuple[str, ...], verb: str) -> None:
    if rollout.state not in states:
        raise Refused(
            f"rollout {rollout.id} is {rollout.state}: it cannot be {verb}",
            hint=f"see: sis rollout status {rollout.id}",
        )


def _by_id(members: Sequence[RolloutNode]) -> dict[int, RolloutNode]:
    return {node.node_id: node for node in members}


def _aim(renders: Renders, nodes: Sequence[Node], asked: Plan) -> tuple[list[Node], dict[str, Resolved], list[str]]:
    """The nodes as they are to be, the version each is to hold, and a line for each fault that hinders some."""
    aimed: list[Node] = []
    found: dict[str, Resolved] = {}
    faults: dict[str, list[str]] = {}
    for node in nodes:
        wanted_node = replace(node, hold=None)
        if asked.image:
            image, _, selector = asked.image.partition("@")
            layout = node.assignment.layout if node.assignment else None
            wanted_node = replace(wanted_node, assignment=Assignment(image, selector, layout))
        try:
            target = renders.image(wanted_node)
        except SisError as fault:
            faults.setdefault(fault.message + (f" ({fault.hint})" if fault.hint else ""), []).append(node.name)
        else:
            found[node.name] = target
            wanted_node = replace(wanted_node, hold=Hold(held_by(target), "", 0))
        aimed.append(wanted_node)
    return aimed, found, [f"{fold(names)}: {text}" for text, names in faults.items()]


def _refuse_bare(nodes: Sequence[Node]) -> None:
    bare = [node.name for node in nodes if not node.state.version]
    if bare:
        raise Refused(
            f"{fold(bare)} {NEVER_INSTALLED}: there is nothing to resync",
            hint=f"install first: sis deploy {fold(bare)}, or say --reinstall for all of them",
        )


def _candidate(node: Node) -> waves.Candidate:
    image = node.assignment.image if node.assignment else ""
    sound = node.state.state == "in-sync" and rollouts_drive.is_recent(node.state.seen)
    return waves.Candidate(node.name, (image, *node.groups), sound)


def _member(
    node: Node, wave: int, position: int, target: Resolved, good: Mapping[int, Held], moment: str
) -> RolloutNode:
    state = node.state
    held = good.get(node.id) or (Held(state.image, state.generation, state.version) if state.version else None)
    return RolloutNode(
        rollout_id=0,
        node_id=node.id,
        name=node.name,
        wave=wave,
        position=position,
        state="waiting",
        since=moment,
        target=held_by(target).name,
        target_version=target.version_id,
        before=held.name if held else "",
        before_version=held.version if held else "",
    )


def _take_over(connection: Connection, planned: Planned, rollout_id: int) -> None:
    """Nodes that another rollout has not brought to an end leave it: the newer one decides."""
    places = rollouts.unfinished_of(connection, [node.id for node in planned.nodes])
    older = [place for place in places if place.rollout_id != rollout_id]
    orders.cancel(connection, [each.order_id for each in older if each.order_id], "taken over by a newer rollout")
    moment = now()
    reason = f"taken over by rollout {rollout_id}"
    rollouts.save_nodes(
        connection, [replace(each, state="left", reason=reason, since=moment, ended=moment) for each in older]
    )
    rollouts_drive.tell(connection, [(each.rollout_id, Told("node", "note", reason, each.node_id)) for each in older])
