"""What renderers made for a tree, kept by the values they read: thousands of records that say the same share it."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from configurator.checks import check
from configurator.peers import Same
from configurator.record import Record
from configurator.rendered import RenderedFile
from configurator.renderers import Context, Renderer

_OWN = frozenset({"name", "id", "interfaces", "host_keys", "machine_id", "facts", "vars"})
"""What every node has of its own: nothing that is made of it would be asked for twice."""
_MOST = 4096
_ALONE = frozenset({
    "timezone", "time_servers", "locale", "keyboard", "motd", "mail_name", "hostid", "resync", "modules", "blacklist",
    "boot", "accounts", "environment", "exports", "mounts", "nameservers", "search", "hosts_groups", "groups",
    "profiles", "root_authorized_keys", "head_name", "cluster",
})  # fmt: skip
"""Keys whose values are looked at by themselves: what is good for one record is so for every other."""


class Shared:
    """For one footprint only. Safe in threads."""

    def __init__(self) -> None:
        self._known: dict[Hashable, tuple[RenderedFile, ...]] = {}
        self._good: set[Hashable] = set()

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

    def check(self, record: Record, of: frozenset[str]) -> None:
        """Raise RecordInvalid for faults of a record that is another's but for its keys in `of`."""
        if not of <= _ALONE:
            check(record)
            return
        key = tuple((name, _value(record, name)) for name in sorted(of))
        if key not in self._good:
            check(record)
            if len(self._good) >= _MOST:
                self._good.clear()
            self._good.add(key)


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
