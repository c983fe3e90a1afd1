"""A run as text: tables that read well in a terminal and are Markdown too. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from tests.bench import goals
from tests.bench.figures import WORKS, Figure, Run
from tests.bench.goals import Verdict

_COSTS = ("wall s", "on disk s", "down", "up", "head CPU s", "node CPU s", "rest CPU s", "peak")
_FIGURES = ("work", "method", *_COSTS, "limit s", "wall × rsync", "judged", "at")
_GOALS = ("goal", "at most", "yardstick", "ours by nginx", "", "ours by our head", "")


def page(run: Run) -> str:
    """Everything about a run, as a Markdown page."""
    machine = "; ".join(f"{name}: {value}" for name, value in run.machine.items())
    versions = ", ".join(f"{name} {value}" for name, value in run.versions.items())
    tree = run.tree
    facts = (
        f"v2 has {tree.entries:,} entries and {size(tree.content_bytes)} of content; {size(tree.changed_bytes)} of it"
        f" is in files that are new or other than in v1."
    )
    limits = run.limits
    machine_limits = (
        f"At best this machine writes {size(limits.disk_write)}/s ({size(limits.disk_write_flushed)}/s until it is on"
        f" the disk), reads {size(limits.disk_read)}/s from it, sends {size(limits.wire)}/s over this wire, hashes"
        f" {size(limits.blake3)}/s on one core, and walks v2 in {seconds(limits.walk_s)} s."
    )
    return "\n\n".join(
        (
            f"# `BENCH={run.size}`, {run.date}",
            f"{machine}.\n{versions}.",
            facts,
            machine_limits,
            "## Goals",
            table(_GOALS, _goal_rows(run)),
            "## Figures",
            table(_FIGURES, _figure_rows(run)),
            *_faults(run),
        )
    )


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, padded: the first two columns to the left, the others to the right."""
    widths = [max(2, *(len(row[at]) for row in (titles, *rows))) for at in range(len(titles))]
    lines = []
    for row in (titles, *rows):
        pairs = zip(row, widths, strict=True)
        cells = [cell.ljust(width) if at < 2 else cell.rjust(width) for at, (cell, width) in enumerate(pairs)]
        lines.append(f"| {' | '.join(cells)} |")
    rule = ["-" * width if at < 2 else "-" * (width - 1) + ":" for at, width in enumerate(widths)]
    return "\n".join((lines[0], f"| {' | '.join(rule)} |", *lines[1:]))


def size(count: float) -> str:
    """Bytes for people: three digits and a unit."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{digits(count / factor)} {unit}"
    return f"{count:.0f} B"


def seconds(value: float) -> str:
    """Seconds with three digits that count, and no more than four behind the point."""
    return digits(value) if value >= 0.1 else f"{value:.4f}"


def digits(value: float) -> str:
    """A number with three digits that count."""
    if value >= 99.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def ratio(value: float) -> str:
    """A ratio, small ones not rounded to nothing."""
    return digits(value) if value >= 0.095 else f"{value:.4f}" if value < 0.01 else f"{value:.3f}"


def _goal_rows(run: Run) -> list[list[str]]:
    rows = []
    for ours, head in zip(goals.judge(run, "ours"), goals.judge(run, "ours-head"), strict=True):
        goal = ours.goal
        known = ours if ours.yardstick is not None else head
        against = f"× {' or '.join(goal.against)}" if goal.against else ""
        limit = f"{ratio(goal.limit)} {against}" if goal.against else _value(goal.limit, goal.measure)
        yardstick = f"{known.yardstick_method} {_value(known.yardstick, goal.measure)}" if known.yardstick else "–"
        rows.append([goal.title, limit, yardstick, *_judged(ours), *_judged(head)])
    return rows


def _judged(verdict: Verdict) -> tuple[str, str]:
    """What was measured, and whether that is enough."""
    if verdict.value is None:
        return "–", "–"
    shown = _value(verdict.value, verdict.goal.measure)
    if verdict.ratio is not None:
        shown += f" = {ratio(verdict.ratio)} ×"
    return shown, {True: "met", False: "NOT MET", None: "–"}[verdict.met]


def _value(value: float | None, measure: str) -> str:
    if value is None:
        return "–"
    return size(value) if measure in ("wire", "memory") else f"{seconds(value)} s"


def _figure_rows(run: Run) -> list[list[str]]:
    rows = []
    for work in WORKS:
        base = run.find("rsync", work)
        rows += [_figure_row(run, figure, base) for figure in run.figures if figure.work == work]
    return rows


def _figure_row(run: Run, figure: Figure, base: Figure | None) -> list[str]:
    limit = goals.limit_s(run, figure)
    return [
        figure.work,
        figure.method,
        seconds(figure.wall_s),
        seconds(figure.on_disk_s) if figure.on_disk_s else "–",
        size(figure.down_bytes),
        size(figure.up_bytes),
        seconds(figure.head_cpu_s),
        seconds(figure.node_cpu_s),
        seconds(figure.rest_cpu_s),
        size(figure.rss_bytes),
        f"{seconds(limit[0])} {limit[1]}" if limit else "–",
        ratio(figure.wall_s / base.wall_s) if base and base.wall_s else "–",
        _equal(figure),
        figure.at[-5:] or "–",
    ]


def _equal(figure: Figure) -> str:
    if figure.fault:
        return "FAILED"
    if figure.differences is None:
        return "–"
    return "equal" if figure.differences == 0 else f"{figure.differences} differ"


def _faults(run: Run) -> list[str]:
    failed = [figure for figure in run.figures if figure.fault]
    lines = [f"- {figure.method}, {figure.work}: {figure.fault}" for figure in failed]
    return ["## What failed", "\n".join(lines)] if lines else []
