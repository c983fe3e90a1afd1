"""Files of older suites: each case gives its cluster file and its report, and the cluster file is one to our reader."""

from __future__ import annotations

from pathlib import Path

import pytest

from configurator.__main__ import main
from configurator.errors import ConfiguratorError
from configurator.importing import cluster_xml, systemconfig
from sis.spec import cluster
from tests.golden.import_cases import cases, made

CASES = cases()
GOOD = [case for case in CASES if (case / "expected.yaml").exists()]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Path) -> None:
    expected = {file.name: file.read_text() for file in case.iterdir() if not file.name.startswith("input.")}
    assert made(case) == expected


@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.name)
def test_our_reader_takes_it(case: Path, tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text((case / "expected.yaml").read_text())
    cluster.load(file).expand()


@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.name)
def test_every_line_is_accounted_for(case: Path) -> None:
    """What says something is either understood or not; nothing is lost in silence."""
    report = (case / "report.txt").read_text().splitlines()
    assert report
    assert all(line.startswith(("understood: ", "not understood: ")) for line in report)
    assert all(line.isprintable() for line in report)


def test_a_systemconfig_is_read_whole() -> None:
    text = (next(case for case in GOOD if case.name == "systemconfig") / "input.conf").read_text()
    report = systemconfig.read(text).report
    said = [line for line in text.splitlines() if "=" in line]
    assert len([line for line in report if "line " in line]) == len(said)


def test_hostid() -> None:
    assert systemconfig.hostid("node007") == 7
    assert systemconfig.hostid("r2n010") == 2010
    assert systemconfig.expand_hostid("a=<HOSTID> b=<HOSTID+2> c=<hostid-100>", "n120") == "a=120 b=122 c=20"
    with pytest.raises(ConfiguratorError, match="has no digit"):
        systemconfig.hostid("login")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("node001-node003,node300 login", ["node001", "node002", "node003", "node300", "login"]),
        ("n8-n11", ["n8", "n9", "n10", "n11"]),
        ("a-b", ["a-b"]),
        ("", []),
    ],
)
def test_host_ranges(text: str, names: list[str]) -> None:
    assert cluster_xml.expand(text) == names


@pytest.mark.parametrize("text", ["n5-n3", "n1-n999999999", "a1-b3"])
def test_host_ranges_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="not a range of nodes"):
        cluster_xml.expand(text)


def test_command(capsys: pytest.CaptureFixture[str]) -> None:
    (case,) = [case for case in GOOD if case.name == "systemconfig"]
    assert main(["import", str(case / "input.conf")]) == 0
    out, err = capsys.readouterr()
    assert (out, err) == ((case / "expected.yaml").read_text(), (case / "report.txt").read_text())
    assert main(["import", "/nowhere"]) == 1
    assert capsys.readouterr().err == "error: cannot read /nowhere: No such file or directory\n"
