"""What differs on many nodes, folded: nodes that differ alike become one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sis.inventory.names import fold

_VERBS = {"keep": "differs"}


@dataclass(frozen=True, slots=True)
class FoldedChange:
    """One difference and the node set that has it. `action`, `what` and `policy` as in `sis.sync.model.Change`."""

    nodes: str
    count: int
    action: str
    path: str
    what: tuple[str, ...]
    policy: str

    @property
    def verb(self) -> str:
        """What happened to the path, or (policy report) that it differs."""
        return _VERBS.get(self.action, self.action)

    @property
    def line(self) -> str:
        """Such as `n[001-002] update /etc/motd (content, mtime)`."""
        about = ", ".join(self.what)
        if self.policy != "enforce":
            about = f"{about}; policy {self.policy}" if about else f"policy {self.policy}"
        return f"{self.nodes} {self.verb} {self.path}" + (f" ({about})" if about else "")


def fold_changes(changes: Mapping[str, Sequence[Mapping[str, Any]]]) -> tuple[FoldedChange, ...]:
    """Itemised changes by node, folded, in order of path."""
    alike: dict[tuple[str, str, tuple[str, ...], str], list[str]] = {}
    for node, items in changes.items():
        for item in items:
            key = (item["path"], item["action"], tuple(item.get("what", ())), item.get("policy", "enforce"))
            alike.setdefault(key, []).append(node)
    return tuple(
        FoldedChange(fold(nodes), len(nodes), action, path, what, policy)
        for (path, action, what, policy), nodes in sorted(alike.items())
    )
