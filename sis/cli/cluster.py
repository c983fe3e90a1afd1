"""`sis cluster`: bring a cluster file into the inventory, or show what the inventory holds."""

from __future__ import annotations

from pathlib import Path

import click

from sis.cli.context import Context
from sis.cli.output import emit, emit_one
from sis.cli.shown import counted


@click.group("cluster")
def cluster() -> None:
    """The cluster file: networks, profiles, nodes and groups as text."""


@cluster.command(epilog="Example: sis cluster apply cluster.yaml -n")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--site", type=click.Path(path_type=Path, file_okay=False), help="Site files; STATE/site without it.")
@click.option("--once", is_flag=True, help="Bring it in, but let no later command edit it.")
@click.option("-n", "--dry-run", is_flag=True, help="Say what would change; change nothing.")
@click.pass_obj
def apply(context: Context, file: Path, site: Path | None, once: bool, dry_run: bool) -> None:
    """Make the inventory say what FILE says, and hold nodes to the site files as they are now.

    The inventory follows FILE from then on: commands that define, change or delete nodes edit its text too (--once:
    they do not). Nodes FILE does not name are left alone. See what would become of nodes' files with: sis config
    preview FILE
    """
    from sis.head import applied
    from sis.head.lint import check_values
    from sis.inventory import cluster_file
    from sis.inventory.cluster import load_cluster
    from sis.inventory.names import fold
    from sis.spec import cluster as cluster_spec

    raw = cluster_file.read(file)
    spec = cluster_spec.parse(raw, str(file))
    check_values(spec)
    site_files = applied.read_site(site if site is not None else context.state / applied.SITE)
    has_new_site = site_files.digest != applied.site(context.state).digest
    with context.open_inventory(create=True) as inventory:
        done = load_cluster(inventory, spec, dry_run=dry_run)
        if not dry_run:
            cluster_file.follow(inventory.database, None if once else file, raw)
            applied.keep_cluster(context.state, file, raw)
            if has_new_site:
                applied.keep_site(context.state, site_files)
    parts = {
        "networks": done.networks,
        "added": done.added,
        "changed": done.changed,
        "unchanged": done.unchanged,
        "left_alone": done.left_alone,
    }
    if context.output != "table":
        whole = {"cluster": spec.cluster, "dry_run": dry_run, "site_files_changed": has_new_site, **parts}
        emit_one(whole, context.output, name="cluster")
        return
    for what, names in parts.items():
        if names and what != "networks":
            click.echo(f"{what.replace('_', ' ')}: {fold(names)}")
    verb = "would be" if dry_run else "were"
    if has_new_site:
        click.echo(f"site files: {counted(site_files.site.count, 'file')}, {verb} changed")
    touched = len(done.added) + len(done.changed)
    click.echo(f"{spec.cluster}: {counted(touched, 'node')} of {touched + len(done.unchanged)} {verb} changed")


@cluster.command(epilog="Example: sis cluster show -o yaml")
@click.pass_obj
def show(context: Context) -> None:
    """Show networks, groups and settings of the inventory."""
    from sis.inventory.names import fold

    with context.open_inventory() as inventory:
        settings = inventory.settings.all()
        networks = inventory.networks.list()
        groups = inventory.nodes.groups()
        count = len(inventory.nodes.names())
    rows = [
        {
            "name": network.name,
            "cidr": network.cidr,
            "head": network.data.get("head"),
            "gateway": network.gateway,
            "domain": network.domain or None,
            "dhcp": (network.data.get("dhcp") or {}).get("mode"),
        }
        for network in networks
    ]
    folded = {name: fold(members) for name, members in groups.items()}
    if context.output != "table":
        whole = {"cluster": settings.get("cluster", "cluster"), "nodes": count, "settings": settings}
        emit_one({**whole, "networks": rows, "groups": folded}, context.output, name="cluster")
        return
    click.echo(f"cluster {settings.get('cluster', 'cluster')}: {counted(count, 'node')}")
    if rows:
        emit(rows, ["name", "cidr", "head", "gateway", "domain", "dhcp"])
    for name, members in folded.items():
        click.echo(f"@{name}: {members}")


@cluster.command(epilog="Example: sis cluster edit")
@click.option("-y", "--yes", is_flag=True, help="Do not ask before it is brought in.")
@click.pass_obj
def edit(context: Context, yes: bool) -> None:
    """Open the cluster file in your editor ($VISUAL, $EDITOR), then bring it in.

    You edit a copy: it is checked first, and put in place only when no one else changed the file meanwhile.
    """
    from sis.cli.cluster_edit import edited_and_applied

    edited_and_applied(context, yes=yes)


@cluster.command(epilog="Example: sis cluster forget")
@click.pass_obj
def forget(context: Context) -> None:
    """Follow the cluster file no more: later commands change the inventory alone."""
    from sis.inventory import cluster_file

    with context.open_inventory() as inventory:
        known = cluster_file.of(inventory.database)
        cluster_file.follow(inventory.database, None)
    click.echo(f"{known.path} is not followed any more" if known else "no cluster file was followed")
