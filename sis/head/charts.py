"""Pictures as inline SVG, made of values alone: bars over time, a line, bars beside names; each with its figures.

Nothing here has a style of its own: classes are the style sheet's, so that colours follow light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 640, 220
LEFT, RIGHT, TOP, BOTTOM = 62, 8, 12, 28
MOST_LABELS = 8
ROW_HEIGHT, NAME_WIDTH = 22, 170
LETTERS = 24

Words = Callable[[float], str]
"""How a value is written, such as "1.2 GB"."""


@dataclass(frozen=True, slots=True)
class Series:
    """One row of values; `look` is the class that colours it."""

    name: str
    values: tuple[float, ...]
    look: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture as markup, and the same as a table: headings, rows of text."""

    svg: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def bars(title: str, about: str, labels: Sequence[str], series: Sequence[Series], words: Words) -> Chart:
    """Stacked bars over `labels`; every series has a value for each of them, none below 0."""
    _check(labels, series)
    totals = [sum(each.values[at] for each in series) for at in range(len(labels))]
    top = nice_top(max(totals, default=0.0))
    step = _inner() / max(1, len(labels))
    thick = max(1.0, min(36.0, step * 0.72))
    drawn = [_grid(top, words)]
    for at, label in enumerate(labels):
        base = 0.0
        for each in series:
            value = each.values[at]
            if value <= 0:
                continue
            upper, lower = _y(base + value, top), _y(base, top)
            drawn.append(
                f'<rect class="{each.look}" x="{_n(LEFT + step * at + (step - thick) / 2)}" y="{_n(upper)}"'
                f' width="{_n(thick)}" height="{_n(max(0.5, lower - upper))}">'
                f"<title>{escape(label)}: {escape(each.name)} {escape(words(value))}</title></rect>"
            )
            base += value
    drawn.append(_labels(labels, step))
    return Chart(_svg(title, about, HEIGHT, drawn), ("", *(each.name for each in series)), _rows(labels, series, words))


def line(title: str, about: str, labels: Sequence[str], series: Series, words: Words) -> Chart:
    """One line over `labels`, with a dot where there is a value."""
    _check(labels, [series])
    top = nice_top(max(series.values, default=0.0))
    step = _inner() / max(1, len(labels))
    points = [(LEFT + step * (at + 0.5), _y(value, top)) for at, value in enumerate(series.values)]
    drawn = [_grid(top, words)]
    if points:
        drawn.append(
            f'<polyline class="{series.look} line" points="{" ".join(f"{_n(x)},{_n(y)}" for x, y in points)}"/>'
        )
    for (x, y), label, value in zip(points, labels, series.values, strict=True):
        told = f"{escape(label)}: {escape(words(value))}"
        drawn.append(f'<circle class="{series.look}" cx="{_n(x)}" cy="{_n(y)}" r="3"><title>{told}</title></circle>')
    drawn.append(_labels(labels, step))
    return Chart(_svg(title, about, HEIGHT, drawn), ("", series.name), _rows(labels, [series], words))


def beside(title: str, about: str, names: Sequence[str], series: Sequence[Series], words: Words) -> Chart:
    """Stacked bars lying beside their names, one below the other."""
    _check(names, series)
    totals = [sum(each.values[at] for each in series) for at in range(len(names))]
    top = max(totals, default=0.0) or 1.0
    room = WIDTH - NAME_WIDTH - 80
    drawn = []
    for at, name in enumerate(names):
        y, x = 6 + ROW_HEIGHT * at, float(NAME_WIDTH)
        drawn.append(f'<text class="name" x="{NAME_WIDTH - 8}" y="{y + 13}">{escape(_short(name))}</text>')
        for each in series:
            wide = room * each.values[at] / top
            if wide > 0:
                told = f"{escape(name)}: {escape(each.name)} {escape(words(each.values[at]))}"
                drawn.append(
                    f'<rect class="{each.look}" x="{_n(x)}" y="{y + 2}" width="{_n(max(0.5, wide))}"'
                    f' height="{ROW_HEIGHT - 7}"><title>{told}</title></rect>'
                )
                x += wide
        drawn.append(f'<text class="amount" x="{_n(x + 6)}" y="{y + 13}">{escape(words(totals[at]))}</text>')
    height = 12 + ROW_HEIGHT * max(1, len(names))
    return Chart(_svg(title, about, height, drawn), ("", *(each.name for each in series)), _rows(names, series, words))


def nice_top(value: float) -> float:
    """The end of an axis: 1, 2 or 5 times a power of ten, not below `value`; 1 for nothing."""
    if value <= 0 or not math.isfinite(value):
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(times * power for times in (1, 2, 5, 10) if value <= times * power * (1 + 1e-9))


def _grid(top: float, words: Words) -> str:
    drawn = []
    for part in (0.0, 0.5, 1.0):
        y = _y(top * part, top)
        drawn.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{_n(y)}" y2="{_n(y)}"/>')
        drawn.append(f'<text class="axis" x="{LEFT - 6}" y="{_n(y + 4)}">{escape(words(top * part))}</text>')
    return "".join(drawn)


def _labels(labels: Sequence[str], step: float) -> str:
    every = max(1, math.ceil(len(labels) / MOST_LABELS))
    return "".join(
        f'<text class="under" x="{_n(LEFT + step * (at + 0.5))}" y="{HEIGHT - 9}">{escape(label)}</text>'
        for at, label in enumerate(labels)
        if at % every == 0
    )


def _svg(title: str, about: str, height: int, drawn: Sequence[str]) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}: {escape(about)}">'
        f"<title>{escape(title)}</title><desc>{escape(about)}</desc>{''.join(drawn)}</svg>"
    )


def _rows(labels: Sequence[str], series: Sequence[Series], words: Words) -> tuple[tuple[str, ...], ...]:
    return tuple((label, *(words(each.values[at]) for each in series)) for at, label in enumerate(labels))


def _check(labels: Sequence[str], series: Sequence[Series]) -> None:
    for each in series:
        if len(each.values) != len(labels):
            raise ValueError(f"{each.name} has {len(each.values)} values for {len(labels)} labels")


def _inner() -> float:
    return float(WIDTH - LEFT - RIGHT)


def _y(value: float, top: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - min(1.0, value / top))


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _short(name: str) -> str:
    return name if len(name) <= LETTERS else name[: LETTERS - 1] + "…"
