"""Which paths of a tree tell what it holds: the questions whose answers are its Footprint."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from configurator.errors import ConfiguratorError
from configurator.footprint import (
    AccountFiles,
    BootEntries,
    Footprint,
    InitramfsTool,
    Kernel,
    ModuleStyle,
    ModuleTool,
    NetworkStack,
)
from configurator.tree import Found, Lookup, Names, Read, Tree, lookup_of, read_nothing, reader_of

_INITRAMFS: tuple[tuple[InitramfsTool, tuple[str, ...]], ...] = (
    ("initramfs-tools", ("/usr/sbin/mkinitramfs", "/usr/sbin/update-initramfs")),
    ("dracut", ("/usr/bin/dracut", "/usr/sbin/dracut", "/sbin/dracut")),
)
_BOOT: tuple[tuple[BootEntries, tuple[str, ...]], ...] = (
    ("bls", ("/boot/loader/entries",)),
    ("systemd-boot", ("/boot/loader/loader.conf", "/boot/EFI/systemd")),
    ("extlinux", ("/boot/extlinux", "/usr/sbin/u-boot-update")),
)
_MODULEFILES = (
    "/usr/share/modules/modulefiles",
    "/usr/share/modulefiles",
    "/etc/modulefiles",
    "/usr/share/Modules/modulefiles",
)
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


def of_root(root: Path) -> Footprint:
    """The footprint of a tree on disk; links are followed as if `root` were "/"."""
    if not root.is_dir():
        raise ConfiguratorError(f"no such directory: {root}")

    def names(path: str) -> list[str]:
        try:
            return os.listdir(f"{os.fspath(root)}/{path}")
        except OSError:
            return []

    return of_paths(lookup_of(root), names, reader_of(root))


def of_tree(tree: Mapping[str, Found], read: Read = read_nothing) -> Footprint:
    """The footprint of a listing: absolute path → what lies there (a manifest's entries, a test's).

    Without `read` nothing is known of kernels' modules and of accounts.
    """
    children: dict[str, list[str]] = {}
    for path in tree:
        parent, _, name = path.rpartition("/")
        children.setdefault(parent or "/", []).append(name)
    return of_paths(tree.get, lambda path: children.get(path, ()), read)


def of_paths(lookup: Lookup, names: Names = lambda _path: (), read: Read = read_nothing) -> Footprint:
    """The footprint of whatever `lookup` knows. Without `names` 2.4 kernels are only seen by /etc/modules.conf."""
    tree = Tree(lookup, names, read)
    tools = _module_tools(tree)
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
        zones=tuple(_zones(tree)),
        time=_time(tree),
        chrony_conf=_chrony_conf(tree),
        locale_file=_locale_file(tree, systemd),
        keyboard=_keyboard(tree),
        initramfs=tuple(tool for tool, paths in _INITRAMFS if tree.has(*paths)),
        boot=tuple(entries for entries, paths in _BOOT if tree.has(*paths)),
        kernels=_kernels(tree),
        accounts=_accounts(tree),
        nfs_server=tree.has("/usr/sbin/exportfs", "/sbin/exportfs"),
        sudo=tree.has("/etc/sudoers.d"),
        module_tools=tools,
        modulefiles=next((path for path in _MODULEFILES if tree.has(path)), _MODULEFILES[0]) if tools else "",
    )


def _init(tree: Tree, systemd: bool) -> Literal["systemd", "sysvinit", "openrc", "unknown"]:
    if systemd:
        return "systemd"
    if tree.has("/sbin/openrc", "/usr/sbin/openrc"):
        return "openrc"
    return "sysvinit" if tree.has("/etc/inittab", "/etc/rc.d/rc.sysinit") else "unknown"


def _network(tree: Tree) -> NetworkStack:
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


def _resolver(tree: Tree) -> Literal["resolved", "file"]:
    there = tree.has("/lib/systemd/systemd-resolved", "/usr/lib/systemd/systemd-resolved")
    wants = [f"/etc/systemd/system/{target}.wants" for target in ("multi-user.target", "sysinit.target")]
    enabled = any(tree.link(f"{directory}/systemd-resolved.service") for directory in wants)
    return "resolved" if there and enabled else "file"


def _modules(tree: Tree) -> tuple[ModuleStyle, ...]:
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


def _kerrighed(tree: Tree) -> Literal["none", "2.4", "3.0"]:
    if tree.has(
        "/sbin/krginit", "/usr/sbin/krginit", "/etc/default/kerrighed-host", "/etc/kerrighed/krginit_helper.conf"
    ):
        return "3.0"
    tools = ("/usr/bin/krgadm", "/usr/sbin/krgadm", "/usr/local/bin/krgadm", "/bin/krgadm", "/etc/init.d/kerrighed")
    return "2.4" if tree.has(*tools) else "none"


def _zones(tree: Tree, below: str = "") -> Iterator[str]:
    for name in tree.names(f"/usr/share/zoneinfo/{below}" if below else "/usr/share/zoneinfo"):
        zone = f"{below}/{name}" if below else name
        if zone in ("posix", "right", "localtime", "posixrules") or "." in name:
            continue
        if tree.kind(f"/usr/share/zoneinfo/{zone}") == "dir":
            yield from _zones(tree, zone)
        else:
            yield zone


def _time(tree: Tree) -> Literal["chrony", "timesyncd", "none"]:
    if tree.has("/usr/sbin/chronyd"):
        return "chrony"
    there = tree.has("/lib/systemd/systemd-timesyncd", "/usr/lib/systemd/systemd-timesyncd")
    return "timesyncd" if there else "none"


def _chrony_conf(tree: Tree) -> str:
    if not tree.has("/usr/sbin/chronyd"):
        return ""
    return "/etc/chrony/chrony.conf" if tree.has("/etc/chrony") else "/etc/chrony.conf"


def _locale_file(tree: Tree, systemd: bool) -> str:
    # Debian kept its own name for it, lately as a link to systemd's.
    if tree.link("/etc/default/locale") is None and tree.has("/var/lib/dpkg/status"):
        return "/etc/default/locale"
    return "/etc/locale.conf" if systemd else ""


def _keyboard(tree: Tree) -> Literal["console-setup", "vconsole", "none"]:
    if tree.has("/bin/setupcon", "/usr/bin/setupcon", "/etc/default/keyboard"):
        return "console-setup"
    there = tree.has("/lib/systemd/systemd-vconsole-setup", "/usr/lib/systemd/systemd-vconsole-setup")
    return "vconsole" if there else "none"


def _accounts(tree: Tree) -> AccountFiles | None:
    passwd, group = tree.text("/etc/passwd"), tree.text("/etc/group")
    if passwd is None or group is None:
        return None
    return AccountFiles(passwd=passwd, group=group, shadow=tree.text("/etc/shadow"), gshadow=tree.text("/etc/gshadow"))


def _module_tools(tree: Tree) -> tuple[ModuleTool, ...]:
    tools: list[ModuleTool] = []
    if tree.has("/usr/share/modules/init", "/etc/environment-modules", "/usr/share/Modules/init"):
        tools.append("environment-modules")
    if tree.has("/usr/share/lmod", "/etc/lmod", "/opt/apps/lmod"):
        tools.append("lmod")
    return tuple(tools)


def _kernels(tree: Tree) -> tuple[Kernel, ...]:
    """The kernels below /lib/modules, the newest last."""
    releases = [name for name in tree.names("/lib/modules") if name[:1].isdigit()]
    return tuple(_kernel(tree, release) for release in sorted(releases, key=version_key))


def version_key(release: str) -> tuple[tuple[int, str], ...]:
    """Sorts 6.1.0-9 before 6.1.0-37."""
    parts = re.findall(r"[0-9]+|[^0-9]+", release)
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in parts)


def _kernel(tree: Tree, release: str) -> Kernel:
    here = f"/lib/modules/{release}"
    loadable, builtin = (_module_names(tree.text(f"{here}/modules.{what}")) for what in ("dep", "builtin"))
    known = bool(loadable or builtin)
    images = [f"/boot/{start}-{release}" for start in ("vmlinuz", "vmlinux", "Image", "kernel")]
    ramdisks = [f"/boot/initrd.img-{release}", f"/boot/initramfs-{release}.img", f"/boot/initrd-{release}"]
    return Kernel(
        release=release,
        image=next((path for path in images if tree.has(path)), ""),
        initrd=next((path for path in ramdisks if tree.has(path)), ""),
        modules=loadable if known else None,
        builtin=builtin if known else None,
        aliases=tree.text(f"{here}/modules.alias") or "",
    )


def _module_names(text: str | None) -> frozenset[str]:
    """Module names of the paths that modules.dep and modules.builtin begin their lines with."""
    paths = (line.partition(":")[0].rpartition("/")[2] for line in (text or "").splitlines())
    return frozenset(re.sub(r"\.k?o(\.[a-z0-9]+)?$", "", name).replace("-", "_") for name in paths if name)


def _is_merged(lookup: Lookup) -> bool:
    found = lookup("/lib")
    return found is not None and found.kind == "symlink" and found.target.strip("/") == "usr/lib"


def _unit_dir(tree: Tree) -> str:
    """Where the links that are there already point to: on a merged-/usr tree both spellings lead to the same units."""
    for link in _ENABLED_UNITS:
        directory = posixpath.dirname(tree.link(f"/etc/systemd/system/{link}") or "")
        if directory in _UNIT_DIRS:
            return directory
    return next((choice for choice in _UNIT_DIRS if tree.has(f"{choice}/multi-user.target")), _UNIT_DIRS[0])
