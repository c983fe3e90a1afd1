"""The cluster file in an editor: a copy is edited, checked, shown, and put in place if no one else was there."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from sis.cli.context import Context
from sis.cli.shown import confirm, counted
from sis.errors import Conflict, NotFound, SpecInvalid


def edited_and_applied(context: Context, *, yes: bool) -> None:
    """Edit the followed cluster file and bring it in.

    Raises NotFound when none is followed, SpecInvalid, and Conflict when someone wrote the file meanwhile; the edited
    copy is kept then, and named.
    """
    from sis.inventory import cluster_file

    with context.open_inventory() as inventory:
        known = cluster_file.of(inventory.database)
    if known is None:
        raise NotFound("the inventory follows no cluster file", hint="bring one in: sis cluster apply cluster.yaml")
    before = cluster_file.read(known.path)
    copy = Path(tempfile.mkdtemp(prefix="sis-cluster-")) / known.path.name
    copy.write_bytes(before)
    while True:
        click.edit(filename=str(copy))
        raw = copy.read_bytes()
        if raw == before:
            click.echo("nothing was changed")
            _drop(copy)
            return
        try:
            _apply(context, known.path, before, raw, yes=yes)
        except SpecInvalid as fault:
            click.echo(str(fault).replace(str(copy), str(known.path)), err=True)
            if yes or not click.confirm("Edit it again?", default=True):
                raise SpecInvalid(fault.message, details=fault.details, hint=f"what you wrote is in {copy}") from fault
        except Conflict as fault:
            raise Conflict(fault.message, hint=f"what you wrote is in {copy}") from fault
        else:
            _drop(copy)
            return


def _apply(context: Context, path: Path, before: bytes, raw: bytes, *, yes: bool) -> None:
    from sis.head import applied
    from sis.inventory import cluster_file
    from sis.inventory.cluster import load_cluster
    from sis.inventory.names import fold
    from sis.spec import cluster as cluster_spec

    spec = cluster_spec.parse(raw, str(path))
    with context.open_inventory() as inventory:
        tried = load_cluster(inventory, spec, dry_run=True)
        for what in ("added", "changed"):
            names = getattr(tried, what)
            if names:
                click.echo(f"{what}: {fold(names)}")
        confirm(f"Bring {path.name} in?", yes=yes)
        with cluster_file.locked(path):
            cluster_file.Read(path, before).write(raw)
            done = load_cluster(inventory, spec)
            cluster_file.follow(inventory.database, path, raw)
            applied.keep_cluster(context.state, path, raw)
    click.echo(f"{path}: {counted(len(done.added) + len(done.changed), 'node')} changed")


def _drop(copy: Path) -> None:
    copy.unlink()
    copy.parent.rmdir()
