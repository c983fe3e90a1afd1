"""How far nodes are: from stages and what they tell, for one node and for all."""

from __future__ import annotations

from sis.head import progress
from sis.inventory.clock import now
from sis.inventory.model import Assignment, Node, NodeState
from sis.wire import State


def node(name: str, state: State, *, told: str = "", version: str = "", reason: str = "") -> Node:
    known = NodeState(state, now(), progress=told, version=version, image="compute" if version else "", generation=1)
    if reason:
        known = NodeState(state, now(), step="pulling", reason=reason)
    return Node(1, name, 1, "", now(), assignment=Assignment("compute", "stable"), state=known)


def test_the_stages_of_an_install_only_go_forward() -> None:
    passed = [progress.percent_of(state) for state in progress.STAGES]
    assert passed == sorted(passed)
    assert passed[-1] == 100
    assert progress.percent_of("pulling", 0.5) == 50
    assert progress.percent_of("pulling", 7.0) == 85


def test_time_left_is_told_once_there_is_something_to_go_by() -> None:
    assert progress.share_of("43% of 512.0 MB") == 0.43
    assert progress.share_of("waiting for the head") is None
    assert progress.left_of(0.25, 10) == 30
    assert progress.left_of(0.01, 10) is None
    assert progress.left_of(None, 10) is None


def test_those_at_work_are_shown_with_the_failed_first() -> None:
    nodes = [
        node("n1", "pulling", told="20% of 100.0 MB"),
        node("n2", "in-sync", version="v"),
        node("n3", "failed", reason="no space"),
        node("n4", "defined"),
    ]
    rows = progress.of_nodes(nodes, {})
    assert [(row.name, row.percent, row.told) for row in rows] == [
        ("n3", 0, "pulling: no space"),
        ("n1", 29, "20% of 100.0 MB"),
    ]
    assert progress.summary(nodes) == {"done": 1, "busy": 1, "failed": 1, "waiting": 1}
    assert progress.by_state([*nodes, node("n5", "defined")])[0] == ("defined", 2, "n[4-5]")
    assert progress.by_image(nodes)[0] == ("compute@stable", "nothing known", 3, "n[1,3-4]")
    assert progress.by_fault(nodes) == [("pulling", "no space", 1, "n3")]
