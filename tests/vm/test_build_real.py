"""A real build from real archives: what is in the tree, the same again, and ended in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest

import configurator
import sis
from sis.build import bases, inside, lay, pipeline
from sis.build.pipeline import Built
from sis.errors import SisError
from sis.image.store.local import LocalStore
from sis.image.tree.scan import scan
from sis.spec import imagespec, search
from sis.spec.imagespec import ImageSpec

pytestmark = [pytest.mark.root, pytest.mark.vm, pytest.mark.timeout(1800)]

_SPEC = """
image: small
extends: minimal
packages: [-systemd-sysv]
remove: [e2fsprogs]
timezone: Europe/Paris
files:
  - {target: /etc/motd, content: "hello\\n", mode: 0640, owner: root:adm}
  - {target: /opt/site, source: site}
  - {target: /etc/site, link: /opt/site}
  - {target: /srv/data, directory: true, owner: "1000:1000"}
users:
  - {name: ada, uid: 1000, groups: [adm], ssh_authorized_keys: [ssh-ed25519 AAAA ada]}
scripts: {postinst: [scripts/postinst], finalize: [scripts/finalize]}
policy: {/srv/**: ignore}
"""
_OWN = (b"usr/lib/sis/sis/", b"usr/lib/sis/configurator/")
_POSTINST = """#!/bin/sh -e
test "$SIS_IMAGE" = small
test -d /proc/1
! ip link set lo up 2>/dev/null
id ada >/opt/who
"""
_FINALIZE = """#!/bin/sh -e
test -x /usr/bin/sis-node
! test -e /sbin/mke2fs
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("build")
    (made / "scripts").mkdir()
    (made / "site/bin").mkdir(parents=True)
    (made / "site/bin/tool").write_text("#!/bin/sh\n")
    (made / "site/bin/tool").chmod(0o755)
    (made / "site/link").symlink_to("bin/tool")
    (made / "scripts/postinst").write_text(_POSTINST)
    (made / "scripts/finalize").write_text(_FINALIZE)
    (made / "small.yaml").write_text(_SPEC)
    return made


@pytest.fixture(scope="module")
def spec(folder: Path) -> ImageSpec:
    return imagespec.load("small", search=[folder, search.shipped()])


@pytest.fixture(scope="module")
def built(folder: Path, spec: ImageSpec) -> Built:
    return pipeline.build(spec, folder / "state")


def _entries(tree: Path) -> dict[str, os.stat_result]:
    return {str(path.relative_to(tree)): path.lstat() for path in tree.rglob("*")}


def test_what_the_spec_says_is_in_the_tree(built: Built) -> None:
    tree = built.tree
    there = _entries(tree)
    assert (there["etc/motd"].st_mode & 0o7777, there["etc/motd"].st_gid) == (0o640, 4)
    assert there["opt/site/bin/tool"].st_mode & 0o7777 == 0o755
    assert (tree / "opt/site/link").readlink() == Path("bin/tool")
    assert (tree / "etc/site").readlink() == Path("/opt/site")
    assert (tree / "etc/localtime").readlink() == Path("/usr/share/zoneinfo/Europe/Paris")
    assert there["srv/data"].st_uid == 1000
    assert there["home/ada/.ssh/authorized_keys"].st_mode & 0o7777 == 0o600
    assert (tree / "opt/who").read_text().startswith("uid=1000(ada)")
    assert "usr/sbin/mke2fs" not in there
    assert (tree / "etc/apt/sources.list.d/sis.sources").is_file()


def test_nothing_of_the_build_is_in_the_tree(built: Built) -> None:
    tree = built.tree
    for name in ("dev", "proc", "sys", "run", "tmp", "var/cache/apt", "var/lib/apt/lists"):
        assert list((tree / name).iterdir()) == [], name
    for name in ("etc/hostname", "etc/resolv.conf", "etc/dpkg/dpkg.cfg.d/sis-build", "etc/apt/preferences.d/sis-build"):
        assert not (tree / name).exists(), name
    assert list((tree / "usr/share/doc").glob("*/changelog*")) == []
    newest = max(found.st_mtime for found in _entries(tree).values())
    assert newest < time.time() - 3600


def test_the_version_says_what_made_it(built: Built) -> None:
    assert "python3" in built.version.lock
    assert "e2fsprogs" not in built.version.lock
    assert built.version.os["python"] == "3.11"
    assert built.version.policy[-1] == ("/srv/**", "ignore")
    assert built.version.spec is not None
    assert '"image":"small"' in built.version.spec
    assert next(iter(built.seconds)) == "package lists"


def test_the_agent_runs_in_it_and_writes_nothing(built: Built) -> None:
    before = scan(built.tree).entries
    shown = inside.run(built.tree, ["/usr/bin/sis-node", "--version"]).stdout
    assert shown.startswith("sis-node ")
    check = "import cryptography.hazmat.primitives.asymmetric.ed25519, blake3, zstandard, pyfastcdc, bsdiff4, msgspec"
    words = ["python3", "-I", "-c", f"import sys; sys.path.insert(0, '/usr/lib/sis'); {check}; import sis.node.resync"]
    inside.run(built.tree, words)
    assert scan(built.tree).entries == before


def test_a_failing_script_is_named_with_its_line(tmp_path: Path, built: Built, spec: ImageSpec) -> None:
    script = tmp_path / "bad"
    script.write_text("#!/bin/sh\necho something is wrong\nexit 7\n")
    scripts = spec.scripts.model_copy(update={"postinst": (str(script),)})
    bad = spec.model_copy(update={"scripts": scripts})
    with pytest.raises(SisError) as caught:
        lay.scripts(bad, built.tree, "postinst", log_to=tmp_path / "log")
    assert caught.value.message.endswith("small.yaml:14: script bad failed")
    assert caught.value.details == ("something is wrong",)
    assert list((built.tree / "run").iterdir()) == []


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_ended_in_the_middle_leaves_nothing(folder: Path, built: Built, signum: signal.Signals) -> None:
    state, trees = folder / "state", folder / "state/trees"
    before = built.tree.stat()
    words = [sys.executable, "-m", "sis", "--state", str(state), "image", "build", "--anew", str(folder / "small.yaml")]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as child:
        _wait_for(lambda: any(path.name == "status" and path.stat().st_size > 5000 for path in _statuses(trees)))
        child.send_signal(signum)
        assert child.stderr is not None
        said = child.stderr.read()
    assert child.returncode == (-signum if signum == signal.SIGKILL else 130)
    _wait_for(lambda: not _running_in(trees))
    assert str(trees) not in Path("/proc/self/mountinfo").read_text()
    assert built.tree.stat() == before
    if signum != signal.SIGKILL:
        assert "interrupted" in said
        assert sorted(path.name for path in trees.iterdir()) == [".small.lock", "small"]


def test_built_again_it_is_the_same_version(folder: Path, built: Built, spec: ImageSpec) -> None:
    store = LocalStore(folder / "state/store")
    again = pipeline.build(spec, folder / "state", anew=True)
    before, after = (store.manifest(one.version.manifest).entries for one in (built, again))
    changed = {entry.path for entry in {*before} ^ {*after}}
    assert {path for path in changed if not path.startswith(_OWN)} == set()
    if _edited_since(built.log):  # a checkout that is worked on while this runs: our own modules may differ
        return
    assert again.unchanged
    assert again.version_id == built.version_id
    assert sorted(path.name for path in (folder / "state/trees").iterdir()) == [".small.lock", "small"]


def test_from_the_kept_tree_of_its_packages_it_is_the_same_version(folder: Path, built: Built, spec: ImageSpec) -> None:
    (kept,) = (path for path in (folder / "state/cache/trees").iterdir() if path.is_dir())
    before = scan(kept).entries
    again = pipeline.build(spec, folder / "state")
    assert f"from the tree kept in {kept}" in again.log.read_text()
    assert again.seconds["packages"] < built.seconds["packages"]
    if not _edited_since(built.log):
        assert again.version_id == built.version_id
    assert scan(kept).entries == before


def test_only_what_goes_into_the_packages_names_a_kept_tree(folder: Path, built: Built, spec: ImageSpec) -> None:
    archive, _ = pipeline.archive_of(spec, folder / "state")
    name = bases.name_of(spec, archive)
    for same in ({"image": "other"}, {"files": ()}, {"remove": ()}, {"timezone": "UTC"}):
        assert bases.name_of(spec.model_copy(update=same), archive) == name
    for other in ({"packages": (*spec.packages, "bc")}, {"leave_out": ()}, {"recommends": True}, {"base": "apt"}):
        assert bases.name_of(spec.model_copy(update=other), archive) != name


def _edited_since(log: Path) -> bool:
    """Whether a module of ours changed after a build began; its log's name has that time."""
    began = datetime.strptime(log.stem.rpartition("-")[2], "%Y%m%dT%H%M%S%z").timestamp()
    modules = (path for package in (sis, configurator) for path in Path(package.__file__).parent.rglob("*.py"))
    return any(path.stat().st_mtime > began for path in modules)


def _statuses(trees: Path) -> list[Path]:
    return list(trees.glob(".small.new-*/var/lib/dpkg/status"))


def _running_in(trees: Path) -> list[str]:
    """Processes whose root or command line is in one of the trees."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            root, words = str((process / "root").readlink()), (process / "cmdline").read_bytes().decode()
        except OSError:
            continue
        if root.startswith(str(trees)) or f"{trees}/.small.new" in words:
            found.append(words)
    return found


def _wait_for(condition: object, timeout_s: float = 600.0) -> None:
    deadline = time.monotonic() + timeout_s
    assert callable(condition)
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
