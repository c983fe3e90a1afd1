"""A policy as one run uses it: each verb looked up once, our own files left out, ways through ignored directories."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from sis.image.model import Entry
from sis.sync.model import PolicyVerb


class PathPolicy(Protocol):
    """What the engine asks of a policy (`sis.image.policy.Policy`)."""

    def verb(self, path: bytes) -> PolicyVerb: ...
    def holds_mtime(self, directory: bytes) -> bool: ...


class Rules:
    """The policy for one desired tree. `own` are paths of ours (the state directory), ignored with all below."""

    def __init__(
        self,
        policy: PathPolicy,
        want: Mapping[bytes, Entry],
        *,
        placed: Iterable[Mapping[bytes, Entry]] = (),
        own: frozenset[bytes] = frozenset(),
    ) -> None:
        """`placed` are trees of which something may be there from earlier runs."""
        self._policy = policy
        self._known = (want, *placed)
        self._own = own
        self._own_parents = {parents_of(path)[0] for path in own}
        self._verbs: dict[bytes, PolicyVerb] = {path: self._ask(path) for path in want}
        self._passages: set[bytes] = set()
        ignored = {path for path, verb in self._verbs.items() if verb == "ignore"}
        if ignored:
            for path, verb in self._verbs.items():
                if verb != "ignore":
                    self._passages.update(ignored.intersection(parents_of(path)))

    def verb(self, path: bytes) -> PolicyVerb:
        verb = self._verbs.get(path)
        if verb is None:
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

    def _ask(self, path: bytes) -> PolicyVerb:
        return "ignore" if self._own and self._is_own(path) else self._policy.verb(path)

    def _is_own(self, path: bytes) -> bool:
        return any(path == own or path.startswith(own + b"/") for own in self._own)


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
