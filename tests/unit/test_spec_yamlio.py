"""YAML is read by the rules of 1.2, every value has its place, and no input breaks the reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sis.errors import NotFound, SpecInvalid
from sis.spec import yamlio
from sis.spec.places import Place


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("52:54:00:12:34:56", "52:54:00:12:34:56"),
        ("12:34:56", "12:34:56"),
        ("no", "no"),
        ("on", "on"),
        ("Yes", "Yes"),
        ("0644", "0644"),
        ("010", "010"),
        ("0o17", 15),
        ("0x1F", 31),
        ("12", 12),
        ("-7", -7),
        ("1.10", 1.1),
        ("1e3", 1000.0),
        ("-.inf", float("-inf")),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("2026-11-01", "2026-11-01"),
        ("1_000", "1_000"),
        ("'12'", "12"),
        ('"true"', "true"),
        ("!!str 12", "12"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: Any) -> None:
    read = yamlio.parse(f"key: {text}\n".encode(), "x.yaml").value["key"]
    assert read == value
    assert isinstance(read, type(value))


def test_numbers_remember_how_they_were_written() -> None:
    value = yamlio.parse(b"[1.10, 0o17, 12]", "x.yaml").value
    assert [number.text for number in value] == ["1.10", "0o17", "12"]


def test_keys_are_text() -> None:
    assert yamlio.parse(b"{on: 1, 12: 2, 'a': 3}", "x.yaml").value == {"on": 1, "12": 2, "a": 3}


def test_every_value_has_its_place() -> None:
    document = yamlio.parse(b"a:\n  - x\n  - {b: 1,\n     c: 2}\n", "x.yaml")
    assert document.place(("a", 0)) == Place("x.yaml", 2, 5)
    assert document.place(("a", 1, "c")) == Place("x.yaml", 4, 9)
    assert document.key_place(("a", 1, "c")) == Place("x.yaml", 4, 6)
    assert document.place(("a", 1, "nosuch", 7)) == Place("x.yaml", 3, 5)
    assert document.place(("nosuch",)) == Place("x.yaml", 1, 1)


def test_aliases_are_written_out() -> None:
    document = yamlio.parse(b"a: &x {b: &y [1, 2]}\nc: *x\nd: *y\n", "x.yaml")
    assert document.value == {"a": {"b": [1, 2]}, "c": {"b": [1, 2]}, "d": [1, 2]}
    assert document.place(("c",)).line == 2


def test_empty_file_is_nothing() -> None:
    assert yamlio.parse(b"# only a comment\n", "x.yaml").value is None


def test_depth_and_size_are_bounded() -> None:
    with pytest.raises(SpecInvalid, match="nested deeper than 32 levels"):
        yamlio.parse(b"[" * 60 + b"]" * 60, "x.yaml")
    with pytest.raises(SpecInvalid):
        yamlio.parse(b"[" * 1_000_000, "x.yaml")
    with pytest.raises(SpecInvalid, match="larger than 4 MiB"):
        yamlio.parse(b" " * (yamlio.MAX_BYTES + 1), "x.yaml")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"no such file: .*x\.yaml"):
        yamlio.load(tmp_path / "x.yaml")


@given(st.binary(max_size=200) | st.text(alphabet="ab:-[]{}&*!|>'\"#%@\n\t ,?0.", max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    told: tuple[str, ...] = ()
    try:
        yamlio.parse(raw, "x.yaml")
    except SpecInvalid as error:
        told = error.details
    assert all(line.startswith("x.yaml:") for line in told)


@given(st.binary(min_size=6, max_size=6))
def test_a_mac_stays_text(raw: bytes) -> None:
    mac = raw.hex(":")
    assert yamlio.parse(f"mac: {mac}\n".encode(), "x.yaml").value["mac"] == mac
