"""Damaged and hostile files of older suites: refused, or a cluster file that our reader reads as text of that file."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import yaml

from configurator.errors import ConfiguratorError
from configurator.importing import read
from tests.golden.import_cases import cases

INPUTS = [file for case in cases() for file in case.glob("input.*")]
HOSTILE = [
    "\x1b[31m",
    "\0",
    "\u2028",
    "': [",
    "\n- x",
    "{{ 7*7 }}",
    "*a",
    "&a",
    "!!python/object:x",
    "#",
    "<",
    "&amp;",
    "]]>",
    "9" * 400,
]


@pytest.mark.parametrize("file", INPUTS, ids=lambda file: file.parent.name)
def test_mutations(file: Path) -> None:
    """Bytes cut, doubled, and replaced; a fixed seed, so that a failure can be looked at."""
    dice = random.Random(file.parent.name)
    whole = file.read_text()
    refused: list[str] = []
    for _ in range(150):
        at, end = sorted(dice.randrange(len(whole) + 1) for _ in range(2))
        middle = dice.choice(["", whole[at:end] * 2, dice.choice(HOSTILE), whole[at:end] + dice.choice(HOSTILE)])
        text = whole[:at] + middle + whole[end:]
        try:
            imported = read("input", text.encode())
        except ConfiguratorError as error:
            refused.append(str(error))
            continue
        loaded = yaml.load(imported.yaml, yaml.CSafeLoader)
        assert isinstance(loaded["cluster"], str)
        assert set(loaded) <= {"cluster", "networks", "profiles", "defaults", "nodes"}
        assert all(line.isprintable() for line in imported.report)
    assert all(line.isprintable() for error in refused for line in error.split("\n"))


def test_a_wide_bomb_is_bounded() -> None:
    with pytest.raises(ConfiguratorError, match="larger than"):
        read("input.xml", b"<config>" + b"<if/>" * 1_000_000 + b"</config>")


def test_an_internal_entity_in_an_attribute_is_refused() -> None:
    with pytest.raises(ConfiguratorError, match="document type or entities"):
        read("input.xml", b'<!DOCTYPE c [<!ENTITY a "b">]><config><if dev="&a;"/></config>')
    with pytest.raises(ConfiguratorError, match="undefined entity"):
        read("input.xml", b'<config><if dev="&a;"/></config>')
