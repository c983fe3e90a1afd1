"""What a comparison tells, as values: each path that is not as desired, and all of them together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import msgspec

from sis.image.documents.diff import action_of
from sis.image.model import Entry, PolicyVerb
from sis.image.names import show_path
from sis.sync.model import Change
from sis.sync.walk.look import Found

Action = Literal["create", "update", "replace", "metadata", "remove", "keep"]

CONTENT = frozenset({"type", "content", "size", "target", "device"})
"""What cannot be put right in place: these need a new inode."""


class Difference(msgspec.Struct, frozen=True, gc=False):
    """One path that is not as desired. `want` is None for what must go, `found` for what is missing."""

    path: bytes
    action: Action
    what: tuple[str, ...]
    want: Entry | None
    found: Found | None
    verb: PolicyVerb = "enforce"

    def change(self, bytes_to_fetch: int = 0) -> Change:
        return Change(
            action=self.action,
            path=show_path(self.path),
            what=self.what,
            bytes_to_fetch=bytes_to_fetch,
            policy=self.verb,
        )


@dataclass(frozen=True)
class Comparison:
    """Everything there is to do or to tell.

    to_do        what sync acts on, in path order
    told         differences that are reported and left (policy `report`, once the path has been created), or that
                 cannot be mended (action "keep")
    leader_of    hard links to make: path → the path whose inode it must share
    owned        paths that are the node's own now
    absent       paths of policy `node` that cannot be placed
    node_paths   paths of policy `node` that sync is about to place
    kernels      kernel releases of the desired tree
    retained     kernel releases whose files stay although it has them not
    notices      what a person should know, a sentence each
    """

    to_do: tuple[Difference, ...]
    told: tuple[Difference, ...]
    leader_of: Mapping[bytes, bytes]
    owned: frozenset[bytes]
    absent: frozenset[bytes]
    node_paths: tuple[bytes, ...]
    kernels: tuple[str, ...]
    retained: tuple[str, ...]
    notices: tuple[str, ...]

    @property
    def in_sync(self) -> bool:
        return not self.to_do and all(difference.action != "keep" for difference in self.told)


def action_for(here: Found | None, what: tuple[str, ...]) -> Action:
    """What makes of `here`, which differs in `what`, what is desired."""
    if here is None:
        return "create"
    action = action_of(what)
    return "update" if action == "metadata" and "link" in what else action
