"""Rollouts as pure functions: waves add up, and whatever nodes do, the limit, the order and the end hold."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from sis.head.rollouts_node import Known, Rules
from sis.head.rollouts_step import Step, start, step
from sis.head.waves import Candidate, count_of, failures_borne, sizes, waves
from sis.inventory.model import StoredOrder, StoredReport
from sis.inventory.rollout import ENDED, FAILED, UNDER_WAY, Plan, Rollout, RolloutNode

amounts = st.one_of(st.integers(1, 300).map(str), st.integers(1, 100).map(lambda part: f"{part}%"))
plans = st.builds(
    lambda canary, then, max_fail, reboot, at_boot: Plan(
        canary=canary, then=tuple(then), max_fail=max_fail, reboot=reboot, at_boot=at_boot
    ),
    st.one_of(st.just(""), amounts),
    st.lists(amounts, max_size=3),
    st.one_of(st.sampled_from(["", "0", "1", "10%"]), amounts),
    st.sampled_from(["when-needed", "never", "now"]),
    st.booleans(),
)


@given(st.integers(0, 5000), plans)
def test_waves_add_up_and_none_is_empty(total: int, plan: Plan) -> None:
    found = sizes(total, plan)
    assert sum(found) == total
    assert all(size > 0 for size in found)
    if total and plan.canary:
        assert found[0] == max(1, count_of(plan.canary, total))
    if total and not plan.in_waves:
        assert found == (total,)


@given(st.integers(1, 5000), amounts)
def test_parts_are_of_the_whole(total: int, amount: str) -> None:
    count = count_of(amount, total)
    assert 1 <= count <= total
    assert failures_borne(amount, total) <= count
    if amount.endswith("%"):
        exact = total * int(amount[:-1]) / 100
        assert failures_borne(amount, total) <= exact <= count


candidates = st.lists(
    st.builds(Candidate, st.integers(0, 999).map(lambda n: f"n{n}"), st.sampled_from([("a",), ("b",)]), st.booleans()),
    unique_by=lambda each: each.name,
    min_size=1,
    max_size=40,
)


@given(candidates, plans, st.randoms())
def test_every_node_has_one_wave_whatever_the_order_given(found: list[Candidate], plan: Plan, random: object) -> None:
    made = waves(found, plan)
    names = [name for wave in made for name in wave.names]
    assert sorted(names) == sorted(each.name for each in found)
    shuffled = list(found)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert waves(shuffled, plan) == made
    if plan.canary:
        sound = {each.name for each in found if each.sound}
        chosen = set(made[0].names)
        assert chosen <= sound or sound <= chosen


# --- a cluster that does what hypothesis says, with a clock of its own


@dataclass
class Node:
    """How a node behaves: its outcomes in the order it is asked."""

    up: bool
    outcomes: list[str]
    heavy: bool
    boot: int = 0
    reports: list[StoredReport] = field(default_factory=list)
    order: StoredOrder | None = None
    rebooting: bool = False


BASE = datetime(2026, 1, 1, tzinfo=UTC)


def stamp(seconds: int) -> str:
    return (BASE + timedelta(seconds=seconds)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def report(
    number: int, kind: str, outcome: str, version: str, boot: int, order: int | None, heavy: bool
) -> StoredReport:
    well = outcome != "failed"
    return StoredReport(
        id=number, node="", received="", kind=kind, outcome="ok" if well else "failed",
        in_sync=well and outcome != "drifts" and kind != "stage", image="compute", generation=2, version=version,
        started="", seconds=1, totals={"bytes_fetched": 5}, changes=(),
        changes_left_out=1 if outcome == "drifts" else 0,
        reboot_needed=heavy and kind == "sync", error="" if well else "broken", log="", order_id=order,
        health=({"check": "unit x", "ok": outcome != "sick", "output": ""},), boot_id=str(boot),
    )  # fmt: skip


class Cluster:
    def __init__(self, behaviours: list[Node], plan: Plan) -> None:
        self.nodes = dict(enumerate(behaviours, 1))
        members = []
        found = [Candidate(f"n{number}", ("a",), True) for number in self.nodes]
        for wave_number, wave in enumerate(waves(found, plan)):
            for position, name in enumerate(wave.names):
                members.append(
                    RolloutNode(
                        rollout_id=1, node_id=int(name[1:]), name=name, wave=wave_number, position=position,
                        state="waiting", since=stamp(0), target="compute@2", target_version="v2",
                        before="compute@1", before_version="v1",
                    )
                )  # fmt: skip
        self.members = {member.node_id: member for member in members}
        self.rollout = Rollout(1, stamp(0), "ada", "n*", "running", "", 0, stamp(0), None, plan)
        self.seconds = 0
        self.number = 0
        self.held = dict.fromkeys(self.nodes, "v1")
        self.told: list[str] = []

    def known(self) -> dict[int, Known]:
        found = {}
        for number, node in self.nodes.items():
            member = self.members[number]
            later = [each for each in node.reports if each.id > (member.report_id or 0)]
            answer = None
            if node.order is not None and node.order.report_id is not None:
                answer = next((each for each in node.reports if each.id == node.order.report_id), None)
            waits = member.state in ("rebooting", "staged")
            checks = [each for each in later if each.kind in ("check", "sync")]
            found[number] = Known(
                state="in-sync",
                reachable=node.up,
                order=node.order if member.order_id else None,
                report=(checks[-1] if checks else None) if waits else answer,
                newest_report_id=node.reports[-1].id if node.reports else None,
            )
        return found

    def take(self, after: Step) -> None:
        self.rollout, self.members = after.rollout, dict(after.nodes)
        self.told += [f"{each.what} {each.outcome} {each.text}" for each in after.told]
        for number, ask in after.asks:
            node = self.nodes[number]
            if ask in ("sync", "stage"):
                self.number += 1
                node.order = StoredOrder(self.number, "", ask, False, stamp(self.seconds), None, 0, None, None, "")
                self.members[number] = replace(self.members[number], order_id=self.number)
            elif ask == "reboot":
                node.rebooting = True
            elif ask == "cancel" and node.order is not None and node.order.taken is None:
                node.order = replace(node.order, done=stamp(self.seconds), failure="taken back")
            elif ask in ("hold-target", "hold-before"):
                self.held[number] = "v2" if ask == "hold-target" else "v1"

    def live(self) -> None:
        """Every node that is up carries out what it was asked."""
        for number, node in self.nodes.items():
            if not node.up:
                continue
            if node.order is not None and node.order.done is None:
                outcome = node.outcomes.pop(0) if node.outcomes else "ok"
                made = self.reported(node, node.order.kind, outcome, self.held[number], node.order.id)
                node.order = replace(node.order, taken=stamp(self.seconds), done=stamp(self.seconds), report_id=made.id)
            elif node.rebooting:
                node.rebooting = False
                node.boot += 1
                self.reported(node, "check", node.outcomes.pop(0) if node.outcomes else "ok", self.held[number], None)

    def reported(self, node: Node, kind: str, outcome: str, version: str, order: int | None) -> StoredReport:
        self.number += 1
        made = report(self.number, kind, outcome, version, node.boot, order, node.heavy)
        node.reports.append(made)
        return made

    def rules(self) -> Rules:
        return Rules(self.rollout.plan, stamp(self.seconds))


behaviours = st.lists(
    st.builds(
        Node,
        up=st.sampled_from([True, True, True, False]),
        outcomes=st.lists(st.sampled_from(["ok", "ok", "failed", "sick", "drifts"]), max_size=4),
        heavy=st.booleans(),
    ),
    min_size=1,
    max_size=12,
)


@settings(deadline=None, max_examples=150)
@given(behaviours, plans)
def test_whatever_nodes_do_it_ends_and_keeps_its_promises(found: list[Node], plan: Plan) -> None:
    cluster = Cluster(found, plan)
    total = len(found)
    borne = failures_borne(plan.max_fail, total)
    cluster.take(start(cluster.rollout, tuple(cluster.members.values()), cluster.known(), cluster.rules()))
    assert all(node.wave == 0 for node in cluster.members.values() if node.state in UNDER_WAY)
    for _ in range(200):
        members = tuple(cluster.members.values())
        before = cluster.rollout
        working = {node.node_id for node in members if node.state in UNDER_WAY}
        failed = [node for node in members if node.state in FAILED]
        cluster.live()
        if plan.at_boot and plan.reboot == "never":
            for node in cluster.nodes.values():
                node.rebooting = node.rebooting or bool(node.reports and node.reports[-1].kind == "stage")
        cluster.seconds += 30
        after = step(cluster.rollout, members, cluster.known(), cluster.rules())
        again = step(after.rollout, tuple(after.nodes.values()), {}, cluster.rules()) if not after.asks else None
        # No node begins once the limit is passed, or before its wave.
        begun = {node.node_id for node in after.nodes.values() if node.state in UNDER_WAY} - working
        forward = {number for number in begun if after.nodes[number].state != "returning"}
        assert not forward or before.state == "running"
        assert all(after.nodes[number].wave <= before.wave for number in forward)
        if len(failed) > borne or any(node.wave == 0 and plan.canary for node in failed):
            assert not forward
        cluster.take(after)
        if again is not None and after.rollout.ended is not None:
            assert not again.asks
        if cluster.rollout.state == "paused":
            cluster.rollout = replace(cluster.rollout, state="running", reason="")
        if cluster.rollout.ended is not None:
            break
    members = tuple(cluster.members.values())
    assert cluster.rollout.ended is not None, [cluster.rollout, *cluster.told[-10:]]
    assert cluster.rollout.state in ("done", "stopped")
    failed = [node for node in members if node.state in FAILED]
    if cluster.rollout.state == "done":
        assert len(failed) <= borne
        assert all(node.state in ENDED for node in members)
    else:
        assert len(failed) > borne or any(node.wave == 0 for node in failed)
        assert not any(node.state == "failed" for node in members)
    for node in members:
        if node.state == "good":
            assert cluster.held[node.node_id] == "v2"
            last = cluster.nodes[node.node_id].reports[-1]
            assert (last.outcome, last.in_sync, last.version, last.unhealthy) == ("ok", True, "v2", ())
        if node.state in ("returned", "returning", "lost"):
            assert cluster.held[node.node_id] == "v1"
