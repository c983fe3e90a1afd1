"""What a node boots for an install of one image version: kernel, stage 1 and the installer's root, in one folder."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

import msgspec
from blake3 import blake3

import sis
from sis.errors import Corrupt, NotFound, Refused
from sis.netboot import kernel, ramdisk
from sis.netboot.ipxe import RamRoot
from sis.netboot.kernel import Kernel
from sis.system import files, locks, process

FORMAT = 1
DESCRIPTION = "boot.json"
INIT = Path("usr/lib/sis/installer-init")

_NEEDED = ("usr/bin/sh", "usr/bin/mount", "usr/bin/udevadm", "usr/bin/kmod")

_STAGE2 = Path(__file__).with_name("stage2")
_ZSTD_LEVEL = 6
_BLOCK_BYTES = 1 << 18

_NO_INSTALLER_NEED = (
    "kernel/sound/",
    "kernel/drivers/gpu/",
    "kernel/drivers/media/",
    "kernel/drivers/net/wireless/",
    "kernel/drivers/bluetooth/",
    "kernel/drivers/iio/",
    "kernel/drivers/staging/",
    "kernel/net/bluetooth/",
    "kernel/net/wireless/",
    "kernel/net/mac80211/",
)
"""Modules no install needs: half of a distribution kernel."""

_LEFT_OUT = (
    "boot/*", "dev/*", "proc/*", "sys/*", "run/*", "tmp/*", "target/*",
    "usr/share/doc/*", "usr/share/man/*", "usr/share/info/*", "usr/share/locale/*", "usr/share/lintian/*",
    "var/cache/*", "var/lib/apt/lists/*", "var/log/*", "var/tmp/*",
)  # fmt: skip


class BootFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file of the folder; hashes in hex."""

    name: str
    size_bytes: int
    sha256: str
    blake3: str


class BootFiles(msgspec.Struct, frozen=True, kw_only=True):
    """boot.json. `inputs` is a digest of everything the files were made from: equal inputs are not built again."""

    format: int = FORMAT
    version_id: str
    kernel_release: str
    inputs: str
    files: tuple[BootFile, ...]

    def root(self, folder_url: str) -> RamRoot:
        """The boot answer's part about these files, served below `folder_url`."""
        image = next(file for file in self.files if file.name == "root.squashfs")
        return RamRoot(files=folder_url, root_sha256=image.sha256, root_bytes=image.size_bytes)


def build(
    *,
    image_tree: Path,
    installer_tree: Path,
    version_id: str,
    out: Path,
    kernel_release: str | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> BootFiles:
    """Make `out`/<version_id>/{vmlinuz,initrd,root.squashfs,boot.json}, unless they are there from the same inputs.

    `image_tree` gives the kernel, its modules and firmware, and the node bundle (usr/lib/sis, usr/bin/sis-node);
    `installer_tree` the rest of the root. The folder appears whole, by rename. `progress` is told each step.
    Raises NotFound for what a tree lacks, Refused when the trees do not fit together, Locked during another build.
    """
    check_version_id(version_id)
    system = kernel.find(image_tree, kernel_release)
    check_trees(image_tree, installer_tree)
    inputs = _digest_of_inputs(system, image_tree, installer_tree, version_id)
    final = out / version_id
    out.mkdir(parents=True, exist_ok=True)
    with locks.hold(out / ".lock", f"boot files of {version_id}"):
        if (made := _existing(final)) is not None and made.inputs == inputs:
            return made
        for left_over in out.glob(".new-*"):
            shutil.rmtree(left_over)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=out) as temporary:
            work, fresh = Path(temporary, "work"), Path(temporary, "fresh")
            fresh.mkdir()
            progress(f"kernel {system.release}")
            shutil.copyfile(system.image, fresh / "vmlinuz")
            progress("installer root")
            root = work / "root"
            _assemble_root(root, system, image_tree, installer_tree)
            progress("stage 1")
            (work / "stage1").mkdir()
            ramdisk.build(system, image_tree, root, work / "stage1", fresh / "initrd")
            progress("installer root, compressed")
            _squash(root, fresh / "root.squashfs")
            made = BootFiles(
                version_id=version_id,
                kernel_release=system.release,
                inputs=inputs,
                files=tuple(_measured(fresh / name) for name in ("vmlinuz", "initrd", "root.squashfs")),
            )
            text = msgspec.json.format(msgspec.json.encode(made), indent=2)
            files.atomic_write(fresh / DESCRIPTION, text + b"\n")
            _put_in_place(fresh, final, Path(temporary, "old"))
    return made


def load(folder: Path) -> BootFiles:
    """The boot files of one version, STATE/boot/<version id>. Raises NotFound when they were not built, Corrupt when
    the description cannot be read or a file has another size than it says."""
    made = _existing(folder)
    if made is None:
        raise NotFound(
            f"there are no boot files for version {folder.name[:12]}",
            hint="build the image again: 'sis image build' makes them",
        )
    for file in made.files:
        found = (folder / file.name).stat().st_size if (folder / file.name).exists() else 0
        if found != file.size_bytes:
            raise Corrupt(
                f"{folder / file.name} has {found} bytes, {DESCRIPTION} says {file.size_bytes}",
                hint=f"remove {folder} and build the image again",
            )
    return made


def strangers(out: Path, version_ids: Collection[str]) -> tuple[Path, ...]:
    """Folders of boot files below `out` whose version is none of `version_ids`: nothing boots them any more."""
    if not out.is_dir():
        return ()
    return tuple(sorted(path for path in out.iterdir() if path.is_dir() and path.name not in version_ids))


def check_version_id(version_id: str) -> None:
    """A version id becomes the name of a folder and a part of URLs: hex only. Raises Refused."""
    if not re.fullmatch(r"[0-9a-f]{8,128}", version_id):
        raise Refused(f"not a version id: {version_id!r}")


