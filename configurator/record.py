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


class Interface(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One network interface, matched by MAC (by name without one). `address` is CIDR ("10.77.0.11/24") or None with
    `dhcp`; with neither the interface is brought up without an address."""

    name: str
    mac: str | None = None
    address: str | None = None
    gateway: str | None = None
    dhcp: bool = False
    mtu: int | None = None
    routes: tuple[Route, ...] = ()


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
    A node may be among its own peers: hand every record of a cluster the same tuple, it is then checked and turned
    into text once.
    """

    name: str
    address: str
    id: int
    interface: str = "eth0"
    kerrighed: bool = True


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

    @property
    def fqdn(self) -> str:
        """The name with its domain; a name that has dots of its own is complete already."""
        return self.name if not self.domain or "." in self.name else f"{self.name}.{self.domain}"


_STRUCTS: tuple[type[msgspec.Struct], ...] = (Record, Interface, Route, Mount, Peer, Module, Kerrighed, HostKey)


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
