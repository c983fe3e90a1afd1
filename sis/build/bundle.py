"""The node's program in the tree: our node-side modules and their compiled wheels for the image's own Python."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from blake3 import blake3

import configurator
import sis
from sis.build import inside
from sis.errors import NotFound, ProgramFailed, SisError
from sis.spec.imagespec import ImageSpec
from sis.system import files, process

ENTRY = "sis.cli.node_main"
ROOMS = ("errors", "system", "image", "sync", "disk", "wire", "sealed", "node", "cli")
WHEELS = ("blake3", "bsdiff4", "click", "cryptography", "msgspec", "pyfastcdc", "zstandard")
OLDEST_PYTHON = (3, 11)

_NOT_NEEDED = ("bin", "zstandard/_cffi*", "*/test*", "*/__pyinstaller")
"""Parts of wheels no node uses: a second backend twice as large as the first, tests."""

_LIBRARY = "usr/lib/sis"
_UNITS = Path(__file__).with_name("units")
_ENABLED = {
    "sis-apply.service": "sysinit.target.wants",
    "sis-node.service": "multi-user.target.wants",
    "sis-resync.timer": "timers.target.wants",
}
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
_LAUNCHER = f"""#!/usr/bin/python3 -I
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, "/{_LIBRARY}")

from {ENTRY} import main

sys.exit(main())
"""


def lay(spec: ImageSpec, tree: Path, cache: Path, *, log_to: Path) -> None:
    """Put /usr/lib/sis, /usr/bin/sis-node and the units into `tree`.

    Byte code is compiled here, unchecked by time, so that a node's Python never writes any. Wheels are those of the
    head's own versions; `cache` (a folder) keeps them. Raises SisError when the image's Python cannot run it.
    """
    faults = [f"{fault}; {remedy}" for fault, remedy in python_faults(tree)]
    if faults:
        raise SisError(f"{spec.image}: {faults[0]}", hint="or say 'agent: false' in the spec")
    library = tree / _LIBRARY
    shutil.copytree(_wheels(spec, tree, cache, log_to=log_to), library, symlinks=True)
    _copy_own(library)
    launcher = tree / "usr/bin/sis-node"
    launcher.write_text(_LAUNCHER, encoding="utf-8")
    launcher.chmod(0o755)
    (tree / "var/lib/sis-node").mkdir(mode=0o700, parents=True, exist_ok=True)
    (tree / "etc/sis").mkdir(mode=0o755, exist_ok=True)
    _enable_units(tree)
    words = ["python3", "-I", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", f"/{_LIBRARY}"]
    inside.run(tree, words, log_to=log_to)


def python_of(tree: Path) -> tuple[int, int] | None:
    """Major and minor version of the tree's /usr/bin/python3, or None."""
    found = inside.resolve(tree, "usr/bin/python3")
    version = re.fullmatch(r"python(\d+)\.(\d+)", found.name) if found is not None else None
    return (int(version[1]), int(version[2])) if version else None


def python_faults(tree: Path) -> Iterator[tuple[str, str]]:
    """Why the tree's Python cannot run the agent, each with what to do."""
    version = python_of(tree)
    wanted = ".".join(map(str, OLDEST_PYTHON))
    if version is None:
        yield "there is no Python for the agent", "add python3 to packages"
    elif version < OLDEST_PYTHON:
        have = ".".join(map(str, version))
        yield (
            f"the image's Python is {have}, the agent needs {wanted} or later",
            "use a release that has one, such as Debian bookworm",
        )


def own_modules() -> list[str]:
    """The modules of `sis` a node needs: everything its entry imports within the node's rooms, packages included."""
    root = Path(sis.__file__).parent
    found: set[str] = set()
    pending = [ENTRY]
    while pending:
        name = pending.pop()
        path = _source(root, name)
        if name in found or path is None or not _of_node(name):
            continue
        found.add(name)
        parent = name.rpartition(".")[0]
        if parent:
            pending.append(parent)
        pending += _imports(path)
        if name == ENTRY:
            pending += _verbs(path)
    return sorted(found)


def _of_node(name: str) -> bool:
    parts = name.split(".")
    return parts[0] == "sis" and (len(parts) == 1 or parts[1] in ROOMS)


