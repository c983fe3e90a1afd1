"""The benchmark's judgement and its page: ratios, goals met or not, what is missing, what failed."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.bench import figures, goals, plot, table
from tests.bench.figures import Figure, Limits, Run, TreeFacts


def _figure(method: str, work: str, wall_s: float = 1.0, down: int = 1000, head: float = 0.1, **more: object) -> Figure:
    fields = {"up_bytes": 10, "node_cpu_s": 1.0, "rss_bytes": 25_000_000, **more}
    return Figure(method=method, work=work, wall_s=wall_s, down_bytes=down, head_cpu_s=head, **fields)  # type: ignore[arg-type]


def _run(*measured: Figure) -> Run:
    return Run(
        size="small",
        date="2026-11-22 12:00 UTC",
        machine={"processor": "2 × Some <CPU> & more"},
        versions={"rsync": "3.5.0"},
        tree=TreeFacts(entries=30_000, content_bytes=2_000_000_000, changed_bytes=1_000_000_000),
        limits=Limits(disk_write=1e9, disk_write_flushed=5e8, wire=2e9, blake3=4e9, walk_s=0.12),
        figures=measured,
    )


def _verdict(run: Run, title: str, method: str = "ours") -> goals.Verdict:
    return next(it for it in goals.judge(run, method) if it.goal.title == title)


def test_a_ratio_is_to_the_best_yardstick() -> None:
    run = _run(
        _figure("ours", "upgrade", wall_s=5.0),
        _figure("rsync", "upgrade", wall_s=13.0),
        _figure("ostree", "upgrade", wall_s=8.0),
    )
    verdict = _verdict(run, "upgrade, wall")
    assert (verdict.yardstick_method, verdict.ratio, verdict.met) == ("ostree", 0.625, False)


def test_a_failed_yardstick_does_not_count() -> None:
    run = _run(
        _figure("ours", "upgrade", wall_s=5.0),
        _figure("rsync", "upgrade", wall_s=13.0),
        _figure("ostree", "upgrade", wall_s=0.1, fault="ostree ended with 1"),
    )
    verdict = _verdict(run, "upgrade, wall")
    assert (verdict.yardstick_method, verdict.met) == ("rsync", True)


def test_limits_of_their_own_and_what_was_not_measured() -> None:
    run = _run(_figure("ours", "nochange", down=5000))
    assert _verdict(run, "nochange, wire").met is True
    assert _verdict(run, "edits, wire").met is None
    assert _verdict(run, "nochange, wall").met is None
    assert _verdict(_run(_figure("ours", "nochange", down=5001)), "nochange, wire").met is False


def test_processor_time_is_for_each_node_and_memory_the_worst() -> None:
    run = _run(
        _figure("ours", "together", head=0.08, nodes=8, rss_bytes=251_000_000),
        _figure("rsync", "together", head=13.2, nodes=8),
        _figure("ours", "cold", rss_bytes=90_000_000),
    )
    verdict = _verdict(run, "together, head CPU")
    assert verdict.value == pytest.approx(0.01)
    assert verdict.yardstick == pytest.approx(1.65)
    assert _verdict(run, "every work on a node, memory").met is False


def test_the_limit_of_a_work_is_its_slowest_part() -> None:
    run = _run()
    assert goals.limit_s(run, _figure("ours", "cold", down=600_000_000)) == (2.0, "disk")
    assert goals.limit_s(run, _figure("ours", "upgrade", down=4_000_000_000)) == (2.0, "wire")
    assert goals.limit_s(run, _figure("ours", "verify", down=0)) == (0.5, "hash")
    assert goals.limit_s(run, _figure("ours", "nochange", down=0)) == (0.12, "walk")
    assert goals.limit_s(run, _figure("ours", "commit")) is None


def test_the_page_says_what_was_met_and_what_failed() -> None:
    run = _run(
        _figure("ours", "nochange", wall_s=0.2, down=664, head=0.0002, differences=0),
        _figure("ours-head", "nochange", wall_s=0.9, down=900, differences=3),
        _figure("rsync", "nochange", wall_s=1.0, down=980_000, head=0.4, differences=0),
        _figure("casync", "upgrade", fault="casync ended with 1: Stale file handle"),
    )
    text = table.page(run)
    words = " ".join(text.split())
    assert "| nochange, wire | 5.00 kB | – | 664 B | met | 900 B | met |" in words
    assert "0.20 s = 0.20 × | met" in words
    assert "0.90 s = 0.90 × | NOT MET" in words
    assert "3 differ" in text
    assert "- casync, upgrade: casync ended with 1: Stale file handle" in text
    widths = {len(line) for line in text.splitlines() if line.startswith(("| nochange", "| work"))}
    assert len(widths) <= 2
    assert run.figures[1].is_wrong
    assert run.figures[3].is_wrong
    assert not run.figures[0].is_wrong


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0, "0 B"), (664, "664 B"), (5000, "5.00 kB"), (187_900_000, "188 MB"), (1_930_000_000, "1.93 GB")],
)
def test_sizes_for_people(number: int, shown: str) -> None:
    assert table.size(number) == shown


def test_small_figures_are_not_rounded_to_nothing() -> None:
    assert table.seconds(0.000193) == "0.0002"
    assert table.seconds(13.04) == "13.0"
    assert table.ratio(0.0075) == "0.0075"
    assert table.ratio(0.0312) == "0.031"
    assert table.ratio(1.19) == "1.19"
    assert table.digits(99.96) == "100"


def test_the_picture_is_well_formed_and_leaves_out_what_failed() -> None:
    run = _run(
        _figure("ours", "cold"),
        _figure("rsync", "cold", wall_s=0.0, down=0, head=0.0),
        _figure("casync", "cold", fault="<failed>"),
    )
    picture = ElementTree.fromstring(plot.svg(run))
    texts = [element.text for element in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert "ours" in texts
    assert "rsync" in texts
    assert "casync" not in texts
    assert any("Some <CPU> & more" in (text or "") for text in texts)


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    run = figures.with_figure(_run(), _figure("ours", "cold", differences=0))
    figures.write(run, tmp_path / "run.json")
    assert figures.read(tmp_path / "run.json") == run
