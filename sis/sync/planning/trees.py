"""Directories that are not there yet, each to be made ready with all that is in it and moved into place in one step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from sis.image.model import Entry, Kind
from sis.sync.planning.difference import Comparison, Difference


class NewTree(NamedTuple):
    """A directory that is not there yet, made ready with all that is to be in it and moved into place in one step.

    directories  the inner ones, parents first; itself is not among them
    specials     symlinks, devices and FIFOs
    links        (a further name, the path its inode is made at): both in new trees
    """

    entry: Entry
    directories: tuple[Entry, ...]
    specials: tuple[Entry, ...]
    links: tuple[tuple[Entry, bytes], ...]


def parent_of(path: bytes) -> bytes:
    return path.rpartition(b"/")[0]


def tree_of_directories(comparison: Comparison) -> dict[bytes, bytes]:
    """Of every directory that is not there yet: the topmost new directory it is in, itself perhaps."""
    tree_of: dict[bytes, bytes] = {}
    for difference in comparison.to_do:
        want = difference.want
        if want is not None and want.kind is Kind.DIR and difference.found is None:
            tree_of[want.path] = tree_of.get(parent_of(want.path), want.path)
    return tree_of


def is_in_tree(difference: Difference, comparison: Comparison, tree_of: Mapping[bytes, bytes]) -> bool:
    """Whether a path comes into being with a new directory; a name for an inode made elsewhere is linked after."""
    if parent_of(difference.path) not in tree_of:
        return False
    leader = comparison.leader_of.get(difference.path)
    return leader is None or parent_of(leader) in tree_of


def new_trees(comparison: Comparison, tree_of: Mapping[bytes, bytes]) -> Iterator[NewTree]:
    """The topmost new directories, with what comes into being with them. Their files are told by the plan."""
    roots: dict[bytes, Entry] = {}
    directories: dict[bytes, list[Entry]] = {}
    specials: dict[bytes, list[Entry]] = {}
    links: dict[bytes, list[tuple[Entry, bytes]]] = {}
    for difference in comparison.to_do:
        path, want = difference.path, difference.want
        if tree_of.get(path) == path and want is not None:
            roots[path] = want
        elif want is not None and is_in_tree(difference, comparison, tree_of):
            root = tree_of[parent_of(path)]
            leader = comparison.leader_of.get(path)
            if want.kind is Kind.DIR:
                directories.setdefault(root, []).append(want)
            elif leader is not None:
                links.setdefault(root, []).append((want, leader))
            elif want.kind is not Kind.FILE:
                specials.setdefault(root, []).append(want)
    for path, entry in roots.items():
        yield NewTree(
            entry, tuple(directories.get(path, ())), tuple(specials.get(path, ())), tuple(links.get(path, ()))
        )
