"""What is shown of rollouts: the forecast, folded groups, and the command that asks for the same."""

from __future__ import annotations

from sis.head import rollouts
from sis.inventory.rollout import NodeStep, Plan, Rollout, RolloutNode

BEGIN = "2026-01-01T00:00:00.000Z"


def at(seconds: int) -> str:
    return f"2026-01-01T00:{seconds // 60:02}:{seconds % 60:02}.000Z"


def node(name: str, wave: int, state: NodeStep, begun: int | None = None, ended: int | None = None) -> RolloutNode:
    return RolloutNode(
        rollout_id=1, node_id=int(name[1:]), name=name, wave=wave, position=0, state=state, since=BEGIN,
        begun=None if begun is None else at(begun), ended=None if ended is None else at(ended), target="compute@2",
        before="compute@1",
    )  # fmt: skip


def running(wave: int) -> Rollout:
    return Rollout(1, BEGIN, "ada", "n[1-4]", "running", "", wave, BEGIN, None, Plan(canary="1"))


def test_the_forecast_takes_waves_to_come_to_be_like_those_before() -> None:
    nodes = [
        node("n1", 0, "good", 0, 60), node("n2", 1, "asked", 60), node("n3", 2, "waiting"), node("n4", 3, "waiting"),
    ]  # fmt: skip
    assert rollouts.eta_s(running(1), nodes, at(80)) == 40 + 2 * 60
    assert rollouts.eta_s(running(1), nodes, at(500)) == 2 * 60


def test_before_anything_has_finished_nothing_is_foretold() -> None:
    nodes = [node("n1", 0, "asked", 0), node("n2", 1, "waiting")]
    assert rollouts.eta_s(running(0), nodes, at(10)) is None


def test_nodes_alike_are_one_row_failures_first() -> None:
    nodes = [node(f"n{number}", 0, "good", 0, 5) for number in (1, 2, 3)] + [node("n4", 0, "failed", 0, 5)]
    assert [(group.step, group.nodes, group.count) for group in rollouts.groups_of(nodes)] == [
        ("failed", "n4", 1), ("good", "n[1-3]", 3),
    ]  # fmt: skip


def test_the_command_that_asks_for_the_same() -> None:
    plan = Plan(method="install", canary="1", then=("10%", "50%"), max_fail="5%", image="compute@13", reboot="never")
    assert rollouts.command_of("@compute", plan) == (
        "sis deploy @compute --image compute@13 --canary 1 --then 10% --then 50% --max-fail 5%"
        " --reinstall --reboot never"
    )
    assert rollouts.command_of("n1", Plan(method="install")) == "sis deploy n1"
    assert rollouts.command_of("n1", Plan(method="sync", at_boot=True)) == "sis deploy n1 --resync --at-boot"
