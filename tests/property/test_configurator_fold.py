"""Folded names mean to ClusterShell what the names meant."""

from __future__ import annotations

from ClusterShell.NodeSet import NodeSet
from hypothesis import given, settings
from hypothesis import strategies as st

from configurator.peers import fold

NAMES = st.lists(
    st.builds(
        lambda prefix, number, width, end: f"{prefix}{number:0{width}d}{end}",
        st.sampled_from(["n", "node", "r1n", "gpu-"]),
        st.integers(0, 120),
        st.integers(1, 4),
        st.sampled_from(["", "-ib", "a"]),
    )
    | st.sampled_from(["login", "head", "a-b"]),
    max_size=40,
    unique=True,
)


@settings(max_examples=300, deadline=None)
@given(NAMES)
def test_fold(names: list[str]) -> None:
    assert {*NodeSet(fold(names))} == {*names}


def test_short() -> None:
    assert fold(f"n{number:04d}" for number in range(1, 5001)) == "n[0001-5000]"
    assert fold(["n9", "n10", "n8"]) == "n[8-10]"
    assert fold(["n1"]) == "n1"
    assert fold([]) == ""