def check_trees(image_tree: Path, installer_tree: Path) -> None:
    """The installer must have what our init calls, and the image's node bundle must run on the installer's Python:
    its wheels are compiled for one minor version. Raises NotFound or Refused."""
    for part in ("usr/lib/sis", "usr/bin/sis-node"):
        if not (image_tree / part).exists():
            raise NotFound(f"the image has no node bundle: /{part} is missing", hint="set 'agent: true' in its spec")
    missing = [f"/{part}" for part in _NEEDED if not os.path.lexists(installer_tree / part)]
    if missing:
        raise NotFound(
            f"the installer's root lacks {', '.join(missing)}", hint="add the packages to imagespecs/installer.yaml"
        )
    if not (installer_tree / "lib").is_symlink():
        raise Refused(
            "the installer keeps /lib apart from /usr/lib",
            hint="build it from a distribution release with merged /usr (Debian 12 or later)",
        )
    ours, theirs = _python(installer_tree), _python(image_tree)
    if ours is None:
        raise NotFound(
            "the installer's root has no Python: /usr/bin/python3 is missing",
            hint="add python3 to imagespecs/installer.yaml",
        )
    if theirs is not None and ours != theirs:
        raise Refused(
            f"the image has {theirs}, the installer {ours}: the node bundle is compiled for one of them only",
            hint="build the installer from the same distribution release as the image",
        )


def _assemble_root(root: Path, system: Kernel, image_tree: Path, installer_tree: Path) -> None:
    root.parent.mkdir(parents=True)
    process.run(["cp", "-a", "--reflink=auto", installer_tree, root])
    library = root / "usr/lib"
    modules = library / "modules" / system.release
    if (library / "modules").exists():
        shutil.rmtree(library / "modules")
    (library / "modules").mkdir(parents=True)
    process.run(["cp", "-a", "--reflink=auto", system.modules, modules])
    for part in _NO_INSTALLER_NEED:
        shutil.rmtree(modules / part, ignore_errors=True)
    for link in ("build", "source"):
        (modules / link).unlink(missing_ok=True)
    process.run(["depmod", "-b", root, system.release])
    contents = (kernel.plain_module(path)[1] for path in modules.rglob("*.ko*"))
    ramdisk.copy_firmware(image_tree, contents, library / "firmware")
    if (root / "usr/lib/sis").exists():
        shutil.rmtree(root / "usr/lib/sis")
    process.run(["cp", "-a", "--reflink=auto", image_tree / "usr/lib/sis", root / "usr/lib/sis"])
    process.run(["cp", "-a", "--reflink=auto", image_tree / "usr/bin/sis-node", root / "usr/bin/sis-node"])
    shutil.copyfile(_STAGE2 / "installer-init", root / INIT)
    (root / INIT).chmod(0o755)
    # The network is up when udev starts; an interface that is up keeps its name.
    rule = root / "etc/udev/rules.d/80-net-setup-link.rules"
    rule.parent.mkdir(parents=True, exist_ok=True)
    rule.unlink(missing_ok=True)
    rule.symlink_to("/dev/null")


def _squash(root: Path, image: Path) -> None:
    argv: list[str | Path] = ["mksquashfs", root, image, "-noappend", "-no-progress", "-quiet", "-mkfs-time", "0"]
    argv += ["-comp", "zstd", "-Xcompression-level", str(_ZSTD_LEVEL), "-b", str(_BLOCK_BYTES)]
    process.run([*argv, "-wildcards", "-e", *_LEFT_OUT], timeout_s=1800)


def _measured(path: Path) -> BootFile:
    sha256, ours, size = hashlib.sha256(), blake3(), 0
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            sha256.update(block)
            ours.update(block)
            size += len(block)
        os.fsync(stream.fileno())
    return BootFile(name=path.name, size_bytes=size, sha256=sha256.hexdigest(), blake3=ours.hexdigest())


def _put_in_place(fresh: Path, final: Path, old: Path) -> None:
    fresh.chmod(0o755)
    files.fsync_dir(fresh)
    if final.exists():
        final.rename(old)
    fresh.rename(final)
    files.fsync_dir(final.parent)


def _existing(folder: Path) -> BootFiles | None:
    path = folder / DESCRIPTION
    if not path.exists():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=BootFiles)
    except msgspec.MsgspecError as error:
        raise Corrupt(f"{path}: {error}", hint=f"remove {folder} and build the image again") from error


def _digest_of_inputs(system: Kernel, image_tree: Path, installer_tree: Path, version_id: str) -> str:
    """A digest over names, sizes and times, not contents: a changed file without either is not noticed."""
    digest = blake3()
    for word in (str(FORMAT), sis.__version__, version_id, system.release):
        digest.update(f"{word}\n".encode())
    for script in sorted((*ramdisk.SOURCES.iterdir(), *_STAGE2.iterdir())):
        digest.update(script.read_bytes())
    for tree in (installer_tree, system.modules, image_tree / "usr/lib/sis"):
        for line in _listing(tree):
            digest.update(line)
    return digest.hexdigest()


def _listing(tree: Path) -> Iterable[bytes]:
    for folder, folders, names in os.walk(tree):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(folder, name)
            found = os.lstat(path)
            relative = os.path.relpath(path, tree)
            yield os.fsencode(f"{relative} {found.st_mode:o} {found.st_size} {found.st_mtime_ns}\n")


def _python(tree: Path) -> str | None:
    """The minor version usr/bin/python3 points to, as in "python3.11"; None without one."""
    link = tree / "usr/bin/python3"
    return Path(os.readlink(link)).name if link.is_symlink() else None
