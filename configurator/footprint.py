"""What does this tree hold? Decides which renderers speak, from paths alone, never from a distribution's name."""

from __future__ import annotations

import os
import posixpath
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from configurator.errors import ConfiguratorError

NetworkStack = Literal["NetworkManager", "netplan", "ifupdown", "ifcfg", "networkd", "none"]
InitramfsTool = Literal["initramfs-tools", "dracut"]
BootEntries = Literal["bls", "systemd-boot", "extlinux"]
ModuleTool = Literal["environment-modules", "lmod"]
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
Read = Callable[[str], bytes | None]
"""Absolute path of a file, no link on the way → its bytes; None where it is none or cannot be read."""


class Kernel(msgspec.Struct, frozen=True, kw_only=True):
    """A kernel below /lib/modules. `image` and `initrd` are its files in /boot, "" where there are none.

    `modules` can be loaded, `builtin` are part of it (names with "_", never "-"); both are None where that cannot be
    told. `aliases` is the text of its modules.alias.
    """

    release: str
    image: str = ""
    initrd: str = ""
    modules: frozenset[str] | None = None
    builtin: frozenset[str] | None = None
    aliases: str = ""


class AccountFiles(msgspec.Struct, frozen=True, kw_only=True):
    """The tree's own accounts; shadow and gshadow are None where it keeps none."""

    passwd: str
    group: str
    shadow: str | None = None
    gshadow: str | None = None


class Footprint(msgspec.Struct, frozen=True, kw_only=True):
    """What the renderers need to know of a tree.

    network        the stack that brings interfaces up, the first that is there of NetworkManager, netplan,
                   ifupdown, ifcfg, networkd
    resolver       "resolved" when systemd-resolved is there and enabled, else /etc/resolv.conf is a plain file
    modules        the files that name kernel modules: modules.conf for 2.4 kernels, the others for later ones
    unit_dir       the directory `systemctl enable` points links at ("/lib/systemd/system"), "" without systemd
    units          those units there that a renderer may enable
    timezone_file  /etc/timezone beside the /etc/localtime link
    zones          the time zones there are; empty where that cannot be told
    time           the clock's keeper, and `chrony_conf` its file
    locale_file    /etc/default/locale or /etc/locale.conf, "" where neither is read
    initramfs      what makes the tree's initial ramdisks
    boot           whose boot entries the tree reads
    kernels        by version, the newest last
    accounts       None where they cannot be read
    modulefiles    the directory of modulefiles, "" without Environment Modules and Lmod
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
    zones: tuple[str, ...] = ()
    time: Literal["chrony", "timesyncd", "none"] = "none"
    chrony_conf: str = ""
    locale_file: str = ""
    keyboard: Literal["console-setup", "vconsole", "none"] = "none"
    initramfs: tuple[InitramfsTool, ...] = ()
    boot: tuple[BootEntries, ...] = ()
    kernels: tuple[Kernel, ...] = ()
    accounts: AccountFiles | None = None
    nfs_server: bool = False
    sudo: bool = False
    module_tools: tuple[ModuleTool, ...] = ()
    modulefiles: str = ""

    def summary(self) -> dict[str, object]:
        """What may be shown: no account, and of a kernel's modules only how many there are."""
        told: dict[str, object] = msgspec.to_builtins(msgspec.structs.replace(self, kernels=(), accounts=None))
        told["zones"] = len(self.zones)
        told["accounts"] = self.accounts is not None
        told["kernels"] = [
            {
                "release": kernel.release,
                "image": kernel.image,
                "initrd": kernel.initrd,
                "modules": None if kernel.modules is None else len(kernel.modules),
            }
            for kernel in self.kernels
        ]
        return told


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


def lookup_of(root: Path) -> Lookup:
    """What lies at a path below `root`, no link followed at its end."""

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

    return lookup


