"""`sis inventory`: the nodes in the forms of others, out and in; and what is kept of the past."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import click

from sis.cli.context import Context
from sis.cli.nodesets import shown, takes_nodes
from sis.cli.output import emit_one, printable
from sis.cli.shown import confirm, counted
from sis.errors import NotFound, SisError, UsageFault

_WRITTEN = ("csv", "json", "yaml", "ansible", "slurm", "genders", "clustershell", "prometheus", "c3.conf")
_READ = ("csv", "json", "genders", "c3.conf", "machines", "cluster.xml")


@click.group("inventory")
def inventory() -> None:
    """The nodes in the forms of others, out and in; and what is kept of the past."""


@inventory.command("export", epilog="Example: sis inventory export @rack1 --format ansible")
@takes_nodes
@click.option(
    "--format", "form", type=click.Choice(_WRITTEN), default="csv", show_default=True, help="The form to write."
)
@click.option("--to", type=click.Path(path_type=Path, dir_okay=False), help="A file to write, at once and whole.")
@click.pass_obj
def export(context: Context, nodeset: str | None, where: tuple[str, ...], form: str, to: Path | None) -> None:
    """Write all nodes, or those of NODESET, in a form that others read; yaml is a cluster file.

    Of these, csv, json, genders, c3.conf and yaml come back by import (yaml: sis cluster apply).
    """
    from sis.inventory.exchange import forms
    from sis.system.files import atomic_write

    with context.open_inventory() as opened:
        try:
            text = forms.write(opened, shown(opened, nodeset, where), form)
        except NotFound as error:
            if nodeset in _WRITTEN:
                error.hint = f"a form is named by an option: --format {nodeset}"
            raise
    if to is None:
        sys.stdout.write(text)
        return
    try:
        atomic_write(to, text.encode(), mode=0o600 if form == "yaml" else 0o644)
    except OSError as error:
        raise SisError(f"{to} cannot be written: {error.strerror}") from error


@inventory.command("import", epilog="Example: sis inventory import c3.conf -n")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--format", "form", type=click.Choice(_READ), help="Its form; told by its content without this.")
@click.option("-n", "--dry-run", is_flag=True, help="Show what would be added and changed; change nothing.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def import_(context: Context, file: Path, form: str | None, dry_run: bool, yes: bool) -> None:
    """Define the nodes FILE tells of, and change those that are there; what it does not tell stays as it is.

    machines are SystemInstaller's --parse dumps. All faults are told at once, each with its line; nothing is half done.
    """
    from sis.head.inventory_acts import checks
    from sis.inventory import cluster_file
    from sis.inventory.exchange import forms
    from sis.inventory.exchange.bring import bring, told_lines

    text = cluster_file.read(file).decode("utf-8", "replace")
    with context.open_inventory(create=True) as opened:
        told, reading = forms.read(text, form, str(file), frozenset(opened.nodes.names()))
        intent, check = context.intent(opened), checks(context.state)
        brought = bring(opened, intent, told, reading, check, dry_run=True)
        if context.output == "table":
            for line in (*brought.notes, *(each.line for each in brought.done.lines)):
                click.echo(printable(line))
        if not dry_run and (brought.added or brought.changed):
            confirm(f"Import {counted(len(brought.added) + len(brought.changed), 'node')}?", yes=yes)
            bring(opened, intent, told, reading, check, dry_run=False)
    lines = told_lines(brought)
    if context.output != "table":
        emit_one(
            {"file": str(file), "dry_run": dry_run, **lines, "notes": list(brought.notes)}, context.output, name="file"
        )
        return
    for what, names in lines.items():
        click.echo(f"{what}: {names}")
    verb = "would be" if dry_run else "were"
    click.echo(f"{counted(len(brought.added), 'node')} {verb} added, {len(brought.changed)} changed")


@inventory.command(epilog="Example: sis inventory prune -n")
@click.option("-n", "--dry-run", is_flag=True, help="Say how much would go; drop nothing.")
@click.pass_obj
def prune(context: Context, dry_run: bool) -> None:
    """Drop what need not be kept of the past; the head does it by night. See and change how much: sis inventory keep

    The last event and the last report of each kind of every node always stay.
    """
    with context.open_inventory() as opened:
        gone = opened.past.prune(dry_run=dry_run)
    if context.output != "table":
        emit_one({"dry_run": dry_run, **asdict(gone)}, context.output, name="dry_run")
        return
    parts = ", ".join(f"{count} {what}" for what, count in asdict(gone).items() if count)
    click.echo(f"{'would go' if dry_run else 'gone'}: {parts or 'nothing'}")


@inventory.command(epilog="Example: sis inventory keep report_days=800 events_each=2000")
@click.argument("settings", nargs=-1, metavar="[NAME=NUMBER]…")
@click.pass_obj
def keep(context: Context, settings: tuple[str, ...]) -> None:
    """Show, or change, how much of the past is kept: days, and numbers of rows for each node."""
    changed = {}
    for word in settings:
        name, equals, value = word.partition("=")
        if not equals or not value.isdecimal():
            raise UsageFault(f"not understood: {word}", hint="write NAME=NUMBER, such as report_days=800")
        changed[name] = int(value)
    with context.open_inventory() as opened:
        kept = opened.past.set_keep(changed) if changed else opened.past.keep()
    emit_one(asdict(kept), context.output, name="event_days")
