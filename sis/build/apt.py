"""A tree from apt archives: names checked first, then mmdebstrap in namespaces of its own, packages kept."""

from __future__ import annotations

import contextlib
import fnmatch
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from sis.build import inside, sources
from sis.build.aptroot import AptRoot
from sis.build.distributions import distribution
from sis.build.sources import AptSource
from sis.errors import ProgramFailed, SisError, SpecInvalid
from sis.spec.imagespec import ImageSpec
from sis.spec.model import unknown
from sis.system import process

_LEFT_OUT = {
    "docs": (
        "path-exclude=/usr/share/doc/*",
        "path-include=/usr/share/doc/*/copyright",
        "path-exclude=/usr/share/info/*",
    ),
    "man": ("path-exclude=/usr/share/man/*",),
    "locales": ("path-exclude=/usr/share/locale/*", "path-include=/usr/share/locale/locale.alias"),
}
_MERGED_MARK = "usr-is-merged"
_NOT_USRMERGE = "etc/apt/preferences.d/sis-build"
_DPKG_SETTINGS = "etc/dpkg/dpkg.cfg.d"
_OWN_SOURCES = "etc/apt/sources.list.d/sis.sources"


def sources_of(spec: ImageSpec) -> tuple[AptSource, ...]:
    """The archives a spec builds from: those it names, or the head's own for its release. Raises NotFound."""
    if spec.sources:
        return tuple(
            AptSource(source.uri.rstrip("/"), (source.suite,), source.components, source.signed_by)
            for source in spec.sources
        )
    return sources.for_release(sources.read_head(), distribution(spec.distribution), spec.release, spec.architecture)


def check_names(spec: ImageSpec, apt: AptRoot) -> None:
    """Every package the spec names is in the lists. Raises SpecInvalid with the line of each that is not."""
    wanted = {name: spec.place("packages", at) for at, name in enumerate(spec.packages)}
    if spec.kernel is not None and spec.kernel.package is not None:
        wanted[spec.kernel.package] = spec.place("kernel", "package")
    missing = apt.missing(list(wanted))
    if not missing:
        return
    known = apt.names()
    places = sorted((wanted[name], name) for name in missing)
    number = "1 unknown package" if len(missing) == 1 else f"{len(missing)} unknown packages"
    raise SpecInvalid(
        f"{spec.image}: {number}",
        details=[
            f"{place}: {unknown('package', name, known) if '=' not in name else _no_version(name)}"
            for place, name in places
        ],
        hint=f"these are the packages of {spec.distribution} {spec.release} in the spec's sources",
    )


def bootstrap(
    spec: ImageSpec, tree: Path, apt: AptRoot, *, log_to: Path, on_line: Callable[[str], None] | None = None
) -> None:
    """Make `tree` (which must not exist) of the spec's packages. `apt` is up to date; what it lacks it is given.

    Raises SisError, with the end of the log.
    """
    tree.mkdir(mode=0o755)
    _configure_dpkg(spec, tree)
    if not apt.missing([_MERGED_MARK]):
        _merge_usr(spec, tree)
    apt.lend(tree)
    archives = sources_of(spec)
    own = apt.path / "etc" / "sis.sources"
    own.write_text(sources.render(archives), encoding="utf-8")
    words = [*inside.ALONE, *_mmdebstrap(spec, tree, apt, own)]
    try:
        process.run(words, env={"INITRD": "No"}, timeout_s=7200, log_to=log_to, on_line=on_line)
    except ProgramFailed as error:
        raise SisError(f"{spec.image}: its packages cannot be installed", details=error.details) from error
    apt.take_back(tree)
    for left in ("99mmdebstrap", "00mmdebstrap"):
        (tree / "etc/apt/apt.conf.d" / left).unlink(missing_ok=True)
    (tree / _DPKG_SETTINGS / "sis-build").unlink()
    (tree / _NOT_USRMERGE).unlink(missing_ok=True)
    _delete_left_out(spec, tree)
    written = tree / "etc/apt/sources.list.d" / f"0000{own.name}"
    if written.exists():
        written.rename(tree / _OWN_SOURCES)
    _lay_keyrings(tree, archives)


def remove(spec: ImageSpec, tree: Path, *, log_to: Path) -> None:
    """Take out the packages the spec says to remove. Raises SisError naming the line when one cannot go."""
    for at, name in enumerate(spec.remove):
        done = inside.run(tree, ["dpkg", "--purge", name], log_to=log_to, check=False)
        if done.returncode != 0:
            raise SisError(
                f"{spec.place('remove', at)}: package '{name}' cannot be removed",
                details=done.stdout.strip().splitlines()[-10:],
            )


