"""What the cluster file may say of nodes, in its defaults, profiles and node entries: everything a record can hold.

Keys have the names of the record's (configurator/record.py), so that the one becomes the other without a table.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, GetJsonSchemaHandler, WithJsonSchema
from pydantic_core import CoreSchema

from sis.spec.addresses import (
    AnyAddressText,
    Destination,
    InterfaceName,
    IpTemplate,
    MacText,
    PrefixedTemplate,
)
from sis.spec.health import HealthSpec, WindowText
from sis.spec.model import AbsolutePath, Console, Count, Flag, Name, Spec, Text, TimeZone, matching
from sis.spec.removal import Item

ImageReference = Annotated[
    Text, matching(r"[a-z0-9][a-z0-9._-]*(@[A-Za-z0-9._:-]+)?", "must be an image such as compute or compute@stable")
]
Mtu = Annotated[Count, Field(ge=68, le=65535)]
Id = Annotated[Count, Field(ge=0, le=2**32 - 2)]


class RouteSpec(Spec):
    """`to` is a network or default, of the family of `via`."""

    to: Destination
    via: AnyAddressText


class BondSpec(Spec):
    """Interfaces of the same node joined to one."""

    members: tuple[Item[InterfaceName], ...]
    mode: Literal[
        "balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb"
    ] = "active-backup"
    monitor_ms: Count = 100


class VlanSpec(Spec):
    """A tagged network on another interface of the same node."""

    id: Annotated[Count, Field(ge=1, le=4094)]
    parent: InterfaceName


class BridgeSpec(Spec):
    """Interfaces of the same node switched together."""

    members: tuple[Item[InterfaceName], ...] = ()
    stp: Flag = False


class InterfaceSpec(Spec):
    """One interface of a node. `ip` may hold `{index}` or `{index+10}`; `+{index}` counts from the network's start.

    `addresses` are further ones with their prefixes, of any family. Without `ip` an interface on a network is
    configured by DHCP; members of bonds and bridges need no network.
    """

    network: Text | None = None
    mac: MacText | None = None
    ip: IpTemplate | None = None
    dhcp: Flag | None = None
    addresses: tuple[Item[PrefixedTemplate], ...] = ()
    mtu: Mtu | None = None
    routes: tuple[Item[RouteSpec], ...] = ()
    bond: BondSpec | None = None
    vlan: VlanSpec | None = None
    bridge: BridgeSpec | None = None
    infiniband: Literal["datagram", "connected"] | None = None


class ModuleSpec(Spec):
    """A kernel module; written as its name alone, or with an alias such as eth0 and options."""

    name: Text
    alias: Text | None = None
    options: Text = ""
    load: Flag = True


class KerrighedSpec(Spec):
    """Kerrighed's session; node ids are the inventory's own."""

    session: Annotated[Count, Field(ge=1, le=9999)]
    min_nodes: Annotated[Count, Field(ge=1, le=256)]
    autonodeid: Flag = False
    legacy_scheduler: Flag = True


class KeyboardSpec(Spec):
    """The console's keyboard; written as its layout alone, or with XKB's words and the console's own keymap."""

    layout: Text
    variant: Text = ""
    model: Text = "pc105"
    options: Text = ""
    keymap: Text = ""


class BootSpec(Spec):
    """`kernel` is the release to start, of several in an image; `timeout_s` is how long boot menus wait."""

    kernel: Text | None = None
    timeout_s: Annotated[Count, Field(ge=0, le=3600)] = 3


class MountSpec(Spec):
    """One more line of fstab than the disk layout gives."""

    source: Text
    path: AbsolutePath
    filesystem: Text
    options: Text = "defaults"
    dump: Count = 0
    passno: Count = 0


class ExportSpec(Spec):
    """A directory the node exports over NFS; clients may be group:NAME."""

    path: AbsolutePath
    clients: tuple[Text, ...]
    options: Text = "ro,sync,no_subtree_check"


class UserSpec(Spec):
    """A user of the site; `password` is a crypt(5) hash, without one nobody gets in by password."""

    name: Text
    uid: Id
    gid: Id
    gecos: Text = ""
    home: AbsolutePath
    shell: AbsolutePath = "/bin/bash"
    password: Text | None = None


class GroupSpec(Spec):
    """A Unix group of the site."""

    name: Text
    gid: Id
    members: tuple[Text, ...] = ()


