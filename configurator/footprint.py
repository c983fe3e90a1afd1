"""A Footprint: what renderers need to know of a tree, told from paths alone, never from a distribution's name."""

from __future__ import annotations

from typing import Literal

import msgspec

NetworkStack = Literal["NetworkManager", "netplan", "ifupdown", "ifcfg", "networkd", "none"]
InitramfsTool = Literal["initramfs-tools", "dracut"]
BootEntries = Literal["bls", "systemd-boot", "extlinux"]
ModuleTool = Literal["environment-modules", "lmod"]
ModuleStyle = Literal["modules-load.d", "modules", "modprobe.d", "modules.conf"]


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
