"""Renderers look at no more of a record than they say: what is kept by those values is right."""

from __future__ import annotations

from typing import Any, cast

import pytest

from configurator.errors import ConfiguratorError
from configurator.explain import watch
from configurator.facts import Facts, decode_facts
from configurator.record import Record, decode
from configurator.render import render, render_again
from configurator.renderers import Context, all_renderers
from configurator.shared import Shared, differing
from tests.golden.render_cases import Case, cases

GOOD = [case for case in cases() if not case.is_error()]


def _facts(case: Case) -> Facts:
    return decode_facts(case.facts_file.read_bytes()) if case.facts_file else Facts()


def _record(case: Case) -> Record:
    return decode(case.record_file.read_bytes())


@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.name)
def test_what_is_read_was_said(case: Case) -> None:
    for renderer in all_renderers():
        if not renderer.speaks(case.footprint):
            continue
        seen: dict[str, None] = {}
        watched: Any = (watch(_record(case), "record", seen), watch(_facts(case), "facts", seen), case.footprint)
        list(renderer.render(cast(Context, Context(*watched))))
        read = {key.split("[")[0].split(".")[1] if key.startswith("record.") else "facts" for key in seen}
        assert read <= renderer.reads, renderer.name


def test_every_key_is_one_of_the_record() -> None:
    for renderer in all_renderers():
        assert renderer.reads <= {*Record.__struct_fields__, "facts"}, renderer.name


@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.name)
def test_files_made_again_are_those_that_differ(case: Case) -> None:
    """Rendering only what two records differ in finds every file that differs, and no other differs."""
    record, facts = _record(case), _facts(case)
    shared = Shared()
    for other in GOOD[:: len(GOOD) // 6]:
        values = {name: getattr(_record(other), name) for name in ("timezone", "motd", "resync", "search", "domain")}
        changed = type(record)(**{**{name: getattr(record, name) for name in record.__struct_fields__}, **values})
        try:
            after = {file.path: file for file in render(changed, facts, case.footprint)}
        except ConfiguratorError:  # values of another tree: what cannot be rendered is not compared
            continue
        before = {file.path: file for file in render(record, facts, case.footprint, shared=shared)}
        keys = differing(record, changed)
        one = {file.path: file for file in render_again(record, facts, case.footprint, of=keys, shared=shared)}
        two = {file.path: file for file in render_again(changed, facts, case.footprint, of=keys, shared=shared)}
        wanted = {path for path in {*before, *after} if before.get(path) != after.get(path)}
        assert {path for path in {*one, *two} if one.get(path) != two.get(path)} == wanted
        assert all(after[path] == two[path] for path in two)
