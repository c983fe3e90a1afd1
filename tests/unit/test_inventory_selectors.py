"""Selectors: nodes by what is wanted of them and known of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sis.errors import NotFound, UsageFault
from sis.inventory import db
from sis.inventory.db import Inventory
from sis.inventory.model import Assignment, NewNode
from sis.wire import Event

T = "2026-01-01T00:00:00.000Z"


@pytest.fixture(scope="module")
def inventory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inventory]:
    with db.open(tmp_path_factory.mktemp("s") / "state.db") as opened:
        nodes = opened.nodes.add(
            [
                NewNode("n1", (), ("rack1", "gpu"), Assignment("compute", "stable"), {"vars": {"room": "a"}}),
                NewNode("n2", (), ("rack1",), Assignment("compute", "12"), {"modules": [{"name": "nvidia"}]}),
                NewNode("n10", (), ("rack2",), Assignment("login", "stable", "raid"), {"resync": "hourly"}),
                NewNode("n11"),
            ]
        )
        opened.history.record_events(nodes[0].id, [Event(time=T, stage="pulling", outcome="failed", message="no disk")])
        yield opened


@pytest.mark.parametrize(
    ("where", "found"),
    [
        (["state=failed"], "n1"),
        (["state!=failed"], "n2 n10 n11"),
        (["group=rack1"], "n1 n2"),
        (["group=rack1", "group!=gpu"], "n2"),
        (["group=gpu,rack2"], "n1 n10"),
        (["image=compute"], "n1 n2"),
        (["image=compute@12"], "n2"),
        (["image=comp*"], "n1 n2"),
        (["image="], "n11"),
        (["image!="], "n1 n2 n10"),
        (["name~^n1"], "n1 n10 n11"),
        (["name!~0$"], "n1 n2 n11"),
        (["reason~disk"], "n1"),
        (["drifted=false", "resync=nightly"], "n1 n2 n11"),
        (["layout=raid"], "n10"),
        (["vars.room=a"], "n1"),
        (["modules=nvidia"], "n2"),
        (["seen<1h"], "n1"),
        (["seen>1h"], ""),
        (["number>9"], "n10 n11"),
        (["created<1h", "differences<1"], "n1 n2 n10 n11"),
    ],
)
def test_selectors(inventory: Inventory, where: list[str], found: str) -> None:
    assert " ".join(node.name for node in inventory.nodes.select("", where)) == found


def test_together_with_a_node_set(inventory: Inventory) -> None:
    assert [node.name for node in inventory.nodes.select("@rack1,n10", ["image=compute"])] == ["n1", "n2"]


def test_faults_are_told_with_what_is_meant(inventory: Inventory) -> None:
    with pytest.raises(NotFound) as caught:
        inventory.nodes.select("", ["stat=failed"])
    assert caught.value.hint is not None
    assert "state" in caught.value.hint
    for text, message in (
        ("failed", "not a selector: 'failed'"),
        ("name~(", "name~\\(: not a regular expression"),
        ("seen>soon", "seen>soon: not an amount: soon"),
        ("name>3", "name>3: name is no number"),
    ):
        with pytest.raises(UsageFault, match=message):
            inventory.nodes.select("", [text])
