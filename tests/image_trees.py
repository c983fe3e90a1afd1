"""Trees for the image tests: everything a Linux file system holds, with fixed owners and times."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from pathlib import Path

from blake3 import blake3

ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", tag, perm, who)
    for tag, perm, who in (
        (1, 6, 0xFFFFFFFF),
        (2, 4, 1234),
        (4, 4, 0xFFFFFFFF),
        (16, 4, 0xFFFFFFFF),
        (32, 0, 0xFFFFFFFF),
    )
)
"""user::rw- user:1234:r-- group::r-- mask::r-- other::---"""

CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
"""cap_net_bind_service=ep"""

FIXED_NS = 1_700_000_000_123_456_789


def noise(seed: str, size: int) -> bytes:
    """Bytes that do not compress, the same for ever."""
    return blake3(seed.encode()).digest(length=size)


def make_simple(root: Path) -> Path:
    """A few files and links; needs no root."""
    (root / "etc").mkdir(parents=True)
    (root / "bin").mkdir()
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n")
    (root / "etc/empty").touch()
    (root / "bin/tool").write_bytes(noise("tool", 300_000))
    (root / "bin/same").write_bytes(noise("tool", 300_000))
    os.link(root / "bin/tool", root / "bin/hard")
    (root / "etc/link").symlink_to("hosts")
    os.mkfifo(root / "etc/fifo")
    return root


def make_everything(root: Path) -> Path:
    """One of each kind of thing. Needs root."""
    make_simple(root)
    at = os.fsencode(root)
    os.mknod(at + b"/null", 0o20666, os.makedev(1, 3))
    os.mknod(at + b"/disk", 0o60660, os.makedev(259, 70_000))
    os.link(at + b"/null", at + b"/null-too")
    os.symlink(b"nowhere/\xff", at + b"/dangling")
    os.link(at + b"/dangling", at + b"/dangling-too", follow_symlinks=False)
    names = {
        b"new\nline": b"1",
        b"not-utf8-\xff\xfe": b"2",
        b"n" * 255: b"3",
        b" leading space": b"4",
        b"-dash": b"5",
        b"tab\there": b"6",
        "ünïcödé".encode(): b"7",
    }
    for name, data in names.items():
        Path(os.fsdecode(at + b"/" + name)).write_bytes(data)
    (root / "setuid").write_bytes(b"#!/bin/true\n")
    os.chown(root / "setuid", 7, 4_000_000_000)
    (root / "setuid").chmod(0o6755)
    (root / "sticky").mkdir()
    (root / "sticky").chmod(0o1777)
    (root / "unreadable").write_bytes(b"secret")
    (root / "unreadable").chmod(0)
    _make_sparse(root)
    _make_attributes(root)
    deep = root / "/".join(["deep"] * 40)
    deep.mkdir(parents=True)
    (deep / "leaf").write_text("leaf")
    with socket.socket(socket.AF_UNIX) as listening, contextlib.chdir(root):
        listening.bind("socket")
    settle(root)
    return root


def _make_sparse(root: Path) -> None:
    with (root / "sparse").open("wb") as file:
        file.truncate(3 << 20)
        file.seek(1 << 20)
        file.write(noise("sparse", 200_000))
    with (root / "all-hole").open("wb") as file:
        file.truncate(1 << 40)
    with (root / "hole-at-end").open("wb") as file:
        file.write(noise("head", 4096))
        file.truncate(1_000_001)


def _make_attributes(root: Path) -> None:
    (root / "attributed").write_bytes(b"x")
    os.setxattr(root / "attributed", b"user.note", b"\0binary\xff")
    os.setxattr(root / "attributed", b"trusted.secret", b"t")
    os.setxattr(root / "attributed", b"security.capability", CAPABILITY)
    os.setxattr(root / "attributed", b"system.posix_acl_access", ACL)
    (root / "defaults").mkdir()
    os.setxattr(root / "defaults", b"system.posix_acl_default", ACL)
    os.setxattr(root / "dangling", b"trusted.on-link", b"l", follow_symlinks=False)


def settle(root: Path) -> None:
    """Give everything a fixed modification time, deepest first."""
    for folder, folders, files in os.walk(os.fsencode(root), topdown=False):
        for name in files + folders:
            os.utime(folder + b"/" + name, ns=(FIXED_NS, FIXED_NS), follow_symlinks=False)
    os.utime(root, ns=(FIXED_NS, FIXED_NS))
