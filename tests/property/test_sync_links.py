"""Hard links decided: whatever shares an inode now, after the links are made exactly the names of a group do."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sis.sync.planning.links import decide_links

NAMES = [b"a", b"b", b"c", b"d", b"e", b"f"]


@st.composite
def worlds(draw: st.DrawFn) -> tuple[dict[bytes, int], dict[bytes, int], set[bytes], set[bytes]]:
    """Desired group, present inode, which content is right, which names are not ours to change; by name."""
    wanted = {name: draw(st.integers(0, 3)) for name in NAMES if draw(st.booleans())}
    present = {name: draw(st.integers(0, 3)) for name in NAMES if draw(st.booleans())}
    right_inodes = {inode: draw(st.sampled_from([0, 1, 2, 3])) for inode in set(present.values())}
    foreign = {name for name in present if name not in wanted and draw(st.booleans())}
    right = {name for name, inode in present.items() if name in wanted and right_inodes[inode] == wanted[name]}
    return wanted, present, right, foreign


@given(worlds())
def test_exactly_the_names_of_a_group_share_an_inode(
    world: tuple[dict[bytes, int], dict[bytes, int], set[bytes], set[bytes]],
) -> None:
    wanted, present, right, foreign = world
    groups: dict[int, list[bytes]] = {}
    for name in sorted(wanted):
        groups.setdefault(wanted[name], []).append(name)
    inodes: dict[tuple[int, int], list[bytes]] = {}
    for name in sorted(present):
        inodes.setdefault((0, present[name]), []).append(name)
    links = decide_links(
        [tuple(names) for names in groups.values()],
        {inode: tuple(names) for inode, names in inodes.items() if len(names) > 1},
        lambda name: (0, present[name]) if name in present else None,
        lambda name: name in right,
        lambda name: name in present and name not in right and name not in foreign,
    )
    after: dict[bytes, object] = {name: ("old", present[name]) for name in foreign}
    for name in wanted.keys() - links.leader_of.keys():
        keeps = name in right and name not in links.separate
        after[name] = ("old", present[name]) if keeps else ("new", name)
    for name, leader in links.leader_of.items():
        assert leader not in links.leader_of
        after[name] = after[leader]
    for one, group in wanted.items():
        for other, inode in after.items():
            assert (after[one] == inode) == (wanted.get(other) == group), (one, other, links)


@given(worlds())
def test_what_is_right_already_is_left(
    world: tuple[dict[bytes, int], dict[bytes, int], set[bytes], set[bytes]],
) -> None:
    wanted, _, _, _ = world
    groups: dict[int, list[bytes]] = {}
    for name in sorted(wanted):
        groups.setdefault(wanted[name], []).append(name)
    links = decide_links(
        [tuple(names) for names in groups.values()],
        {(0, group): tuple(names) for group, names in groups.items() if len(names) > 1},
        lambda name: (0, wanted[name]),
        lambda _: True,
        lambda _: False,
    )
    assert not links.leader_of
    assert not links.separate
