"""Hard links, decided: which inode each group of names keeps, and which names are linked to it or set apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

Inode = tuple[int, int]


class Links(NamedTuple):
    """What has to happen so that exactly the names of each group share an inode.

    leader_of  path → the path whose inode it has to be linked to
    separate   paths that need a new inode although their content is right: another group keeps the one they are on
    """

    leader_of: Mapping[bytes, bytes]
    separate: frozenset[bytes]


def decide_links(
    groups: Iterable[tuple[bytes, ...]],
    shared: Mapping[Inode, tuple[bytes, ...]],
    inode_of: Callable[[bytes], Inode | None],
    is_usable: Callable[[bytes], bool],
    leaves: Callable[[bytes], bool],
) -> Links:
    """Decide for all groups at once.

    groups     the names that belong together, each group sorted; a name in none is a group of its own
    shared     the inodes with several names now
    inode_of   the inode a path is on now, None if nothing is there
    is_usable  whether what is at the path is right but for metadata, so that its inode can be kept
    leaves     whether the path is about to be removed, so that it no longer shares anything
    """
    together = [group for group in groups if len(group) > 1]
    in_group = {path for group in together for path in group}
    claims: dict[Inode, dict[tuple[bytes, ...], list[bytes]]] = {}
    for group in together:
        for path in group:
            inode = inode_of(path)
            if inode is not None and is_usable(path):
                claims.setdefault(inode, {}).setdefault(group, []).append(path)
    blocked: set[Inode] = set()
    for inode, paths in shared.items():
        for path in paths:
            if path in in_group or leaves(path):
                continue
            if is_usable(path):
                claims.setdefault(inode, {})[(path,)] = [path]
            else:
                blocked.add(inode)
    kept = _assign({inode: claim for inode, claim in claims.items() if inode not in blocked})
    leader_of: dict[bytes, bytes] = {}
    separate: set[bytes] = set()
    for group in together:
        keeper = kept.get(group)
        on_it = [path for path in group if keeper is not None and inode_of(path) == keeper and is_usable(path)]
        leader = on_it[0] if on_it else group[0]
        if not on_it:
            separate.add(leader)
        leader_of.update((path, leader) for path in group if path not in on_it and path != leader)
    for claim in claims.values():
        for group in claim:
            if len(group) == 1 and group not in kept:
                separate.add(group[0])
    return Links(leader_of, frozenset(separate))


def _assign(claims: Mapping[Inode, Mapping[tuple[bytes, ...], list[bytes]]]) -> dict[tuple[bytes, ...], Inode]:
    """Give each inode to one group and each group at most one inode; the group with the most names on it first,
    then the inode of the group's first name."""
    bids = sorted(
        ((-len(paths), group, paths[0], inode) for inode, claim in claims.items() for group, paths in claim.items()),
    )
    kept: dict[tuple[bytes, ...], Inode] = {}
    taken: set[Inode] = set()
    for _, group, _, inode in bids:
        if group not in kept and inode not in taken:
            kept[group] = inode
            taken.add(inode)
    return kept
