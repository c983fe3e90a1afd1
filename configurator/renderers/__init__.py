"""The renderers: one small module a concern. Each registers itself; the footprint decides which of them speak."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable, Iterable
from typing import NamedTuple

from configurator.facts import Facts
from configurator.footprint import Footprint
from configurator.record import Record
from configurator.rendered import RenderedFile


class Context(NamedTuple):
    """What a renderer may look at."""

    record: Record
    facts: Facts
    footprint: Footprint


Function = Callable[[Context], Iterable[RenderedFile]]
Condition = Callable[[Footprint], bool]


class Renderer(NamedTuple):
    """`speaks` says whether a tree wants it; `reads` are the record's keys it looks at, "facts" when it looks at those;
    `owns` are path patterns of which it makes every file there is."""

    name: str
    render: Function
    speaks: Condition
    reads: frozenset[str]
    owns: tuple[str, ...]


_registered: dict[str, Renderer] = {}


def renderer(
    name: str, *, reads: str, speaks: Condition = lambda _footprint: True, owns: tuple[str, ...] = ()
) -> Callable[[Function], Function]:
    """Register a function of Context as the renderer `name`, the origin its files carry. `reads` is all it looks at of
    the record, words between blanks, "facts" among them if it looks at those: what it makes of equal values is kept.
    """

    def register(function: Function) -> Function:
        assert name not in _registered, f"two renderers are called {name}"
        _registered[name] = Renderer(name, function, speaks, frozenset(reads.split()), owns)
        return function

    return register


@functools.cache
def all_renderers() -> tuple[Renderer, ...]:
    """Every renderer there is, by name."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return tuple(_registered[name] for name in sorted(_registered))
