"""What is remembered of a root, as values: the tree it was made equal to, and what was seen of it then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from sis.image.model import Entry
from sis.sync.desired import Overlaid
from sis.sync.walk.listing import Listing
from sis.system.files import Xattrs


class Still(msgspec.Struct, array_like=True, frozen=True):
    """What lets a walk say that nothing changed, without the desired tree at hand (`still`).

    It is there only where every held path that is on the disk has its row in a listing.

    terms      digest of all that the verdict depends on besides the tree: policy, mounts, kernels
    entries    how many entries the desired tree has
    notices    what a person was told
    aside      by directory, names a listing leaves out and whether they are directories: ignored, the node's own, …
    mounts     mount points the walk met, held or not
    uncrossed  those among them that are not held
    absent     desired paths that are not there
    restless   directories whose time is not held, with their xattrs
    """

    terms: bytes
    entries: int
    notices: tuple[str, ...]
    aside: dict[bytes, dict[bytes, bool]]
    mounts: tuple[bytes, ...]
    uncrossed: tuple[bytes, ...]
    absent: tuple[bytes, ...]
    restless: dict[bytes, Xattrs]


@dataclass(frozen=True)
class Remembered:
    """The state of one root.

    tree      digest of the tree last applied, b"" before the first sync
    applied   its entries
    intended  entries of policy `node` that an interrupted run may have placed already
    owned     paths of policy `node` that the node has changed: its own from then on
    absent    paths of policy `node` of the applied tree that were never placed
    kernels   kernel releases the applied tree has
    retained  kernel releases kept although the applied tree has not
    listings  by directory, the lstat of what was verified to equal its entry in `applied`
    still     what makes a short answer of it, if that is possible
    overlaid  where the layer that was applied lies
    """

    tree: bytes = b""
    applied: Mapping[bytes, Entry] = field(default_factory=dict)
    intended: Mapping[bytes, Entry] = field(default_factory=dict)
    owned: frozenset[bytes] = frozenset()
    absent: frozenset[bytes] = frozenset()
    kernels: tuple[str, ...] = ()
    retained: tuple[str, ...] = ()
    listings: Mapping[bytes, Listing] = field(default_factory=dict)
    still: Still | None = None
    overlaid: Overlaid = field(default_factory=Overlaid)