def reader_of(root: Path) -> Read:
    """Reads the files below `root`, following no link at their end."""

    def read(path: str) -> bytes | None:
        try:
            handle = os.open(f"{os.fspath(root)}/{path}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        with open(handle, "rb") as file:
            return file.read(_LARGEST_FILE) if stat.S_ISREG(os.fstat(handle).st_mode) else None

    return read


def _read_nothing(_path: str) -> bytes | None:
    return None


def of_tree(tree: Mapping[str, Found], read: Read = _read_nothing) -> Footprint:
    """The footprint of a listing: absolute path → what lies there (a manifest's entries, a test's).

    Without `read` nothing is known of kernels' modules and of accounts.
    """
    children: dict[str, list[str]] = {}
    for path in tree:
        parent, _, name = path.rpartition("/")
        children.setdefault(parent or "/", []).append(name)
    return of_paths(tree.get, lambda path: children.get(path, ()), read)


def of_paths(lookup: Lookup, names: Names = lambda _path: (), read: Read = _read_nothing) -> Footprint:
    """The footprint of whatever `lookup` knows. Without `names` 2.4 kernels are only seen by /etc/modules.conf."""
    tree = _Tree(lookup, names, read)
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


_KINDS: dict[int, Kind] = {stat.S_IFREG: "file", stat.S_IFDIR: "dir"}
_MOST_LINKS = 40
_LARGEST_FILE = 64 << 20
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


def resolved(lookup: Lookup, path: str) -> str | None:
    """The path with every link followed inside the tree; parts that are not there stand as they are.

    None when a link on the way leads nowhere.
    """
    tree = _Tree(lookup, lambda _path: (), _read_nothing)
    done = "/"
    for part in path.split("/"):
        here = posixpath.join(done, part) if part else done
        found = lookup(here) if here != "/" else None
        if found is not None and found.kind == "symlink":
            real = tree.resolve(here)
            if real is None:
                return None
            here = real
        done = here
    return done


class _Tree:
    """Questions about a tree, links followed inside it only, ".." stopping at its root as chroot has it."""

    def __init__(self, lookup: Lookup, names: Names, read: Read) -> None:
        self._lookup = lookup
        self._names = names
        self._read = read

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

    def kind(self, path: str) -> Kind | None:
        """What a path leads to."""
        real = self.resolve(path)
        found = self._lookup(real) if real is not None and real != "/" else None
        return found.kind if found is not None else None

    def text(self, path: str) -> str | None:
        """A file's text; bytes that are not UTF-8 come back as they were when it is encoded again."""
        real = self.resolve(path)
        data = self._read(real) if real is not None else None
        return data.decode("utf-8", "surrogateescape") if data is not None else None

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


def _zones(tree: _Tree, below: str = "") -> Iterator[str]:
    for name in tree.names(f"/usr/share/zoneinfo/{below}" if below else "/usr/share/zoneinfo"):
        zone = f"{below}/{name}" if below else name
        if zone in ("posix", "right", "localtime", "posixrules") or "." in name:
            continue
        if tree.kind(f"/usr/share/zoneinfo/{zone}") == "dir":
            yield from _zones(tree, zone)
        else:
            yield zone


def _time(tree: _Tree) -> Literal["chrony", "timesyncd", "none"]:
    if tree.has("/usr/sbin/chronyd"):
        return "chrony"
    there = tree.has("/lib/systemd/systemd-timesyncd", "/usr/lib/systemd/systemd-timesyncd")
    return "timesyncd" if there else "none"


def _chrony_conf(tree: _Tree) -> str:
    if not tree.has("/usr/sbin/chronyd"):
        return ""
    return "/etc/chrony/chrony.conf" if tree.has("/etc/chrony") else "/etc/chrony.conf"


def _locale_file(tree: _Tree, systemd: bool) -> str:
    # Debian kept its own name for it, lately as a link to systemd's.
    if tree.link("/etc/default/locale") is None and tree.has("/var/lib/dpkg/status"):
        return "/etc/default/locale"
    return "/etc/locale.conf" if systemd else ""


def _keyboard(tree: _Tree) -> Literal["console-setup", "vconsole", "none"]:
    if tree.has("/bin/setupcon", "/usr/bin/setupcon", "/etc/default/keyboard"):
        return "console-setup"
    there = tree.has("/lib/systemd/systemd-vconsole-setup", "/usr/lib/systemd/systemd-vconsole-setup")
    return "vconsole" if there else "none"


def _accounts(tree: _Tree) -> AccountFiles | None:
    passwd, group = tree.text("/etc/passwd"), tree.text("/etc/group")
    if passwd is None or group is None:
        return None
    return AccountFiles(passwd=passwd, group=group, shadow=tree.text("/etc/shadow"), gshadow=tree.text("/etc/gshadow"))


def _module_tools(tree: _Tree) -> tuple[ModuleTool, ...]:
    tools: list[ModuleTool] = []
    if tree.has("/usr/share/modules/init", "/etc/environment-modules", "/usr/share/Modules/init"):
        tools.append("environment-modules")
    if tree.has("/usr/share/lmod", "/etc/lmod", "/opt/apps/lmod"):
        tools.append("lmod")
    return tuple(tools)


def _kernels(tree: _Tree) -> tuple[Kernel, ...]:
    """The kernels below /lib/modules, the newest last."""
    releases = [name for name in tree.names("/lib/modules") if name[:1].isdigit()]
    return tuple(_kernel(tree, release) for release in sorted(releases, key=version_key))


def version_key(release: str) -> tuple[tuple[int, str], ...]:
    """Sorts 6.1.0-9 before 6.1.0-37."""
    parts = re.findall(r"[0-9]+|[^0-9]+", release)
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in parts)


def _kernel(tree: _Tree, release: str) -> Kernel:
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


def _unit_dir(tree: _Tree) -> str:
    """Where the links that are there already point to: on a merged-/usr tree both spellings lead to the same units."""
    for link in _ENABLED_UNITS:
        directory = posixpath.dirname(tree.link(f"/etc/systemd/system/{link}") or "")
        if directory in _UNIT_DIRS:
            return directory
    return next((choice for choice in _UNIT_DIRS if tree.has(f"{choice}/multi-user.target")), _UNIT_DIRS[0])
