"""What renderers made for a tree, kept by the values they read: thousands of records that say the same share it."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from configurator.peers import Same
from configurator.record import Record
from configurator.rendered import RenderedFile
from configurator.renderers import Context, Renderer

_OWN = frozenset({"name", "id", "interfaces", "host_keys", "machine_id", "facts", "vars"})
"""What every node has of its own: nothing that is made of it would be asked for twice."""
_MOST = 4096


class Shared:
    """For one footprint only. Safe in threads."""

    def __init__(self) -> None:
        self._known: dict[Hashable, tuple[RenderedFile, ...]] = {}

    def files(self, renderer: Renderer, context: Context) -> tuple[RenderedFile, ...]:
        """The renderer's files for this record."""
        if not _OWN.isdisjoint(renderer.reads):
            return tuple(renderer.render(context))
        key = (renderer.name, *(_value(context.record, name) for name in renderer.reads))
        known = self._known.get(key)
        if known is None:
            known = tuple(renderer.render(context))
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[key] = known
        return known


def differing(before: Record, after: Record) -> frozenset[str]:
    """The keys two records differ in. Peers are thousands and count by identity."""
    return frozenset(
        name for name in Record.__struct_fields__ if _differ(name, getattr(before, name), getattr(after, name))
    )


def _differ(name: str, one: Any, other: Any) -> bool:
    return one is not other and (name == "peers" or one != other)


def _value(record: Record, name: str) -> Hashable:
    value: Hashable = getattr(record, name)
    return Same(record.peers) if name == "peers" else value
