"""Trees for the tests of sync: one with everything Linux can hold, ways to spoil it, and rsync as the judge."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import stat
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sis.image.commit import commit
from sis.image.policy import Policy
from sis.image.store.local import LocalStore
from sis.image.store.reference import parse, resolve
from sis.sync import engine
from sis.sync.desired import DesiredTree, lay_over
from sis.sync.model import LayerFile, Outcome
from sis.sync.staging.source import ChunkSource
from sis.system import process

T0 = 1_600_000_000_123_456_789
NOBODY = 65534
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
"""cap_net_bind_service+ep"""


def acl(uid: int, permissions: int) -> bytes:
    """A POSIX ACL: rwxr-x--- with one named user."""
    entries = ((1, 7, 0xFFFFFFFF), (2, permissions, uid), (4, 5, 0xFFFFFFFF), (16, 7, 0xFFFFFFFF), (32, 0, 0xFFFFFFFF))
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def make_tree(root: Path, *, files: int = 40, seed: int = 1) -> Path:
    """A tree with every kind of thing in it, some `files` plain files, times in the past."""
    rng = random.Random(seed)
    for name in ("usr/bin", "usr/lib/x", "etc/conf.d", "boot", "var/log", "var/empty", "opt/a/b/c/d"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for number in range(files):
        where = root / rng.choice(("usr/bin", "usr/lib/x", "etc", "etc/conf.d", "opt/a/b"))
        (where / f"file{number}").write_bytes(rng.randbytes(rng.choice((0, 1, 100, 5_000, 40_000))))
    (root / "usr/lib/big").write_bytes(rng.randbytes(1_500_000))
    (root / "boot/vmlinuz-1.0").write_bytes(rng.randbytes(50_000))
    (root / "boot/initrd.img-1.0").write_bytes(rng.randbytes(90_000))
    os.symlink("boot/vmlinuz-1.0", root / "vmlinuz")
    os.symlink("usr/lib", root / "lib")
    os.symlink("../nowhere", root / "etc/dangling")
    (root / "usr/bin/tool").write_bytes(b"#!/bin/sh\n")
    os.link(root / "usr/bin/tool", root / "usr/bin/tool2")
    os.link(root / "usr/bin/tool", root / "opt/a/tool3")
    (root / "usr/bin/ping").write_bytes(b"ping" * 1000)
    os.chmod(root / "usr/bin/ping", 0o755)
    os.setxattr(root / "usr/bin/ping", "security.capability", CAPABILITY)
    (root / "usr/bin/su").write_bytes(b"su" * 1000)
    os.chown(root / "usr/bin/su", 0, 12)
    os.chmod(root / "usr/bin/su", 0o4754)
    (root / "etc/acl").write_bytes(b"acl")
    os.chmod(root / "etc/acl", 0o750)
    os.setxattr(root / "etc/acl", "system.posix_acl_access", acl(1000, 7))
    os.setxattr(root / "etc/conf.d", "system.posix_acl_default", acl(1001, 5))
    os.setxattr(root / "etc/acl", "user.note", b"\x00\xff")
    os.chown(root / "var/empty", NOBODY, NOBODY)
    os.chmod(root / "var/empty", 0o2770)
    os.mkfifo(root / "var/fifo", 0o640)
    os.link(root / "var/fifo", root / "var/fifo2")
    os.link(root / "etc/dangling", root / "etc/dangling2", follow_symlinks=False)
    os.mknod(root / "var/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(root / "var/loop", stat.S_IFBLK | 0o660, os.makedev(7, 200))
    with open(root / "var/sparse", "wb") as file:
        file.seek(3 << 20)
        file.write(b"middle")
        file.truncate(9 << 20)
    strange = os.fsencode(root) + b"/opt/"
    for name in (b"new\nline", b"not-utf8-\xff\xfe", b"n" * 255, b"-rf *", b"quo\"te's", b"\x01\x7f"):
        with open(strange + name, "wb") as file:
            file.write(name)
    age(root)
    return root


def age(root: Path, at_ns: int = T0) -> None:
    """Give everything below `root` a time in the past."""
    for path, _, names in os.walk(os.fsencode(root), topdown=False):
        for name in names:
            os.utime(path + b"/" + name, ns=(at_ns, at_ns + len(name)), follow_symlinks=False)
        with os.scandir(path) as members:
            for member in members:
                if member.is_symlink():
                    os.utime(member.path, ns=(at_ns, at_ns + 5), follow_symlinks=False)
        os.utime(path, ns=(at_ns, at_ns + 7))


def rsync_differences(tree: Path, root: Path, *exclude: str) -> list[str]:
    """What rsync would do to make `root` equal to `tree`, by content: the independent judge."""
    argv = [
        "rsync",
        "-aHAXcnii",
        "--delete",
        "--filter=-x trusted.SGI_ACL_*",
        *(f"--exclude={name}" for name in exclude),
        f"{tree}/",
        f"{root}/",
    ]
    lines = process.run(argv).stdout.splitlines()
    return [
        line
        for line in lines
        if not line[1:].startswith(("f          ", "d          ", "L          ", "D          ", "S          "))
    ]


@dataclass
class Bench:
    """A store, and a root held to an image of it."""

    store: LocalStore
    root: Path
    state: Path
    policy: Policy

    def commit(self, tree: Path, image: str = "image") -> None:
        commit(self.store, image, tree)

    def source(self, reference: str = "image") -> ChunkSource:
        version = resolve(self.store, parse(reference)).version
        return ChunkSource.of(self.store, self.store.manifest(version.manifest), self.store.table(version.table))

    def want(self, reference: str = "image", layer: tuple[LayerFile, ...] = ()) -> DesiredTree:
        return lay_over(self.source(reference).content.manifest, layer)

    def sync(self, reference: str = "image", layer: tuple[LayerFile, ...] = (), **options: object) -> Outcome:
        source = self.source(reference)
        want = lay_over(source.content.manifest, layer)
        return engine.sync(self.root, want, policy=self.policy, source=source, state=self.state, **options)  # type: ignore[arg-type]

    def check(self, reference: str = "image", layer: tuple[LayerFile, ...] = (), **options: object) -> Outcome:
        want = self.want(reference, layer)
        return engine.check(self.root, want, policy=self.policy, state=self.state, **options)  # type: ignore[arg-type]


def make_bench(where: Path, *, root: Path | None = None, policy: Mapping[str, str] | None = None) -> Bench:
    store = LocalStore(where / "store")
    root = root or where / "root"
    root.mkdir(exist_ok=True)
    return Bench(store, root, where / "node", Policy((policy or {}).items()))


def changes_of(outcome: Outcome) -> dict[str, tuple[str, tuple[str, ...]]]:
    """By path: (action, what)."""
    return {change.path: (change.action, change.what) for change in outcome.changes}


@contextlib.contextmanager
def loop_mount(
    where: Path, *, filesystem: str = "ext4", size_bytes: int = 64 << 20, options: tuple[str, ...] = ()
) -> Iterator[Path]:
    """A fresh file system in a file, mounted; unmounted and removed after."""
    image, mountpoint = where / f"{filesystem}.img", where / f"{filesystem}.mnt"
    where.mkdir(exist_ok=True)
    with open(image, "wb") as file:
        file.truncate(size_bytes)
    mountpoint.mkdir()
    quiet = {"ext4": "-q", "xfs": "-q"}[filesystem]
    process.run([f"mkfs.{filesystem}", quiet, *options, image])
    process.run(["mount", "-o", "loop", image, mountpoint])
    try:
        shutil.rmtree(mountpoint / "lost+found", ignore_errors=True)
        yield mountpoint
    finally:
        process.run(["umount", mountpoint])
        image.unlink()


def _some_file(root: Path, rng: random.Random) -> Path:
    return rng.choice(sorted(path for path in root.rglob("file*") if path.is_file() and not path.is_symlink()))


def edit_in_place(root: Path, rng: random.Random) -> Path:
    """Other content with size and mtime kept."""
    path = root / "usr/lib/big"
    before = path.stat()
    with open(path, "r+b") as file:
        file.seek(rng.randrange(before.st_size))
        file.write(b"\x00tampered")
        file.truncate(before.st_size)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    return path


def overwrite(root: Path, rng: random.Random) -> Path:
    path = _some_file(root, rng)
    path.write_bytes(rng.randbytes(rng.randrange(1, 9000)))
    return path


def delete(root: Path, rng: random.Random) -> Path:
    path = _some_file(root, rng)
    path.unlink()
    return path


def delete_directory(root: Path, rng: random.Random) -> Path:
    path = root / "opt/a/b"
    shutil.rmtree(path)
    return path


def add(root: Path, rng: random.Random) -> Path:
    path = root / "etc" / f"added{rng.random()}"
    path.write_bytes(b"extra")
    return path


def add_directory(root: Path, rng: random.Random) -> Path:
    path = root / f"added{rng.random()}"
    (path / "in/it").mkdir(parents=True)
    (path / "in/it/x").write_bytes(b"x")
    os.symlink("/etc/passwd", path / "in/link")
    return path


def change_mode(root: Path, rng: random.Random) -> Path:
    path = root / "usr/bin/su"
    path.chmod(0o777)
    return path


def change_owner(root: Path, rng: random.Random) -> Path:
    path = _some_file(root, rng)
    os.chown(path, 77, 88)
    return path


def drop_capability(root: Path, rng: random.Random) -> Path:
    path = root / "usr/bin/ping"
    with contextlib.suppress(OSError):
        os.removexattr(path, "security.capability")
    return path


def change_acl(root: Path, rng: random.Random) -> Path:
    path = root / "etc/acl"
    os.setxattr(path, "system.posix_acl_access", acl(rng.randrange(2000, 3000), 4))
    return path


def change_default_acl(root: Path, rng: random.Random) -> Path:
    path = root / "etc/conf.d"
    with contextlib.suppress(OSError):
        os.removexattr(path, "system.posix_acl_default")
    return path


def change_target(root: Path, rng: random.Random) -> Path:
    path = root / "etc/dangling"
    path.unlink()
    os.symlink(f"elsewhere{rng.random()}", path)
    return path


def break_link(root: Path, rng: random.Random) -> Path:
    path = root / "usr/bin/tool2"
    data, before = path.read_bytes(), path.stat()
    path.unlink()
    path.write_bytes(data)
    path.chmod(stat.S_IMODE(before.st_mode))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    return path


def add_link(root: Path, rng: random.Random) -> Path:
    path = root / "usr/bin/su"
    other = root / "usr/bin/ping"
    other.unlink()
    os.link(path, other)
    return other


def link_to_extra(root: Path, rng: random.Random) -> Path:
    path = root / "opt" / f"peer{rng.random()}"
    os.link(root / "usr/bin/su", path)
    return path


def file_to_directory(root: Path, rng: random.Random) -> Path:
    path = _some_file(root, rng)
    path.unlink()
    (path / "sub").mkdir(parents=True)
    (path / "sub/x").write_bytes(b"x")
    return path


def directory_to_file(root: Path, rng: random.Random) -> Path:
    path = root / "opt/a"
    shutil.rmtree(path)
    path.write_bytes(b"not a directory")
    return path


def directory_to_symlink(root: Path, rng: random.Random) -> Path:
    path = root / "usr/lib"
    path.rename(root / f"moved{rng.random()}")
    os.symlink(root.parent / "outside", path)
    return path


def symlink_to_directory(root: Path, rng: random.Random) -> Path:
    path = root / "lib"
    path.unlink()
    path.mkdir()
    (path / "x").write_bytes(b"x")
    return path


def change_directory_time(root: Path, rng: random.Random) -> Path:
    path = root / "var/log"
    os.utime(path, ns=(T0, rng.randrange(T0)))
    return path


def change_link_time(root: Path, rng: random.Random) -> Path:
    path = root / "etc/dangling"
    os.utime(path, ns=(T0, rng.randrange(T0)), follow_symlinks=False)
    return path


def fill_hole(root: Path, rng: random.Random) -> Path:
    path = root / "var/sparse"
    with open(path, "r+b") as file:
        file.seek(rng.randrange(1 << 20))
        file.write(b"not a hole")
    return path


def other_device(root: Path, rng: random.Random) -> Path:
    path = root / "var/null"
    path.unlink()
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    return path


def fifo_to_file(root: Path, rng: random.Random) -> Path:
    path = root / "var/fifo"
    path.unlink()
    path.write_bytes(b"")
    return path


def insert_bytes(root: Path, rng: random.Random) -> Path:
    path = root / "usr/lib/big"
    data = path.read_bytes()
    at = rng.randrange(len(data))
    path.write_bytes(data[:at] + b"inserted" + data[at:])
    return path


def move_file(root: Path, rng: random.Random) -> Path:
    path = root / "usr/lib/big"
    path.rename(root / "usr/lib/moved")
    return path


def add_socket(root: Path, rng: random.Random) -> Path:
    path = root / "var" / f"socket{rng.random()}"
    os.mknod(path, stat.S_IFSOCK | 0o600)
    return path


def break_symlink_link(root: Path, rng: random.Random) -> Path:
    path = root / "etc/dangling2"
    before = path.lstat()
    path.unlink()
    os.symlink("../nowhere", path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns), follow_symlinks=False)
    return path


def add_xattr(root: Path, rng: random.Random) -> Path:
    path = root / "usr/bin/ping"
    os.setxattr(path, "user.added", rng.randbytes(20))
    return path


def add_acl(root: Path, rng: random.Random) -> Path:
    path = root / "usr/bin/su"
    os.setxattr(path, "system.posix_acl_access", acl(rng.randrange(2000, 3000), 7))
    return path


def add_default_acl(root: Path, rng: random.Random) -> Path:
    path = root / "usr/bin"
    os.setxattr(path, "system.posix_acl_default", acl(rng.randrange(2000, 3000), 7))
    return path


def change_link_owner(root: Path, rng: random.Random) -> Path:
    path = root / "vmlinuz"
    os.chown(path, 5, 6, follow_symlinks=False)
    return path


def change_owner_and_mode(root: Path, rng: random.Random) -> Path:
    path = root / "usr/lib/big"
    os.chown(path, 5, 6)
    path.chmod(0o4711)
    return path


def change_device_mode(root: Path, rng: random.Random) -> Path:
    path = root / "var/loop"
    path.chmod(0o600)
    os.chown(path, 5, 6)
    return path


def add_special(root: Path, rng: random.Random) -> Path:
    path = root / "etc" / f"fifo{rng.random()}"
    os.mkfifo(path)
    return path


Mutation = Callable[[Path, random.Random], Path]
MUTATIONS: tuple[Mutation, ...] = (
    edit_in_place,
    overwrite,
    delete,
    delete_directory,
    add,
    add_directory,
    change_mode,
    change_owner,
    drop_capability,
    change_acl,
    change_default_acl,
    change_target,
    break_link,
    add_link,
    link_to_extra,
    file_to_directory,
    directory_to_file,
    directory_to_symlink,
    symlink_to_directory,
    change_directory_time,
    change_link_time,
    fill_hole,
    other_device,
    fifo_to_file,
    insert_bytes,
    move_file,
    add_special,
    add_socket,
    break_symlink_link,
    add_xattr,
    add_acl,
    add_default_acl,
    change_link_owner,
    change_owner_and_mode,
    change_device_mode,
)
