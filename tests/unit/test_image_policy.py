from __future__ import annotations

from pathlib import Path

import pytest

from sis.errors import NotFound, SpecInvalid
from sis.image.model import Entry, Kind, Manifest
from sis.image.policy import OS_DEFAULTS, Policy, looks_like_os, read_rules, tree_looks_like_os


@pytest.mark.parametrize(
    ("path", "verb"),
    [
        (b".", "enforce"),
        (b"usr/bin/ls", "enforce"),
        (b"etc", "enforce"),
        (b"etc/passwd", "enforce"),
        (b"var/log", "enforce"),
        (b"var/log/dpkg.log", "node"),
        (b"var/log/apt/term.log", "node"),
        (b"var/logs", "enforce"),
        (b"tmp", "enforce"),
        (b"tmp/x", "node"),
        (b"home/ann/.profile", "node"),
        (b"root", "enforce"),
        (b"root/.ssh/authorized_keys", "node"),
        (b"etc/machine-id", "node"),
        (b"etc/console-setup/cached_setup_keyboard.sh", "node"),
        (b"etc/console-setup/remap.inc", "enforce"),
        (b"var/lib/NetworkManager/timestamps", "node"),
        (b"etc/NetworkManager/NetworkManager.conf", "enforce"),
        (b"etc/machine-id-not", "enforce"),
        (b"etc/ssh/ssh_host_ed25519_key", "node"),
        (b"etc/ssh/sshd_config", "enforce"),
        (b"proc", "enforce"),
        (b"proc/1/status", "ignore"),
        (b"run/lock", "ignore"),
        (b"lost+found", "ignore"),
        (b"lost+found/#123", "ignore"),
        (b"boot/vmlinuz-6.1", "enforce"),
        (b"boot/grub", "ignore"),
        (b"boot/grub/grub.cfg", "ignore"),
        (b"swapfile", "ignore"),
        (b"var/lib/sis-node", "ignore"),
        (b"var/lib/sis-node/index", "ignore"),
        (b".sis-stage/7", "ignore"),
        (b"var/lib/dpkg/status", "enforce"),
        (b"var/lib/systemd/random-seed", "node"),
        (b"var/.updated", "node"),
        (b"var/log/new\nline", "node"),
        (b"var/log/\xff", "node"),
    ],
)
def test_the_defaults_of_an_operating_system(path: bytes, verb: str) -> None:
    assert Policy(OS_DEFAULTS).verb(path) == verb


@pytest.mark.parametrize(
    ("directory", "held"),
    [
        (b".", False),
        (b"etc", False),
        (b"etc/ssh", False),
        (b"etc/apt", True),
        (b"usr", True),
        (b"usr/bin", True),
        (b"var", False),
        (b"var/log", False),
        (b"var/log/apt", False),
        (b"var/lib", False),
        (b"var/lib/dpkg", True),
        (b"boot", False),
    ],
)
def test_directories_whose_time_moves_by_itself(directory: bytes, held: bool) -> None:
    assert Policy(OS_DEFAULTS).holds_mtime(directory) is held


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("/a", [b"a", b"a/b", b"a/b/c"], [b"b/a", b"ab"]),
        ("/a/*", [b"a/b", b"a/b/c"], [b"a", b"ab"]),
        ("/a/**", [b"a/b", b"a/b/c"], [b"a"]),
        ("/a/**/z", [b"a/z", b"a/b/z", b"a/b/c/z", b"a/z/below"], [b"a", b"z", b"a/zz"]),
        ("**/z", [b"z", b"a/z", b"a/b/z"], [b"az"]),
        ("*.pyc", [b"x.pyc", b"a/x.pyc"], [b"x.py", b"x.pyc2"]),
        ("/a?c", [b"abc"], [b"a/c", b"ac"]),
        ("/a.b", [b"a.b"], [b"axb"]),
        ("/[x]", [b"[x]"], [b"x"]),
        ("/**", [b"a", b"a/b"], []),
        ("/ü", ["ü".encode()], [b"u"]),
    ],
)
def test_patterns(pattern: str, matching: list[bytes], other: list[bytes]) -> None:
    policy = Policy([(pattern, "ignore")])
    assert [path for path in matching if policy.verb(path) != "ignore"] == []
    assert [path for path in other if policy.verb(path) == "ignore"] == []


def test_the_last_rule_that_matches_wins() -> None:
    policy = Policy([("/var/**", "node"), ("/var/lib/app", "report"), ("*.keep", "enforce")])
    assert policy.verb(b"var/x") == "node"
    assert policy.verb(b"var/lib/app/x") == "report"
    assert policy.verb(b"var/lib/app/x.keep") == "enforce"


def test_nothing_said_is_enforced() -> None:
    assert Policy().verb(b"etc/machine-id") == "enforce"
    assert Policy().holds_mtime(b".")


def test_rules_for_any_depth_let_no_time_be_held() -> None:
    assert not Policy([("*.log", "node")]).holds_mtime(b"usr/share")
    assert not Policy([("/srv/*/cache", "node")]).holds_mtime(b"srv/a")
    assert Policy([("/srv/*/cache", "node")]).holds_mtime(b"srv/a/b")
    assert not Policy([("/srv/**/cache", "node")]).holds_mtime(b"srv/a/b")
    assert Policy([("/srv/**/cache", "enforce")]).holds_mtime(b"srv/a/b")


def test_all_faults_of_a_policy_are_told() -> None:
    with pytest.raises(SpecInvalid) as caught:
        Policy([("/a", "forbid"), ("/a/../b", "node"), ("", "node"), ("/ok", "node")])
    text = str(caught.value)
    assert "no such verb: 'forbid' (there is: enforce, report, ignore, node)" in text
    assert "not a pattern: '/a/../b'" in text
    assert len(caught.value.details) == 3


def test_a_policy_file(tmp_path: Path) -> None:
    file = tmp_path / "site.policy"
    file.write_text("# mine\nnode   /var/log/**\n\nignore /with space\n")
    assert read_rules(str(file)) == (("/var/log/**", "node"), ("/with space", "ignore"))
    file.write_text("node\nkeep /x\n")
    with pytest.raises(SpecInvalid) as caught:
        read_rules(str(file))
    assert [line.split(": ")[0] for line in caught.value.details] == [f"{file}:1", f"{file}:2"]
    file.write_bytes(bytes(range(1, 256)) * 200)
    with pytest.raises(SpecInvalid, match=r"and [0-9]+ more") as caught:
        read_rules(str(file))
    assert len(caught.value.details) == 21
    with pytest.raises(NotFound, match=r"cannot read the policy file .*: Is a directory") as missing:
        read_rules(str(tmp_path))
    assert missing.value.hint


def test_what_an_operating_system_looks_like(tmp_path: Path) -> None:
    def directory(path: bytes) -> Entry:
        return Entry(path, Kind.DIR, 0o755, 0, 0, 0)

    release = Entry(b"etc/os-release", Kind.SYMLINK, 0o777, 0, 0, 0, target=b"../usr/lib/os-release")
    assert looks_like_os(Manifest((directory(b"."), directory(b"etc"), release, directory(b"usr/bin"))))
    assert not looks_like_os(Manifest((directory(b"."), directory(b"usr/bin"))))
    (tmp_path / "etc").mkdir()
    (tmp_path / "usr/bin").mkdir(parents=True)
    assert not tree_looks_like_os(tmp_path)
    (tmp_path / "etc/os-release").symlink_to("../usr/lib/os-release")
    assert tree_looks_like_os(tmp_path)
