"""What a build leaves behind and no image should hold: identities, logs, caches, and the time of day."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

_EMPTIED = (
    "dev", "proc", "sys", "run", "tmp", "var/tmp", "var/cache/apt", "var/lib/apt/lists", "var/cache/ldconfig",
    "var/cache/man", "var/lib/systemd/random-seed", "var/lib/systemd/credential.secret",
)  # fmt: skip
_REMOVED = (
    "etc/hostname", "etc/resolv.conf", "var/lib/dbus/machine-id", "etc/.pwd.lock", "etc/.updated", "var/.updated",
    "etc/passwd-", "etc/shadow-", "etc/group-", "etc/gshadow-", "etc/subuid-", "etc/subgid-", "etc/mtab",
    "var/lib/dpkg/lock", "var/lib/dpkg/lock-frontend", "var/lib/dpkg/status-old", "var/lib/dpkg/available-old",
    "var/lib/dpkg/diversions-old", "var/lib/dpkg/statoverride-old", "var/lib/dpkg/triggers/Lock",
    "var/cache/debconf/config.dat-old", "var/cache/debconf/templates.dat-old", "root/.bash_history", "root/.wget-hsts",
)  # fmt: skip
_REMOVED_LIKE = (("etc/ssh", "ssh_host_*"), ("etc", "*.dpkg-old"), ("var/lib/ucf", "*.?"))
_DAY_S = 86400


def clean(tree: Path, *, epoch: int, keep: Collection[str] = ()) -> None:
    """Take from `tree` what belongs to the build or to one machine; nothing in it is younger than `epoch` afterwards.

    `keep` are absolute paths the spec laid over. /etc/machine-id stays, empty: systemd then makes one at first boot.
    Logs keep their directories.
    """
    for name in _EMPTIED:
        _empty(tree / name)
    for name in _REMOVED:
        if f"/{name}" not in keep:
            (tree / name).unlink(missing_ok=True)
    for folder, pattern in _REMOVED_LIKE:
        for path in (tree / folder).glob(pattern):
            if f"/{path.relative_to(tree)}" not in keep:
                path.unlink()
    _forget_logs(tree / "var/log")
    _forget_build_day(tree / "etc/shadow", epoch)
    if (tree / "etc/machine-id").exists() or (tree / "etc/systemd").is_dir():
        (tree / "etc/machine-id").write_bytes(b"")
    clamp_times(tree, epoch)
    for name in _EMPTIED:
        _set_time(tree / name, epoch)  # also where a build happened to leave nothing to be removed


def _set_time(path: Path, epoch: int) -> None:
    if path.is_dir() and not path.is_symlink():
        os.utime(path, (epoch, epoch))


def clamp_times(tree: Path, epoch: int) -> None:
    """Give everything younger than `epoch` that time, so that equal packages make equal trees."""
    limit_ns = epoch * 1_000_000_000
    for path, follow in _everything(tree):
        found = os.stat(path, follow_symlinks=follow)
        if found.st_mtime_ns > limit_ns:
            os.utime(path, ns=(limit_ns, limit_ns), follow_symlinks=follow)


def _everything(tree: Path) -> Iterator[tuple[str, bool]]:
    for folder, _, _ in os.walk(tree, topdown=False):
        for entry in os.scandir(folder):
            if not entry.is_dir(follow_symlinks=False):
                yield entry.path, False
        yield folder, True


def _empty(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        for child in path.iterdir():
            if child.is_dir() and not child.is_symlink():
                shutil.rmtree(child)
            else:
                child.unlink()
    elif path.is_file():
        path.unlink()


def _forget_logs(folder: Path) -> None:
    """Logs that packages own by mode (wtmp, btmp, lastlog) stay, empty; others go, journals too."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            if path.parent.name == "journal":
                shutil.rmtree(path)
        elif path.name in ("wtmp", "btmp", "lastlog", "faillog"):
            path.write_bytes(b"")
        else:
            path.unlink()


def _forget_build_day(shadow: Path, epoch: int) -> None:
    """The day of the last password change is the build's, for every account."""
    if not shadow.is_file():
        return
    text = shadow.read_text(encoding="utf-8")
    shadow.write_text(re.sub(r"(?m)^([^:]*:[^:]*:)\d+:", rf"\g<1>{epoch // _DAY_S}:", text), encoding="utf-8")
