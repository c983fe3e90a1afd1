"""What API, console and commands show of rollouts, as frozen values: rows of lists, one rollout whole, its forecast."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sis.head.rollouts_step import seconds_between
from sis.inventory.clock import now
from sis.inventory.db import Inventory
from sis.inventory.model import Occurrence
from sis.inventory.names import fold, natural_key
from sis.inventory.rollout import ENDED, FAILED, UNDER_WAY, Plan, Rollout, RolloutNode, Tally

TOLD_ROWS = 300


@dataclass(frozen=True, slots=True)
class RolloutRow:
    """A rollout in a list.

    state     running, paused, stopped (too many failed), aborted (by an admin), done
    target    what its nodes are to hold: "compute@12", several with commas
    wave      the one under way, from 1, of `waves`
    failed    also those that are going back, or are back, at what they held before
    eta_s     about how many seconds are left, by what took how long so far; None: not known, or nothing is left
    command   the command that asked for it
    """

    id: int
    state: str
    reason: str
    method: str
    target: str
    nodeset: str
    who: str
    created: str
    ended: str | None
    wave: int
    waves: int
    total: int
    good: int
    failed: int
    under_way: int
    put_off: int
    waiting: int
    left: int
    bytes: int
    seconds: float
    eta_s: float | None
    command: str


@dataclass(frozen=True, slots=True)
class WaveRow:
    """One wave. `number` from 1; state: waiting, running, done, failed; `why`: how its nodes were chosen."""

    number: int
    state: Literal["waiting", "running", "done", "failed"]
    nodes: str
    total: int
    good: int
    failed: int
    why: str
    bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class NodeGroup:
    """Nodes alike, folded: same wave, step and reason. `first` is the one to look at; `since` the earliest of them."""

    nodes: str
    count: int
    first: str
    wave: int
    step: str
    reason: str
    target: str
    before: str
    since: str
    bytes: int


@dataclass(frozen=True, slots=True)
class NodePlace:
    """One node's place in a rollout."""

    node: str
    wave: int
    step: str
    reason: str
    target: str
    before: str
    since: str
    begun: str | None
    ended: str | None
    bytes: int


@dataclass(frozen=True, slots=True)
class RolloutDetail:
    """A rollout whole. `told` is its part of the event stream; `asked` its settings in words; `commands` what may be
    typed now: status always; pause, resume, abort as its state allows.
    """

    rollout: RolloutRow
    asked: tuple[str, ...]
    waves: tuple[WaveRow, ...]
    groups: tuple[NodeGroup, ...]
    nodes: tuple[NodePlace, ...]
    told: tuple[Occurrence, ...]
    commands: tuple[str, ...]


def recent(inventory: Inventory, limit: int = 50) -> tuple[RolloutRow, ...]:
    """The last rollouts, newest first."""
    found = inventory.rollouts.list(limit)
    tallies = inventory.rollouts.tallies([each.id for each in found])
    moment = now()
    return tuple(_row(each, tallies[each.id], _forecast(inventory, each, moment), moment) for each in found)


def detail(inventory: Inventory, rollout_id: int) -> RolloutDetail:
    """One rollout whole. Raises NotFound."""
    rollout = inventory.rollouts.get(rollout_id)
    nodes = inventory.rollouts.nodes(rollout_id)
    return RolloutDetail(
        rollout=row_of(rollout, nodes),
        asked=in_words(rollout.plan),
        waves=waves_of(rollout, nodes),
        groups=groups_of(nodes),
        nodes=tuple(_place(node) for node in nodes),
        told=inventory.stream.last(TOLD_ROWS, kinds=("rollout",), ref=rollout_id),
        commands=commands_of(rollout),
    )


def row_of(rollout: Rollout, nodes: Sequence[RolloutNode], moment: str | None = None) -> RolloutRow:
    at = moment or now()
    tally = Tally(
        steps=Counter(node.state for node in nodes),
        waves=max((node.wave for node in nodes), default=-1) + 1,
        bytes=sum(node.bytes for node in nodes),
        targets=tuple(dict.fromkeys(node.target for node in nodes)),
    )
    return _row(rollout, tally, eta_s(rollout, nodes, at), at)