def installed(tree: Path) -> dict[str, str]:
    """Package → exact version of everything installed in `tree`: the lock of the version it becomes."""
    listed = process.run(
        ["dpkg-query", f"--admindir={tree}/var/lib/dpkg", "-W", "-f", "${Package}\t${Version}\t${db:Status-Status}\n"]
    ).stdout
    rows = (line.split("\t") for line in listed.splitlines())
    return {name: version for name, version, status in rows if status == "installed"}


def build_epoch(tree: Path) -> int:
    """Seconds since 1970 of the newest file that came in a package and was not touched since: equal for equal packages.

    dpkg keeps the times files were packed with; what maintainer scripts write has the time of the build.
    """
    newest = 0
    for listing in sorted((tree / "var/lib/dpkg/info").glob("*.md5sums")):
        for line in listing.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
            path = tree / line[34:]
            if path.is_file() and not path.is_symlink():
                newest = max(newest, int(path.stat().st_mtime))
                break
    return newest


def _mmdebstrap(spec: ImageSpec, tree: Path, apt: AptRoot, own: Path) -> list[str]:
    names = [*spec.packages, *([spec.kernel.package] if spec.kernel and spec.kernel.package else [])]
    options: Mapping[str, list[str]] = {
        "include": [",".join(dict.fromkeys(names))] if names else [],
        "aptopt": [
            f'APT::Install-Recommends "{str(spec.recommends).lower()}"',
            'Acquire::Languages "none"',
            *(line.rstrip(";") for line in apt.settings()),
        ],
        "skip": ["check/empty,update,essential/unlink,cleanup/apt/cache"],
    }
    words = [f"--{name}={value}" for name, values in options.items() for value in values]
    fixed = [
        "--verbose",
        "--mode=root",
        "--format=directory",
        f"--variant={spec.base}",
        f"--architectures={spec.architecture}",
    ]
    return ["mmdebstrap", *fixed, *words, spec.release, str(tree), str(own)]


def _configure_dpkg(spec: ImageSpec, tree: Path) -> None:
    """What is never unpacked stays so on the nodes; not syncing every file is for the build only."""
    folder = tree / _DPKG_SETTINGS
    folder.mkdir(parents=True)
    (folder / "sis-build").write_text("force-unsafe-io\n")
    if spec.leave_out:
        (folder / "sis-leave-out").write_text("".join(f"{option}\n" for option in _left_out(spec)))


def _merge_usr(spec: ImageSpec, tree: Path) -> None:
    """Begin with /bin, /sbin and /lib in /usr: else the package that moves them later brings all of Perl."""
    for name in ("bin", "sbin", "lib", *(("lib64",) if spec.architecture == "amd64" else ())):
        (tree / "usr" / name).mkdir(parents=True)
        (tree / name).symlink_to(f"usr/{name}")
    pin = tree / _NOT_USRMERGE
    pin.parent.mkdir(parents=True)
    pin.write_text("Package: usrmerge\nPin: version *\nPin-Priority: -1\n")


def _left_out(spec: ImageSpec) -> list[str]:
    return [option for word in spec.leave_out for option in _LEFT_OUT.get(word, (_option(word),))]


def _option(word: str) -> str:
    return f"path-include={word[1:]}" if word.startswith("!") else f"path-exclude={word}"


def _delete_left_out(spec: ImageSpec, tree: Path) -> None:
    """mmdebstrap extracts the essential packages whole, before dpkg with its filters is there."""
    options = [option.partition("=") for option in _left_out(spec)]
    for base in sorted({_literal(pattern) for kind, _, pattern in options if kind == "path-exclude"}):
        for folder, _, names in os.walk(tree / base.lstrip("/"), topdown=False):
            for name in names:
                path = Path(folder, name)
                shown = "/" + str(path.relative_to(tree))
                last = [kind for kind, _, pattern in options if fnmatch.fnmatchcase(shown, pattern)][-1:]
                if last == ["path-exclude"]:
                    path.unlink()
            if folder != str(tree / base.lstrip("/")):
                with contextlib.suppress(OSError):
                    Path(folder).rmdir()


def _literal(pattern: str) -> str:
    """The folder of a pattern before its first wildcard."""
    return re.split(r"[*?\[]", pattern, maxsplit=1)[0].rpartition("/")[0]


def _lay_keyrings(tree: Path, archives: tuple[AptSource, ...]) -> None:
    """Keyrings the sources name are in the tree too, so that its own apt works."""
    for source in archives:
        keyring, there = Path(source.signed_by), tree / source.signed_by.lstrip("/")
        if not there.exists() and keyring.is_file() and (tree / "etc/apt").is_dir():
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(keyring, there)
            there.chmod(0o644)


def _no_version(word: str) -> str:
    name, _, version = word.partition("=")
    return f"package '{name}' has no version '{version}' in the sources"
