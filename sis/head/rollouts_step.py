"""A whole rollout one step on, as a pure function: nodes, waves, the limit, and what is told of it all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from sis.head import rollouts_node
from sis.head.rollouts_node import Ask, Known, Moved, Rules
from sis.head.waves import failures_borne
from sis.inventory.names import fold
from sis.inventory.rollout import ENDED, FAILED, UNDER_WAY, NodeStep, Rollout, RolloutNode, RolloutState

_UNKNOWN = Known("unknown", reachable=False)
_OUTCOMES: dict[NodeStep, str] = {
    "asked": "start", "good": "ok", "returned": "ok", "failed": "failed", "lost": "failed",
}  # fmt: skip
_WORDS: dict[NodeStep, str] = {
    "put-off": "put off", "draining": "is drained", "staged": "staged", "rebooting": "reboots",
    "returning": "goes back to {before}", "returned": "is back at {before}", "lost": "is not back at {before}",
    "good": "in-sync and healthy at {target}", "asked": "{target}", "left": "left out", "waiting": "waits",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Told:
    """A row for the stream: of the rollout (`what` "rollout" or "wave 2") or of a node of it (`what` "node")."""

    what: str
    outcome: str
    text: str
    node_id: int | None = None
    bytes: int = 0
    seconds: float = 0.0


@dataclass
class Step:
    """The rollout and its nodes as they become; `asks` by node id, in order; `told` in order.

    `is_next_due`: a wave has ended, and the next step begins the one after it.
    """

    rollout: Rollout
    nodes: dict[int, RolloutNode]
    known: Mapping[int, Known]
    rules: Rules
    asks: list[tuple[int, Ask]] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    is_next_due: bool = False

    def move(self, moved: Moved) -> None:
        before, after = self.nodes[moved.node.node_id], moved.node
        self.nodes[after.node_id] = after
        self.asks += [(after.node_id, ask) for ask in moved.asks]
        if (before.state, before.reason) != (after.state, after.reason):
            self.told.append(_told_of(after))

    def at(self, *states: NodeStep) -> list[RolloutNode]:
        return [node for node in self.nodes.values() if node.state in states]

    def wave(self, number: int) -> list[RolloutNode]:
        return [node for node in self.nodes.values() if node.wave == number]

    def known_of(self, node: RolloutNode) -> Known:
        return self.known.get(node.node_id, _UNKNOWN)


def step(rollout: Rollout, nodes: Sequence[RolloutNode], known: Mapping[int, Known], rules: Rules) -> Step:
    """What follows from what is known now. The same again with the same knowledge changes nothing more."""
    now = Step(rollout, {node.node_id: node for node in nodes}, known, rules)
    for node in now.at(*UNDER_WAY):
        now.move(rollouts_node.advance(node, now.known_of(node), rules))
    if now.rollout.state in ("running", "paused"):
        _hold_to_limit(now)
    if now.rollout.state == "running":
        _go_on(now)
    if now.rollout.state in ("stopped", "aborted"):
        _wind_up(now)
    return now


def start(rollout: Rollout, nodes: Sequence[RolloutNode], known: Mapping[int, Known], rules: Rules) -> Step:
    """The first step of a new rollout: as `step`, with its beginning told."""
    counts = [sum(node.wave == number for node in nodes) for number in range(_waves(nodes))]
    shape = f"{len(nodes)} nodes in {len(counts)} waves ({', '.join(map(str, counts))})"
    one = f"{len(nodes)} nodes at once" if len(nodes) != 1 else "1 node"
    told = [Told("rollout", "start", f"{rollout.nodeset}: {shape if len(counts) > 1 else one}")]
    first = Step(rollout, {node.node_id: node for node in nodes}, known, rules, told=told)
    _tell_wave(first)
    after = step(rollout, nodes, known, rules)
    after.told[:0] = first.told
    return after


def abort(
    rollout: Rollout,
    nodes: Sequence[RolloutNode],
    known: Mapping[int, Known],
    rules: Rules,
    why: str,
    *,
    back: bool = False,
) -> Step:
    """Begin no more nodes, send failed ones back (with `back` good ones too), let those at work come to their end."""
    ended = Step(_ended(rollout, "aborted", why), {node.node_id: node for node in nodes}, known, rules)
    ended.told.append(Told("rollout", "failed", f"aborted: {why}"))
    if back:
        for node in ended.at("good"):
            unwanted = replace(node, reason="the rollout was taken back")
            ended.move(rollouts_node.give_back(unwanted, ended.known_of(node), rules))
    _wind_up(ended)
    return ended


def retry(rollout: Rollout, nodes: Sequence[RolloutNode]) -> tuple[RolloutNode, ...]:
    """The nodes that a rollout tries again when it goes on after a stop: those that failed, as if their turn came."""
    return tuple(
        replace(node, state="waiting", begun=None, ended=None, reason="", order_id=None)
        for node in nodes
        if node.state in ("failed", "returned", "lost") and rollout.state == "stopped"
    )


def _hold_to_limit(now: Step) -> None:
    failed = now.at(*FAILED)
    borne = failures_borne(now.rules.plan.max_fail, len(now.nodes))
    canaries = [node for node in failed if node.wave == 0 and now.rules.plan.canary]
    if canaries:
        why = f"canary {fold(node.name for node in canaries)} failed: {canaries[0].reason}"
    elif len(failed) > borne:
        limit = f"{now.rules.plan.max_fail} of {len(now.nodes)} nodes"
        why = f"{len(failed)} failed ({fold(node.name for node in failed)}), {limit} may"
    else:
        return
    now.rollout = _ended(now.rollout, "stopped", why)
    now.told.append(Told(f"wave {now.rollout.wave + 1}", "failed", why))
    now.told.append(Told("rollout", "failed", f"stopped: {why}"))


def _go_on(now: Step) -> None:
    """Begin whose turn it is; when a wave has come to its end, the next one is begun by the next step."""
    for node in now.at("waiting", "put-off"):
        if node.wave <= now.rollout.wave:
            now.move(rollouts_node.begin(node, now.known_of(node), now.rules))
    current = now.wave(now.rollout.wave)
    if any(node.state not in ENDED and node.state != "put-off" for node in current):
        return
    _end_wave(now, current)
    if now.rollout.wave + 1 >= _waves(now.nodes.values()):
        _finish(now)
        return
    now.rollout = replace(now.rollout, wave=now.rollout.wave + 1)
    now.is_next_due = True
    _tell_wave(now)
    if current and now.rules.plan.in_waves and not any(node.state == "good" for node in current):
        why = f"no node of wave {now.rollout.wave} is good; 'sis rollout resume {now.rollout.id}' goes on anyway"
        now.rollout = replace(now.rollout, state="paused", reason=why)
        now.told.append(Told("rollout", "note", f"paused: {why}"))


def _end_wave(now: Step, nodes: Sequence[RolloutNode]) -> None:
    begun = min((node.begun for node in nodes if node.begun), default=now.rules.now)
    now.told.append(
        Told(
            f"wave {now.rollout.wave + 1}",
            "ok",
            tally(nodes),
            bytes=sum(node.bytes for node in nodes),
            seconds=seconds_between(begun, now.rules.now),
        )
    )


def _finish(now: Step) -> None:
    rules = replace(now.rules, decided=True)
    for node in now.at("put-off"):
        now.move(rollouts_node.leave(node, rules))
    nodes = tuple(now.nodes.values())
    now.rollout = _ended(now.rollout, "done", tally(nodes), now.rules.now)
    outcome = "failed" if any(node.state in FAILED for node in nodes) else "ok"
    took = seconds_between(now.rollout.started or now.rollout.created, now.rules.now)
    now.told.append(Told("rollout", outcome, tally(nodes), bytes=sum(node.bytes for node in nodes), seconds=took))


def _wind_up(now: Step) -> None:
    for node in now.at("draining", "asked"):
        now.move(rollouts_node.call_off(node, now.known_of(node), now.rules))
    for node in now.at("failed"):
        now.move(rollouts_node.give_back(node, now.known_of(node), now.rules))
    for node in now.at("put-off"):
        now.move(rollouts_node.leave(node, now.rules))
    if now.rollout.ended is None and not now.at(*UNDER_WAY):
        now.rollout = replace(now.rollout, ended=now.rules.now)
        now.told.append(Told("rollout", "note", f"at rest: {tally(tuple(now.nodes.values()))}"))


def tally(nodes: Sequence[RolloutNode]) -> str:
    """How many are at which step: "8 good, 1 failed n003"; names of whatever is not good."""
    parts = []
    for state in ("good", *sorted({node.state for node in nodes} - {"good"})):
        names = [node.name for node in nodes if node.state == state]
        if names:
            parts.append(f"{len(names)} {state}" + ("" if state == "good" else f" {fold(names)}"))
    return ", ".join(parts) or "no nodes"


def seconds_between(start_at: str, end: str) -> float:
    return max(0.0, (datetime.fromisoformat(end) - datetime.fromisoformat(start_at)).total_seconds())


def _waves(nodes: Iterable[RolloutNode]) -> int:
    return max((node.wave for node in nodes), default=-1) + 1


def _ended(rollout: Rollout, state: RolloutState, why: str, moment: str | None = None) -> Rollout:
    return replace(rollout, state=state, reason=why, ended=moment)


def _tell_wave(now: Step) -> None:
    nodes = now.wave(now.rollout.wave)
    of = _waves(now.nodes.values())
    if nodes:
        text = f"{fold(node.name for node in nodes)} ({now.rollout.wave + 1} of {of})"
        now.told.append(Told(f"wave {now.rollout.wave + 1}", "start", text))


def _told_of(node: RolloutNode) -> Told:
    words = _WORDS.get(node.state, "").format(target=node.target, before=node.before)
    text = ": ".join(part for part in (words, node.reason) if part)
    took = seconds_between(node.begun, node.ended) if node.begun and node.ended else 0.0
    return Told("node", _OUTCOMES.get(node.state, "note"), text, node.node_id, node.bytes if node.ended else 0, took)
