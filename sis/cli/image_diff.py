"""`sis image diff`: two versions compared by path and by package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from sis.cli.context import Context
from sis.cli.output import Column, emit, emit_one, human_bytes
from sis.cli.versions import resolve, store_of

if TYPE_CHECKING:
    from sis.image.documents.diff import ManifestChange

DIFFERENT = 4
_LINES_SHOWN = 200
_ACTION_STYLES = {"create": "green", "remove": "red", "update": "yellow", "replace": "magenta"}


@click.command
@click.argument("before")
@click.argument("after")
@click.option("--all", "everything", is_flag=True, help=f"Show every path, not only the first {_LINES_SHOWN}.")
@click.pass_obj
def diff(context: Context, before: str, after: str, everything: bool) -> int:
    """Compare two versions by path and by package. Exit code 4 if they differ."""
    from sis.image.documents import diff as differ

    store = store_of(context)
    old, new = resolve(store, before), resolve(store, after)
    old_manifest, new_manifest = store.manifest(old.version.manifest), store.manifest(new.version.manifest)
    changes = differ.compare(old_manifest, new_manifest)
    packages = []
    if old.version.lock and new.version.lock:
        packages = differ.compare_locks(old.version.lock, new.version.lock)
    rows = [_change_row(change) for change in changes]
    if context.output in ("json", "yaml"):
        listed = [{"package": name, "before": had or None, "after": has or None} for name, had, has in packages]
        emit_one({"changes": rows, "packages": listed, "totals": _totals(changes)}, context.output)
    elif context.output == "name":
        emit(rows, ["path"], "name")
    else:
        _show_diff(rows, packages, changes, everything)
    return DIFFERENT if changes or packages else 0


def _change_row(change: ManifestChange) -> dict[str, Any]:
    return {
        "action": change.action,
        "path": change.path,
        "what": list(change.what),
        "size_before": change.size_before,
        "size_after": change.size_after,
    }


def _totals(changes: Sequence[ManifestChange]) -> dict[str, int]:
    totals = {"create": 0, "update": 0, "replace": 0, "metadata": 0, "remove": 0}
    for change in changes:
        totals[change.action] += 1
    totals["bytes_added"] = sum(max(0, change.size_after - change.size_before) for change in changes)
    totals["bytes_removed"] = sum(max(0, change.size_before - change.size_after) for change in changes)
    return totals


def _show_diff(
    rows: Sequence[Mapping[str, Any]],
    packages: Sequence[tuple[str, str, str]],
    changes: Sequence[ManifestChange],
    everything: bool,
) -> None:
    if packages:
        listed = [{"package": name, "before": had or "—", "after": has or "—"} for name, had, has in packages]
        emit(listed, ["package", "before", "after"])
        click.echo()
    if not rows:
        click.echo("same tree" if packages else "no difference")
        return
    shown = rows if everything else rows[:_LINES_SHOWN]
    emit(shown, [Column("action", style=lambda action: _ACTION_STYLES.get(action)), "path", "what"])
    if len(shown) < len(rows):
        click.echo(f"… and {len(rows) - len(shown)} more paths (--all shows them)")
    totals = _totals(changes)
    counts = ", ".join(f"{totals[action]} {action}" for action in ("create", "update", "replace", "metadata", "remove"))
    click.echo(
        f"{counts}; {human_bytes(totals['bytes_added'])} more, {human_bytes(totals['bytes_removed'])} less content"
    )