class SudoSpec(Spec):
    """What `who` (alice, %wheel) may do as `run_as`; no commands allows all."""

    name: Text
    who: Text
    run_as: Text = "ALL"
    commands: tuple[Text, ...] = ()
    password: Flag = True


class AccountsSpec(Spec):
    """Laid over the image's own accounts, of which none is lost."""

    users: tuple[Item[UserSpec], ...] = ()
    groups: tuple[Item[GroupSpec], ...] = ()
    sudo: tuple[Item[SudoSpec], ...] = ()


class EnvironmentSpec(Spec):
    """Modulefiles: the version each name means by default, and what every login loads."""

    defaults: dict[Text, Text] = Field(default_factory=dict)
    load: tuple[Text, ...] = ()
    path: Text = ""


class PeerFileSpec(Spec):
    """A file that lists the cluster; written as its format alone, or with another path and only some groups."""

    format: Literal["slurm", "openmpi", "mpich", "genders", "clustershell", "c3", "hosts.equiv", "shosts.equiv"]
    path: Text = ""
    groups: tuple[Text, ...] = ()


class _OrText(BeforeValidator):
    """Editors are told that a text may stand for the mapping."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"type": "string"}, handler(core)]}


def _named(key: str) -> _OrText:
    """A text stands for the mapping that says only `key`."""

    def widen(value: object) -> object:
        return {key: value} if isinstance(value, str) else value

    return _OrText(widen)


def _lines(value: object) -> object:
    return value.splitlines() if isinstance(value, str) else value


_LINES = WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]})


_NO_BOOT, _NO_ACCOUNTS, _NO_ENVIRONMENT, _NO_HEALTH = BootSpec(), AccountsSpec(), EnvironmentSpec(), HealthSpec()
"""Said once for all: pydantic copies a default, and whatever is in it, for each of thousands of entries."""


class Settings(Spec):
    """What defaults, profiles and node entries may say. Lists append, mappings merge, scalars override."""

    image: ImageReference | None = None
    disk: Name | None = None
    interfaces: dict[InterfaceName, InterfaceSpec] = Field(default_factory=dict)
    domain: Text = ""
    nameservers: tuple[Item[AnyAddressText], ...] = ()
    search: tuple[Text, ...] = ()
    modules: tuple[Item[Annotated[ModuleSpec, _named("name")]], ...] = ()
    blacklist: tuple[Text, ...] = ()
    kerrighed: KerrighedSpec | None = None
    timezone: TimeZone = "UTC"
    time_servers: tuple[Text, ...] = ()
    locale: Text | None = None
    keyboard: Annotated[KeyboardSpec | None, _named("layout")] = None
    serial_console: Console | None = None
    kernel_cmdline: Text = ""
    boot: BootSpec = Field(default_factory=lambda: _NO_BOOT)
    resync: Literal["nightly", "hourly", "off"] = "nightly"
    health: HealthSpec = Field(default_factory=lambda: _NO_HEALTH)
    windows: tuple[Item[WindowText], ...] = ()
    root_authorized_keys: tuple[Text, ...] = ()
    mounts: tuple[Item[MountSpec], ...] = ()
    exports: tuple[Item[ExportSpec], ...] = ()
    accounts: AccountsSpec = Field(default_factory=lambda: _NO_ACCOUNTS)
    environment: EnvironmentSpec = Field(default_factory=lambda: _NO_ENVIRONMENT)
    peer_files: tuple[Item[Annotated[PeerFileSpec, _named("format")]], ...] = ()
    hosts_groups: tuple[Item[Name], ...] = ()
    motd: Annotated[tuple[Text, ...], BeforeValidator(_lines), _LINES] = ()
    mail_name: Text | None = None
    head_name: Text = "head"
    hostid: Text | None = None
    vars: dict[str, Text] = Field(default_factory=dict)


IDENTITIES: dict[tuple[Any, ...], str] = {
    ("modules",): "name",
    ("mounts",): "path",
    ("exports",): "path",
    ("peer_files",): "format",
    ("accounts", "users"): "name",
    ("accounts", "groups"): "name",
    ("accounts", "sudo"): "name",
    ("health", "commands"): "run",
    ("interfaces", "*", "routes"): "to",
}
"""In these lists `-NAME` takes away the item whose key has that value, and an item written again replaces it."""

REPEATED = frozenset({("interfaces", "*", "routes")})
"""But here items of one name stand beside each other."""


class NodeEntry(Settings):
    """Settings of the nodes a node set names."""

    profiles: tuple[Text, ...] = ()
    groups: tuple[Name, ...] = ()
