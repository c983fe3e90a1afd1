"""`sis disk`: what a layout would do to this machine's disks, without doing it."""

from __future__ import annotations

import click

from sis.cli.context import Context


@click.group("disk")
def disk() -> None:
    """Show and check disk layouts."""


@disk.command("plan")
@click.argument("layout")
@click.option("--disk", "paths", multiple=True, metavar="PATH", help="A disk or image file for each disk of LAYOUT.")
@click.option("--fresh", is_flag=True, help="Make every file system anew, except those to keep.")
@click.option("--allow-foreign", is_flag=True, help="Plan even where content that sis did not make would be lost.")
@click.option("--commands", is_flag=True, help="Show also the programs that would run.")
@click.pass_obj
def plan(
    context: Context, layout: str, paths: tuple[str, ...], fresh: bool, allow_foreign: bool, commands: bool
) -> None:
    """Show what an install with LAYOUT (a name or a file) would do to the disks here. Nothing is touched.

    Exit code 5 when it would be refused: the disk is in use, too small, or holds content that sis did not make.
    """
    import msgspec

    from sis.cli import output
    from sis.disk.choose import on_paths
    from sis.disk.plan import make_plan
    from sis.disk.probe import found_disks
    from sis.disk.translate import layout_from_spec
    from sis.spec.layout import load

    wanted = layout_from_spec(load(layout))
    found = found_disks(paths)
    if paths:
        wanted = on_paths(wanted, [each.path for each in found])
    planned = make_plan(wanted, found, allow_foreign=allow_foreign, fresh=fresh)
    if context.output in ("json", "yaml"):
        form = output.as_json if context.output == "json" else output.as_yaml
        click.echo(form(msgspec.to_builtins(planned)))
        return
    for line in planned.describe():
        click.echo(line)
    if commands:
        click.echo()
        for line in planned.commands():
            click.echo(line)


@disk.command("record")
@click.argument("paths", nargs=-1)
def record(paths: tuple[str, ...]) -> None:
    """Print what lsblk, sfdisk, wipefs and blkid say about the disks here, as JSON: for a bug report or a test."""
    import json

    import msgspec

    from sis.disk import probe

    click.echo(json.dumps(msgspec.to_builtins(probe.record(paths)), indent=2, ensure_ascii=False))
