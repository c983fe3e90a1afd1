"""`sis image`: commit, list, show, diff, verify, publish, roll back and prune image versions."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sis.cli.context import Context
from sis.cli.output import Column, emit, emit_one, human_bytes
from sis.errors import Corrupt, NotFound, UsageFault

if TYPE_CHECKING:
    from sis.image.delta_make import Made
    from sis.image.diff import ManifestChange
    from sis.image.model import Entry, Manifest, Ref
    from sis.image.reference import Reference, Resolved
    from sis.image.refs import Moved
    from sis.image.store import LocalStore

DIFFERENT = 4
_LINES_SHOWN = 200
_GENTLE = 10
"""Niceness of work that nobody waits for."""


_size = human_bytes


@click.group("image")
def image() -> None:
    """Image versions: what nodes are installed from and held to.

    A reference is compute (the newest generation), compute@12, compute@stable (a channel) or compute@b3:3f9c01 (an id).
    """


@image.command()
@click.argument("name")
@click.option(
    "--tree", required=True, type=click.Path(path_type=Path, file_okay=False), help="The directory to commit."
)
@click.option(
    "--policy",
    default=None,
    metavar="none|os|FILE",
    help="What of it nodes may keep as their own. Default: os if the tree is an operating system, else none.",
)
@click.option("--note", default="", help="A line of text kept with the version.")
@click.pass_obj
def commit(context: Context, name: str, tree: Path, policy: str | None, note: str) -> None:
    """Make a directory the next generation of image NAME."""
    from sis.image import commit as committing

    rules = _policy_rules(policy, tree)
    with _progress("commit") as progress:
        done = committing.commit(_store(context), name, tree, policy=rules, note=note, progress=progress)
    for notice in done.notices:
        click.echo(f"notice: {notice}", err=True)
    row = {
        "name": f"{done.version.image}@{done.version.generation}",
        "id": done.version_id,
        "unchanged": done.unchanged,
        "entries": done.version.entries,
        "content_bytes": done.version.content_bytes,
        "new_bytes": done.bytes_written,
    }
    if context.output != "table":
        emit_one(row, context.output)
    elif done.unchanged:
        click.echo(f"{row['name']}: unchanged ({done.version.entries} entries)")
    else:
        click.echo(
            f"{row['name']}: {done.version.entries} entries, {_size(done.version.content_bytes)};"
            f" {_size(done.bytes_written)} added to the store"
        )


@image.command("list")
@click.argument("names", nargs=-1)
@click.pass_obj
def list_images(context: Context, names: tuple[str, ...]) -> None:
    """List the generations of all images, or of those named."""
    from sis.image import refs

    store = _store(context)
    rows = []
    for name in names or store.images():
        ref = store.ref(name)
        for number in sorted(map(int, ref.generations)):
            version_id = ref.generations[str(number)]
            version = store.version(version_id)
            rows.append(
                {
                    "name": f"{name}@{number}",
                    "channels": [c for c, v in sorted(ref.channels.items()) if refs.generation_of(ref, v) == number],
                    "created": version.created,
                    "entries": version.entries,
                    "content_bytes": version.content_bytes,
                    "stored_bytes": version.stored_bytes,
                    "id": version_id,
                    "note": version.note,
                }
            )
    columns: list[str | Column] = [
        "name",
        Column("channels", style=lambda _: "green"),
        "created",
        Column("entries", right=True),
        Column("content_bytes", "size", right=True, text=_size),
        Column("stored_bytes", "stored", right=True, text=_size),
        Column("id", text=lambda value: str(value)[:12]),
        "note",
    ]
    emit(rows, columns, context.output)


@image.command()
@click.argument("reference")
@click.option("--files", is_flag=True, help="List every path instead.")
@click.pass_obj
def show(context: Context, reference: str, files: bool) -> None:
    """Show one version: its facts, or with --files everything in it."""
    store = _store(context)
    found = _resolve(store, reference)
    if files:
        _show_files(store.manifest(found.version.manifest), context.output)
        return
    version = found.version
    ref = found.ref
    row: dict[str, Any] = {
        "name": f"{found.image}@{found.generation}",
        "id": found.version_id,
        "channels": [channel for channel, named in sorted(ref.channels.items()) if named == found.version_id],
        "created": version.created,
        "parent": version.parent,
        "note": version.note,
        "spec": version.spec,
        "manifest": version.manifest,
        "entries": version.entries,
        "content": _size(version.content_bytes) if context.output == "table" else version.content_bytes,
        "stored": _size(version.stored_bytes) if context.output == "table" else version.stored_bytes,
        "packages": len(version.lock) if context.output == "table" else version.lock,
        "os": version.os,
        "policy": [f"{verb} {pattern}" for pattern, verb in version.policy],
        "ref sequence": ref.sequence,
        "ref updated": ref.updated,
        "ref expires": ref.expires,
        "signed": found.trust != "unsigned",
        "key": store.signer().public if store.key.exists() else None,
    }
    if context.output == "table":
        row["policy"] = "\n".join(row["policy"]) or "enforce everything"
        row = {key: value for key, value in row.items() if value not in (None, "", [], {}, 0)}
    emit_one(row, context.output)


@image.command()
@click.argument("before")
@click.argument("after")
@click.option("--all", "everything", is_flag=True, help=f"Show every path, not only the first {_LINES_SHOWN}.")
@click.pass_obj
def diff(context: Context, before: str, after: str, everything: bool) -> int:
    """Compare two versions by path and by package. Exit code 4 if they differ."""
    from sis.image import diff as differ

    store = _store(context)
    old, new = _resolve(store, before), _resolve(store, after)
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


@image.command()
@click.argument("name", required=False)
@click.pass_obj
def verify(context: Context, name: str | None) -> None:
    """Read every byte of the store, or of one image, and check it against its digest."""
    from sis.image import verify as verifying

    with _progress("verify") as progress:
        found = verifying.verify(_store(context), name, progress=progress)
    rows = [
        {
            "file": problem.file,
            "fault": problem.fault,
            "versions": list(problem.versions),
            "paths": list(problem.paths),
            "path_count": problem.path_count,
        }
        for problem in found.problems
    ]
    for notice in found.notices:
        click.echo(f"notice: {notice}", err=True)
    if context.output == "table":
        if not rows:
            counts = f"{found.versions} versions, {found.packs} packs, {found.chunks} chunks"
            click.echo(f"{counts}, {_size(found.bytes_read)}: all sound")
    else:
        emit(rows, ["file", "fault", "versions", "paths"], context.output)
    if rows:
        details = [line for problem in found.problems for line in _problem_lines(problem)]
        raise Corrupt(
            f"the store has {len(rows)} damaged or missing files",
            details=details if context.output == "table" else (),
            hint="copy the named files from another copy of the store, or commit the tree again",
        )


def _problem_lines(problem: Any) -> Iterator[str]:
    yield f"{problem.file}: {problem.fault}"
    if problem.versions:
        yield f"    hits {', '.join(problem.versions)}"
    for path in problem.paths:
        yield f"    {path}"
    if problem.path_count > len(problem.paths):
        yield f"    … and {problem.path_count - len(problem.paths)} more files"


@image.command()
@click.argument("reference", metavar="NAME@GENERATION")
@click.argument("channel")
@click.option("--no-deltas", is_flag=True, help="Make no deltas: nodes fetch what changed as chunks.")
@click.pass_obj
def publish(context: Context, reference: str, channel: str, no_deltas: bool) -> None:
    """Point CHANNEL at a generation; nodes that follow it move there at their next resync.

    Then deltas are made from what the channel pointed to before, the last three: nodes there fetch one file. A running
    head makes them in the background, and after them one file for new nodes; nodes that come earlier fetch chunks.
    """
    from sis.image import refs

    store = _store(context)
    wanted = _resolve(store, reference)
    moved = _change_channel(
        context, store, wanted.image, channel, lambda ref: refs.publish(ref, wanted.generation, channel)
    )
    if not no_deltas:
        _have_deltas(context, store, moved, channel)


def _have_deltas(context: Context, store: LocalStore, moved: Moved, channel: str) -> None:
    """Leave the deltas of a channel that was moved to the head, or make them here when none runs."""
    from sis.image import delta_wanted
    from sis.system import locks

    delta_wanted.want(store, moved, channel)
    if locks.is_held(context.state / "run" / "head.lock"):
        click.echo("the head makes the deltas: nodes that come before they are there fetch chunks", err=True)
    else:
        _make_deltas(store, moved.ref.image, channel)


def _make_deltas(store: LocalStore, image: str, channel: str) -> None:
    from sis.image import delta_wanted

    with _progress("deltas") as progress:
        made = list(delta_wanted.make_wanted(store, image, channel, progress=progress))
    for one in made:
        click.echo(f"delta from {one.before}: {_delta_line(one)}", err=True)
    if (image, channel) in delta_wanted.wanted_whole(store):
        command = f"'sis image deltas {image} {channel} --whole'"
        click.echo(f"new nodes fetch chunks until a running head, or {command}, has made one file for them", err=True)


@image.command()
@click.argument("name")
@click.argument("channel")
@click.option("--gently", is_flag=True, help="Let other work on this machine go first.")
@click.option("--whole", is_flag=True, help="Make the one file for new nodes instead: minutes, for a large image.")
@click.pass_obj
def deltas(context: Context, name: str, channel: str, gently: bool, whole: bool) -> None:
    """Make the deltas to what CHANNEL of image NAME points to that are not there yet, and wait for them."""
    from sis.image import delta_wanted

    store = _store(context)
    store.ref(name)
    if gently:
        os.nice(_GENTLE)
    if not whole:
        _make_deltas(store, name, channel)
        return
    with _progress("delta") as progress:
        made = delta_wanted.make_whole(store, name, channel, progress=progress)
    click.echo(f"delta from nothing: {_delta_line(made)}" if made else "nothing lacks", err=True)


@image.command()
@click.argument("before")
@click.argument("after")
@click.pass_obj
def delta(context: Context, before: str, after: str) -> None:
    """Make the delta that leads from one version to another, as publish does for those it knows of."""
    from sis.image import delta_make

    store = _store(context)
    old, new = _resolve(store, before), _resolve(store, after)
    with _progress("delta") as progress:
        made = delta_make.make(store, old.version_id, new.version_id, progress=progress)
    if context.output != "table":
        emit_one({"name": f"{old.version_id}-{new.version_id}", "made": _delta_row(made)}, context.output)
    elif made is None:
        click.echo(f"{before} → {after}: the delta is there already")
    else:
        click.echo(f"{before} → {after}: {_delta_line(made)}")


def _delta_line(made: Made) -> str:
    ways = ", ".join(f"{items} by {method}" for method, (items, _, _) in sorted(made.by_method.items()))
    return (
        f"{_size(made.size_bytes)} instead of {_size(made.replaces_bytes)} in chunks"
        f" ({_size(made.output_bytes)} of content{f': {ways}' if ways else ''}; {made.seconds:.1f} s)"
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


@image.command()
@click.argument("name")
@click.argument("channel")
@click.pass_obj
def rollback(context: Context, name: str, channel: str) -> None:
    """Point CHANNEL of image NAME back at what it named before; deltas to it are made as for publish."""
    from sis.image import refs

    store = _store(context)
    moved = _change_channel(context, store, name, channel, lambda ref: refs.rollback(ref, channel))
    _have_deltas(context, store, moved, channel)


@image.command()
@click.argument("references", nargs=-1, metavar="[NAME|NAME@GENERATION]...")
@click.option("--keep", type=int, help="Keep this many newest generations of each image (of those named, or of all).")
@click.option("-n", "--dry-run", is_flag=True, help="Only list what would go.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def prune(context: Context, references: tuple[str, ...], keep: int | None, dry_run: bool, yes: bool) -> None:
    """Drop generations, and remove what no remaining version needs, boot files included.

    NAME@GENERATION drops that one; --keep drops all but the newest. Never dropped: the newest generation of an
    image, one a channel points to, and one that nodes are held to or were last good at.
    """
    from sis.image import prune as pruning

    store = _store(context)
    named = [_parse(reference) for reference in references]
    images = [reference.image for reference in named if reference.generation is None]
    if images and keep is None:
        raise UsageFault(f"what to drop of {images[0]}?", hint=f"--keep N, or a generation such as {images[0]}@1")
    drop = [reference for reference in named if reference.generation is not None]
    needed = _needed(context)
    planned = pruning.plan(store, images=images or ([] if drop else None), keep=keep, drop=drop, needed=needed)
    rows: list[dict[str, Any]] = [{"what": f"{name}@{number}", "bytes": None} for name, number in planned.generations]
    rows += [{"what": file, "bytes": size} for file, size in planned.files]
    if not rows:
        click.echo("nothing to prune", err=True)
        return
    emit(rows, ["what", Column("bytes", "size", right=True, text=_size)], context.output)
    summary = f"{len(planned.generations)} generations, {len(planned.files)} files, {_size(planned.bytes_freed)}"
    if dry_run:
        click.echo(f"would remove {summary}", err=True)
        return
    if not yes:
        click.confirm(f"Remove {summary}?", abort=True, err=True)
    done = pruning.apply(store, planned)
    _remove_boot_files(context, store)
    click.echo(f"removed {len(done.generations)} generations, {_size(done.bytes_freed)}", err=True)


def _needed(context: Context) -> set[tuple[str, int]]:
    """Generations that nodes are held to, or were last good at; none where there is no inventory."""
    if isinstance(context.database, Path) and not context.database.exists():
        return set()
    with context.open_inventory() as inventory:
        return inventory.rollouts.needed()


def _remove_boot_files(context: Context, store: LocalStore) -> None:
    """What nodes booted to install versions that are gone."""
    import shutil

    from sis.netboot import installer

    for folder in installer.strangers(context.state / "boot", store.names("versions")):
        shutil.rmtree(folder)


def _store(context: Context) -> LocalStore:
    from sis.image.store import LocalStore

    return LocalStore(context.store)


def _parse(text: str) -> Reference:
    from sis.image import reference

    return reference.parse(text)


def _resolve(store: LocalStore, text: str) -> Resolved:
    from sis.image import reference

    return reference.resolve(store, reference.parse(text))


def _policy_rules(policy: str | None, tree: Path) -> Sequence[tuple[str, str]]:
    from sis.image import policy as policies

    if policy is None:
        return policies.OS_DEFAULTS if policies.tree_looks_like_os(tree) else ()
    if policy == "none":
        return ()
    if policy == "os":
        return policies.OS_DEFAULTS
    try:
        return policies.read_rules(Path(policy).read_text("utf-8", "surrogateescape"), policy)
    except OSError as error:
        raise NotFound(f"cannot read the policy file {policy}: {error.strerror}", hint="none, os, or a file") from error


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


_ACTION_STYLES = {"create": "green", "remove": "red", "update": "yellow", "replace": "magenta"}


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
    click.echo(f"{counts}; {_size(totals['bytes_added'])} more, {_size(totals['bytes_removed'])} less content")


def _show_files(manifest: Manifest, output: str) -> None:
    rows = [_file_row(entry) for entry in manifest.entries]
    columns: list[str | Column] = [
        "path",
        "mode",
        Column("owner", right=True),
        Column("size", right=True),
        "target",
        "xattrs",
    ]
    emit(rows, columns, output)


def _file_row(entry: Entry) -> dict[str, Any]:
    from sis.image.codec import show_path
    from sis.image.model import Kind

    types = {
        Kind.FILE: stat.S_IFREG,
        Kind.DIR: stat.S_IFDIR,
        Kind.SYMLINK: stat.S_IFLNK,
        Kind.CHAR: stat.S_IFCHR,
        Kind.BLOCK: stat.S_IFBLK,
        Kind.FIFO: stat.S_IFIFO,
    }
    return {
        "path": show_path(entry.path),
        "mode": stat.filemode(types[entry.kind] | entry.mode),
        "owner": f"{entry.uid}:{entry.gid}",
        "size": f"{entry.rdev[0]},{entry.rdev[1]}" if entry.kind in (Kind.CHAR, Kind.BLOCK) else entry.size,
        "mtime_ns": entry.mtime_ns,
        "target": entry.target.decode("utf-8", "backslashreplace"),
        "xattrs": [name.decode("utf-8", "backslashreplace") for name, _ in entry.xattrs],
        "link": entry.link,
    }


@contextmanager
def _progress(what: str) -> Iterator[Callable[[str, int, int], None] | None]:
    """A progress bar on a terminal's stderr, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    from tqdm import tqdm

    with tqdm(desc=what, unit="B", unit_scale=True, leave=False, delay=0.5) as bar:

        def advance(step: str, done: int, total: int) -> None:
            bar.total = total
            bar.set_description(step, refresh=False)
            bar.update(done - bar.n)

        yield advance
