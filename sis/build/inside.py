"""Programs run inside an image tree: in namespaces of their own, so that nothing they start or mount outlives them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from sis.system import process
from sis.system.process import Completed

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_MOST_LINKS = 40

ALONE = ("setpriv", "--pdeathsig", "KILL", "--", "unshare", "--mount", "--pid", "--ipc", "--fork", "--kill-child")
"""The words before a program that gets its own mounts and processes, and dies with us."""


def run(
    tree: Path,
    argv: Sequence[str],
    *,
    network: bool = False,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
    timeout_s: float = 1800.0,
    log_to: Path | None = None,
    check: bool = True,
) -> Completed:
    """Run `argv` with `tree` as its root, /proc mounted, a bare environment, and no network unless asked for.

    Raises ProgramFailed when it exits non-zero and `check` is true.
    """
    words = [*ALONE, *(() if network else ("--net",)), "--mount-proc", f"--root={tree}", "--wd=/", "--"]
    variables = {"PATH": PATH, "HOME": "/root", "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive", **(env or {})}
    bare = ["/usr/bin/env", "-i", *(f"{name}={value}" for name, value in variables.items())]
    return process.run([*words, *bare, *argv], stdin=stdin, timeout_s=timeout_s, log_to=log_to, check=check)


def has(tree: Path, program: str) -> bool:
    """Whether `tree` has `program` (a bare name) where programs are found."""
    found = (resolve(tree, f"{folder}/{program}") for folder in PATH.split(":"))
    return any(path is not None and path.is_file() and os.access(path, os.X_OK) for path in found)


def resolve(tree: Path, path: str) -> Path | None:
    """The file or folder `path` leads to when `tree` is the root (absolute links stay inside), or None."""
    here, left, links = tree, [part for part in path.split("/") if part], 0
    while left:
        part = left.pop(0)
        step = here.parent if part == ".." and here != tree else here / part if part not in (".", "..") else here
        if step.is_symlink():
            links += 1
            if links > _MOST_LINKS:
                return None
            target = str(step.readlink())
            here = tree if target.startswith("/") else here
            left = [*(word for word in target.split("/") if word), *left]
        elif step.exists():
            here = step
        else:
            return None
    return here
