"""explain: which renderer or site file makes a path, of which keys."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from configurator.__main__ import main
from configurator.errors import ConfiguratorError
from configurator.evidence import of_tree
from configurator.explain import explain, folded
from configurator.facts import Facts
from configurator.record import Record, decode
from configurator.site import load
from tests.golden.render_cases import Case, cases
from tests.trees import FIXTURES, make_tree

CASES = {case.name: case for case in cases() if not case.is_error()}


def told(name: str, path: str) -> tuple[str, tuple[str, ...]]:
    case = CASES[name]
    explanation = explain(decode(case.record_file.read_bytes()), case.facts, case.footprint, path)
    return explanation.origin, explanation.keys


def test_keys_of_a_small_file() -> None:
    assert told("networkd-static", "/etc/hostname") == ("hostname", ("record.name",))
    assert told("networkd-static", "/etc/localtime") == ("timezone", ("footprint.zones", "record.timezone"))


def test_keys_of_a_network_file() -> None:
    origin, keys = told("networkd-static", "/etc/systemd/network/10-sis-eth0.network")
    assert origin == "network_networkd"
    assert {"record.interfaces[0].mac", "record.interfaces[0].address", "footprint.network"} <= {*keys}
    assert not any(key.startswith(("record.peers", "record.accounts")) for key in keys)


def test_many_peers_are_one_key() -> None:
    _, keys = told("peer-files", "/etc/genders")
    assert {"record.peers[*].name", "record.peers[*].groups", "record.peer_files[*].format"} <= {*keys}


def test_facts_are_keys() -> None:
    _, keys = told("hardware-debian", "/etc/modules-load.d/sis-hardware.conf")
    assert "facts.devices[*].modalias" in keys
    assert any(key.startswith("footprint.kernels[1]") for key in keys)


@pytest.mark.parametrize("case", CASES.values(), ids=lambda case: case.name)
def test_every_file_is_explained_with_its_own_bytes(case: Case) -> None:
    """Watching what is read changes nothing: the file is the one that render gives."""
    record = decode(case.record_file.read_bytes())
    for file in case.expected_files():
        explanation = explain(record, case.facts, case.footprint, file.path)
        assert (explanation.file, explanation.origin, explanation.beneath) == (file, file.origin, ())
        assert explanation.keys or file.path.startswith("/etc/systemd/system/")


def test_what_nobody_makes() -> None:
    with pytest.raises(ConfiguratorError) as caught:
        told("networkd-static", "/etc/hostnam")
    assert str(caught.value) == (
        "nothing of ours makes /etc/hostnam on n001: it is the image's, or not there\nhint: did you mean /etc/hostname?"
    )


def test_site_files(tmp_path: Path) -> None:
    for name, text in {
        "all/etc/motd.j2": "{{ record.fqdn }} {{ vars.rack }} {{ facts.kernel }}\n",
        "group/gpu/etc/hosts": "10.0.0.1 x\n",
        "group/gpu/etc/hosts.sis.toml": "append = true\n",
        "node/n001/etc/hostname": "other\n",
    }.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    site = load(tmp_path)
    record = Record(name="n001", id=1, domain="lan", groups=("gpu",), vars={"rack": "7", "row": "1"}, motd=("x",))
    footprint = of_tree({})

    motd = explain(record, Facts(), footprint, "/etc/motd", site=site)
    assert (motd.origin, motd.beneath) == ("site:all/etc/motd.j2", ("motd",))
    assert motd.keys == ("facts.kernel", "record.domain", "record.name", "record.vars.rack")
    hosts = explain(record, Facts(), footprint, "/etc/hosts", site=site)
    assert (hosts.origin, hosts.beneath) == ("site:group/gpu/etc/hosts", ("hosts",))
    assert {"record.name", "record.domain", "record.head"} <= {*hosts.keys}
    hostname = explain(record, Facts(), footprint, "/etc/hostname", site=site)
    assert (hostname.origin, hostname.beneath, hostname.keys) == ("site:node/n001/etc/hostname", ("hostname",), ())
    assert hostname.file.content == b"other\n"


@pytest.mark.parametrize(
    ("keys", "short"),
    [
        (["a", "a.b", "a.b.c"], ("a.b.c",)),
        (["a[0].b", "a[1].b"], ("a[0].b", "a[1].b")),
        ([f"a[{n}].b" for n in range(4)] + ["a"], ("a[*].b",)),
        (["record.head", "record.head_name"], ("record.head", "record.head_name")),
    ],
)
def test_folded(keys: list[str], short: tuple[str, ...]) -> None:
    assert folded(keys) == short


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_tree(json.loads((FIXTURES / "render/trees/empty.json").read_text()), tmp_path / "root")
    record = tmp_path / "r.json"
    record.write_text('{"name": "n001", "id": 1}')
    site = tmp_path / "site"
    (site / "all/etc").mkdir(parents=True)
    (site / "all/etc/hostname.j2").write_text("{{ record.name }}-x\n")
    argv = ["explain", "--record", str(record), "--root", str(root), "--site", str(site), "/etc/hostname"]
    assert main(argv) == 0
    assert capsys.readouterr().out == (
        "/etc/hostname is made by site:all/etc/hostname.j2\n  over hostname\n  from record.name\n"
    )
    assert main(["render", "--record", str(record), "--root", str(root), "--site", str(site)]) == 0
    assert "/etc/hostname (site:all/etc/hostname.j2)" in capsys.readouterr().out
