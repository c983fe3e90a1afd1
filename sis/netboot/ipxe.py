"""What a booting node is told: iPXE scripts as text, made from values that cannot smuggle in a line."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sis.errors import Refused

ENTRY_NAME = "sis.ipxe"
"""The script every iPXE gets first, by TFTP."""

DISK_LOADER = "disk.efi"
"""Starts the disk's own boot loader on UEFI; lies beside the entry script and at HEAD/boot/loader/."""

ENTRY_TRIES = 20
FILE_TRIES = 5
LINE_LIMIT = 2000
"""Bytes of one kernel command line: x86 kernels take 2047, older iPXE no more than its own buffer."""

_NODE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*")
_TOKEN = re.compile(r"[A-Za-z0-9_-]+")
_HEX = re.compile(r"[0-9a-f]+")
_URL = re.compile(r"https?://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._~/@:%+-]*)?")
_CONSOLE = re.compile(r"[a-z]+[A-Za-z0-9]*(,[a-z0-9]+)*")
_WORD = re.compile(r"[A-Za-z0-9._/=,:@%+~?*\[\]-]+")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


@dataclass(frozen=True)
class RamRoot:
    """Kernel and root of one image version as `installer.build` made them.

    `files` is the URL of the folder with vmlinuz, initrd and root.squashfs; `root_bytes` the size of the last.
    """

    files: str
    root_sha256: str
    root_bytes: int


@dataclass(frozen=True)
class Install:
    """Boot the installer from RAM. `token` is the one-shot install token, `key` the hex key that signs refs."""

    node: str
    token: str
    key: str | None
    root: RamRoot
    console: str | None = None
    kernel_cmdline: str = ""


@dataclass(frozen=True)
class Local:
    """Boot the node's own disk. `node` is only shown."""

    node: str


@dataclass(frozen=True)
class Unknown:
    """No such node in the inventory: say so, wait `wait_s` seconds, boot the disk."""

    mac: str
    wait_s: int = 5


@dataclass(frozen=True)
class Quarantined:
    """Failed too often: boot the disk once more; where that does not start, stop at a shell instead of looping."""

    node: str


Boot = Install | Local | Unknown | Quarantined


def answer(boot: Boot, *, head: str) -> str:
    """The iPXE script for one node, for BIOS and UEFI alike. `head` is the head's URL, "http://10.77.0.1:8700".

    Raises Refused when a value holds characters that would change the meaning of the script.
    """
    disk_loader = f"{_checked('head URL', head, _URL).rstrip('/')}/boot/loader/{DISK_LOADER}"
    match boot:
        case Install():
            lines = _install(boot, head)
        case Local():
            lines = [f"echo sis: {_checked('node name', boot.node, _NODE)} boots from its disk", *_local(disk_loader)]
        case Unknown():
            mac = _checked("MAC", boot.mac, _MAC)
            lines = [
                f"echo sis: {mac} is not in the inventory of {_checked('head URL', head, _URL)}",
                "echo sis: it is recorded as discovered; take it in there with: sis node discover accept",
                f"echo sis: booting from the disk in {boot.wait_s:d} s",
                f"sleep {boot.wait_s:d}",
                *_local(disk_loader),
            ]
        case Quarantined():
            node = _checked("node name", boot.node, _NODE)
            lines = [
                f"echo sis: {node} is quarantined: its installs failed. See: sis node log {node}",
                f"echo sis: once mended: sis node release {node} and sis deploy {node}",
                *_local(disk_loader, otherwise="goto stop"),
                ":stop",
                f"echo sis: {node} does not start from its disk; it stays here",
                "shell",
                "exit 1",
            ]
    return "\n".join(["#!ipxe", *lines, ""])


