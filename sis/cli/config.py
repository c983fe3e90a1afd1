"""`sis config`: what today's cluster file and site files would change, what is wrong with them, older suites' files."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sis.cli.context import Context
from sis.cli.output import emit, emit_one, printable
from sis.cli.shown import counted

if TYPE_CHECKING:
    from sis.head.applied import AppliedSite
    from sis.head.lint import Found
    from sis.head.preview import Folded
    from sis.head.renders import Renders
    from sis.head.worlds import World
    from sis.inventory.db import Inventory
    from sis.spec.cluster import ClusterSpec

DIFFERENT = 4
FAULTS = 1
_PATHS_SHOWN = 12
_MARKS = {"create": "+", "update": "~", "remove": "-"}
_COLOURS = {"+": "green", "~": "yellow", "-": "red"}


@click.group("config")
def config() -> None:
    """Nodes' own files: what would change, what is wrong, and where they came from before.

    FILE is the cluster file; without it the one applied last is read again. Site files are those in STATE/site.
    """


_site = click.option(
    "--site", "site", type=click.Path(path_type=Path, file_okay=False), help="Site files; STATE/site without it."
)


@config.command(epilog="Example: sis config preview cluster.yaml --diff")
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
@_site
@click.option("--diff", "show_diff", is_flag=True, help="Show the files' changes, of the first node of each set.")
@click.pass_obj
def preview(context: Context, file: Path | None, site: Path | None, show_diff: bool) -> int:
    """Show what would change on which nodes if the cluster file and the site files were applied.

    Nodes to which the same happens are folded. Exit code 4 if anything would change, 1 if a node could not be rendered.
    """
    from sis.head import preview as previewing
    from sis.head import worlds

    with context.open_inventory() as inventory, _kept_in_memory():
        renders, before = _before(context, inventory)
        spec, today = _today(renders, file, site)
        after = worlds.wanted(renders, before, spec, today)
        groups = previewing.folded([*previewing.changes(renders, before, after)])
        if context.output != "table":
            _emit_groups(groups, context.output)
        else:
            for group in groups:
                _show_group(group)
                if show_diff and not group.change.fault:
                    _show_diff(previewing.file_diffs(renders, before, after, group.names[0]))
            click.echo(_preview_summary(groups, len(after.nodes), _what(spec, before, after)))
    if any(group.change.fault for group in groups):
        return FAULTS
    return DIFFERENT if groups or before.site.digest != today.digest else 0


@config.command(epilog="Example: sis config lint cluster.yaml")
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
@_site
@click.option("--nodes", "nodeset", metavar="NODESET", help="Only these nodes.")
@click.pass_obj
def lint(context: Context, file: Path | None, site: Path | None, nodeset: str | None) -> int:
    """Render every node's files and list all faults, each with its file and line. Exit code 1 if there are any.

    It is today's cluster file and site files that are looked at, not those applied last.
    """
    from sis.head import lint as linting
    from sis.head import worlds
    from sis.inventory.names import expand

    with context.open_inventory() as inventory, _kept_in_memory():
        renders, before = _before(context, inventory)
        spec, today = _today(renders, file, site)
        after = worlds.wanted(renders, before, spec, today)
        names = expand(nodeset, inventory.nodes.groups(), [*after.nodes]) if nodeset else [*after.nodes]
        nodes = [after.nodes[name] for name in names if name in after.nodes]
        found = linting.lint(renders, after, nodes)
    faults = [each for each in found if each.is_fault]
    if context.output != "table":
        emit([_found_row(each) for each in found], ["place", "nodes", "text"], context.output)
    else:
        for each in found:
            _show_found(each)
        notices = len(found) - len(faults)
        click.echo(f"{counted(len(nodes), 'node')}: {counted(len(faults), 'fault')}, {counted(notices, 'notice')}")
    return FAULTS if faults else 0


@config.command("import", epilog="Example: sis config import /etc/systemconfig/systemconfig.conf > cluster.yaml")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.pass_obj
def import_file(context: Context, file: Path) -> None:
    """Turn a file of an older suite into a cluster file: on stdout; what was understood and what not, on stderr.

    FILE is a systemconfig.conf, hardware.lst, SystemImager network-config or cluster.xml; it is told by its content.
    """
    from configurator import importing
    from configurator.errors import ConfiguratorError
    from sis.errors import SisError

    try:
        imported = importing.read(file.name, file.read_bytes())
    except ConfiguratorError as fault:
        raise SisError(fault.message, hint=fault.hint, details=fault.details) from fault
    if context.output != "table":
        emit_one({"name": file.name, "yaml": imported.yaml, "report": list(imported.report)}, context.output)
        return
    for line in imported.report:
        lost = line.startswith("not understood")
        click.echo(click.style(printable(line), fg="yellow" if lost else None), err=True)
    lost_count = sum(line.startswith("not understood") for line in imported.report)
    click.echo(f"{len(imported.report) - lost_count} understood, {lost_count} not understood", err=True)
    click.echo(imported.yaml, nl=False)


@contextlib.contextmanager
def _kept_in_memory() -> Iterator[None]:
    """No search for garbage: two whole clusters are built up and looked at until the end, a fifth of the time else."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _before(context: Context, inventory: Inventory) -> tuple[Renders, World]:
    from sis.head import worlds
    from sis.head.renders import Renders

    renders = Renders(context.state, inventory)
    return renders, worlds.now(renders)


