"""`sis image packages`: search packages by name in the archives an image spec builds from."""

from __future__ import annotations

from dataclasses import asdict

import click

from sis.cli.context import Context
from sis.cli.output import Column, emit


@click.command("packages", epilog="Example: sis image packages compute openmpi")
@click.argument("name")
@click.argument("word")
@click.pass_obj
def packages(context: Context, name: str, word: str) -> None:
    """Search packages whose name holds WORD, in the archives the image spec NAME builds from.

    Package lists older than a day are fetched anew.
    """
    from sis.build import finding
    from sis.spec import imagespec, search

    spec = imagespec.load(name, search=search.folders((context.state / "imagespecs",)))
    rows = [asdict(each) for each in finding.find(spec, context.state, word)]
    columns: list[str | Column] = [
        Column("name"),
        Column("taken", title="in spec", text=lambda taken: "yes" if taken else ""),
        Column("about"),
    ]
    emit(rows, columns, context.output)
