"""Our own apt, apart from the head's: package lists and downloaded packages of one release, kept across builds."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sis.errors import ProgramFailed, SisError
from sis.system import files, locks, process

_KEPT_SETTINGS = (
    "Acquire::http",
    "Acquire::https",
    "Acquire::Check-Valid-Until",
    "Acquire::Check-Date",
    "Acquire::Retries",
)
"""Settings of the head that say how archives are reached; nothing else of its apt is heeded."""


@dataclass(frozen=True)
class AptRoot:
    """A folder with `lists` (of the sources last updated) and `archives` (packages by file name)."""

    path: Path
    architecture: str

    @property
    def lists(self) -> Path:
        return self.path / "lists"

    @property
    def archives(self) -> Path:
        return self.path / "archives"

    def update(self, sources: str, *, log_to: Path | None = None) -> None:
        """Bring the lists of `sources` (deb822 text) up to date, and forget packages that they no longer have.

        Raises SisError when an archive cannot be reached or is not signed as it should be.
        """
        for folder in ("etc/parts", "lists/partial", "archives/partial", "state"):
            files.make_dirs(self.path / folder)
        files.atomic_write(self.path / "etc/sources.sources", sources.encode())
        files.atomic_write(self.path / "etc/apt.conf", self._configuration().encode())
        with locks.hold(self.path / "lock", f"update of {self.path.name}", wait_s=600):
            try:
                process.run(["apt-get", "update", "-q", "--error-on=any"], env=self._env(), log_to=log_to)
            except ProgramFailed as error:
                hint = "is the archive reachable, and is its keyring installed on the head?"
                raise SisError("the package lists cannot be fetched", hint=hint, details=error.details) from error
            process.run(["apt-get", "autoclean", "-q"], env=self._env(), log_to=log_to)

    def missing(self, wanted: Sequence[str]) -> list[str]:
        """Those of `wanted` (`name`, `name:arch`, `name=version`) that no list has, nor provides."""
        names = {word: re.split("[:=]", word, maxsplit=1)[0] for word in wanted}
        versions = self._versions(sorted(set(names.values())))
        return [word for word, name in names.items() if not self._has(name, word.partition("=")[2], versions)]

    def names(self) -> list[str]:
        """The names of all packages of the lists."""
        return process.run(["apt-cache", "pkgnames"], env=self._env()).stdout.split()

    def search(self, word: str) -> list[tuple[str, str]]:
        """Packages whose name holds `word` (plain text), with their one line of description, in order of name."""
        said = process.run(["apt-cache", "search", "--names-only", re.escape(word)], env=self._env()).stdout
        return [(name, about) for name, _, about in (line.partition(" - ") for line in said.splitlines())]

    def lend(self, tree: Path) -> None:
        """Put lists and downloaded packages into `tree` as hard links, so that they are not fetched again."""
        with locks.hold(self.path / "lock", f"lending from {self.path.name}", wait_s=600):
            for ours, theirs in ((self.lists, "var/lib/apt/lists"), (self.archives, "var/cache/apt/archives")):
                there = tree / theirs
                (there / "partial").mkdir(parents=True)
                for path in _plain_files(ours):
                    _link(path, there / path.name)

    def take_back(self, tree: Path) -> None:
        """Keep the packages that were downloaded into `tree`, and take all of them out of it."""
        there = tree / "var/cache/apt/archives"
        with locks.hold(self.path / "lock", f"taking back into {self.path.name}", wait_s=600):
            for path in _plain_files(there):
                if path.suffix == ".deb" and not (self.archives / path.name).exists():
                    _link(path, self.archives / path.name)
        shutil.rmtree(there, ignore_errors=True)

    def settings(self) -> list[str]:
        """The head's settings for reaching archives, as apt options `Name "value";`."""
        dump = process.run(["apt-config", "dump", "Acquire"]).stdout
        lines = (line for line in dump.splitlines() if line.startswith(_KEPT_SETTINGS))
        return [line for line in lines if not line.endswith(' "";')]

    def _has(self, name: str, pinned: str, versions: Mapping[str, list[str]]) -> bool:
        if pinned:
            return pinned in versions.get(name, ())
        return bool(versions.get(name)) or self._provided(name)

    def _versions(self, names: Sequence[str]) -> dict[str, list[str]]:
        """Package → its versions in the lists."""
        found: dict[str, list[str]] = {}
        name = ""
        for line in process.run(["apt-cache", "policy", *names], env=self._env()).stdout.splitlines():
            if line and not line[0].isspace():
                name = line.rstrip(":")
            elif (version := re.fullmatch(r"(?: {5}| \*{3} )([^\s:]\S*) -?\d+", line)) is not None:
                found.setdefault(name, []).append(version[1])
        return found

    def _provided(self, name: str) -> bool:
        shown = process.run(["apt-cache", "showpkg", name], env=self._env(), check=False).stdout
        return bool(shown.partition("Reverse Provides:")[2].strip())

    def _env(self) -> dict[str, str]:
        return {"APT_CONFIG": str(self.path / "etc/apt.conf")}

    def _configuration(self) -> str:
        own = {
            "APT::Architecture": self.architecture,
            "APT::Architectures": self.architecture,
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
            "Dir": "/",
            "Dir::Etc::Main": "/dev/null",
            "Dir::Etc::Parts": f"{self.path}/etc/parts",
            "Dir::Etc::SourceList": f"{self.path}/etc/sources.sources",
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::Etc::Preferences": "/dev/null",
            "Dir::Etc::PreferencesParts": "/dev/null",
            "Dir::State": f"{self.path}/state",
            "Dir::State::Lists": f"{self.path}/lists",
            "Dir::State::Status": "/dev/null",
            "Dir::Cache": f"{self.path}",
            "Dir::Cache::Archives": f"{self.path}/archives",
        }
        return "".join(f'{name} "{value}";\n' for name, value in own.items()) + "".join(
            f"{line}\n" for line in self.settings()
        )


def _plain_files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.is_file() and path.name != "lock":
            yield path


def _link(source: Path, target: Path) -> None:
    """A hard link, or a copy across file systems."""
    with contextlib.suppress(FileExistsError):
        try:
            os.link(source.resolve(), target)
        except FileExistsError:
            raise
        except OSError:
            shutil.copy2(source, target)
