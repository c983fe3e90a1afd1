"""What does this tree hold? Decides which renderers speak, from paths alone, never from a distribution's name."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from configurator.errors import ConfiguratorError

NetworkStack = Literal["NetworkManager", "netplan", "ifupdown", "ifcfg", "networkd", "none"]
ModuleStyle = Literal["modules-load.d", "modules", "modprobe.d", "modules.conf"]
Kind = Literal["file", "dir", "symlink", "other"]


class Found(NamedTuple):
    """What lies at one path, itself, no link followed. `target` is that of a symlink."""

    kind: Kind
    target: str = ""


Lookup = Callable[[str], Found | None]
"""Absolute path → what lies there, or None."""
Names = Callable[[str], Iterable[str]]
"""Absolute path of a directory → the names in it; empty where there is none."""


class Footprint(msgspec.Struct, frozen=True, kw_only=True):
    """What the renderers need to know of a tree.

    network        the stack that brings interfaces up, the first that is there of NetworkManager, netplan,
                   ifupdown, ifcfg, networkd
    resolver       "resolved" when systemd-resolved is there and enabled, else /etc/resolv.conf is a plain file
    modules        the files that name kernel modules: modules.conf for 2.4 kernels, the others for later ones
    unit_dir       the directory `systemctl enable` points links at ("/lib/systemd/system"), "" without systemd
    units          those units there that a renderer may enable
    timezone_file  /etc/timezone beside the /etc/localtime link
    """

    init: Literal["systemd", "sysvinit", "openrc", "unknown"] = "unknown"
    network: NetworkStack = "none"
    resolver: Literal["resolved", "file"] = "file"
    modules: tuple[ModuleStyle, ...] = ()
    kerrighed: Literal["none", "2.4", "3.0"] = "none"
    sshd: bool = False
    dhclient_hooks: bool = False
    timezone_file: bool = False
    merged_usr: bool = False
    unit_dir: str = ""
    units: tuple[str, ...] = ()


def of_root(root: Path) -> Footprint:
    """The footprint of a tree on disk; links are followed as if `root` were "/"."""
    if not root.is_dir():
        raise ConfiguratorError(f"no such directory: {root}")

    def lookup(path: str) -> Found | None:
        try:
            full = f"{os.fspath(root)}/{path}"
            mode = os.lstat(full).st_mode
            return (
                Found("symlink", os.readlink(full))
                if stat.S_ISLNK(mode)
                else Found(_KINDS.get(stat.S_IFMT(mode), "other"))
            )
        except OSError:
            return None

    def names(path: str) -> list[str]:
        try:
            return os.listdir(f"{os.fspath(root)}/{path}")
        except OSError:
            return []

    return of_paths(lookup, names)


def of_tree(tree: Mapping[str, Found]) -> Footprint:
    """The footprint of a listing: absolute path → what lies there (a manifest's entries, a test's)."""
    children: dict[str, list[str]] = {}
    for path in tree:
        parent, _, name = path.rpartition("/")
        children.setdefault(parent or "/", []).append(name)
    return of_paths(tree.get, lambda path: children.get(path, ()))


def of_paths(lookup: Lookup, names: Names = lambda _path: ()) -> Footprint:
    """The footprint of whatever `lookup` knows. Without `names` 2.4 kernels are only seen by /etc/modules.conf."""
    tree = _Tree(lookup, names)
    systemd = tree.has("/lib/systemd/systemd", "/usr/lib/systemd/systemd")
    unit_dir = _unit_dir(tree) if systemd else ""
    return Footprint(
        init=_init(tree, systemd),
        network=_network(tree),
        resolver=_resolver(tree) if systemd else "file",
        modules=_modules(tree),
        kerrighed=_kerrighed(tree),
        sshd=tree.has("/usr/sbin/sshd", "/etc/ssh/sshd_config"),
        dhclient_hooks=tree.has("/etc/dhcp/dhclient-enter-hooks.d"),
        timezone_file=tree.has("/etc/timezone", "/var/lib/dpkg/status"),
        merged_usr=_is_merged(lookup),
        unit_dir=unit_dir,
        units=tuple(unit for unit in _UNITS if unit_dir and tree.has(f"{unit_dir}/{unit}")),
    )


_KINDS: dict[int, Kind] = {stat.S_IFREG: "file", stat.S_IFDIR: "dir"}
_MOST_LINKS = 40
_UNITS = (
    "systemd-networkd.service",
    "systemd-networkd.socket",
    "systemd-networkd-wait-online.service",
    "systemd-network-generator.service",
)
_UNIT_DIRS = ("/usr/lib/systemd/system", "/lib/systemd/system")
_ENABLED_UNITS = (
    "getty.target.wants/getty@tty1.service",
    "multi-user.target.wants/remote-fs.target",
    "multi-user.target.wants/systemd-networkd.service",
    "multi-user.target.wants/cron.service",
    "multi-user.target.wants/ssh.service",
    "sysinit.target.wants/systemd-pstore.service",
    "timers.target.wants/fstrim.timer",
)


class _Tree:
    """Questions about a tree, links followed inside it only, ".." stopping at its root as chroot has it."""

    def __init__(self, lookup: Lookup, names: Names) -> None:
        self._lookup = lookup
        self._names = names

    def resolve(self, path: str) -> str | None:
        """The path with every link followed, or None when it leads nowhere."""
        done = "/"
        todo = [part for part in reversed(path.split("/")) if part]
        links = 0
        while todo:
            part = todo.pop()
            if part in (".", ".."):
                done = posixpath.dirname(done) if part == ".." else done
                continue
            here = posixpath.join(done, part)
            found = self._lookup(here)
            if found is None:
                return None
            if found.kind == "symlink":
                links += 1
                if links > _MOST_LINKS:
                    return None
                if found.target.startswith("/"):
                    done = "/"
                todo.extend(part for part in reversed(found.target.split("/")) if part)
            else:
                done = here
        return done

    def has(self, *paths: str) -> bool:
        """Whether any of the paths leads to something."""
        return any(self.resolve(path) is not None for path in paths)

    def names(self, path: str) -> list[str]:
        real = self.resolve(path)
        return sorted(self._names(real)) if real is not None else []

    def link(self, path: str) -> str | None:
        """The target of the link at `path` (its parents resolved), None when it is none."""
        parent = self.resolve(posixpath.dirname(path))
        found = self._lookup(posixpath.join(parent, posixpath.basename(path))) if parent is not None else None
        return found.target if found is not None and found.kind == "symlink" else None


def _init(tree: _Tree, systemd: bool) -> Literal["systemd", "sysvinit", "openrc", "unknown"]:
    if systemd:
        return "systemd"
    if tree.has("/sbin/openrc", "/usr/sbin/openrc"):
        return "openrc"
    return "sysvinit" if tree.has("/etc/inittab", "/etc/rc.d/rc.sysinit") else "unknown"


def _network(tree: _Tree) -> NetworkStack:
    evidence: tuple[tuple[NetworkStack, tuple[str, ...]], ...] = (
        ("NetworkManager", ("/usr/sbin/NetworkManager", "/usr/bin/NetworkManager")),
        ("netplan", ("/usr/sbin/netplan", "/usr/bin/netplan")),
        ("ifcfg", ("/etc/sysconfig/network-scripts/ifup", "/etc/sysconfig/network-scripts/ifup-eth")),
        ("networkd", ("/lib/systemd/systemd-networkd", "/usr/lib/systemd/systemd-networkd")),
    )
    for stack, paths in evidence[:2]:
        if tree.has(*paths):
            return stack
    # /sbin/ifup alone is not ifupdown: the RPM world's network-scripts have one too.
    if tree.has("/etc/network") and tree.has("/sbin/ifup", "/usr/sbin/ifup"):
        return "ifupdown"
    return next((stack for stack, paths in evidence[2:] if tree.has(*paths)), "none")


def _resolver(tree: _Tree) -> Literal["resolved", "file"]:
    there = tree.has("/lib/systemd/systemd-resolved", "/usr/lib/systemd/systemd-resolved")
    wants = [f"/etc/systemd/system/{target}.wants" for target in ("multi-user.target", "sysinit.target")]
    enabled = any(tree.link(f"{directory}/systemd-resolved.service") for directory in wants)
    return "resolved" if there and enabled else "file"


def _modules(tree: _Tree) -> tuple[ModuleStyle, ...]:
    kernels = [name for name in tree.names("/lib/modules") if name[:1].isdigit()]
    old = tree.has("/etc/modules.conf") or any(name.startswith("2.4.") for name in kernels)
    later = not kernels or any(not name.startswith("2.4.") for name in kernels)
    styles: list[ModuleStyle] = []
    if tree.has("/etc/modules-load.d", "/lib/modules-load.d", "/usr/lib/modules-load.d") or tree.has(
        "/lib/systemd/systemd-modules-load", "/usr/lib/systemd/systemd-modules-load"
    ):
        styles.append("modules-load.d")
    elif tree.has("/etc/modules"):
        styles.append("modules")
    if later and tree.has("/etc/modprobe.d", "/lib/modprobe.d", "/usr/lib/modprobe.d"):
        styles.append("modprobe.d")
    if old:
        styles.append("modules.conf")
    return tuple(styles)


def _kerrighed(tree: _Tree) -> Literal["none", "2.4", "3.0"]:
    if tree.has(
        "/sbin/krginit", "/usr/sbin/krginit", "/etc/default/kerrighed-host", "/etc/kerrighed/krginit_helper.conf"
    ):
        return "3.0"
    tools = ("/usr/bin/krgadm", "/usr/sbin/krgadm", "/usr/local/bin/krgadm", "/bin/krgadm", "/etc/init.d/kerrighed")
    return "2.4" if tree.has(*tools) else "none"


def _is_merged(lookup: Lookup) -> bool:
    found = lookup("/lib")
    return found is not None and found.kind == "symlink" and found.target.strip("/") == "usr/lib"


def _unit_dir(tree: _Tree) -> str:
    """Where the links that are there already point to: on a merged-/usr tree both spellings lead to the same units."""
    for link in _ENABLED_UNITS:
        directory = posixpath.dirname(tree.link(f"/etc/systemd/system/{link}") or "")
        if directory in _UNIT_DIRS:
            return directory
    return next((choice for choice in _UNIT_DIRS if tree.has(f"{choice}/multi-user.target")), _UNIT_DIRS[0])
