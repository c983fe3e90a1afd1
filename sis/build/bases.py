"""Trees with a spec's packages and nothing else, kept: a build from equal packages starts from a copy of one.

Installing packages is most of a build's time, and what most edits of a spec leave alone. Two runs of that step from
equal inputs end in equal trees (but for times, which the build clamps), so the name of a kept tree is a digest of all
inputs: what the spec says of packages, the package lists, and the programs that do it.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
from blake3 import blake3

from sis.build import apt
from sis.build.aptroot import AptRoot
from sis.errors import Locked
from sis.spec.imagespec import ImageSpec
from sis.system import files, locks, process

KEPT = 3
"""How many of them are kept: those used last."""

_MODULES = ("apt.py", "aptroot.py", "inside.py", "sources.py")


def packages(
    spec: ImageSpec,
    tree: Path,
    archive: AptRoot,
    folder: Path,
    *,
    anew: bool = False,
    log_to: Path,
    on_line: Callable[[str], None] | None = None,
) -> None:
    """Make `tree` (which must not exist) of the spec's packages: by copying a kept tree below `folder`, else by apt.

    `archive` is up to date. With `anew` the packages are installed whatever is kept. Raises SisError as
    `apt.bootstrap` does.
    """
    files.make_dirs(folder)
    kept = folder / name_of(spec, archive)
    with locks.hold(_lock_of(kept), f"packages of {spec.image}", wait_s=7200):
        if kept.is_dir() and not anew:
            _log(log_to, f"from the tree kept in {kept}")
            _copy(kept, tree)
            return
        apt.bootstrap(spec, tree, archive, log_to=log_to, on_line=on_line)
        _keep(tree, kept)
    _forget_oldest(folder)


def name_of(spec: ImageSpec, archive: AptRoot) -> str:
    """Names what `apt.bootstrap` makes of a spec, by everything that goes into it."""
    digest = blake3()
    said = spec.distribution, spec.release, spec.architecture, spec.base, spec.recommends
    names = spec.packages, spec.kernel.package if spec.kernel is not None else None, spec.leave_out
    tools = process.run(["mmdebstrap", "--version"]).stdout, process.run(["apt-get", "--version"]).stdout
    digest.update(msgspec.json.encode((said, names, tools, archive.settings(), sorted(map(str, apt.sources_of(spec))))))
    for module in _MODULES:
        digest.update(Path(__file__).with_name(module).read_bytes())
    for path in sorted(archive.lists.glob("*_Packages*")):
        digest.update(path.name.encode() + b"\n")
        digest.update(blake3(path.read_bytes()).digest())
    return digest.hexdigest()[:32]


def _keep(tree: Path, kept: Path) -> None:
    new = _aside(kept)
    try:
        _copy(tree, new)
        _remove(kept)
        new.rename(kept)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _copy(source: Path, target: Path) -> None:
    """A copy with owners, modes, times, links, holes and attributes; of shared blocks where the file system can."""
    process.run(["cp", "-a", "--reflink=auto", "--sparse=auto", source, target], timeout_s=3600)


def _forget_oldest(folder: Path) -> None:
    """Keep the trees used last; what a build holds just now is left alone."""
    trees = [path for path in folder.iterdir() if not path.name.startswith(".")]
    used = sorted(trees, key=lambda kept: _lock_of(kept).stat().st_mtime_ns, reverse=True)
    for old in (*used[KEPT:], *(folder / path.name.split("-")[1] for path in folder.glob(".aside-*"))):
        try:
            with locks.hold(_lock_of(old), "removal of an old tree"):
                if old in used[KEPT:]:
                    _remove(old)
                for left in folder.glob(f".aside-{old.name}-*"):
                    shutil.rmtree(left)
        except Locked:
            continue


def _remove(kept: Path) -> None:
    """Take a tree away at once, so that none is ever there in part."""
    if kept.exists():
        aside = _aside(kept)
        kept.rename(aside)
        shutil.rmtree(aside)


def _aside(kept: Path) -> Path:
    return kept.with_name(f".aside-{kept.name}-{secrets.token_hex(4)}")


def _lock_of(kept: Path) -> Path:
    """Held while a tree is made or copied; its time says when that was last."""
    return kept.with_name(f".{kept.name}.lock")


def _log(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8") as log:
        log.write(f"{text}\n")
