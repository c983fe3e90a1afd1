"""The settings of one node beyond name, addresses and image: typed, read from and written to its profile data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from configurator.record import Kerrighed, Module
from sis.errors import NotFound, UsageFault


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the cluster file or `sis node set` says of a node. `vars` are the site's own."""

    modules: tuple[Module, ...] = ()
    blacklist: tuple[str, ...] = ()
    kerrighed: Kerrighed | None = None
    timezone: str = "UTC"
    serial_console: str | None = None
    kernel_cmdline: str = ""
    resync: Literal["nightly", "hourly", "off"] = "nightly"
    root_authorized_keys: tuple[str, ...] = ()
    domain: str = ""
    nameservers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    vars: dict[str, str] = {}


NAMES = tuple(Profile.__struct_fields__)


def read_profile(data: Mapping[str, Any], node: str) -> Profile:
    """The profile of stored data. Raises UsageFault naming node and setting for a value of the wrong kind."""
    try:
        return msgspec.convert(dict(data), Profile)
    except msgspec.ValidationError as error:
        raise UsageFault(f"node {node}: {error}", hint=f"settings are: {', '.join(NAMES)}") from error


def write_profile(profile: Profile) -> dict[str, Any]:
    """Data that `read_profile` turns back into the same profile; defaults are left out."""
    data = msgspec.to_builtins(profile)
    assert isinstance(data, dict)
    return data


def parse_setting(name: str, text: str) -> Any:
    """The stored value of `NAME=TEXT` as typed on a command line; an empty text is None: the default again.

    Lists are separated by commas, modules by semicolons ("bonding mode=4;ipmi_si"). Raises NotFound for unknown names.
    """
    if name.startswith("vars."):
        return text
    if name not in NAMES or name == "vars":
        raise NotFound.of("setting", name, [*NAMES, "image", "layout", "groups"])
    if not text:
        return None
    if name in ("blacklist", "root_authorized_keys", "nameservers", "search"):
        return [part.strip() for part in text.split(",") if part.strip()]
    if name == "modules":
        return [_module(part) for part in text.split(";") if part.strip()]
    if name == "kerrighed":
        session, _, least = text.partition(":")
        if not (session.isdigit() and least.isdigit()):
            raise UsageFault(f"kerrighed={text}: not understood", hint="write kerrighed=SESSION:MIN_NODES, such as 1:4")
        return {"session": int(session), "min_nodes": int(least)}
    return text


def _module(text: str) -> dict[str, Any]:
    name, _, options = text.strip().partition(" ")
    return {"name": name, "options": options.strip()} if options.strip() else {"name": name}
