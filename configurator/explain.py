"""Where a file of a node comes from: the renderer or site file that makes it, and the keys it was made from."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any, cast

import msgspec

from configurator.checks import check
from configurator.errors import ConfiguratorError
from configurator.facts import Facts
from configurator.footprint import Footprint
from configurator.record import Record
from configurator.rendered import RenderedFile
from configurator.renderers import Context, all_renderers
from configurator.site import Site, Source, Tree, Values, lay_over, placed, without_secrets

_MOST_ALIKE = 3


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """`origin` made `file`, of what the `keys` say ("record.interfaces[0].mac", "facts.disks[0].driver",
    "footprint.network"; "[*]" stands for more than three of a kind). `sources` are site files that had a part, the
    one that won last; `beneath` are the origins it was laid over, the lowest first.
    """

    path: str
    origin: str
    keys: tuple[str, ...]
    sources: tuple[str, ...] = ()
    beneath: tuple[str, ...] = ()
    file: RenderedFile


def explain(
    record: Record,
    facts: Facts,
    footprint: Footprint,
    path: str,
    *,
    site: Site | None = None,
    tree: Tree | None = None,
) -> Explanation:
    """Why the node has `path`, and has it so.

    Keys are those that were read up to the file: all that had a part, at times some that had none. Raises
    ConfiguratorError with a near path when nothing of ours is there, RecordInvalid and NotRenderable as render does.
    """
    check(record)
    image = tree or Tree()
    seen: dict[str, None] = {}
    watched = Context(
        cast(Record, watch(record, "record", seen)),
        cast(Facts, watch(facts, "facts", seen)),
        cast(Footprint, watch(footprint, "footprint", seen)),
    )
    below, keys, others = _rendered(watched, path, seen)
    own = [source for source in (site or Site()).of(record) if placed(source, footprint, image) == path]
    if below is None and not own:
        raise _nothing(record, path, [*others, *(source.path for source in (site or Site()).of(record))])
    if not own:
        assert below is not None
        return Explanation(path=path, origin=below.origin, keys=folded(keys), file=below)
    seen.clear()
    values = Values(watch(without_secrets(record), "record", seen), watched.facts, watch(footprint, "footprint", seen))
    file = _laid(own, below, Context(record, facts, footprint), image, values, path)
    kept = keys if _builds_on(own) else []
    if any(source.template for source in own):
        kept = [*kept, *seen, *(f"record.vars.{name}" for name in _vars_in(own, record))]
    beneath = [below.origin] if below is not None else []
    return Explanation(
        path=path,
        origin=file.origin,
        keys=folded(kept),
        sources=tuple(source.source for source in own),
        beneath=(*beneath, *(f"site:{source.source}" for source in own[:-1] if not source.fragment)),
        file=file,
    )


def folded(keys: Iterable[str]) -> tuple[str, ...]:
    """The keys, each once, sorted, without those that only lead to others; many of a kind as one with [*]."""
    told = sorted({*keys})
    leaves = [
        key
        for at, key in enumerate(told)
        if not any(other.startswith((f"{key}.", f"{key}[")) for other in told[at + 1 : at + 2])
    ]
    alike: dict[str, list[str]] = {}
    for key in leaves:
        alike.setdefault(re.sub(r"\[[0-9]+\]", "[*]", key), []).append(key)
    return tuple(sorted(key for kind, each in alike.items() for key in ([kind] if len(each) > _MOST_ALIKE else each)))


class _Watched:
    """Stands for a struct and notes each field that is read of it, by its place."""

    def __init__(self, target: msgspec.Struct, place: str, seen: dict[str, None]) -> None:
        self._target = target
        self._place = place
        self._seen = seen
        self._known: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        computed = getattr(type(self._target), name, None)
        if isinstance(computed, property) and computed.fget is not None:
            return computed.fget(self)
        if name not in self._target.__struct_fields__:
            return getattr(self._target, name)
        place = f"{self._place}.{name}"
        self._seen[place] = None
        if name not in self._known:
            self._known[name] = watch(getattr(self._target, name), place, self._seen)
        return self._known[name]


def watch(value: Any, place: str, seen: dict[str, None]) -> Any:
    """The value; structs, and tuples of them, in a form that notes in `seen` what is read."""
    if isinstance(value, msgspec.Struct):
        return _Watched(value, place, seen)
    if isinstance(value, tuple) and any(isinstance(item, msgspec.Struct) for item in value):
        return tuple(watch(item, f"{place}[{at}]", seen) for at, item in enumerate(value))
    return value


def _rendered(context: Context, path: str, seen: dict[str, None]) -> tuple[RenderedFile | None, list[str], list[str]]:
    """The file of the renderer that makes it, the keys read so far, and the other paths."""
    others: list[str] = []
    for each in all_renderers():
        seen.clear()
        if not each.speaks(context.footprint):
            continue
        for file in each.render(context):
            if file.path == path:
                return file, [*seen], others
            others.append(file.path)
    return None, [], others


def _builds_on(own: list[Source]) -> bool:
    """Whether what lies below the site's files still is in the result."""
    return all(source.meta.append for source in own)


def _laid(
    own: list[Source], below: RenderedFile | None, context: Context, tree: Tree, values: Values, path: str
) -> RenderedFile:
    alone = Site({"all": tuple(own)})
    files = lay_over([below] if below is not None else [], alone, context, tree, values)
    return next(file for file in files if file.path == path)


def _vars_in(own: list[Source], record: Record) -> list[str]:
    texts = [source.content.decode() for source in own if source.template]
    return [name for name in record.vars if any(re.search(rf"\bvars\b[^\n]*\b{name}\b", text) for text in texts)]


def _nothing(record: Record, path: str, others: list[str]) -> ConfiguratorError:
    near = difflib.get_close_matches(path, others, n=1)
    return ConfiguratorError(
        f"nothing of ours makes {path} on {record.name}: it is the image's, or not there",
        hint=f"did you mean {near[0]}?" if near else None,
    )
