"""Image specs as the console edits them: the site's texts, checked whole before they are saved, by one at a time."""

from __future__ import annotations

import difflib
import re
import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from sis.errors import SisError, SpecInvalid, UsageFault
from sis.spec import imagespec, search
from sis.spec.imagespec import ImageSpec
from sis.system import files

REMEMBERED = 128
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_FAULT = re.compile(r"(?P<file>.*?):(?P<line>\d+): (?:(?P<path>[^\s:]+): )?(?P<text>.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a spec: the line of its file, the path of the value ("kernel.package" or ""), and what."""

    line: int
    path: str
    text: str
    file: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """A spec's text. `own`: it is the site's and can be changed; `version` names exactly this text."""

    name: str
    path: Path
    text: str
    version: str
    own: bool
    spec: ImageSpec | None
    faults: tuple[Fault, ...]
    problem: str = ""
    """Why it cannot be read, when that is no fault of a line."""


class Changed(SisError):
    """Someone else saved the spec meanwhile; `since` is a unified diff of what they changed."""

    def __init__(self, name: str, since: str) -> None:
        super().__init__(f"{name} was changed by someone else since you opened it; nothing was saved")
        self.since = since


class Specs:
    """The specs below STATE/imagespecs, and those that come with sis. Safe in threads."""

    def __init__(self, state: Path) -> None:
        self.folder = state / "imagespecs"
        self._lock = threading.Lock()
        self._shown: OrderedDict[str, str] = OrderedDict()
        self._showing = threading.Lock()

    @property
    def folders(self) -> tuple[Path, ...]:
        return search.folders((self.folder,))

    def names(self) -> list[str]:
        """Every spec there is, but for the installer's."""
        return [name for name in search.names(self.folders) if name != "installer"]

    def own_names(self) -> list[str]:
        """The site's, the last changed first."""
        found = sorted(self.folder.glob("*.yaml"), key=lambda path: path.stat().st_mtime, reverse=True)
        return [path.stem for path in found if _NAME.fullmatch(path.stem)]

    def chosen(self, name: str) -> str:
        """The spec a page is about: the one named, else the site's last changed, else `compute`."""
        if name:
            search.find("image spec", check_name(name), self.folders)
            return name
        own = self.own_names()
        return own[0] if own else "compute"

    def source(self, name: str) -> Source:
        """A spec with its text and whatever is wrong with it. Raises NotFound."""
        path = search.find("image spec", check_name(name), self.folders)
        return self._read(name, path, path.read_text(encoding="utf-8", errors="replace"))

    def draft(self, name: str, text: str) -> Source:
        """The same of a text that is not saved."""
        path = search.find("image spec", check_name(name), self.folders)
        return self._read(name, path, text)

    def create(self, name: str, base: str) -> Source:
        """A spec of the site's own: it extends `base`, or is its copy when it has the same name. Raises UsageFault."""
        check_name(name)
        origin = search.find("image spec", check_name(base), self.folders)
        target = self.folder / f"{name}.yaml"
        with self._lock:
            if target.exists():
                raise UsageFault(f"there is a spec {name} already", hint="edit it, or choose another name")
            if name == "installer":
                raise UsageFault("installer is the installer's own spec", hint="choose another name")
            text = origin.read_text(encoding="utf-8") if name == base else f"image: {name}\nextends: {base}\n"
            files.make_dirs(self.folder)
            files.atomic_write(target, text.encode())
        return self.source(name)

    def save(self, name: str, text: str, version: str) -> Source:
        """Save a text that was made from `version`. Raises Changed, SpecInvalid, UsageFault."""
        path = self.folder / f"{check_name(name)}.yaml"
        with self._lock:
            if not path.is_file():
                raise UsageFault(f"{name} is not the site's own", hint="make a copy of it first")
            current = path.read_text(encoding="utf-8", errors="replace")
            if version_of(current) != version:
                raise Changed(name, self.since(version, current))
            draft = self._read(name, path, text)
            if draft.faults or draft.problem:
                number = len(draft.faults) or 1
                details = [f"line {each.line}: {each.path}: {each.text}" for each in draft.faults] or [draft.problem]
                raise SpecInvalid(
                    f"{name}: {number} fault{'s' if number > 1 else ''}, nothing was saved", details=details
                )
            files.atomic_write(path, text.encode())
        return self.source(name)

    def since(self, version: str, current: str) -> str:
        """What changed from a version that was shown to the current text, as a unified diff; "" when not known."""
        before = self._shown.get(version)
        if before is None:
            return ""
        lines = difflib.unified_diff(
            before.splitlines(), current.splitlines(), "as you opened it", "as it is", lineterm=""
        )
        return "\n".join(lines)

    def _read(self, name: str, path: Path, text: str) -> Source:
        own = path.parent == self.folder
        version = version_of(text)
        with self._showing:
            self._shown[version] = text
            while len(self._shown) > REMEMBERED:
                self._shown.popitem(last=False)
        spec: ImageSpec | None = None
        faults: tuple[Fault, ...] = ()
        problem = ""
        try:
            spec = self._load(name, path, text)
        except SpecInvalid as error:
            faults = tuple(_fault(line, path.name) for line in error.details)
        except SisError as error:
            problem = str(error)
        return Source(name, path, text, version, own, spec, faults, problem)

    def _load(self, name: str, path: Path, text: str) -> ImageSpec:
        """The spec of a text as if it lay at `path`: what it names relative to itself is found."""
        if path.read_text(encoding="utf-8", errors="replace") == text:
            return imagespec.load(path, search=self.folders)
        beside = path.with_name(f".{name}.{secrets.token_hex(4)}.yaml")
        try:
            files.atomic_write(beside, text.encode())
            return imagespec.load(beside, search=self.folders)
        except SpecInvalid as error:
            error.details = tuple(line.replace(str(beside), str(path)) for line in error.details)
            raise
        finally:
            beside.unlink(missing_ok=True)


def check_name(name: str) -> str:
    """The name itself when it can be an image's. Raises UsageFault."""
    if not _NAME.fullmatch(name):
        raise UsageFault(
            f"{name[:64]!r} cannot be the name of an image", hint="small letters, digits, dots, dashes and underscores"
        )
    return name


def version_of(text: str) -> str:
    return blake3(text.encode()).hexdigest()[:32]


def _fault(line: str, own_file: str) -> Fault:
    found = _FAULT.fullmatch(line)
    if found is None:
        return Fault(1, "", line)
    file = Path(found["file"]).name
    return Fault(int(found["line"]), found["path"] or "", found["text"], "" if file == own_file else file)