def entry(head: str, *, tries: int = ENTRY_TRIES, pause_s: int = 5) -> str:
    """The first script of every node: ask the head who it is, `tries` times at most, then boot the disk."""
    url = _checked("head URL", head, _URL).rstrip("/")
    question = "mac=${netX/mac:hexhyp}&uuid=${uuid}&platform=${platform}&" + "&".join(
        f"{what}=${{{what}:uristring}}" for what in ("serial", "manufacturer", "product")
    )
    return "\n".join(
        [
            "#!ipxe",
            "set tries:int32 0",
            ":ask",
            "isset ${netX/ip} || dhcp ||",
            # An answer ends by booting or by handing over to the disk; only a head that was not reached comes back.
            "clear answered ||",
            f"chain --autofree {url}/boot/ipxe?{question} ||",
            "isset ${answered} && exit 1 ||",
            "inc tries",
            f"iseq ${{tries}} {tries:d} && goto local ||",
            f"echo sis: no answer from {url}, asking again (${{tries}} of {tries:d})",
            f"sleep {pause_s:d}",
            "goto ask",
            ":local",
            f"echo sis: no answer from {url}, booting from the disk",
            # Relative to this script, so from TFTP: the head is what did not answer.
            *_local(DISK_LOADER),
            "",
        ]
    )


def arguments(boot: Install, *, head: str) -> str:
    """The kernel command line of an install, words checked.

    Raises Refused for a word that iPXE would read as its own, and for a line longer than kernels take.
    """
    files = _checked("boot file URL", boot.root.files, _URL).rstrip("/")
    words = [
        "initrd=initrd",
        f"sis.head={_checked('head URL', head, _URL)}",
        f"sis.node={_checked('node name', boot.node, _NODE)}",
        f"sis.token={_checked('install token', boot.token, _TOKEN)}",
        *([f"sis.key={_checked('signing key', boot.key, _HEX)}"] if boot.key is not None else []),
        f"sis.root={files}/root.squashfs",
        f"sis.root_sha256={_checked('root hash', boot.root.root_sha256, _HEX)}",
        f"sis.root_bytes={boot.root.root_bytes:d}",
        "BOOTIF=01-${netX/mac:hexhyp}",
    ]
    if boot.console is not None:
        # The last one is where the installer speaks; the kernel writes to both.
        words += ["console=tty0", f"console={_checked('console', boot.console, _CONSOLE)}"]
    words += [_checked("kernel argument", word, _WORD) for word in boot.kernel_cmdline.split()]
    line = " ".join(words)
    if len(line) > LINE_LIMIT:
        raise Refused(
            f"the kernel command line of {boot.node} has {len(line)} bytes; {LINE_LIMIT} fit",
            hint="shorten kernel_cmdline in its disk layout or cluster profile",
        )
    return line


def _install(boot: Install, head: str) -> list[str]:
    line = arguments(boot, head=head)
    files = _checked("boot file URL", boot.root.files, _URL).rstrip("/")
    return [
        # Variables are shared with the entry script, which must not ask again once there was an answer.
        "set answered yes",
        f"echo sis: installing {boot.node}",
        "set tries:int32 0",
        ":fetch",
        "imgfree",
        f"kernel --name vmlinuz {files}/vmlinuz {line} || goto again",
        f"initrd --name initrd {files}/initrd || goto again",
        "boot || goto again",
        ":again",
        "inc tries",
        f"iseq ${{tries}} {FILE_TRIES} && goto failed ||",
        f"echo sis: boot files did not arrive, trying again (${{tries}} of {FILE_TRIES})",
        "sleep 5",
        "goto fetch",
        ":failed",
        f"echo sis: cannot fetch the installer of {boot.node} from {files}; rebooting in 30 s",
        "sleep 30",
        "reboot",
    ]


def _local(disk_loader: str, *, otherwise: str = "exit 1") -> list[str]:
    # UEFI: ending with an error makes firmware try its next entry, often the network again by IPv6 or HTTP, for
    # minutes; so a loader of ours looks for the disk's first. (Ending with success would open the set-up menu.)
    # A BIOS that cannot start the disk goes on to its next boot device.
    return [
        "set answered yes",
        "iseq ${platform} efi && goto efi ||",
        f"sanboot --no-describe --drive 0x80 || {otherwise}",
        ":efi",
        f"chain {disk_loader} ||",
        otherwise,
    ]


def _checked(what: str, value: str, shape: re.Pattern[str]) -> str:
    if not shape.fullmatch(value):
        raise Refused(
            f"{what} {value!r} cannot be part of a boot answer",
            hint="letters, digits and a few signs only: no spaces, quotes, '$', '#', '&', '|' or line breaks",
        )
    return value
