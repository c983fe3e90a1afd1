"""A policy as one run uses it: each verb looked up once, our own files left out, ways through ignored directories."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec
from blake3 import blake3

from sis.image.model import Entry, PolicyVerb

STAGE = b".sis-stage"
"""Our own directory at the top of each file system we write to; never part of what is looked at."""


class PathPolicy(Protocol):
    """What the engine asks of a policy (`sis.image.policy.Policy`)."""

    rules: tuple[tuple[str, str], ...]

    def verb(self, path: bytes) -> PolicyVerb: ...
    def holds_mtime(self, directory: bytes) -> bool: ...


@dataclass(frozen=True)
class Conditions:
    """Under what a tree is held, besides the desired tree itself.

    own      paths of ours below the root (the state directory), ignored with all below
    mounts   mount points below the root whose file systems are held too
    mounted  mount points that are there now
    retain   kernel releases whose files are kept when the desired tree drops them
    live     the tree is the running system
    """

    policy: PathPolicy
    state: Path
    own: frozenset[bytes] = frozenset()
    mounts: frozenset[bytes] = frozenset()
    mounted: frozenset[bytes] = frozenset()
    retain: frozenset[str] = frozenset()
    live: bool = False

    @property
    def terms(self) -> bytes:
        """Digest of all that a verdict depends on and that stays the same from one run to the next."""
        told = (self.policy.rules, sorted(self.own), sorted(self.mounts), sorted(self.retain), self.live)
        return blake3(msgspec.msgpack.encode(told)).digest()

    def verb(self, path: bytes) -> PolicyVerb:
        is_own = self.own and any(path == own or path.startswith(own + b"/") for own in self.own)
        return "ignore" if is_own else self.policy.verb(path)

    def passes(self, path: bytes) -> bool:
        """Whether a path that is in no desired tree is left alone."""
        return self.verb(path) in ("ignore", "node")


class Rules:
    """The policy for one desired tree."""

    def __init__(
        self, given: Conditions, want: Mapping[bytes, Entry], *, placed: Iterable[Mapping[bytes, Entry]] = ()
    ) -> None:
        """`placed` are trees of which something may be there from earlier runs."""
        self._policy = given.policy
        self._ask = given.verb
        self._known = (want, *placed)
        self._own_parents = {parents_of(path)[0] for path in given.own}
        self._want = want
        self._verbs: dict[bytes, PolicyVerb] = {path: verb for path in want if (verb := self._ask(path)) != "enforce"}
        self._passages: set[bytes] = set()
        ignored = {path for path, verb in self._verbs.items() if verb == "ignore"}
        for path in want if ignored else ():
            if path not in ignored:
                self._passages.update(ignored.intersection(parents_of(path)))

    def verb(self, path: bytes) -> PolicyVerb:
        verb = self._verbs.get(path)
        if verb is None:
            if path in self._want:
                return "enforce"
            verb = self._verbs[path] = self._ask(path)
        return verb

    def holds_mtime(self, directory: bytes) -> bool:
        return directory not in self._own_parents and self._policy.holds_mtime(directory)

    def passes(self, path: bytes) -> bool:
        """Whether a walk need not look at `path` nor below it: it is ignored, or was added by the node for itself."""
        verb = self.verb(path)
        if verb == "ignore":
            return path not in self._passages
        return verb == "node" and not any(path in tree for tree in self._known)

    def is_passage(self, path: bytes) -> bool:
        """Whether an ignored directory has to be there because something below it is held."""
        return path in self._passages


def parents_of(path: bytes) -> list[bytes]:
    """The directories above `path`, the nearest first, the root (b".") last."""
    parents = []
    parent = path.rpartition(b"/")[0]
    while parent:
        parents.append(parent)
        parent = parent.rpartition(b"/")[0]
    if path != b".":
        parents.append(b".")
    return parents
