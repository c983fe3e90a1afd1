"""The node's bundle: it holds what a node imports and nothing of the head, and units that are enabled."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sis.build import bundle
from sis.system import process

_NOT_ON_NODES = (
    "pydantic",
    "sqlalchemy",
    "alembic",
    "fastapi",
    "uvicorn",
    "rich",
    "rich_click",
    "tqdm",
    "yaml",
    "ClusterShell",
)


def test_modules_are_those_of_the_nodes_rooms() -> None:
    modules = bundle.own_modules()
    assert {"sis", "sis.errors", "sis.wire", "sis.cli.node_main", "sis.cli.node_sync", "sis.node.agent"} <= set(modules)
    rooms = {name.split(".")[1] for name in modules if "." in name}
    assert rooms <= set(bundle.ROOMS)
    assert "sis.cli.image" not in modules
    assert "sis.disk.translate" not in modules


def test_every_module_runs_without_what_the_head_has(tmp_path: Path) -> None:
    bundle._copy_own(tmp_path)
    names = [name.removesuffix(".__init__") for name in bundle.own_modules()]
    text = (
        "import importlib, sys\n"
        f"for name in {_NOT_ON_NODES!r}: sys.modules[name] = None\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        "import configurator.facts, configurator.record, sis\n"
        "print(sis.__file__)\n"
    )
    done = process.run([sys.executable, "-I", "-c", text])
    assert done.stdout.strip() == f"{tmp_path}/sis/__init__.py"


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("python3.11", None),
        ("python3.13", None),
        ("python3.9", "the image's Python is 3.9, the agent needs 3.11 or later"),
        (None, "there is no Python for the agent"),
    ],
)
def test_python_is_judged_by_its_link(tmp_path: Path, name: str | None, fault: str | None) -> None:
    (tmp_path / "usr/bin").mkdir(parents=True)
    if name is not None:
        (tmp_path / "usr/bin" / name).touch()
        (tmp_path / "usr/bin/python3").symlink_to(f"/usr/bin/{name}")
    assert [found for found, _ in bundle.python_faults(tmp_path)] == ([] if fault is None else [fault])


def test_units_are_enabled_by_links(tmp_path: Path) -> None:
    bundle._enable_units(tmp_path)
    bundle._enable_units(tmp_path)
    wants = tmp_path / "etc/systemd/system"
    assert str((wants / "multi-user.target.wants/sis-node.service").readlink()) == (
        "/usr/lib/systemd/system/sis-node.service"
    )
    assert (wants / "timers.target.wants/sis-resync.timer").is_symlink()
    timer = (tmp_path / "usr/lib/systemd/system/sis-resync.timer").read_text()
    assert "RandomizedDelaySec=1h" in timer
    assert "Persistent=true" in timer


def test_platforms_go_no_further_than_the_c_library(tmp_path: Path) -> None:
    library = tmp_path / "usr/lib/x86_64-linux-gnu/libc.so.6"
    library.parent.mkdir(parents=True)
    library.write_bytes(b"\0GNU C Library (Debian) stable release version 2.36.\0")
    platforms = bundle._platforms(tmp_path, "amd64")
    assert platforms[0] == "manylinux_2_36_x86_64"
    assert "manylinux2014_x86_64" in platforms
    assert "manylinux_2_37_x86_64" not in platforms
