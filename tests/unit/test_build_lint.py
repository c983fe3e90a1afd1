"""Lint tells everything that makes a tree unfit, each with its remedy; clean leaves nothing of the build."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from sis.build import clean, lint
from sis.errors import Refused
from sis.spec import imagespec
from sis.spec.imagespec import ImageSpec

EPOCH = 1_700_000_000


def _spec(tmp_path: Path, more: str = "") -> ImageSpec:
    path = tmp_path / "x.yaml"
    path.write_text(f"image: x\ndistribution: debian\nrelease: bookworm\n{more}")
    return imagespec.load(path, search=[])


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree that lint finds nothing wrong with."""
    root = tmp_path / "tree"
    for folder in (
        "boot",
        "etc/ssh",
        "usr/bin",
        "usr/sbin",
        "usr/lib/modules/6.1",
        "usr/lib/systemd",
        "var/log",
        "tmp",
    ):
        (root / folder).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    (root / "sbin").symlink_to("usr/sbin")
    (root / "usr/lib/systemd/systemd").touch()
    (root / "usr/sbin/init").symlink_to("/lib/systemd/systemd")
    (root / "lib").symlink_to("usr/lib")
    (root / "usr/bin/python3.11").touch()
    (root / "usr/bin/python3").symlink_to("python3.11")
    (root / "boot/vmlinuz-6.1").touch()
    (root / "boot/initrd.img-6.1").touch()
    (root / "etc/fstab").write_text("# UNCONFIGURED FSTAB\n")
    return root


def _findings(spec: ImageSpec, tree: Path) -> list[str]:
    return [str(finding) for finding in lint.lint(spec, tree)]


def test_a_fit_tree_passes(tmp_path: Path, tree: Path) -> None:
    lint.refuse_unfit(_spec(tmp_path), tree)


def test_all_findings_at_once_with_their_remedies(tmp_path: Path, tree: Path) -> None:
    (tree / "boot/initrd.img-6.1").unlink()
    (tree / "usr/lib/modules/6.1").rmdir()
    (tree / "usr/sbin/init").unlink()
    (tree / "usr/bin/python3.11").rename(tree / "usr/bin/python3.9")
    (tree / "usr/bin/python3").unlink()
    (tree / "usr/bin/python3").symlink_to("python3.9")
    (tree / "etc/fstab").write_text("/dev/sda1 / ext4 defaults 0 1\n")
    (tree / "etc/open").touch()
    (tree / "etc/open").chmod(0o666)
    (tree / "etc/machine-id").write_text("abc\n")
    (tree / "etc/ssh/ssh_host_rsa_key").touch()
    with socket.socket(socket.AF_UNIX) as left:
        here = os.getcwd()
        os.chdir(tree)
        left.bind("left.sock")
        os.chdir(here)
        with pytest.raises(Refused) as caught:
            lint.refuse_unfit(_spec(tmp_path), tree)
    newer = "use a release that has one, such as Debian bookworm"
    assert caught.value.message == "the tree of x is not fit to be an image: 9 findings"
    assert caught.value.details == (
        "/usr/lib/modules/6.1: kernel 6.1 has no modules; install the package that brings them, or remove the kernel",
        "/boot/initrd.img-6.1: kernel 6.1 has no initramfs; add initramfs-tools to packages",
        "/sbin/init: there is no init; add systemd-sysv (or another init) to packages",
        f"/usr/bin/python3: the image's Python is 3.9, the agent needs 3.11 or later; {newer}",
        "/left.sock: a socket was left behind; end the program that made it in a script",
        "/etc/open: everyone can write here; run in a script: chmod o-w /etc/open",
        "/etc/fstab: holds mounts, which are each node's own; name them in the disk layout instead",
        "/etc/ssh/ssh_host_rsa_key: every node would have the same host key; remove it in a script",
        "/etc/machine-id: every node would have the same machine id; empty it in a script",
    )


def test_no_kernel_and_no_python(tmp_path: Path, tree: Path) -> None:
    (tree / "boot/vmlinuz-6.1").unlink()
    (tree / "usr/bin/python3").unlink()
    assert _findings(_spec(tmp_path), tree) == [
        "/boot: there is no kernel; name one under 'kernel: {package: …}', or say 'kernel: none' in the spec",
        "/usr/bin/python3: there is no Python for the agent; add python3 to packages",
    ]
    assert _findings(_spec(tmp_path, "kernel: none\nagent: false\n"), tree) == []


def test_clean_forgets_the_build(tmp_path: Path, tree: Path) -> None:
    left = {
        "etc/hostname": "builder",
        "etc/resolv.conf": "nameserver 10.0.0.1",
        "etc/machine-id": "abc",
        "etc/ssh/ssh_host_rsa_key": "secret",
        "etc/passwd-": "old",
        "var/log/dpkg.log": "log",
        "var/log/apt/term.log": "log",
        "var/log/wtmp": "who",
        "var/lib/apt/lists/x_Packages": "lists",
        "var/cache/apt/archives/x.deb": "deb",
        "run/pid": "1",
        "tmp/x/y": "z",
        "etc/shadow": "root:*:20779:0:99999:7:::\ndaemon:*:20779:0:99999:7:::\n",
        "etc/motd": "kept",
    }
    for name, text in left.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    (tree / "etc/old").touch()
    os.utime(tree / "etc/old", (1_600_000_000, 1_600_000_000))
    clean.clean(tree, epoch=EPOCH, keep=["/etc/resolv.conf"])
    there = {
        str(path.relative_to(tree))
        for path in tree.rglob("*")
        if path.is_file() and not path.is_symlink() and path.stat().st_size
    }
    assert there == {"etc/resolv.conf", "etc/shadow", "etc/motd", "etc/fstab"}
    assert (tree / "etc/machine-id").read_bytes() == b""
    assert (tree / "var/log/wtmp").read_bytes() == b""
    assert (tree / "var/log/apt").is_dir()
    assert (tree / "etc/shadow").read_text().startswith(f"root:*:{EPOCH // 86400}:0:99999:7:::\n")
    times = {path: path.lstat().st_mtime for path in (tree, *tree.rglob("*"))}
    assert max(times.values()) == EPOCH
    assert times[tree / "etc/old"] == 1_600_000_000


@pytest.mark.root
def test_a_mount_left_behind_is_found(tmp_path: Path, tree: Path) -> None:
    from sis.system import process

    (tree / "proc dir").mkdir()
    process.run(["mount", "-t", "tmpfs", "tmpfs", tree / "proc dir"])
    try:
        assert _findings(_spec(tmp_path), tree) == [
            f"/proc dir: something is mounted here; run: umount {tree}/proc dir"
        ]
    finally:
        process.run(["umount", tree / "proc dir"])