def waves_of(rollout: Rollout, nodes: Sequence[RolloutNode]) -> tuple[WaveRow, ...]:
    whys = rollout.plan.whys
    rows = []
    for number in sorted({node.wave for node in nodes}):
        members = [node for node in nodes if node.wave == number]
        failed = sum(node.state in FAILED for node in members)
        rows.append(
            WaveRow(
                number=number + 1,
                state=_wave_state(rollout, number, members, failed),
                nodes=fold(node.name for node in members),
                total=len(members),
                good=sum(node.state == "good" for node in members),
                failed=failed,
                why=whys[number] if number < len(whys) else "",
                bytes=sum(node.bytes for node in members),
                seconds=_span_s(members),
            )
        )
    return tuple(rows)


def waves_planned(members: Sequence[RolloutNode], plan: Plan) -> tuple[WaveRow, ...]:
    """The waves of a rollout that is not made yet."""
    return waves_of(Rollout(0, "", "", "", "running", "", -1, None, None, plan), members)


def groups_of(nodes: Sequence[RolloutNode]) -> tuple[NodeGroup, ...]:
    """Nodes alike in one row; what failed first, then what is under way."""
    alike: dict[tuple[int, str, str, str, str], list[RolloutNode]] = {}
    for node in nodes:
        alike.setdefault((node.wave, node.state, node.reason, node.target, node.before), []).append(node)
    groups = [
        NodeGroup(
            nodes=fold(node.name for node in members),
            count=len(members),
            first=min((node.name for node in members), key=natural_key),
            wave=wave + 1,
            step=state,
            reason=reason,
            target=target,
            before=before,
            since=min(node.since for node in members),
            bytes=sum(node.bytes for node in members),
        )
        for (wave, state, reason, target, before), members in alike.items()
    ]
    return tuple(sorted(groups, key=lambda group: (_rank(group.step), group.wave, natural_key(group.first))))


def eta_s(rollout: Rollout, nodes: Sequence[RolloutNode], moment: str) -> float | None:
    """About how long it goes on: as long for each wave to come as the waves so far took on average.

    While the first is under way, its slowest finished node stands for it. None when nothing has finished or is left.
    """
    if rollout.state != "running":
        return None
    waves = {number: [node for node in nodes if node.wave == number] for number in {node.wave for node in nodes}}
    ended = [members for members in waves.values() if all(node.state in ENDED for node in members)]
    spans = [span for span in map(_span_s, ended) if span]
    finished = [seconds_between(node.begun, node.ended) for node in nodes if node.begun and node.ended]
    if not finished:
        return None
    typical = sum(spans) / len(spans) if spans else max(finished)
    current = [node for node in waves.get(rollout.wave, []) if node.state not in ENDED]
    begun = [seconds_between(node.begun, moment) for node in current if node.begun]
    rest = max(0.0, typical - max(begun, default=0.0)) if current else 0.0
    return round(rest + typical * sum(number > rollout.wave for number in waves), 1)


def command_of(nodeset: str, plan: Plan) -> str:
    """The command that asks for this."""
    words = ["sis deploy", nodeset]
    words += [f"--image {plan.image}"] if plan.image else []
    words += [f"--canary {plan.canary}"] if plan.canary else []
    words += [f"--then {amount}" for amount in plan.then]
    words += [f"--max-fail {plan.max_fail}"] if plan.max_fail else []
    words += ["--reinstall"] if plan.method == "install" and plan.in_waves else []
    words += ["--resync"] if plan.method == "sync" and not plan.in_waves else []
    words += [f"--reboot {plan.reboot}"] if plan.reboot != "when-needed" else []
    words += ["--at-boot"] if plan.at_boot else []
    words += ["--allow-foreign-disk"] if plan.allow_foreign_disk else []
    words += ["--ignore-windows"] if plan.ignore_windows else []
    return " ".join(words)


