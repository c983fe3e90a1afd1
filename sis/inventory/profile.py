"""The settings of one node beyond name, addresses and image: typed, read from and written to its profile data."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from configurator import windows
from configurator.errors import ConfiguratorError
from configurator.record import Accounts, Environment, Export, Kerrighed, Keyboard, Module, Mount, PeerFile
from sis.errors import NotFound, UsageFault
from sis.wire import HealthChecks


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the cluster file or `sis node set` says of a node. `vars` are the site's own.

    `profiles` are the cluster file's, whose site files the node gets; `boot_kernel` is the release to start, None the
    newest; `boot_timeout_s` how long boot menus wait, None their own default.
    """

    modules: tuple[Module, ...] = ()
    blacklist: tuple[str, ...] = ()
    kerrighed: Kerrighed | None = None
    timezone: str = "UTC"
    time_servers: tuple[str, ...] = ()
    locale: str | None = None
    keyboard: Keyboard | None = None
    serial_console: str | None = None
    kernel_cmdline: str = ""
    boot_kernel: str | None = None
    boot_timeout_s: int | None = None
    resync: Literal["nightly", "hourly", "off"] = "nightly"
    health: HealthChecks = HealthChecks()
    windows: tuple[str, ...] = ()
    root_authorized_keys: tuple[str, ...] = ()
    domain: str = ""
    nameservers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    mounts: tuple[Mount, ...] = ()
    exports: tuple[Export, ...] = ()
    accounts: Accounts = Accounts()
    environment: Environment = Environment()
    peer_files: tuple[PeerFile, ...] = ()
    hosts_groups: tuple[str, ...] = ()
    motd: tuple[str, ...] = ()
    mail_name: str | None = None
    head_name: str = "head"
    hostid: str | None = None
    profiles: tuple[str, ...] = ()
    vars: dict[str, str] = {}


NAMES = tuple(Profile.__struct_fields__)
_PLAIN = Profile()


def read_profile(data: Mapping[str, Any], node: str) -> Profile:
    """The profile of stored data; nodes that share their data share it.

    Raises UsageFault naming node and setting for a value of the wrong kind.
    """
    try:
        return _profile_of(_Same(data))
    except msgspec.ValidationError as error:
        raise UsageFault(f"node {node}: {error}", hint=f"settings are: {', '.join(NAMES)}") from error


@functools.lru_cache(maxsize=8192)
def stored_profile(text: str) -> dict[str, Any]:
    """Profile data from its text in the database: one value for equal texts, as thousands of nodes say the same.

    Nothing may be written into it.
    """
    data: dict[str, Any] = msgspec.json.decode(text)
    return data


class _Same:
    """Data as a cache key: known by identity, and kept alive while it is one."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.data = data

    def __hash__(self) -> int:
        return id(self.data)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.data is self.data


@functools.lru_cache(maxsize=8192)
def _profile_of(same: _Same) -> Profile:
    return msgspec.convert(dict(same.data), Profile)


def write_profile(profile: Profile) -> dict[str, Any]:
    """Data that `read_profile` turns back into the same profile; defaults are left out."""
    data = msgspec.json.decode(msgspec.json.encode(profile))
    assert isinstance(data, dict)
    return {name: value for name, value in data.items() if getattr(profile, name) != getattr(_PLAIN, name)}


_LISTS = (
    "blacklist", "root_authorized_keys", "nameservers", "search", "time_servers", "hosts_groups", "profiles",
)  # fmt: skip
_STRUCTURED = ("mounts", "exports", "accounts", "environment", "health")
"""Too much for a word on a command line: text in the cluster file, JSON here."""


def parse_setting(name: str, text: str) -> Any:
    """The stored value of `NAME=TEXT` as typed on a command line; an empty text is None: the default again.

    Lists are separated by commas, modules and windows by semicolons ("bonding mode=4;ipmi_si"), lines of motd by line
    ends. Raises NotFound for unknown names, UsageFault for impossible windows.
    """
    if name.startswith("vars."):
        return text
    if name not in NAMES or name == "vars":
        raise NotFound.of("setting", name, [*NAMES, "image", "layout", "groups"])
    if not text:
        return None
    if name in _LISTS:
        return [part.strip() for part in text.split(",") if part.strip()]
    if name in _STRUCTURED:
        return _json(name, text)
    if name == "modules":
        return [_module(part) for part in text.split(";") if part.strip()]
    if name == "windows":
        return [_window(part.strip()) for part in text.split(";") if part.strip()]
    if name == "peer_files":
        return [{"format": part.strip()} for part in text.split(",") if part.strip()]
    if name == "keyboard":
        layout, _, variant = text.partition(":")
        return {"layout": layout, "variant": variant} if variant else {"layout": layout}
    if name == "motd":
        return text.splitlines()
    if name == "boot_timeout_s":
        return int(text) if text.isdigit() else text
    if name == "kerrighed":
        session, _, least = text.partition(":")
        if not (session.isdigit() and least.isdigit()):
            raise UsageFault(f"kerrighed={text}: not understood", hint="write kerrighed=SESSION:MIN_NODES, such as 1:4")
        return {"session": int(session), "min_nodes": int(least)}
    return text


def shown_profile(data: Mapping[str, Any]) -> dict[str, Any]:
    """Stored profile data as it may be shown: password hashes are left out."""
    told = dict(data)
    accounts = told.get("accounts")
    if isinstance(accounts, Mapping) and accounts.get("users"):
        users = [{**user, "password": "(hidden)"} if user.get("password") else user for user in accounts["users"]]
        told["accounts"] = {**accounts, "users": users}
    return told


def _json(name: str, text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise UsageFault(
            f"{name}: {error}", hint=f"{name} has parts: write it in the cluster file, or here as JSON"
        ) from error


def _window(text: str) -> str:
    try:
        windows.parse(text)
    except ConfiguratorError as error:
        raise UsageFault(error.message) from error
    return text


def _module(text: str) -> dict[str, Any]:
    name, _, options = text.strip().partition(" ")
    return {"name": name, "options": options.strip()} if options.strip() else {"name": name}
