"""A run as a picture: for each work, bars of the methods; SVG, written by hand. Pure."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

from tests.bench.figures import WORKS, Figure, Run
from tests.bench.table import seconds, size

_PANELS: tuple[tuple[str, Callable[[Figure], float], Callable[[float], str]], ...] = (
    ("wall, s", lambda it: it.wall_s, seconds),
    ("to the node", lambda it: it.down_bytes, size),
    ("CPU of the head, s for each node", lambda it: it.head_cpu_s / it.nodes, seconds),
)
_LABEL, _PANEL, _GAP, _BAR, _HEAD = 190, 250, 20, 15, 64
_OURS, _OTHERS = "#1f6f8b", "#b9bec4"
_STYLE = "text{font:11px sans-serif;fill:#222}.h{font-weight:bold}.r{text-anchor:end}"


def svg(run: Run) -> str:
    """The picture. Bars of one work and panel are to scale with each other, and only with those."""
    parts: list[str] = []
    y = _HEAD
    for work in WORKS:
        figures = [figure for figure in run.figures if figure.work == work and not figure.fault]
        if figures:
            parts.append(_text(8, y, work, "h"))
            for at, figure in enumerate(figures):
                parts += _bars(figure, figures, y + at * _BAR)
            y += len(figures) * _BAR + 12
    width = _LABEL + len(_PANELS) * (_PANEL + _GAP)
    titles = [_text(_LABEL + at * (_PANEL + _GAP), 46, title, "h") for at, (title, _, _) in enumerate(_PANELS)]
    about = f"{run.size}, {run.date}, {run.machine.get('processor', '')}; v2 is {size(run.tree.content_bytes)}"
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{y}" viewBox="0 0 {width} {y}">',
            f'<style>{_STYLE}</style><rect width="100%" height="100%" fill="#fff"/>',
            _text(8, 20, about, "h"),
            *titles,
            *parts,
            "</svg>\n",
        )
    )


def _bars(figure: Figure, group: list[Figure], y: int) -> list[str]:
    parts = [_text(_LABEL - 8, y, figure.method, "r")]
    colour = _OURS if figure.method.startswith("ours") else _OTHERS
    for at, (_, read, shown) in enumerate(_PANELS):
        x = _LABEL + at * (_PANEL + _GAP)
        longest = max(map(read, group))
        if longest:
            length = max(1.0, read(figure) / longest * (_PANEL - 60))
            parts.append(f'<rect x="{x}" y="{y - 10}" width="{length:.1f}" height="{_BAR - 3}" fill="{colour}"/>')
            parts.append(_text(x + length + 4, y, shown(read(figure))))
    return parts


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    marked = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y}"{marked}>{escape(text)}</text>'
