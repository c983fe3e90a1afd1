"""Real versions of one image, made by our own builder: released, fully updated, and five edits later."""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from blake3 import blake3

from sis.build import pipeline, sources
from sis.build.distributions import distribution
from sis.spec import imagespec
from sis.system import files, process
from tests.bench.sizes import Size

RELEASE = "bookworm"
_SEED = 20_261_122
_INSERTED = b"thirty-seven bytes that were not here"
_LARGE_FOLDER = "opt/site"
_BLOCK = 1 << 20
_EDITED_AT_NS = 1_795_000_000_000_000_000
_MADE = "made.json"
_RECIPE = 1
"""Raised when the trees are made in another way, so that kept ones are made anew."""

_OF_RUNS = frozenset(
    {
        *("drifted_files", "together", "disk_bytes", "memory_bytes", "probe_bytes", "repeats", "lasting_repeats"),
        *("left_out", "methods"),
    }
)
"""What of a size says nothing about its trees."""

_CONFIGURATION = (
    *("etc/login.defs", "etc/profile", "etc/bash.bashrc", "etc/nsswitch.conf", "etc/hosts", "etc/fstab"),
    *("etc/security/limits.conf", "etc/ssh/sshd_config", "etc/chrony/chrony.conf", "etc/rsyslog.conf"),
    *("etc/deluser.conf", "etc/host.conf", "etc/ld.so.conf", "etc/issue", "etc/issue.net", "etc/xattr.conf"),
    *("etc/debconf.conf", "etc/gai.conf", "etc/pam.conf", "etc/shells"),
)
"""Edited in v2, those that are there."""


@dataclass(frozen=True)
class Facts:
    """What there is to move between two trees. Bytes of content; a file with hard links counts once."""

    entries: int
    content_bytes: int
    changed_bytes: int
    """Of the files whose content is new, or was at another path."""


@dataclass(frozen=True)
class Trees:
    """Folders: the released version, the updated one, that one five edits later."""

    folder: Path

    def path(self, version: str) -> Path:
        """`v1`, `v2`, `v3`, and `p1`, `p2`: the first two with their initramfs compressed, as packaged."""
        return self.folder / version


def make(size: Size, folder: Path, say: Callable[[str], None]) -> Trees:
    """The trees of `size` below `folder`: kept ones if they were made by this recipe, else new ones.

    Needs the head's apt sources to be those of a Debian release, and the network when packages are missing.
    """
    trees = Trees(folder / "trees")
    recipe = _of_trees({"recipe": _RECIPE, **json.loads(json.dumps(asdict(size)))})
    marker = trees.folder / _MADE
    if marker.is_file() and _of_trees(json.loads(marker.read_text())) == recipe:
        return trees
    shutil.rmtree(trees.folder, ignore_errors=True)
    trees.folder.mkdir(parents=True)
    for version in ("v1", "v2"):
        say(f"building {version}")
        _build(size, folder / "build", version, trees.path(version))
        _dress(size, trees.path(version), updated=version == "v2")
    _copy_with_edits(trees.path("v2"), trees.path("v3"))
    if size.kernel is not None:
        for version in ("1", "2"):
            _copy_with_packed_initramfs(trees.path(f"v{version}"), trees.path(f"p{version}"))
    files.atomic_write(marker, json.dumps(recipe).encode())
    return trees


def _of_trees(recipe: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in recipe.items() if name not in _OF_RUNS}


def copy(tree: Path, target: Path) -> None:
    """A copy with everything a tree can hold; `target` must not exist."""
    process.run(["cp", "-a", "--reflink=auto", "--", str(tree), str(target)], timeout_s=1800)


def drift(root: Path, count: int) -> None:
    """Spoil `count` files below `root`, always the same: content, mode, some gone, some nobody knows."""
    rng = random.Random(_SEED)
    known = sorted(path for path, status in plain_files(root) if 0 < status.st_size < 8 << 20)
    for number, path in enumerate(rng.sample(known, count)):
        match number % 10:
            case 0 | 1:
                path.unlink()
            case 2:
                path.chmod(0o600)
            case 3:
                (path.parent / f"{path.name[:200]}.drift").write_bytes(rng.randbytes(1000))
            case _:
                with path.open("r+b") as file:
                    file.seek(rng.randrange(path.stat().st_size))
                    file.write(rng.randbytes(64))


def compare(old: Path, new: Path) -> Facts:
    """How much of `new` is not in `old` at the same path."""
    before = {path.relative_to(old): status for path, status in plain_files(old)}
    seen: set[tuple[int, int]] = set()
    content = changed = 0
    for path, status in plain_files(new):
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        content += status.st_size
        was = before.get(path.relative_to(new))
        same_size = was is not None and was.st_size == status.st_size
        if not same_size or not _same_bytes(old / path.relative_to(new), path):
            changed += status.st_size
    entries = sum(len(folders) + len(names) for _, folders, names in os.walk(new))
    return Facts(entries, content, changed)


