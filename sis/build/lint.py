"""What an image must have and must not: all findings at once, each with its remedy, before it is committed."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sis.build import bundle, inside, kernel
from sis.errors import Refused
from sis.spec.imagespec import ImageSpec


@dataclass(frozen=True)
class Finding:
    """One thing wrong with a tree: the path, what is wrong, what to do."""

    path: str
    text: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.path}: {self.text}; {self.remedy}"


def refuse_unfit(spec: ImageSpec, tree: Path) -> None:
    """Raises Refused with every finding when `tree` is not fit to be an image."""
    findings = list(lint(spec, tree))
    if findings:
        number = "1 finding" if len(findings) == 1 else f"{len(findings)} findings"
        raise Refused(
            f"the tree of {spec.image} is not fit to be an image: {number}", details=[str(found) for found in findings]
        )


def lint(spec: ImageSpec, tree: Path) -> Iterator[Finding]:
    """Every finding about `tree`, in the order of the rules."""
    for rule in _RULES:
        yield from rule(spec, tree)


def _kernel(spec: ImageSpec, tree: Path) -> Iterator[Finding]:
    if spec.kernel is None:
        return
    found = kernel.releases(tree)
    if not found:
        yield Finding(
            "/boot", "there is no kernel", "name one under 'kernel: {package: …}', or say 'kernel: none' in the spec"
        )
    for release in found:
        if kernel.modules(tree, release) is None:
            yield Finding(
                f"/usr/lib/modules/{release}",
                f"kernel {release} has no modules",
                "install the package that brings them, or remove the kernel",
            )
        if not (tree / "boot" / f"initrd.img-{release}").is_file():
            yield Finding(
                f"/boot/initrd.img-{release}", f"kernel {release} has no initramfs", "add initramfs-tools to packages"
            )


def _init(spec: ImageSpec, tree: Path) -> Iterator[Finding]:
    found = (inside.resolve(tree, path) for path in ("sbin/init", "etc/init", "bin/init"))
    if spec.kernel is not None and not any(found):
        yield Finding("/sbin/init", "there is no init", "add systemd-sysv (or another init) to packages")


def _python(spec: ImageSpec, tree: Path) -> Iterator[Finding]:
    if spec.agent:
        for fault, remedy in bundle.python_faults(tree):
            yield Finding("/usr/bin/python3", fault, remedy)


def _mounts(_: ImageSpec, tree: Path) -> Iterator[Finding]:
    below = f"{tree.resolve()}/"
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        mounted = line.split()[4].replace("\\040", " ")
        if mounted.startswith(below):
            yield Finding(f"/{mounted.removeprefix(below)}", "something is mounted here", f"run: umount {mounted}")


def _entries(_: ImageSpec, tree: Path) -> Iterator[Finding]:
    for folder, folders, names in os.walk(tree):
        for name in (*folders, *names):
            path = os.path.join(folder, name)
            found = os.lstat(path)
            shown = path.removeprefix(str(tree))
            if stat.S_ISSOCK(found.st_mode):
                yield Finding(shown, "a socket was left behind", "end the program that made it in a script")
            elif found.st_mode & 0o002 and not stat.S_ISLNK(found.st_mode) and not found.st_mode & stat.S_ISVTX:
                yield Finding(shown, "everyone can write here", f"run in a script: chmod o-w {shown}")


def _fstab(_: ImageSpec, tree: Path) -> Iterator[Finding]:
    path = tree / "etc/fstab"
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    if any(line.strip() and not line.lstrip().startswith("#") for line in lines):
        yield Finding("/etc/fstab", "holds mounts, which are each node's own", "name them in the disk layout instead")


def _leftovers(_: ImageSpec, tree: Path) -> Iterator[Finding]:
    for path in sorted((tree / "etc/ssh").glob("ssh_host_*")):
        yield Finding(f"/etc/ssh/{path.name}", "every node would have the same host key", "remove it in a script")
    machine_id = tree / "etc/machine-id"
    if machine_id.is_file() and machine_id.stat().st_size > 0:
        yield Finding("/etc/machine-id", "every node would have the same machine id", "empty it in a script")


_RULES: tuple[Callable[[ImageSpec, Path], Iterator[Finding]], ...] = (
    _kernel,
    _init,
    _python,
    _mounts,
    _entries,
    _fstab,
    _leftovers,
)
