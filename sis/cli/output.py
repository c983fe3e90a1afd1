"""Rows to the screen: a table for people, JSON, YAML or names for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from sis.cli.context import Context, fancy
from sis.system import amounts

Row = Mapping[str, Any]

human_bytes = amounts.human_bytes


@dataclass(frozen=True)
class Column:
    """One column of a table: the row's key, its heading, and how a value is shown.

    `style` gives a rich style for a value (None: plain); `text` turns a value into text (default `str`).
    """

    key: str
    title: str | None = None
    right: bool = False
    style: Callable[[Any], str | None] | None = None
    text: Callable[[Any], str] | None = None

    @property
    def heading(self) -> str:
        return (self.title if self.title is not None else self.key.replace("_", " ")).upper()

    def show(self, row: Row) -> str:
        value = row.get(self.key)
        if value is None:
            return ""
        return printable(self.text(value) if self.text else plain(value))


def emit(rows: Sequence[Row], columns: Sequence[str | Column], output: str = "table") -> None:
    """Print rows on stdout in one of the four forms.

    JSON and YAML hold every key of the rows, also those no column shows; `name` prints the first column only.
    """
    shown = [Column(column) if isinstance(column, str) else column for column in columns]
    if output == "json":
        click.echo(as_json(list(rows)))
    elif output == "yaml":
        click.echo(as_yaml([dict(row) for row in rows]), nl=False)
    elif output == "name":
        for row in rows:
            click.echo(shown[0].show(row))
    elif fancy(sys.stdout, _color()):
        _rich_table(rows, shown)
    else:
        _plain_table(rows, shown)


def emit_one(row: Row, output: str = "table", *, name: str = "name") -> None:
    """Print one thing: `key: value` lines, or JSON, YAML, its name."""
    if output == "json":
        click.echo(as_json(dict(row)))
    elif output == "yaml":
        click.echo(as_yaml(dict(row)), nl=False)
    elif output == "name":
        click.echo(printable(plain(row[name])))
    else:
        width = max((len(key) for key in row), default=0) + 2
        for key, value in row.items():
            lines = _lines(value)
            click.echo(f"{key.replace('_', ' ') + ':':<{width}}{lines[0]}".rstrip())
            for line in lines[1:]:
                click.echo(" " * width + line)


def as_json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


def as_yaml(value: object) -> str:
    import yaml

    plain_value = json.loads(json.dumps(value, default=str))
    return yaml.dump(plain_value, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True)


def plain(value: object) -> str:
    """A value as a table cell shows it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ",".join(plain(item) for item in value)
    return str(value)


def printable(text: str) -> str:
    """Text without control characters: what a node reported cannot drive the terminal."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)


def _lines(value: object) -> list[str]:
    if isinstance(value, Mapping):
        return [f"{key}: {printable(plain(item))}" for key, item in value.items()] or [""]
    if isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        return [printable("  ".join(f"{key} {plain(part)}" for key, part in item.items())) for item in value] or [""]
    return [printable(line) for line in plain(value).splitlines()] or [""]


def _color() -> str:
    ctx = click.get_current_context(silent=True)
    known = ctx.find_object(Context) if ctx else None
    return known.color if known else "auto"


def _plain_table(rows: Sequence[Row], columns: Sequence[Column]) -> None:
    cells = [[column.heading for column in columns], *([column.show(row) for column in columns] for row in rows)]
    widths = [max(len(line[at]) for line in cells) for at in range(len(columns))]
    text = []
    for line in cells:
        parts = (
            cell.rjust(width) if column.right else cell.ljust(width)
            for cell, width, column in zip(line, widths, columns, strict=True)
        )
        text.append("  ".join(parts).rstrip())
    click.echo("\n".join(text))


def _rich_table(rows: Sequence[Row], columns: Sequence[Column]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.heading, justify="right" if column.right else "left", overflow="fold")
    for row in rows:
        table.add_row(
            *(
                Text(column.show(row), style=(column.style(row.get(column.key)) or "") if column.style else "")
                for column in columns
            )
        )
    Console(force_terminal=True).print(table)