def digest(tree: Path) -> str:
    """A tree by names, kinds, owners, sizes and times: another value when it was made anew."""
    hasher = blake3()
    for folder, folders, names in os.walk(tree):
        folders.sort()
        for name in sorted((*folders, *names)):
            path = os.path.join(folder, name)
            it = os.lstat(path)
            size = 0 if stat.S_ISDIR(it.st_mode) else it.st_size
            hasher.update(os.fsencode(os.path.relpath(path, tree)))
            hasher.update(b"\0%d %d %d %d %d\n" % (it.st_mode, it.st_uid, it.st_gid, size, it.st_mtime_ns))
    return hasher.hexdigest()


def plain_files(root: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Every regular file below `root` with its lstat."""
    for folder, _, _ in os.walk(root):
        with os.scandir(folder) as members:
            for member in members:
                if member.is_file(follow_symlinks=False):
                    yield Path(member.path), member.stat(follow_symlinks=False)


def spec_text(size: Size, version: str) -> str:
    """The image spec of `v1` (release pocket alone) or `v2` (with updates and security), as YAML."""
    found = sources.for_release(sources.read_head(), distribution("debian"), RELEASE, "amd64")
    archives = [
        {"uri": source.uri, "suite": suite, "components": list(source.components), "signed_by": source.signed_by}
        for source in found
        for suite in source.suites
        if version == "v2" or suite == RELEASE
    ]
    spec: dict[str, object] = {
        "image": f"bench-{version}",
        "distribution": "debian",
        "release": RELEASE,
        "sources": archives,
        "packages": [*size.packages, *(size.new if version == "v2" else size.old)],
        "leave_out": list(size.leave_out),
        "kernel": {"package": size.kernel} if size.kernel else "none",
        "agent": False,
    }
    return json.dumps(spec, indent=1)


def _build(size: Size, state: Path, version: str, target: Path) -> None:
    """Packages stay in `state` for the next time; the store the builder commits to is not needed."""
    state.mkdir(parents=True, exist_ok=True)
    spec = state / f"bench-{version}.yaml"
    spec.write_text(spec_text(size, version))
    built = pipeline.build(imagespec.load(spec), state)
    built.tree.rename(target)
    shutil.rmtree(state / "store")
    shutil.rmtree(state / "trees")


def _dress(size: Size, tree: Path, *, updated: bool) -> None:
    """The site's own: configuration, edited in the second version, and two large files."""
    folder = tree / _LARGE_FOLDER
    folder.mkdir(parents=True)
    _write_large(folder / "scattered.bin", size, random.Random(_SEED))
    _write_large(folder / "shifted.bin", size, random.Random(_SEED + 1))
    if not updated:
        return
    rng = random.Random(_SEED + 2)
    with (folder / "scattered.bin").open("r+b") as file:
        for _ in range(size.large_edits):
            file.seek(rng.randrange(size.large_bytes - 64))
            file.write(rng.randbytes(rng.randint(1, 64)))
    _insert(folder / "shifted.bin", 1000, _INSERTED)
    for name in _CONFIGURATION:
        if (tree / name).is_file() and not (tree / name).is_symlink():
            _append(tree / name, b"# changed for the second version\n")


def _write_large(path: Path, size: Size, rng: random.Random) -> None:
    """Three parts in five are random, the others say the same again and again."""
    phrase = b"the quick brown node installs the lazy image; "
    with path.open("xb") as file:
        for at in range(0, size.large_bytes, _BLOCK):
            length = min(_BLOCK, size.large_bytes - at)
            block = rng.randbytes(_BLOCK) if at // _BLOCK % 5 < 3 else phrase * (_BLOCK // len(phrase) + 1)
            file.write(block[:length])


def _insert(path: Path, offset: int, inserted: bytes) -> None:
    new = path.with_name(path.name + ".new")
    with path.open("rb") as source, new.open("xb") as target:
        target.write(source.read(offset) + inserted)
        shutil.copyfileobj(source, target, _BLOCK)
    new.replace(path)


def _copy_with_edits(tree: Path, target: Path) -> None:
    copy(tree, target)
    for name in [name for name in _CONFIGURATION if (target / name).is_file()][:5]:
        _append(target / name, b"# changed in an ordinary night\n")
        os.utime(target / name, ns=(_EDITED_AT_NS, _EDITED_AT_NS))


def _copy_with_packed_initramfs(tree: Path, target: Path) -> None:
    copy(tree, target)
    for path in (target / "boot").glob("initrd.img-*"):
        path.write_bytes(gzip.compress(path.read_bytes(), 9, mtime=0))


def _append(path: Path, text: bytes) -> None:
    with path.open("ab") as file:
        file.write(text)


def _same_bytes(one: Path, other: Path) -> bool:
    with one.open("rb") as left, other.open("rb") as right:
        while True:
            a, b = left.read(_BLOCK), right.read(_BLOCK)
            if a != b:
                return False
            if not a:
                return True
