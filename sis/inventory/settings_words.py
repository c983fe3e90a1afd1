"""`NAME=VALUE`, `NAME+=VALUE`, `NAME-=VALUE` as typed, turned into one change of nodes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from sis.errors import NotFound, UsageFault
from sis.inventory.model import Assignment, Interface, Node
from sis.inventory.names import check_group
from sis.inventory.nodes import Change
from sis.inventory.profile import NAMES, parse_setting, read_profile

Sign = Literal["=", "+=", "-="]
_ALIASES = {"group": "groups", "overlay": "profiles", "overlays": "profiles", "disk": "layout"}


@dataclass(frozen=True)
class Checks:
    """What must be asked elsewhere: an image reference as (name, selector), and whether a layout is there."""

    image: Callable[[str], tuple[str, str]]
    layout: Callable[[str], None]


@dataclass
class _Wish:
    """What the words read so far ask for."""

    image: tuple[str, str] | None = None
    layout: str | None = None
    join: list[str] = field(default_factory=list)
    leave: list[str] = field(default_factory=list)
    groups: list[str] | None = None
    profile: dict[str, Any] = field(default_factory=dict)
    added: dict[str, list[Any]] = field(default_factory=dict)
    taken: dict[str, list[Any]] = field(default_factory=dict)
    vars: dict[str, str] = field(default_factory=dict)
    wires: dict[str, list[str]] = field(default_factory=dict)


def change_of(words: Sequence[str], nodes: Sequence[Node], groups: Collection[str], checks: Checks) -> Change:
    """The change that words describe for these nodes; `groups` are those there are.

    Raises UsageFault and NotFound, with near names, for what is not understood, not there, or makes no sense.
    """
    wish = _Wish()
    for word in words:
        _read(word, wish, checks)
    for group in wish.leave:
        if group not in groups:
            raise NotFound.of("group", group, groups)
    change = Change(
        assignment=_assigned(wish) if wish.image or wish.layout is not None else None,
        profile=wish.profile,
        added=wish.added,
        taken=wish.taken,
        vars=wish.vars,
        join=wish.join,
        leave=wish.leave,
        groups=wish.groups,
        interfaces=_rewired(nodes, wish.wires) if wish.wires else {},
    )
    for each in nodes:
        read_profile(change.of(each).profile, each.name)
    return change


def split(word: str) -> tuple[str, Sign, str]:
    """`groups+=gpu` as ("groups", "+=", "gpu"). Raises UsageFault."""
    name, equals, value = word.partition("=")
    if not equals or not name.rstrip("+-"):
        raise UsageFault(f"not understood: {word}", hint="write NAME=VALUE, such as image=compute@stable")
    sign: Sign = "+=" if name[-1] == "+" else "-=" if name[-1] == "-" else "="
    plain = name.rstrip("+-").strip()
    return _ALIASES.get(plain, plain), sign, value


def one_each(what: str, values: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """Values, one a node. Raises UsageFault when there are more or fewer of them than nodes."""
    if values and len(values) != len(names):
        plural = "" if len(values) == 1 else "es" if what == "address" else "s"
        count = f"{len(names)} node" + ("" if len(names) == 1 else "s")
        raise UsageFault(f"{len(values)} {what}{plural} for {count}", hint=f"give one {what} for each node")
    return dict(zip(names, values, strict=False))


def listed(value: str) -> list[str]:
    """What commas separate."""
    return [part.strip() for part in value.split(",") if part.strip()]


def _read(word: str, wish: _Wish, checks: Checks) -> None:
    name, sign, value = split(word)
    if name == "groups":
        names = [check_group(group) for group in listed(value)]
        if sign == "=":
            wish.groups = names
        else:
            (wish.join if sign == "+=" else wish.leave).extend(names)
    elif name in ("image", "layout", "mac", "ip") or name.startswith("vars."):
        if sign != "=":
            raise UsageFault(f"{word}: {name} is no list", hint=f"write {name}=VALUE")
        _read_single(name, value, wish, checks)
    elif sign == "=":
        wish.profile[name] = parse_setting(name, value)
    else:
        items = parse_setting(name, value)
        if not isinstance(items, list):
            lists = "groups, " + ", ".join(each for each in NAMES if _is_list(each))
            raise UsageFault(f"{word}: {name} is no list", hint=f"lists are: {lists}")
        (wish.added if sign == "+=" else wish.taken).setdefault(name, []).extend(items)


def _read_single(name: str, value: str, wish: _Wish, checks: Checks) -> None:
    if name == "image":
        wish.image = checks.image(value)
    elif name == "layout":
        wish.layout = value
        if value:
            checks.layout(value)
    elif name in ("mac", "ip"):
        wish.wires[name] = listed(value)
    else:
        wish.vars[name.removeprefix("vars.")] = value


def _is_list(name: str) -> bool:
    from sis.inventory.profile import Profile

    return isinstance(getattr(Profile(), name), tuple)


def _assigned(wish: _Wish) -> Callable[[Assignment | None], Assignment]:
    def assigned(known: Assignment | None) -> Assignment:
        chosen = wish.image or ((known.image, known.selector) if known else None)
        if chosen is None:
            raise UsageFault("a layout alone is no assignment", hint="give image=NAME@stable too")
        kept = known.layout if known else None
        return Assignment(*chosen, (wish.layout or None) if wish.layout is not None else kept)

    return assigned


def _rewired(nodes: Sequence[Node], wires: Mapping[str, Sequence[str]]) -> dict[str, tuple[Interface, ...]]:
    """Each node's interfaces with the first one's MAC or address changed; an empty value takes it away."""
    names = [node.name for node in nodes]
    macs = one_each("MAC", wires["mac"], names) if wires.get("mac") else None
    addresses = one_each("address", wires["ip"], names) if wires.get("ip") else None
    made = {}
    for node in nodes:
        if not node.interfaces:
            raise UsageFault(f"node {node.name} has no interface")
        first = node.interfaces[0]
        if "mac" in wires:
            first = replace(first, mac=macs[node.name] if macs else None)
        if "ip" in wires:
            first = replace(first, address=addresses[node.name] if addresses else None)
        made[node.name] = (first, *node.interfaces[1:])
    return made