def _source(root: Path, name: str) -> Path | None:
    path = root.joinpath(*name.split(".")[1:])
    for candidate in (path.with_suffix(".py") if path != root else path / "__init__.py", path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def _imports(path: Path) -> Iterator[str]:
    """Names of `sis` modules a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _verbs(path: Path) -> list[str]:
    """Modules that the entry names as "module:command", to be imported when a verb is called."""
    return re.findall(r'"(sis\.[a-z0-9_.]+):[a-z0-9_]+"', path.read_text(encoding="utf-8"))


def _copy_own(library: Path) -> None:
    root = Path(sis.__file__).parent
    for name in own_modules():
        path = _source(root, name)
        assert path is not None
        target = library / "sis" / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(configurator.__file__).parent, library / "configurator", ignore=ignored)
    for path in library.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _enable_units(tree: Path) -> None:
    for unit in sorted(_UNITS.iterdir()):
        target = tree / "usr/lib/systemd/system" / unit.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(unit, target)
        wants = _ENABLED.get(unit.name)
        if wants is not None:
            folder = tree / "etc/systemd/system" / wants
            folder.mkdir(parents=True, exist_ok=True)
            link = folder / unit.name
            link.unlink(missing_ok=True)
            link.symlink_to(f"/usr/lib/systemd/system/{unit.name}")


def _wheels(spec: ImageSpec, tree: Path, cache: Path, *, log_to: Path) -> Path:
    """A folder with the wheels unpacked for this Python, machine and C library; made once for each."""
    version = python_of(tree)
    assert version is not None
    pins = _pins()
    target = ["--implementation=cp", f"--python-version={version[0]}.{version[1]}", "--only-binary=:all:"]
    target += [f"--platform={platform}" for platform in _platforms(tree, spec.architecture)]
    key = blake3("\n".join([*pins, *WHEELS, *target]).encode()).hexdigest()[:16]
    ready = cache / f"python{version[0]}.{version[1]}-{spec.architecture}-{key}"
    if ready.is_dir():
        return ready
    files.make_dirs(cache / "downloaded")
    with tempfile.TemporaryDirectory(prefix=".new-", dir=cache) as scratch:
        constraints = Path(scratch, "constraints.txt")
        constraints.write_text("\n".join(pins) + "\n", encoding="utf-8")
        common = [*target, "--disable-pip-version-check", "--constraint", str(constraints)]
        unpacked = Path(scratch, "unpacked")
        try:
            _pip(["download", *common, "--dest", str(cache / "downloaded"), *WHEELS], log_to)
            found = ["--no-index", "--find-links", str(cache / "downloaded")]
            _pip(["install", *common, *found, "--no-compile", "--target", str(unpacked), *WHEELS], log_to)
        except ProgramFailed as error:
            shown = f"Python {version[0]}.{version[1]} on {spec.architecture}"
            raise SisError(
                f"the agent's wheels for {shown} cannot be had",
                hint="is the package index reachable from the head?",
                details=error.details,
            ) from error
        for pattern in _NOT_NEEDED:
            for path in unpacked.glob(pattern):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        unpacked.chmod(0o755)
        unpacked.rename(ready)
    return ready


def _pip(words: list[str], log_to: Path) -> None:
    process.run([sys.executable, "-m", "pip", *words], log_to=log_to, timeout_s=900)


def _pins() -> list[str]:
    """`name==version` of everything in the head's own environment."""
    found = {dist.metadata["Name"]: dist.version for dist in importlib.metadata.distributions()}
    missing = [name for name in WHEELS if name not in {known.lower() for known in found}]
    if missing:
        raise NotFound(f"the head's own Python lacks {', '.join(missing)}", hint="install sis again")
    return sorted(f"{name}=={version}" for name, version in found.items() if name.lower() not in ("sis", "siscluster"))


def _platforms(tree: Path, architecture: str) -> list[str]:
    """The wheel platforms the tree's C library can run, newest first."""
    machine = _MACHINES[architecture]
    libc = next(iter(sorted((tree / "usr/lib").glob("*-linux-gnu/libc.so.6"))), None)
    if libc is None:
        raise SisError("the image has no GNU C library", hint="use a Debian or Ubuntu release")
    found = re.search(rb"stable release version 2\.(\d+)", libc.read_bytes())
    newest = int(found[1]) if found else 17
    modern = [f"manylinux_2_{minor}_{machine}" for minor in range(newest, 4, -1)]
    return [*modern, f"manylinux2014_{machine}", f"manylinux2010_{machine}", f"manylinux1_{machine}"]
