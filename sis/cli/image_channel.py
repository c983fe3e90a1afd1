"""`sis image publish|rollback|deltas|delta`: channels moved, and the deltas that lead nodes to where they point."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from sis.cli.context import Context
from sis.cli.output import emit_one, human_bytes
from sis.cli.versions import progress_bar, resolve, store_of

if TYPE_CHECKING:
    from sis.image.deltas.making import Made
    from sis.image.model import Ref
    from sis.image.store.local import LocalStore
    from sis.image.store.refs import Moved

_GENTLE = 10
"""Niceness of work that nobody waits for."""


@click.command
@click.argument("reference", metavar="NAME@GENERATION")
@click.argument("channel")
@click.option("--no-deltas", is_flag=True, help="Make no deltas: nodes fetch what changed as chunks.")
@click.pass_obj
def publish(context: Context, reference: str, channel: str, no_deltas: bool) -> None:
    """Point CHANNEL at a generation; nodes that follow it move there at their next resync.

    Then deltas are made from what the channel pointed to before, the last three: nodes there fetch one file. A running
    head makes them in the background, and after them one file for new nodes; nodes that come earlier fetch chunks.
    """
    from sis.image.store import refs

    store = store_of(context)
    wanted = resolve(store, reference)
    moved = _change_channel(
        context, store, wanted.image, channel, lambda ref: refs.publish(ref, wanted.generation, channel)
    )
    if not no_deltas:
        _have_deltas(context, store, moved, channel)


@click.command
@click.argument("name")
@click.argument("channel")
@click.pass_obj
def rollback(context: Context, name: str, channel: str) -> None:
    """Point CHANNEL of image NAME back at what it named before; deltas to it are made as for publish."""
    from sis.image.store import refs

    store = store_of(context)
    moved = _change_channel(context, store, name, channel, lambda ref: refs.rollback(ref, channel))
    _have_deltas(context, store, moved, channel)


def _change_channel(
    context: Context, store: LocalStore, name: str, channel: str, change: Callable[[Ref], Moved]
) -> Moved:
    store.ref(name)
    with store.changing_ref(name) as ref:
        assert ref is not None
        moved = change(ref)
        if moved.before != moved.after:
            store.write_ref(moved.ref)
    row = {"name": f"{name}@{channel}", "before": moved.before, "after": moved.after}
    if context.output != "table":
        emit_one(row, context.output)
    elif moved.before == moved.after:
        click.echo(f"{name}@{channel} already is generation {moved.after}")
    else:
        was = f" (was {moved.before})" if moved.before is not None else ""
        click.echo(f"{name}@{channel} is generation {moved.after} now{was}")
    return moved


def _have_deltas(context: Context, store: LocalStore, moved: Moved, channel: str) -> None:
    """Leave the deltas of a channel that was moved to the head, or make them here when none runs."""
    from sis.image.deltas import wanted
    from sis.system import locks

    wanted.want(store, moved, channel)
    if locks.is_held(context.state / "run" / "head.lock"):
        click.echo("the head makes the deltas: nodes that come before they are there fetch chunks", err=True)
    else:
        _make_deltas(store, moved.ref.image, channel)


def _make_deltas(store: LocalStore, image: str, channel: str) -> None:
    from sis.image.deltas import wanted

    with progress_bar("deltas") as progress:
        made = list(wanted.make_wanted(store, image, channel, progress=progress))
    for one in made:
        click.echo(f"delta from {one.before}: {_delta_line(one)}", err=True)
    if (image, channel) in wanted.wanted_whole(store):
        command = f"'sis image deltas {image} {channel} --whole'"
        click.echo(f"new nodes fetch chunks until a running head, or {command}, has made one file for them", err=True)


@click.command
@click.argument("name")
@click.argument("channel")
@click.option("--gently", is_flag=True, help="Let other work on this machine go first.")
@click.option("--whole", is_flag=True, help="Make the one file for new nodes instead: minutes, for a large image.")
@click.pass_obj
def deltas(context: Context, name: str, channel: str, gently: bool, whole: bool) -> None:
    """Make the deltas to what CHANNEL of image NAME points to that are not there yet, and wait for them."""
    from sis.image.deltas import wanted

    store = store_of(context)
    store.ref(name)
    if gently:
        os.nice(_GENTLE)
    if not whole:
        _make_deltas(store, name, channel)
        return
    with progress_bar("delta") as progress:
        made = wanted.make_whole(store, name, channel, progress=progress)
    click.echo(f"delta from nothing: {_delta_line(made)}" if made else "nothing lacks", err=True)


@click.command
@click.argument("before")
@click.argument("after")
@click.pass_obj
def delta(context: Context, before: str, after: str) -> None:
    """Make the delta that leads from one version to another, as publish does for those it knows of."""
    from sis.image.deltas import making

    store = store_of(context)
    old, new = resolve(store, before), resolve(store, after)
    with progress_bar("delta") as progress:
        made = making.make(store, old.version_id, new.version_id, progress=progress)
    if context.output != "table":
        emit_one({"name": f"{old.version_id}-{new.version_id}", "made": _delta_row(made)}, context.output)
    elif made is None:
        click.echo(f"{before} → {after}: the delta is there already")
    else:
        click.echo(f"{before} → {after}: {_delta_line(made)}")


def _delta_line(made: Made) -> str:
    ways = ", ".join(f"{items} by {method}" for method, (items, _, _) in sorted(made.by_method.items()))
    return (
        f"{human_bytes(made.size_bytes)} instead of {human_bytes(made.replaces_bytes)} in chunks"
        f" ({human_bytes(made.output_bytes)} of content{f': {ways}' if ways else ''}; {made.seconds:.1f} s)"
    )


def _delta_row(made: Made | None) -> dict[str, Any] | None:
    if made is None:
        return None
    return {
        "bytes": made.size_bytes,
        "instead_of_bytes": made.replaces_bytes,
        "content_bytes": made.output_bytes,
        "seconds": made.seconds,
        "by_method": {
            method: {"items": items, "bytes": stored, "content_bytes": content}
            for method, (items, stored, content) in sorted(made.by_method.items())
        },
    }
