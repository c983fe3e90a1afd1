"""The record of one node: everything its own files are made from. JSON on the wire and in `--record r.json`.

The head composes it from the inventory, the cluster file and the disk layout; it knows nothing of the image (that
is the footprint) nor of hardware found (those are the facts). Values are checked for their meaning by `check`,
which `decode` and `render` call.
"""

from __future__ import annotations

import difflib
import re
from typing import Literal

import msgspec

from configurator.errors import RecordInvalid


class Route(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`to` is a network ("10.8.0.0/16") or "default"; `via` an address of the same family."""

    to: str
    via: str


class Bond(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Interfaces of the record joined to one. `monitor_ms` is how often the members' link is looked at."""

    members: tuple[str, ...]
    mode: Literal[
        "balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb"
    ] = "active-backup"
    monitor_ms: int = 100


class Vlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tagged network (1..4094) on another interface of the record."""

    id: int
    parent: str


class Bridge(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Interfaces of the record switched together; `stp` speaks the spanning tree protocol."""

    members: tuple[str, ...] = ()
    stp: bool = False


class Interface(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One network interface, matched by MAC (by name without one). `address` is CIDR ("10.77.0.11/24") or None with
    `dhcp`; with neither the interface is brought up without an address. `addresses` are further ones, of any family.

    At most one of `bond`, `vlan` and `bridge` says that it is made and not found; members and parents are interfaces
    of the same record. `infiniband` is how IP over InfiniBand travels, "datagram" unless told.
    """

    name: str
    mac: str | None = None
    address: str | None = None
    addresses: tuple[str, ...] = ()
    gateway: str | None = None
    dhcp: bool = False
    mtu: int | None = None
    routes: tuple[Route, ...] = ()
    bond: Bond | None = None
    vlan: Vlan | None = None
    bridge: Bridge | None = None
    infiniband: Literal["datagram", "connected"] | None = None


class Mount(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One fstab line. `source` such as "PARTLABEL=sis-root"; `path` absolute, or "none" for swap."""

    source: str
    path: str
    filesystem: str
    options: str = "defaults"
    dump: int = 0
    passno: int = 0


class Peer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Another node (or the head) as every node must know it. `id` is stable and never re-used.

    `kerrighed` False keeps a peer (the head, a node of another profile) out of the Kerrighed session's node list.
    `groups`, `cpus` and `memory_mib` (0: not known) are for the files that list the cluster; `host_keys` are the
    peer's public ssh host keys. A node may be among its own peers: hand every record of a cluster the same tuple, it
    is then checked and turned into text once.
    """

    name: str
    address: str
    id: int
    interface: str = "eth0"
    kerrighed: bool = True
    groups: tuple[str, ...] = ()
    cpus: int = 0
    memory_mib: int = 0
    host_keys: tuple[str, ...] = ()


class PeerFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file that lists the cluster, in one of the formats of `configurator.peers`.

    `path` "" is the format's usual place; `groups` keeps it to peers in any of them, empty lists all.
    """

    format: Literal["slurm", "openmpi", "mpich", "genders", "clustershell", "c3", "hosts.equiv", "shosts.equiv"]
    path: str = ""
    groups: tuple[str, ...] = ()


class Module(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A kernel module. `alias` such as "eth0", "eth", "scsi_hostadapter" or a modalias; "eth", "tr" and
    "scsi_hostadapter" are numbered in the order of the record. `options` as modprobe takes them; `load` at boot."""

    name: str
    alias: str | None = None
    options: str = ""
    load: bool = True


class Kerrighed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Membership in a Kerrighed session (1..9999) that starts when `min_nodes` nodes are there."""

    session: int
    min_nodes: int
    autonodeid: bool = False
    legacy_scheduler: bool = True


class HostKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An ssh host key pair in OpenSSH text form; `type` is the word in the file name: ssh_host_<type>_key."""

    type: Literal["ed25519", "ecdsa", "rsa"]
    private: str
    public: str


class Keyboard(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The console's keyboard. `layout`, `variant`, `model` and `options` are XKB's words; `keymap` is the console's
    own name where it has another ("de-latin1"), the layout without one."""

    layout: str
    variant: str = ""
    model: str = "pc105"
    options: str = ""
    keymap: str = ""


class Boot(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the installed node starts. `parameters` are words for the kernel's command line (root= is made from the
    mounts); `kernel` is the release to start, None the newest the image has; `timeout_s` is how long menus wait."""

    parameters: tuple[str, ...] = ()
    kernel: str | None = None
    timeout_s: int = 3


class Export(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A directory this node exports over NFS. `clients` are addresses, networks, host names (with * and ?),
    @netgroups, or "group:NAME": the peers in that group."""

    path: str
    clients: tuple[str, ...]
    options: str = "ro,sync,no_subtree_check"


class Group(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A Unix group of the site; `members` are added to those it has in the image."""

    name: str
    gid: int
    members: tuple[str, ...] = ()


class User(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A user of the site. `password` is a crypt(5) hash; None lets nobody in by password."""

    name: str
    uid: int
    gid: int
    gecos: str = ""
    home: str
    shell: str = "/bin/bash"
    password: str | None = None


class Sudo(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `who` ("alice", "%wheel") may do as `run_as`; `commands` are absolute paths with their arguments, empty
    allows all."""

    name: str
    who: str
    run_as: str = "ALL"
    commands: tuple[str, ...] = ()
    password: bool = True


class Accounts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Laid over the image's own accounts, of which none is lost."""

    users: tuple[User, ...] = ()
    groups: tuple[Group, ...] = ()
    sudo: tuple[Sudo, ...] = ()


class Software(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A modulefile such as "mpi/openmpi" and the `version` of it that its name alone means."""

    name: str
    version: str


class Environment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Modulefiles of Environment Modules or Lmod: default versions, and what every login loads.

    `path` is the directory the modulefiles are in, "" the tool's usual one.
    """

    defaults: tuple[Software, ...] = ()
    load: tuple[str, ...] = ()
    path: str = ""


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    id: int
    domain: str = ""
    cluster: str = "cluster"
    head: str = ""
    """Address of the head on the node's network."""
    head_name: str = "head"
    """Name under which /etc/hosts lists the head, unless a peer has that address or name."""
    mail_name: str | None = None
    """Content of /etc/mailname; None leaves that file to the image."""
    interfaces: tuple[Interface, ...] = ()
    nameservers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    mounts: tuple[Mount, ...] = ()
    modules: tuple[Module, ...] = ()
    blacklist: tuple[str, ...] = ()
    peers: tuple[Peer, ...] = ()
    kerrighed: Kerrighed | None = None
    host_keys: tuple[HostKey, ...] = ()
    root_authorized_keys: tuple[str, ...] = ()
    machine_id: str | None = None
    timezone: str = "UTC"
    resync: Literal["nightly", "hourly", "off"] = "nightly"
    """When the node makes itself equal to its image by itself."""
    windows: tuple[str, ...] = ()
    """Maintenance windows such as "Sun 01:00-05:00", in which it then does so; none: at any time."""
    profiles: tuple[str, ...] = ()
    """Whose site files the node gets: a later one wins."""
    groups: tuple[str, ...] = ()
    """Groups the node is in; of their site files a later one's win."""
    vars: dict[str, str] = {}
    """The site's own values, for its templates."""
    hostid: str | None = None
    """Eight hex digits, as hostid(1) prints them."""
    hosts_groups: tuple[str, ...] = ()
    """Groups whose members /etc/hosts lists; empty lists every peer."""
    motd: tuple[str, ...] = ()
    """Lines of /etc/motd; empty leaves that file to the image."""
    time_servers: tuple[str, ...] = ()
    locale: str | None = None
    keyboard: Keyboard | None = None
    peer_files: tuple[PeerFile, ...] = ()
    boot: Boot | None = None
    """None leaves the boot entries to others."""
    exports: tuple[Export, ...] = ()
    accounts: Accounts = Accounts()
    environment: Environment = Environment()

    @property
    def fqdn(self) -> str:
        """The name with its domain; a name that has dots of its own is complete already."""
        return self.name if not self.domain or "." in self.name else f"{self.name}.{self.domain}"


_STRUCTS: tuple[type[msgspec.Struct], ...] = (
    Record, Interface, Bond, Vlan, Bridge, Route, Mount, Peer, PeerFile, Module, Kerrighed, HostKey, Keyboard, Boot,
    Export, Accounts, User, Group, Sudo, Environment, Software,
)  # fmt: skip


def decode(data: bytes | str, source: str = "record") -> Record:
    """A record from JSON, every value checked. `source` names the text in errors.

    Raises RecordInvalid: for text that is not JSON or has a wrong type or an unknown key (the first such fault,
    with its path), else for every value that is not what it means, all at once.
    """
    from configurator.checks import check

    try:
        record = msgspec.json.decode(data, type=Record)
    except msgspec.ValidationError as error:
        text = str(error)
        raise RecordInvalid(f"{source} is not a node record", hint=_near_key(text), details=[_place(text)]) from error
    except (msgspec.DecodeError, UnicodeError) as error:
        raise RecordInvalid(f"{source} is not JSON", details=[str(error)]) from error
    check(record)
    return record


def encode(record: Record) -> bytes:
    """The record as JSON; `decode` gives it back."""
    return msgspec.json.encode(record)


def _near_key(message: str) -> str | None:
    """The known key closest to an unknown one."""
    found = re.search(r"unknown field `(.*?)`", message)
    known = {name for struct in _STRUCTS for name in struct.__struct_fields__}
    near = difflib.get_close_matches(found.group(1), sorted(known), n=1) if found else []
    return f"did you mean {near[0]}?" if near else None


def _place(message: str) -> str:
    """msgspec's `fault - at $.a[0].b` turned round to `record.a[0].b: fault`, fit to print."""
    found = re.fullmatch(r"(?s)(.*) - at `\$(.*)`", message)
    place, fault = (f"record{found.group(2)}", found.group(1)) if found else ("record", message)
    # An unknown word is quoted as it came, whatever its length.
    text = "".join(letter if letter.isprintable() else "?" for letter in fault)
    return f"{place}: {text if len(text) <= 120 else text[:117] + '...'}"