def in_words(plan: Plan) -> tuple[str, ...]:
    """The settings of a rollout, a sentence each."""
    said = [
        "installs anew at the next network boot" if plan.method == "install" else "makes nodes equal to their image",
    ]
    if plan.image:
        said.append(f"from then on the nodes are {plan.image}")
    if plan.in_waves:
        steps = [plan.canary] if plan.canary else []
        said.append(f"waves: {', '.join([*steps, *(plan.then or ('the rest',))])}")
    said.append(f"stops when more than {plan.max_fail} fail" if plan.max_fail else "goes on whatever fails")
    if plan.canary:
        said.append("stops when a canary fails")
    if plan.at_boot:
        said.append("fetches now and applies at the next boot")
    if plan.method == "sync":
        reboots = {"when-needed": "when what changed needs it", "never": "never", "now": "always"}
        said.append(f"reboots nodes: {reboots[plan.reboot]}")
    if plan.ignore_windows:
        said.append("outside maintenance windows too")
    return tuple(said)


def commands_of(rollout: Rollout) -> tuple[str, ...]:
    allowed = {
        "running": ("status", "pause", "abort"),
        "paused": ("status", "resume", "abort"),
        "stopped": ("status", "resume", "abort"),
    }.get(rollout.state, ("status",))
    return tuple(f"sis rollout {verb} {rollout.id}" for verb in allowed)


def _row(rollout: Rollout, tally: Tally, forecast_s: float | None, moment: str) -> RolloutRow:
    return RolloutRow(
        id=rollout.id,
        state=rollout.state,
        reason=rollout.reason,
        method=rollout.plan.method,
        target=", ".join(sorted(tally.targets, key=natural_key)),
        nodeset=rollout.nodeset,
        who=rollout.who,
        created=rollout.created,
        ended=rollout.ended,
        wave=rollout.wave + 1,
        waves=tally.waves,
        total=sum(tally.steps.values()),
        good=tally.at("good"),
        failed=tally.at(*FAILED),
        under_way=tally.at(*UNDER_WAY),
        put_off=tally.at("put-off"),
        waiting=tally.at("waiting"),
        left=tally.at("left"),
        bytes=tally.bytes,
        seconds=seconds_between(rollout.started or rollout.created, rollout.ended or moment),
        eta_s=forecast_s,
        command=command_of(rollout.nodeset, rollout.plan),
    )


def _forecast(inventory: Inventory, rollout: Rollout, moment: str) -> float | None:
    if rollout.state != "running":
        return None
    return eta_s(rollout, inventory.rollouts.nodes(rollout.id), moment)


def _wave_state(
    rollout: Rollout, number: int, members: Sequence[RolloutNode], failed: int
) -> Literal["waiting", "running", "done", "failed"]:
    if number > rollout.wave:
        return "waiting"
    if all(node.state in ENDED or node.state == "put-off" for node in members):
        return "failed" if failed and rollout.state in ("stopped", "aborted") else "done"
    if rollout.state in ("stopped", "aborted") and not any(node.state in UNDER_WAY for node in members):
        return "failed"
    return "running"


def _span_s(members: Sequence[RolloutNode]) -> float:
    """From the first node's begin to the last one's end."""
    begun = [node.begun for node in members if node.begun]
    ended = [node.ended for node in members if node.begun and node.ended]
    return seconds_between(min(begun), max(ended)) if begun and ended else 0.0


def _rank(step: str) -> int:
    order = ("lost", "failed", "returning", "returned", *sorted(UNDER_WAY), "put-off", "waiting", "left", "good")
    return order.index(step)


def _place(node: RolloutNode) -> NodePlace:
    return NodePlace(
        node=node.name,
        wave=node.wave + 1,
        step=node.state,
        reason=node.reason,
        target=node.target,
        before=node.before,
        since=node.since,
        begun=node.begun,
        ended=node.ended,
        bytes=node.bytes,
    )
