"""`-l attr=value`: nodes by what is wanted of them and what is known of them, on top of node sets."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sis.errors import NotFound, UsageFault
from sis.inventory.clock import seconds_since
from sis.inventory.model import Node

Operator = Literal["=", "!=", "~", "!~", "<", ">"]
_WORD = re.compile(r"\s*([A-Za-z0-9_.]+)\s*(!=|!~|=|~|<|>)(.*)", re.DOTALL)
_SPAN = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(s|min|m|h|d)?")
_UNITS = {None: 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True, slots=True)
class Selector:
    """One condition: a node has it when any value of the attribute matches (for `!=`, `!~`: when none does)."""

    attribute: str
    operator: Operator
    value: str


def parse(text: str) -> Selector:
    """`state=failed`, `image!=compute@stable`, `name~^rack1-`, `seen>1h`. Raises UsageFault, NotFound."""
    found = _WORD.fullmatch(text)
    if found is None:
        raise UsageFault(
            f"not a selector: {text!r}",
            hint="write attr=value, attr!=value, attr~regex or seen>1h, such as state=failed",
        )
    attribute, operator, value = found[1], found[2], found[3].strip()
    if attribute not in ATTRIBUTES and not attribute.startswith("vars."):
        raise NotFound.of("attribute of nodes", attribute, [*ATTRIBUTES, "vars.NAME"])
    if operator in ("~", "!~"):
        try:
            re.compile(value)
        except re.error as error:
            raise UsageFault(f"{text}: not a regular expression: {error}") from error
    if operator in ("<", ">"):
        _amount(attribute, value, text)
    return Selector(attribute, operator, value)  # type: ignore[arg-type]  # the regular expression allows no other


def matching(nodes: Iterable[Node], selectors: Sequence[Selector]) -> tuple[Node, ...]:
    """The nodes for which every selector holds, in the order given."""
    tests = [_test(selector) for selector in selectors]
    return tuple(node for node in nodes if all(test(node) for test in tests))


def _test(selector: Selector) -> Callable[[Node], bool]:
    values = _reader(selector.attribute)
    wanted, operator = selector.value, selector.operator
    if operator in ("=", "!="):
        alternatives = [part.strip() for part in wanted.split(",")]
        if any(mark in wanted for mark in "*?["):
            patterns = [re.compile(fnmatch.translate(part)) for part in alternatives]
            holds = lambda value: any(pattern.fullmatch(value) for pattern in patterns)  # noqa: E731
        else:
            known = set(alternatives)
            holds = known.__contains__
        return _any_or_none(values, holds, none=operator == "!=", absent="" in alternatives)
    if operator in ("~", "!~"):
        pattern = re.compile(wanted)
        return _any_or_none(values, lambda value: bool(pattern.search(value)), none=operator == "!~")
    limit = _amount(selector.attribute, wanted, wanted)
    more = operator == ">"

    def compares(node: Node) -> bool:
        for value in values(node):
            amount = seconds_since(value) if selector.attribute in _TIMES else float(value)
            if amount > limit if more else amount < limit:
                return True
        return False

    return compares


def _any_or_none(
    values: Callable[[Node], Sequence[str]], holds: Callable[[str], bool], *, none: bool, absent: bool = False
) -> Callable[[Node], bool]:
    def test(node: Node) -> bool:
        found = values(node)
        return (any(map(holds, found)) or (absent and not found)) != none

    return test


def _reader(attribute: str) -> Callable[[Node], Sequence[str]]:
    if attribute.startswith("vars."):
        name = attribute.removeprefix("vars.")
        return lambda node: _texts((node.profile.get("vars") or {}).get(name))
    return ATTRIBUTES[attribute]


def _amount(attribute: str, value: str, text: str) -> float:
    found = _SPAN.fullmatch(value)
    if attribute not in (*_TIMES, *_NUMBERS):
        raise UsageFault(f"{text}: {attribute} is no number", hint=f"numbers are: {', '.join((*_TIMES, *_NUMBERS))}")
    if found is None:
        raise UsageFault(f"{text}: not an amount: {value}", hint="write such as 20, 90s, 15min, 2h, 1d")
    return float(found[1]) * _UNITS[found[2]]


def _texts(value: Any) -> tuple[str, ...]:
    if value is None or value == "":
        return ()
    if isinstance(value, bool):
        return ("true" if value else "false",)
    if isinstance(value, Mapping):
        return tuple(f"{key}={each}" for key, each in value.items())
    if isinstance(value, list | tuple):
        return tuple(text for each in value for text in _texts(each.get("name") if isinstance(each, Mapping) else each))
    return (str(value),)


def _image(node: Node) -> tuple[str, ...]:
    """The wanted image both as written and by its name alone: image=compute finds compute@stable too."""
    assignment = node.assignment
    return () if assignment is None else (assignment.reference, assignment.image)


def _has(node: Node) -> tuple[str, ...]:
    state = node.state
    return (f"{state.image}@{state.generation}", state.image) if state.image else ()


def _profile(name: str) -> Callable[[Node], Sequence[str]]:
    return lambda node: _texts(node.profile.get(name))


_TIMES = ("seen", "since", "created")
_NUMBERS = ("number", "differences")

ATTRIBUTES: dict[str, Callable[[Node], Sequence[str]]] = {
    "name": lambda node: (node.name,),
    "number": lambda node: _texts(node.number),
    "group": lambda node: node.groups,
    "image": _image,
    "has": _has,
    "layout": lambda node: _texts(node.assignment.layout if node.assignment else None),
    "state": lambda node: (node.state.state,),
    "step": lambda node: _texts(node.state.step),
    "reason": lambda node: _texts(node.state.reason),
    "version": lambda node: _texts(node.state.version),
    "differences": lambda node: (str(node.state.drift),),
    "drifted": lambda node: _texts(node.state.drift > 0),
    "failed": lambda node: _texts(node.state.state == "failed"),
    "armed": lambda node: _texts(node.arming is not None),
    "reboot_needed": lambda node: _texts(node.state.reboot_needed),
    "seen": lambda node: _texts(node.state.seen),
    "since": lambda node: _texts(node.state.since),
    "created": lambda node: (node.created,),
    "mac": lambda node: node.macs,
    "address": lambda node: tuple(each.address for each in node.interfaces if each.address),
    "network": lambda node: tuple(each.network for each in node.interfaces if each.network),
    "timezone": lambda node: _texts(node.profile.get("timezone") or "UTC"),
    "resync": lambda node: _texts(node.profile.get("resync") or "nightly"),
    "overlay": _profile("profiles"),
    "profile": _profile("profiles"),
    "modules": _profile("modules"),
    "blacklist": _profile("blacklist"),
    "kernel_cmdline": _profile("kernel_cmdline"),
    "serial_console": _profile("serial_console"),
    "kerrighed": lambda node: _texts(bool(node.profile.get("kerrighed"))),
    "vars": _profile("vars"),
}
"""Attribute → its values of a node, as text; none when it has none."""
