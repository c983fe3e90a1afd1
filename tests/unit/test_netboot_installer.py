"""Boot files from small trees: what goes in, what is refused, what is not made twice."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import shutil
from pathlib import Path

import msgspec
import pytest
import zstandard

from sis.errors import Corrupt, NotFound, Refused
from sis.netboot import installer, kernel, ramdisk
from sis.system import process

VERSION = "ab" * 32


def put(path: Path, content: str | bytes = "", mode: int = 0o644) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
    return path


def add_kernel(tree: Path, release: str, *, zstd: bool = True) -> None:
    put(tree / f"boot/vmlinuz-{release}", f"kernel {release}")
    put(tree / f"boot/config-{release}", f"# config\nCONFIG_RD_ZSTD={'y' if zstd else 'n'}\n")
    put(tree / f"usr/lib/modules/{release}/modules.builtin", "kernel/drivers/net/virtio_net.ko\n")
    put(tree / f"usr/lib/modules/{release}/modules.order")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    tree = tmp_path / "image"
    add_kernel(tree, "6.1.0-9-test")
    put(tree / "usr/lib/sis/bundle.txt", "the image's bundle")
    put(tree / "usr/bin/sis-node", "#!/bin/sh\n", 0o755)
    (tree / "usr/bin/python3").symlink_to("python3.11")
    return tree


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    tree = tmp_path / "installer"
    for name in ("sh", "mount", "udevadm", "kmod"):
        put(tree / "usr/bin" / name, mode=0o755)
    (tree / "usr/lib").mkdir()
    (tree / "lib").symlink_to("usr/lib")
    (tree / "usr/bin/python3").symlink_to("python3.11")
    put(tree / "usr/lib/modules/old/stale.ko")
    put(tree / "usr/lib/sis/stale.py")
    put(tree / "usr/share/doc/x/copyright")
    return tree


def build(image: Path, plain: Path, **changes: object) -> installer.BootFiles:
    out = image.parent / "boot"
    options = {"image_tree": image, "installer_tree": plain, "version_id": VERSION, "out": out, **changes}
    return installer.build(**options)  # type: ignore[arg-type]


def listed(archive: Path) -> str:
    packed = archive.read_bytes()
    raw = (
        gzip.decompress(packed)
        if packed[:2] == b"\x1f\x8b"
        else zstandard.ZstdDecompressor().decompressobj().decompress(packed)
    )
    return process.run(["cpio", "-tv", "--quiet"], stdin=raw).stdout


def test_the_folder_holds_kernel_stage_1_and_root(image: Path, plain: Path) -> None:
    steps: list[str] = []
    made = build(image, plain, progress=steps.append)
    folder = image.parent / "boot" / VERSION
    assert sorted(path.name for path in folder.iterdir()) == ["boot.json", "initrd", "root.squashfs", "vmlinuz"]
    assert (folder / "vmlinuz").read_text() == "kernel 6.1.0-9-test"
    assert msgspec.json.decode((folder / "boot.json").read_bytes(), type=installer.BootFiles) == made
    assert made == installer.load(folder)
    for file in made.files:
        content = (folder / file.name).read_bytes()
        assert (file.size_bytes, file.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    root = made.root("http://h/f")
    assert (root.files, root.root_bytes) == ("http://h/f", (folder / "root.squashfs").stat().st_size)
    assert steps == ["kernel 6.1.0-9-test", "installer root", "stage 1", "installer root, compressed"]
    assert [path.name for path in folder.parent.iterdir()] in ([".lock", VERSION], [VERSION, ".lock"])


def test_the_root_is_the_installer_with_the_images_bundle_and_modules(image: Path, plain: Path) -> None:
    build(image, plain)
    names = process.run(["unsquashfs", "-lls", image.parent / "boot" / VERSION / "root.squashfs"]).stdout
    assert "usr/lib/sis/bundle.txt" in names
    assert "stale" not in names
    assert "copyright" not in names
    assert "usr/lib/modules/6.1.0-9-test/modules.dep" in names
    (init,) = [line for line in names.splitlines() if line.endswith("usr/lib/sis/installer-init")]
    assert init.startswith("-rwxr-xr-x")


def test_stage_1_is_busybox_init_and_module_indexes(image: Path, plain: Path) -> None:
    build(image, plain)
    initrd = image.parent / "boot" / VERSION / "initrd"
    assert initrd.read_bytes()[:4] == b"\x28\xb5\x2f\xfd"
    lines = listed(initrd).splitlines()
    names = [line.split()[-1] for line in lines]
    assert {"init", "bin/busybox", "bin/sis-address", "usr/lib/modules/6.1.0-9-test/modules.dep"} <= set(names)
    (init,) = [line for line in lines if line.endswith(" init")]
    assert init.split()[:4] == ["-rwxr-xr-x", "1", "root", "root"] or init.startswith("-rwxr-xr-x")


def test_a_kernel_without_zstd_gets_gzip(image: Path, plain: Path) -> None:
    add_kernel(image, "6.1.0-9-test", zstd=False)
    build(image, plain)
    initrd = image.parent / "boot" / VERSION / "initrd"
    assert initrd.read_bytes()[:2] == b"\x1f\x8b"
    assert " init" in listed(initrd)


def test_equal_inputs_are_not_built_twice_and_new_ones_are(image: Path, plain: Path) -> None:
    first = build(image, plain)
    folder = image.parent / "boot" / VERSION
    inode = folder.stat().st_ino
    assert build(image, plain) == first
    assert folder.stat().st_ino == inode
    put(image / "usr/lib/sis/new.py", "more")
    assert build(image, plain).inputs != first.inputs
    assert folder.stat().st_ino != inode


def test_what_a_killed_build_left_is_removed(image: Path, plain: Path) -> None:
    put(image.parent / "boot/.new-dead/work/half")
    build(image, plain)
    assert not (image.parent / "boot/.new-dead").exists()


def test_the_newest_kernel_is_taken_by_number(image: Path, plain: Path) -> None:
    add_kernel(image, "6.1.0-10-test")
    assert kernel.find(image).release == "6.1.0-10-test"
    assert kernel.find(image, "6.1.0-9-test").release == "6.1.0-9-test"
    with pytest.raises(NotFound, match=r"no such kernel: 6\.1\.0-9-tset") as caught:
        kernel.find(image, "6.1.0-9-tset")
    assert "did you mean 6.1.0-9-test" in str(caught.value)


def test_a_tree_without_kernel_is_refused(image: Path, plain: Path) -> None:
    shutil.rmtree(image / "boot")
    with pytest.raises(NotFound, match="has no kernel with its modules") as caught:
        build(image, plain)
    assert "name a kernel in the image spec" in str(caught.value)


def test_a_kernel_without_network_is_refused(image: Path, plain: Path) -> None:
    put(image / "usr/lib/modules/6.1.0-9-test/modules.builtin")
    with pytest.raises(NotFound, match=r"kernel 6\.1\.0-9-test has no network driver"):
        build(image, plain)
    assert [path.name for path in (image.parent / "boot").iterdir()] == [".lock"]


def test_an_image_without_bundle_is_refused(image: Path, plain: Path) -> None:
    shutil.rmtree(image / "usr/lib/sis")
    with pytest.raises(NotFound, match="the image has no node bundle: /usr/lib/sis is missing"):
        build(image, plain)


def test_an_installer_that_lacks_programs_is_refused(image: Path, plain: Path) -> None:
    (plain / "usr/bin/udevadm").unlink()
    (plain / "usr/bin/kmod").unlink()
    with pytest.raises(NotFound, match="root lacks /usr/bin/udevadm, /usr/bin/kmod"):
        build(image, plain)


def test_two_pythons_do_not_fit_one_bundle(image: Path, plain: Path) -> None:
    (image / "usr/bin/python3").unlink()
    (image / "usr/bin/python3").symlink_to("python3.13")
    with pytest.raises(Refused, match=r"the image has python3\.13, the installer python3\.11"):
        build(image, plain)


@pytest.mark.parametrize("version", ["../x", "", "AB" * 32, "ab/cd" * 8])
def test_a_version_id_is_hex(version: str, image: Path, plain: Path) -> None:
    with pytest.raises(Refused, match="not a version id"):
        build(image, plain, version_id=version)


def test_missing_or_cut_boot_files_are_named(image: Path, plain: Path) -> None:
    folder = image.parent / "boot" / VERSION
    with pytest.raises(NotFound, match="no boot files for version abababababab"):
        installer.load(folder)
    build(image, plain)
    with (folder / "root.squashfs").open("r+b") as stream:
        stream.truncate(100)
    with pytest.raises(Corrupt, match=r"root\.squashfs has 100 bytes, boot\.json says"):
        installer.load(folder)
    put(folder / "boot.json", "{")
    with pytest.raises(Corrupt, match=r"boot\.json"):
        installer.load(folder)


def test_modules_are_read_whatever_their_compression(tmp_path: Path) -> None:
    content = b"\x7fELF" + b"module" * 50
    packed = {"a.ko": content, "b.ko.xz": lzma.compress(content), "c.ko.gz": gzip.compress(content)}
    packed["d.ko.zst"] = zstandard.ZstdCompressor().compress(content)
    for name, stored in packed.items():
        assert kernel.plain_module(put(tmp_path / name, stored)) == (f"{name[0]}.ko", content)


def test_modules_come_with_what_they_need(tmp_path: Path) -> None:
    index = put(tmp_path / "modules.dep", "a.ko: b.ko c.ko\nb.ko: c.ko\nc.ko:\nd.ko: a.ko\n")
    assert kernel.closure(["b.ko"], kernel.dependencies(index)) == ("b.ko", "c.ko")
    assert kernel.closure(["d.ko"], kernel.dependencies(index)) == ("a.ko", "b.ko", "c.ko", "d.ko")


def test_firmware_that_modules_name_comes_along(tmp_path: Path) -> None:
    for name in ("one", "two"):
        put(tmp_path / f"image/usr/lib/firmware/bnx2/{name}.fw", name)
    named = (b"bnx2/one.fw", b"bnx2/two.fw", b"bnx2/gone.fw", b"../../../etc/shadow")
    module = b"\x7fELF\0license=GPL\0" + b"".join(b"firmware=" + name + b"\0" for name in named)
    ramdisk.copy_firmware(tmp_path / "image", [module], tmp_path / "out")
    copied = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert copied == ["bnx2/one.fw", "bnx2/two.fw"]


@pytest.mark.parametrize("script", ["stage1/init", "stage1/address", "stage2/installer-init"])
def test_scripts_are_plain_shell(script: str) -> None:
    process.run(["busybox", "sh", "-n", ramdisk.SOURCES.parent / script])