def _today(renders: Renders, file: Path | None, site: Path | None) -> tuple[ClusterSpec | None, AppliedSite]:
    """The cluster file and the site files as they are now."""
    from sis.head import applied, worlds
    from sis.spec import cluster as cluster_spec

    path = worlds.todays_file(renders, file)
    spec = cluster_spec.load(path) if path is not None else None
    return spec, applied.read_site(site if site is not None else renders.state / applied.SITE)


def _what(spec: ClusterSpec | None, before: World, after: World) -> str:
    parts = [spec.place().file if spec is not None else "no cluster file"]
    if before.site.digest != after.site.digest:
        parts.append("changed site files")
    return " and ".join(parts)


def _show_group(group: Folded) -> None:
    change = group.change
    what = "new" if change.is_new else counted(len(change.files), "file")
    click.echo(f"{click.style(group.nodes, bold=True)} ({counted(len(group.names), 'node')}): {what}")
    for reason in change.because:
        click.echo(f"    {printable(reason)}")
    for line in change.beside:
        click.echo(f"    {printable(line)}")
    if change.fault:
        click.echo(click.style(f"    cannot be rendered: {printable(change.fault)}", fg="red"))
    for each in change.files[:_PATHS_SHOWN]:
        mark = _MARKS[each.action]
        click.echo(click.style(f"  {mark} {printable(each.path)}", fg=_COLOURS[mark]))
    if len(change.files) > _PATHS_SHOWN:
        click.echo(f"    … and {counted(len(change.files) - _PATHS_SHOWN, 'more file')}")


def _show_diff(lines: Any) -> None:
    for line in lines:
        colour = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
        click.echo(f"    {click.style(printable(line), fg=colour)}")


def _preview_summary(groups: Sequence[Folded], nodes: int, what: str) -> str:
    touched = sum(len(group.names) for group in groups)
    if not touched:
        return f"{what}: nothing would change on {counted(nodes, 'node')}"
    return f"{what}: {touched} of {counted(nodes, 'node')} would change"


def _emit_groups(groups: Sequence[Folded], output: str) -> None:
    rows = [
        {
            "nodes": group.nodes,
            "count": len(group.names),
            "new": group.change.is_new,
            "because": [*group.change.because, *group.change.beside],
            "files": [{"path": each.path, "action": each.action} for each in group.change.files],
            "fault": group.change.fault or None,
        }
        for group in groups
    ]
    emit(rows, ["nodes", "count"], output)


def _found_row(found: Found) -> dict[str, Any]:
    return {
        "kind": "fault" if found.is_fault else "notice",
        "place": found.place or None,
        "nodes": found.nodes,
        "key": found.key or None,
        "text": found.text,
        "hint": found.hint or None,
    }


def _show_found(found: Found) -> None:
    word = click.style("fault", fg="red", bold=True) if found.is_fault else click.style("notice", fg="yellow")
    click.echo(f"{word}: {printable(str(found))}")
    if found.hint:
        click.echo(f"    hint: {printable(found.hint)}")
