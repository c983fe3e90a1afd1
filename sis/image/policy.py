"""Which paths of a node are the image's and which its own: rules of a version, the last that matches wins."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

from sis.errors import NotFound, SpecInvalid
from sis.image.model import Manifest, PolicyVerb

OS_DEFAULTS: tuple[tuple[str, str], ...] = (
    ("/proc/**", "ignore"),
    ("/sys/**", "ignore"),
    ("/dev/**", "ignore"),
    ("/run/**", "ignore"),
    ("/lost+found", "ignore"),
    ("/swapfile", "ignore"),
    ("/boot/grub", "ignore"),
    ("/boot/efi", "ignore"),
    ("/boot/extlinux", "ignore"),
    ("/.sis-stage", "ignore"),
    ("/var/lib/sis-node", "ignore"),
    ("/etc/sis/node.json", "ignore"),
    ("/tmp/**", "node"),  # noqa: S108
    ("/var/tmp/**", "node"),  # noqa: S108
    ("/home/**", "node"),
    ("/root/**", "node"),
    ("/var/log/**", "node"),
    ("/var/cache/**", "node"),
    ("/var/spool/**", "node"),
    ("/var/mail/**", "node"),
    ("/var/backups/**", "node"),
    ("/var/lib/systemd/**", "node"),
    ("/var/lib/dhcp/**", "node"),
    ("/var/lib/misc/**", "node"),
    ("/var/lib/private/**", "node"),
    ("/var/lib/dbus/machine-id", "node"),
    ("/var/lib/NetworkManager/**", "node"),
    ("/etc/console-setup/cached_*", "node"),
    ("/etc/machine-id", "node"),
    ("/etc/ssh/ssh_host_*", "node"),
    ("/etc/adjtime", "node"),
    ("/etc/mtab", "node"),
    ("/etc/.pwd.lock", "node"),
    ("/etc/.updated", "node"),
    ("/var/.updated", "node"),
)
"""The rules of a version that is an operating system, for a Debian node."""

_FAULTS_SHOWN = 20
_OS_MARKS = (b"etc/os-release", b"usr/lib/os-release")


class Policy:
    """Rules made ready. A rule for a directory holds for everything below it.

    Patterns: `*` and `?` match within a name, `**` any number of names; one that begins with "/" is anchored at the
    root, another matches at any depth. `/var/log/**` is what lies below /var/log, not /var/log itself.
    """

    def __init__(self, rules: Iterable[tuple[str, str]] = ()) -> None:
        """Raises SpecInvalid naming every rule with an unknown verb or an impossible pattern."""
        self.rules = tuple((pattern, verb) for pattern, verb in rules)
        faults = [f"{pattern}: {fault}" for pattern, verb in self.rules for fault in _faults(pattern, verb)]
        if faults:
            raise SpecInvalid("the policy has faults", details=faults)
        self._verbs: list[PolicyVerb] = [_verb(verb) for _, verb in self.rules]
        self._everywhere: re.Pattern[bytes] | None = None
        self._below: dict[bytes, re.Pattern[bytes]] = {}
        self._prepare()
        parents = [_parents(pattern) for pattern, verb in self.rules if verb != "enforce"]
        self._restless = re.compile(b"|".join(parents), re.DOTALL) if parents else None

    def verb(self, path: bytes) -> PolicyVerb:
        """What holds for a path, given as manifests have it (relative, the root is b".")."""
        pattern = self._below.get(path[: path.find(b"/")] if b"/" in path else path, self._everywhere)
        if pattern is None:
            return "enforce"
        match = pattern.fullmatch(path)
        if match is None or match.lastgroup is None:
            return "enforce"
        return self._verbs[int(match.lastgroup[1:])]

    def holds_mtime(self, directory: bytes) -> bool:
        """False for a directory that may hold entries that are not enforced: its own time moves with them."""
        return self._restless is None or self._restless.fullmatch(directory) is None

    def _prepare(self) -> None:
        """One expression a top-level name, of the rules that can match below it, the last rule first."""
        tops: list[bytes | None] = [_top(pattern) for pattern, _ in self.rules]
        self._everywhere = self._combined([at for at, top in enumerate(tops) if top is None])
        for name in {top for top in tops if top is not None}:
            combined = self._combined([at for at, top in enumerate(tops) if top in (None, name)])
            assert combined is not None
            self._below[name] = combined

    def _combined(self, numbers: list[int]) -> re.Pattern[bytes] | None:
        if not numbers:
            return None
        parts = (b"(?P<r%d>%b(?:/.*)?)" % (at, _expression(self.rules[at][0])) for at in reversed(numbers))
        return re.compile(b"|".join(parts), re.DOTALL)


def looks_like_os(manifest: Manifest) -> bool:
    """Whether a tree is an operating system, so that OS_DEFAULTS are meant for it."""
    paths = {entry.path for entry in manifest.entries if entry.path in _OS_MARKS or entry.path in (b"usr/bin", b"bin")}
    return not paths.isdisjoint(_OS_MARKS) and len(paths) > 1


def tree_looks_like_os(tree: Path) -> bool:
    """`looks_like_os` for a tree on disk."""
    marks = (tree / mark.decode() for mark in _OS_MARKS)
    return any(mark.is_symlink() or mark.is_file() for mark in marks) and (tree / "usr/bin").is_dir()


def read_rules(file: str) -> tuple[tuple[str, str], ...]:
    """Rules of a policy file: a verb and a pattern a line, `#` comments.

    Raises NotFound where it cannot be read, SpecInvalid with the line of each fault, of many the first ones.
    """
    try:
        text = Path(file).read_text("utf-8", "surrogateescape")
    except OSError as error:
        raise NotFound(
            f"cannot read the policy file {file}: {error.strerror}",
            hint="none, a word that --help names, or a file",
        ) from error
    rules = []
    faults: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.strip().split(None, 1)
        if not words or words[0].startswith("#"):
            continue
        verb, pattern = words[0], words[1] if len(words) > 1 else ""
        faults += [f"{file}:{number}: {fault}" for fault in _faults(pattern, verb)]
        rules.append((pattern, verb))
    if faults:
        more = [f"… and {len(faults) - _FAULTS_SHOWN} more"] if len(faults) > _FAULTS_SHOWN else []
        raise SpecInvalid(
            f"{file} has faults",
            details=faults[:_FAULTS_SHOWN] + more,
            hint="a verb and a pattern a line: node /var/log/**",
        )
    return tuple(rules)


def _faults(pattern: str, verb: str) -> Iterable[str]:
    if verb not in get_args(PolicyVerb):
        yield f"no such verb: {verb[:40]!r} (there is: {', '.join(get_args(PolicyVerb))})"
    names = pattern.removeprefix("/").split("/")
    if not all(names) or "." in names or ".." in names or "\0" in pattern:
        yield f"not a pattern: {pattern[:80]!r}"


def _verb(verb: str) -> PolicyVerb:
    for known in get_args(PolicyVerb):
        if verb == known:
            found: PolicyVerb = known
            return found
    raise AssertionError(verb)


def _top(pattern: str) -> bytes | None:
    """The top-level name a rule is bound to, or None if it can match under any."""
    first = pattern.removeprefix("/").split("/")[0]
    if not pattern.startswith("/") or "*" in first or "?" in first:
        return None
    return _bytes(first)


def _expression(pattern: str) -> bytes:
    prefix = b"" if pattern.startswith("/") else b"(?:.*/)?"
    return prefix + _names(pattern.removeprefix("/").split("/"))


def _parents(pattern: str) -> bytes:
    """An expression of the directories that may hold what a pattern matches."""
    if not pattern.startswith("/"):
        return b".*"
    *parents, last = pattern.removeprefix("/").split("/")
    deep = b"(?:/.*)?" if last == "**" else b""
    if not parents:
        return b".*" if deep else rb"\."
    if "**" in parents:
        return _names(parents[: parents.index("**")]) + b"(?:/.*)?" if parents[0] != "**" else b".*"
    return _names(parents) + deep


def _names(names: list[str]) -> bytes:
    """The expression of a sequence of names, `**` among them standing for any number."""
    parts = []
    for at, name in enumerate(names):
        last = at == len(names) - 1
        if name == "**":
            parts.append(b".+" if last else b"(?:[^/]+/)*")
            continue
        text = b"".join({"*": b"[^/]*", "?": b"[^/]"}.get(char, re.escape(_bytes(char))) for char in name)
        parts.append(text if last else text + b"/")
    return b"".join(parts)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
