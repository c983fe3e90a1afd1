"""What the spec lays over the packages: files, users, keys, locale, time zone, modules, scripts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from sis.build import inside
from sis.errors import ProgramFailed, SisError
from sis.spec.imagespec import FileSpec, ImageSpec, UserSpec

_SCRIPT = "/run/sis-script"


def files(spec: ImageSpec, tree: Path) -> None:
    """Lay the spec's files over `tree`, with its locale, time zone and modules.

    Raises SisError naming the line of the spec for an owner the image does not have or a target that cannot be.
    """
    _text(tree / "etc/default/locale", f"LANG={spec.locale}\n")
    _link(tree / "etc/localtime", f"/usr/share/zoneinfo/{spec.timezone}")
    _text(tree / "etc/timezone", f"{spec.timezone}\n")
    if spec.kernel is not None and spec.kernel.modules:
        _text(tree / "etc/modules-load.d/sis-image.conf", "".join(f"{name}\n" for name in spec.kernel.modules))
    accounts = _accounts(tree)
    for at, file in enumerate(spec.files):
        try:
            _lay(file, tree, accounts)
        except (OSError, KeyError) as error:
            what = f"there is no {error.args[0]}" if isinstance(error, KeyError) else error.strerror
            raise SisError(f"{spec.place('files', at)}: {file.target} cannot be laid over: {what}") from error


def users(spec: ImageSpec, tree: Path, *, log_to: Path) -> None:
    """Make the spec's users, or change those there are; their keys are theirs alone.

    Raises SisError naming the line of the spec.
    """
    for at, user in enumerate(spec.users):
        exists = user.name in _names(tree / "etc/passwd")
        try:
            inside.run(tree, _user_words(user, exists=exists), log_to=log_to)
        except ProgramFailed as error:
            place = spec.place("users", at)
            raise SisError(f"{place}: user '{user.name}' cannot be made", details=error.details) from error
        if user.ssh_authorized_keys:
            _keys(user, tree)


def scripts(spec: ImageSpec, tree: Path, stage: str, *, log_to: Path) -> None:
    """Run the spec's `postinst` or `finalize` scripts inside the tree, without network.

    Raises SisError naming the line of the spec, with the end of what the script said.
    """
    for at, path in enumerate(getattr(spec.scripts, stage)):
        inner = tree / _SCRIPT.lstrip("/")
        inner.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, inner)
        inner.chmod(0o700)
        try:
            inside.run(tree, [_SCRIPT], env={"SIS_IMAGE": spec.image}, log_to=log_to)
        except ProgramFailed as error:
            place = spec.place("scripts", stage, at)
            raise SisError(f"{place}: script {Path(path).name} failed", details=error.details) from error
        finally:
            inner.unlink()


def _lay(file: FileSpec, tree: Path, accounts: Mapping[str, int]) -> None:
    target = tree / file.target.lstrip("/")
    owner = _owner(file.owner, accounts)
    _folder(target.parent)
    if file.link is not None:
        _link(target, file.link)
        os.chown(target, *owner, follow_symlinks=False)
    elif file.directory:
        _folder(target)
        _give(target, owner, file.mode if file.mode is not None else 0o755)
    elif file.content is not None:
        _text(target, file.content)
        _give(target, owner, file.mode if file.mode is not None else 0o644)
    else:
        assert file.source is not None
        _copy(Path(file.source), target, owner, file.mode)


def _copy(source: Path, target: Path, owner: tuple[int, int], mode: int | None) -> None:
    """A file, or a folder with all that is in it; links stay links."""
    if source.is_symlink():
        _link(target, str(source.readlink()))
        os.chown(target, *owner, follow_symlinks=False)
    elif source.is_dir():
        _folder(target)
        for child in sorted(source.iterdir()):
            _copy(child, target / child.name, owner, mode)
    else:
        if target.is_symlink():
            target.unlink()
        shutil.copyfile(source, target)
        _give(target, owner, mode if mode is not None else 0o755 if os.access(source, os.X_OK) else 0o644)


def _give(path: Path, owner: tuple[int, int], mode: int) -> None:
    os.chown(path, *owner)
    path.chmod(mode)


def _folder(path: Path) -> None:
    """A directory and its missing parents, 0755 whatever the umask."""
    missing = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for step in reversed(missing):
        step.mkdir()
        step.chmod(0o755)


def _text(path: Path, text: str) -> None:
    _folder(path.parent)
    if path.is_symlink():
        path.unlink()
    path.write_text(text, encoding="utf-8")
    path.chmod(0o644)


def _link(path: Path, target: str) -> None:
    _folder(path.parent)
    if path.is_symlink() or path.is_file():
        path.unlink()
    path.symlink_to(target)


def _accounts(tree: Path) -> Mapping[str, int]:
    """`user NAME` and `group NAME` → id, of the image."""
    found: dict[str, int] = {}
    for kind, name in (("user", "etc/passwd"), ("group", "etc/group")):
        for line in _lines(tree / name):
            fields = line.split(":")
            if len(fields) > 2:
                found[f"{kind} {fields[0]}"] = int(fields[2])
    return found


def _owner(text: str, accounts: Mapping[str, int]) -> tuple[int, int]:
    user, _, group = text.partition(":")
    return _id("user", user, accounts), _id("group", group or user, accounts)


def _id(kind: str, name: str, accounts: Mapping[str, int]) -> int:
    return int(name) if name.isdigit() else accounts[f"{kind} {name}"]


def _names(path: Path) -> set[str]:
    return {line.split(":", 1)[0] for line in _lines(path)}


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def _user_words(user: UserSpec, *, exists: bool) -> list[str]:
    words = ["usermod"] if exists else ["useradd", "--create-home", *(("--system",) if user.system else ())]
    if user.uid is not None:
        words.append(f"--uid={user.uid}")
    if user.home is not None:
        words.append(f"--home={user.home}")
    if user.groups:
        words += [f"--groups={','.join(user.groups)}", *(("--append",) if exists else ())]
    if user.password is not None:
        words.append(f"--password={user.password}")
    return [*words, f"--shell={user.shell}", f"--comment={user.comment}", "--", user.name]


def _keys(user: UserSpec, tree: Path) -> None:
    line = next(line for line in _lines(tree / "etc/passwd") if line.startswith(f"{user.name}:"))
    _, _, uid, gid, _, home, _ = line.split(":")
    owner = int(uid), int(gid)
    folder = tree / home.lstrip("/") / ".ssh"
    _folder(folder)
    _give(folder, owner, 0o700)
    _text(folder / "authorized_keys", "".join(f"{key.strip()}\n" for key in user.ssh_authorized_keys))
    _give(folder / "authorized_keys", owner, 0o600)
