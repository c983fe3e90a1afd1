"""YAML texts changed in place: comments, order and everything else stay."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sis.errors import SisError
from sis.spec import yamlio
from sis.spec.edit import Text, flow

CLUSTER = """\
# Our cluster. — ours
cluster: demo   # the name
nodes:
  # first rack
  "n[001-004]":
    image: compute@stable  # what they are
    groups: [compute]

  n001: {interfaces: {eth0: {mac: 52:54:00:12:34:56}}}
  n002:
    kernel_cmdline: |
      quiet
      splash

# the end of it
groups: {rack1: "n[001-002]"}
"""
WIRE = "{interfaces: {eth0: {mac: 52:54:00:12:34:56}}}"
SCALARS = st.text() | st.booleans() | st.none() | st.integers()
VALUES = st.recursive(SCALARS, lambda each: st.lists(each) | st.dictionaries(st.text(min_size=1), each), max_leaves=8)


def edited(*steps: Any, text: str = CLUSTER) -> str:
    made = Text(text.encode(), "c.yaml")
    for name, *arguments in steps:
        getattr(made, name)(*arguments)
    return made.text


@pytest.mark.parametrize(
    ("step", "before", "after"),
    [
        (("set", ("cluster",), "prod"), "cluster: demo   #", "cluster: prod   #"),
        (("set", ("nodes", "n[001-004]", "image"), "gpu@2"), "image: compute@stable  #", "image: gpu@2  #"),
        (
            ("set", ("nodes", "n[001-004]", "resync"), "off"),
            "    groups: [compute]\n",
            "    groups: [compute]\n    resync: off\n",
        ),
        (("set", ("nodes", "n001", "image"), "x"), "12:34:56}}}", "12:34:56}}, image: x}"),
        (("set", ("nodes", "n001", "interfaces", "eth0", "ip"), "10.0.0.1"), "34:56}", "34:56, ip: 10.0.0.1}"),
        (("set", ("nodes", "n002", "image"), "x"), "      splash\n", "      splash\n    image: x\n"),
        (
            ("set", ("nodes", "n003", "vars", "a"), "no: #"),
            "      splash\n",
            '      splash\n  n003: {vars: {a: "no: #"}}\n',
        ),
        (("set", ("defaults", "image"), "x"), 'rack1: "n[001-002]"}\n', 'rack1: "n[001-002]"}\ndefaults: {image: x}\n'),
        (("set", ("nodes", "n[001-004]", "groups"), ["a", "b"]), "[compute]", "[a, b]"),
        (("remove", ("nodes", "n[001-004]", "image")), "    image: compute@stable  # what they are\n", ""),
        (("remove", ("nodes", "n001", "interfaces", "eth0", "mac")), f"  n001: {WIRE}\n", ""),
        (("remove", ("nodes", "n002")), "  n002:\n    kernel_cmdline: |\n      quiet\n      splash\n", ""),
        (("remove", ("groups", "rack1")), '{rack1: "n[001-002]"}', "{}"),
        (("remove", ("nowhere", "x")), "", ""),
        (("rename", ("nodes", "n[001-004]"), "n[001-003]"), '"n[001-004]":', '"n[001-003]":'),
        (
            ("set", ("nodes", "n002"), {"image": "x"}),
            "n002:\n    kernel_cmdline: |\n      quiet\n      splash\n",
            "n002: {image: x}\n",
        ),
    ],
)
def test_one_change_touches_one_thing(step: Any, before: str, after: str) -> None:
    expected = CLUSTER.replace(before, after) if before else CLUSTER
    assert edited(step) == expected
    yamlio.parse(edited(step).encode(), "c.yaml")


def test_values_that_are_empty_or_the_whole_text() -> None:
    assert edited(("set", ("a", "b"), "c"), text="a:\n") == "a: {b: c}\n"
    assert edited(("set", ("a", "b"), "c"), text="a: ~  # none\n") == "a: {b: c}  # none\n"
    assert edited(("set", ("a",), "c"), text="# only this\n") == "# only this\n{a: c}\n"
    assert edited(("set", ("b",), "c"), text="a: 1") == "a: 1\nb: c\n"
    assert edited(("remove", ("a", "c")), text="a: {b: 1, c: 2}\n") == "a: {b: 1}\n"
    assert edited(("remove", ("a", "b")), text="a: {b: 1, c: 2}\n") == "a: {c: 2}\n"


def test_what_an_alias_says_is_not_changed_behind_it() -> None:
    with pytest.raises(SisError, match=r"c\.yaml:2: b\.x is written by an alias"):
        edited(("set", ("b", "x"), "2"), text="a: &one {x: 1}\nb: *one\n")


def test_keys_of_what_is_no_mapping_are_refused() -> None:
    with pytest.raises(SisError, match=r"c\.yaml:1: a is no mapping"):
        edited(("set", ("a", "b"), "c"), text="a: [1]\n")


@settings(max_examples=100, deadline=None)
@given(VALUES)
def test_what_is_written_reads_back_as_itself(value: Any) -> None:
    assert yamlio.parse(f"k: {flow(value)}\n".encode(), "x").value["k"] == value
