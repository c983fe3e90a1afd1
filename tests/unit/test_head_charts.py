"""Pictures: every value drawn at its size, named for who cannot see them, names escaped; axes end at round numbers."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from sis.cli import main
from sis.head import charts
from sis.head.charts import Series
from sis.inventory import db
from sis.inventory.model import NewNode
from sis.inventory.trends import period_names
from sis.sync.model import Change, Totals
from sis.wire import Report

HOSTILE = '"><script>alert(1)</script>'


def plain(value: float) -> str:
    return f"{value:g}"


def drawn(chart: charts.Chart, tag: str) -> list[ElementTree.Element]:
    return [each for each in ElementTree.fromstring(chart.svg).iter() if each.tag == tag]


def test_bars_stand_on_each_other_at_their_sizes() -> None:
    series = [Series("fetched", (1.0, 0.0, 4.0), "busy"), Series("saved", (3.0, 2.0, 0.0), "good")]
    chart = charts.bars("Bytes", "of two nights", ["one", "two", "three"], series, plain)
    bars = drawn(chart, "rect")
    assert len(bars) == 4
    height = {(bar[0].text or ""): float(bar.attrib["height"]) for bar in bars}
    assert height["one: saved 3"] == pytest.approx(3 * height["one: fetched 1"], abs=0.2)
    assert height["three: fetched 4"] == pytest.approx(4 * height["one: fetched 1"], abs=0.2)
    assert float(bars[1].attrib["y"]) + float(bars[1].attrib["height"]) == pytest.approx(
        float(bars[0].attrib["y"]), abs=0.2
    )
    assert chart.headings == ("", "fetched", "saved")
    assert chart.rows == (("one", "1", "3"), ("two", "0", "2"), ("three", "4", "0"))


def test_a_picture_has_its_name_and_its_story_in_words() -> None:
    chart = charts.line("Rate", "at best 5/s", ["a", "b"], Series("rate", (1.0, 5.0), "busy"), plain)
    picture = ElementTree.fromstring(chart.svg)
    assert picture.attrib["role"] == "img"
    assert picture.attrib["aria-label"] == "Rate: at best 5/s"
    assert [each.text for each in picture[:2]] == ["Rate", "at best 5/s"]
    assert [each[0].text for each in drawn(chart, "circle")] == ["a: 1", "b: 5"]
    assert "style=" not in chart.svg


def test_names_are_text_and_long_ones_are_cut() -> None:
    chart = charts.beside(HOSTILE, HOSTILE, [HOSTILE, "x" * 90], [Series(HOSTILE, (1.0, 2.0), "busy")], plain)
    assert "<script" not in chart.svg
    assert [each.text for each in drawn(chart, "text")][2] == "x" * 23 + "…"
    assert drawn(chart, "rect")[0][0].text == f"{HOSTILE}: {HOSTILE} 1"


def test_nothing_makes_an_empty_picture() -> None:
    for chart in (
        charts.bars("a", "b", [], [Series("s", (), "busy")], plain),
        charts.line("a", "b", [], Series("s", (), "busy"), plain),
        charts.beside("a", "b", [], [Series("s", (), "busy")], plain),
        charts.bars("a", "b", ["x"], [Series("s", (0.0,), "busy")], plain),
    ):
        assert not drawn(chart, "rect")
    with pytest.raises(ValueError, match="s has 2 values for 1 labels"):
        charts.bars("a", "b", ["x"], [Series("s", (1.0, 2.0), "busy")], plain)


@given(st.floats(min_value=1e-6, max_value=1e18))
def test_an_axis_ends_at_a_round_number_not_far_above(value: float) -> None:
    top = charts.nice_top(value)
    assert value <= top * (1 + 1e-9)
    assert top <= value * 2.5 * (1 + 1e-9)


# --- what they are made of


def report(at: int, *, fetched: int, drifted: bool) -> Report:
    changes = (Change(action="update", path="/etc/motd"),) if drifted else ()
    return Report(
        kind="sync", outcome="ok", in_sync=not drifted, image="compute", generation=1, version="v",
        started=f"2026-01-01T00:00:{at:02}.000Z", seconds=2.0, changes=changes,
        totals=Totals(bytes_fetched=fetched, bytes_local=10),
    )  # fmt: skip


def test_reports_are_summed_by_day_and_hour_with_empty_ones_between(tmp_path: Path) -> None:
    with db.open(tmp_path / "state.db") as inventory:
        inventory.nodes.add([NewNode("n1"), NewNode("n2")])
        inventory.history.record_report(1, report(1, fetched=100, drifted=True))
        inventory.history.record_report(1, report(2, fetched=50, drifted=True))
        inventory.history.record_report(2, report(3, fetched=0, drifted=False))
        today = inventory.trends.periods("day", 3)
        assert [each.reports for each in today] == [0, 0, 3]
        last = today[-1]
        assert (last.bytes_fetched, last.bytes_local, last.nodes, last.differing, last.failed) == (150, 30, 2, 1, 0)
        assert last.rate == 25.0
        assert inventory.trends.periods("hour", 2)[-1].reports == 3
        assert inventory.trends.periods("day", 2, until=datetime(2020, 1, 1, tzinfo=UTC))[-1].reports == 0


def test_the_command_shows_the_same_figures(tmp_path: Path) -> None:
    with db.open(tmp_path / "state.db") as inventory:
        inventory.nodes.add([NewNode("n1")])
        inventory.history.record_report(1, report(1, fetched=1500, drifted=True))
    words = ["--state", str(tmp_path), "-o", "json", "figures", "--last", "2"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.stderr
    last = json.loads(done.stdout)[-1]
    assert (last["bytes_fetched"], last["differing"], last["rate"]) == (1500, 1, 750.0)
    assert "1.5 kB" in CliRunner().invoke(main, ["--state", str(tmp_path), "figures"]).stdout


def test_periods_are_named_in_order() -> None:
    until = datetime(2026, 3, 1, 1, 30, tzinfo=UTC)
    assert period_names("day", 3, until) == ["2026-02-27", "2026-02-28", "2026-03-01"]
    assert period_names("hour", 3, until) == ["2026-02-28T23", "2026-03-01T00", "2026-03-01T01"]
