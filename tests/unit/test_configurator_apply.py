"""Writing alone: the plan says everything, apply does it, a second run finds nothing, no link is followed."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import msgspec
import pytest

from configurator.__main__ import main
from configurator.apply import Difference, apply, diff, plan
from configurator.errors import ApplyRefused, ConfiguratorError
from configurator.rendered import RenderedFile

ME = (os.getuid(), os.getgid())


def mine(path: str, **fields: object) -> RenderedFile:
    return RenderedFile(path=path, uid=ME[0], gid=ME[1], origin="test", **fields)  # type: ignore[arg-type]


FILES = (
    mine("/etc/hostname", content=b"n001\n"),
    mine("/etc/localtime", kind="symlink", mode=0o777, target="/usr/share/zoneinfo/UTC"),
    mine("/etc/machine-id", mode=0o444, content=b"0" * 32 + b"\n"),
    mine("/root", kind="dir", mode=0o700),
    mine("/root/.ssh/authorized_keys", mode=0o600, content=b"key\n"),
)


def actions(differences: tuple[Difference, ...]) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(each.action, each.want.path, each.what) for each in differences]


def test_create_then_nothing(tmp_path: Path) -> None:
    first = plan(tmp_path, FILES)
    assert actions(first) == [("create", file.path, ()) for file in FILES]
    assert list(tmp_path.iterdir()) == []
    apply(tmp_path, first)
    assert plan(tmp_path, FILES) == ()
    assert (tmp_path / "etc/hostname").read_bytes() == b"n001\n"
    assert os.readlink(tmp_path / "etc/localtime") == "/usr/share/zoneinfo/UTC"
    assert stat.S_IMODE((tmp_path / "etc/machine-id").stat().st_mode) == 0o444
    assert stat.S_IMODE((tmp_path / "root").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "root/.ssh").stat().st_mode) == 0o755
    assert sorted(path.name for path in tmp_path.rglob("*") if path.name.startswith(".sis-")) == []


def test_every_kind_of_difference(tmp_path: Path) -> None:
    apply(tmp_path, plan(tmp_path, FILES))
    (tmp_path / "etc/hostname").write_bytes(b"other\n")
    (tmp_path / "etc/localtime").unlink()
    (tmp_path / "etc/localtime").write_bytes(b"TZif")
    (tmp_path / "etc/machine-id").chmod(0o644)
    (tmp_path / "root").chmod(0o755)
    (tmp_path / "root/.ssh/authorized_keys").unlink()
    (tmp_path / "root/.ssh/authorized_keys").mkdir()
    found = plan(tmp_path, FILES)
    assert actions(found) == [
        ("update", "/etc/hostname", ("content",)),
        ("replace", "/etc/localtime", ("type",)),
        ("metadata", "/etc/machine-id", ("mode",)),
        ("metadata", "/root", ("mode",)),
        ("replace", "/root/.ssh/authorized_keys", ("type",)),
    ]
    apply(tmp_path, found)
    assert plan(tmp_path, FILES) == ()
    apply(tmp_path, found)
    assert plan(tmp_path, FILES) == ()


def test_diff_text(tmp_path: Path) -> None:
    apply(tmp_path, plan(tmp_path, FILES))
    (tmp_path / "etc/hostname").write_bytes(b"other\x1b[31m")
    (tmp_path / "etc/machine-id").chmod(0o600)
    (tmp_path / "root/.ssh/authorized_keys").write_bytes(b"secret\n")
    (tmp_path / "etc/localtime").unlink()
    (tmp_path / "etc/localtime").symlink_to("x")
    assert (
        diff(plan(tmp_path, FILES))
        == """\
# update /etc/hostname
--- /etc/hostname
+++ /etc/hostname
@@ -1 +1 @@
-other\\x1b[31m
\\ No newline at end of file
+n001
# update /etc/localtime (target 'x' → '/usr/share/zoneinfo/UTC')
# metadata /etc/machine-id (mode 0600 → 0444)
# update /root/.ssh/authorized_keys
# (content is private and not shown)
"""
    )


def test_what_was_ours_and_is_no_more_goes(tmp_path: Path) -> None:
    old, other = mine("/etc/n/10-sis-old.network"), mine("/etc/n/90-other.network")
    new = mine("/etc/n/10-sis-new.network")
    owned = ("/etc/n/10-sis-*.network", "/not/there/*")
    apply(tmp_path, plan(tmp_path, [old, other]))
    found = plan(tmp_path, [new], owned)
    assert actions(found) == [("create", new.path, ()), ("remove", old.path, ())]
    apply(tmp_path, found)
    assert sorted(os.listdir(tmp_path / "etc/n")) == ["10-sis-new.network", "90-other.network"]
    assert plan(tmp_path, [new], owned) == ()


@pytest.mark.parametrize("target", ["/etc", "../elsewhere", "."])
def test_no_link_is_followed(target: str, tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    root.mkdir()
    elsewhere.mkdir()
    (root / "etc").symlink_to(target)
    with pytest.raises(ApplyRefused) as caught:
        plan(root, FILES)
    assert str(caught.value) == (
        "/etc/hostname is not written: /etc is a link or no directory\n"
        "hint: links are not followed; remove it, or render for a tree without it"
    )
    assert list(elsewhere.iterdir()) == []


def test_a_link_put_there_after_the_plan(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    root.mkdir()
    elsewhere.mkdir()
    found = plan(root, FILES)
    (root / "etc").symlink_to(elsewhere)
    with pytest.raises(ApplyRefused):
        apply(root, found)
    assert list(elsewhere.iterdir()) == []


def test_a_link_at_the_path_itself_is_replaced(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"untouched\n")
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/hostname").symlink_to(victim)
    apply(root, plan(root, FILES))
    assert victim.read_bytes() == b"untouched\n"
    assert plan(root, FILES) == ()


def test_a_full_directory_in_the_way_stays(tmp_path: Path) -> None:
    (tmp_path / "etc/hostname/precious").mkdir(parents=True)
    with pytest.raises(ApplyRefused) as caught:
        apply(tmp_path, plan(tmp_path, FILES))
    assert str(caught.value) == (
        "/etc/hostname is a directory that is not empty\nhint: look at what is in it and remove it by hand"
    )
    assert (tmp_path / "etc/hostname/precious").is_dir()


def test_a_device_in_the_way_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    os.mkfifo(tmp_path / "etc/hostname")
    assert actions(plan(tmp_path, FILES[:1])) == [("replace", "/etc/hostname", ("type",))]
    apply(tmp_path, plan(tmp_path, FILES[:1]))
    assert (tmp_path / "etc/hostname").read_bytes() == b"n001\n"


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    apply(tmp_path, plan(tmp_path, FILES))
    (tmp_path / "etc/hostname").write_bytes(b"old\n")
    found = plan(tmp_path, FILES)

    def no_space(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(ConfiguratorError, match=r"^cannot write /etc/hostname: No space left on device$"):
        apply(tmp_path, found)
    assert (tmp_path / "etc/hostname").read_bytes() == b"old\n"
    assert sorted(os.listdir(tmp_path / "etc")) == ["hostname", "localtime", "machine-id"]


@pytest.fixture
def record_file(tmp_path: Path) -> Path:
    file = tmp_path / "r.json"
    file.write_text(json.dumps({"name": "n001", "id": 1, "timezone": "Europe/Berlin"}))
    return file


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.mark.root
def test_command_line(record_file: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inputs = ["--record", str(record_file), "--root", str(root)]
    assert main(["render", *inputs, "-o", "diff"]) == 4
    assert "+n001" in capsys.readouterr().out
    assert main(["apply", "-n", *inputs]) == 4
    assert list(root.iterdir()) == []
    capsys.readouterr()
    assert main(["apply", *inputs]) == 0
    assert capsys.readouterr().out == "create   /etc/hostname\ncreate   /etc/hosts\ncreate   /etc/localtime\n"
    assert main(["apply", *inputs]) == 0
    assert main(["apply", "-n", *inputs]) == 0
    assert main(["render", *inputs, "-o", "diff"]) == 0
    assert capsys.readouterr().out == ""


def test_list(record_file: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["render", "--record", str(record_file), "--root", str(root)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "file    0644 0:0       5 /etc/hostname (hostname)"
    assert lines[2] == "symlink 0777 0:0       0 /etc/localtime -> /usr/share/zoneinfo/Europe/Berlin (timezone)"


def test_footprint_command(root: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["footprint", "--root", str(root)]) == 0
    assert msgspec.json.decode(capsysbinary.readouterr().out)["network"] == "none"


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (
            ["render", "--record", "/no/r.json", "--root", "/"],
            1,
            "error: cannot read /no/r.json: No such file or directory",
        ),
        (["render", "--record", "RECORD", "--root", "/no"], 1, "error: no such directory: /no"),
        (["render", "--record", "RECORD", "--root", "ROOT", "--facts", "RECORD"], 1, None),
        (["facts", "--root-sys", "/no"], 1, "error: no sys directory in /no"),
    ],
)
def test_errors(
    argv: list[str],
    code: int,
    message: str | None,
    record_file: Path,
    root: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = {"RECORD": str(record_file), "ROOT": str(root)}
    if message is None:
        record_file.with_name("f.json").write_text("{")
        argv = [*argv[:-1], str(record_file.with_name("f.json"))]
        message = f"error: {argv[-1]} does not hold facts"
    assert main([names.get(word, word) for word in argv]) == code
    assert capsys.readouterr().err.startswith(message)


@pytest.mark.parametrize("argv", [[], ["wat"], ["render"], ["render", "--record", "x", "--root", "/", "-o", "xml"]])
def test_usage(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2
    assert "usage: python -m configurator" in capsys.readouterr().err


def test_notices_go_to_stderr(tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "r.json"
    file.write_text('{"name": "n001", "id": 1, "blacklist": ["pcspkr"]}')
    assert main(["render", "--record", str(file), "--root", str(root)]) == 0
    seen = capsys.readouterr()
    assert seen.err == "notice: the record has kernel modules, but the tree holds no place to list them\n"
    assert "pcspkr" not in seen.out
