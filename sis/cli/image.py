"""`sis image`: commit, list, show, verify and prune image versions."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sis.cli.context import Context
from sis.cli.output import Column, emit, emit_one, human_bytes
from sis.cli.shown import confirm, counted
from sis.cli.versions import parse, progress_bar, resolve, store_of
from sis.errors import Corrupt, NotFound, UsageFault

if TYPE_CHECKING:
    from sis.image.model import Entry, Manifest
    from sis.image.store.local import LocalStore


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
    with progress_bar("commit") as progress:
        done = committing.commit(store_of(context), name, tree, policy=rules, note=note, progress=progress)
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
            f"{row['name']}: {done.version.entries} entries, {human_bytes(done.version.content_bytes)};"
            f" {human_bytes(done.bytes_written)} added to the store"
        )


@image.command("list")
@click.argument("names", nargs=-1)
@click.pass_obj
def list_images(context: Context, names: tuple[str, ...]) -> None:
    """List the generations of all images, or of those named."""
    from sis.image.store import refs

    store = store_of(context)
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
        Column("content_bytes", "size", right=True, text=human_bytes),
        Column("stored_bytes", "stored", right=True, text=human_bytes),
        Column("id", text=lambda value: str(value)[:12]),
        "note",
    ]
    emit(rows, columns, context.output)
    if not rows and context.output == "table":
        click.echo(f"no image in {context.state} yet: sis image build, or sis image commit, makes one", err=True)


@image.command()
@click.argument("reference")
@click.option("--files", is_flag=True, help="List every path instead.")
@click.pass_obj
def show(context: Context, reference: str, files: bool) -> None:
    """Show one version: its facts, or with --files everything in it."""
    store = store_of(context)
    found = resolve(store, reference)
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
        "content": human_bytes(version.content_bytes) if context.output == "table" else version.content_bytes,
        "stored": human_bytes(version.stored_bytes) if context.output == "table" else version.stored_bytes,
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
@click.argument("name", required=False)
@click.pass_obj
def verify(context: Context, name: str | None) -> None:
    """Read every byte of the store, or of one image, and check it against its digest."""
    from sis.cli import damage
    from sis.image import verify as verifying

    if not context.store.is_dir():
        raise NotFound(
            f"there is no image store in {context.state}", hint="name the right directory with --state or SIS_STATE"
        )
    with progress_bar("verify") as progress:
        found = verifying.verify(store_of(context), name, progress=progress)
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
            click.echo(f"{counts}, {human_bytes(found.bytes_read)}: all sound")
    else:
        emit(rows, ["file", "fault", "versions", "paths"], context.output)
    if rows:
        details = [line for problem in found.problems for line in damage.lines(problem)]
        raise Corrupt(
            f"the store has {counted(len(rows), 'damaged or missing file')}",
            details=details if context.output == "table" else (),
            hint=damage.remedy(found.problems),
        )


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

    store = store_of(context)
    named = [parse(reference) for reference in references]
    for reference in named:
        if reference.channel is not None or reference.version_prefix is not None:
            raise UsageFault(f"{reference}: not a generation", hint=f"name it by its number: {reference.image}@1")
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
    emit(rows, ["what", Column("bytes", "size", right=True, text=human_bytes)], context.output)
    summary = f"{len(planned.generations)} generations, {len(planned.files)} files, {human_bytes(planned.bytes_freed)}"
    if dry_run:
        click.echo(f"would remove {summary}", err=True)
        return
    confirm(f"Remove {summary}?", yes=yes)
    done = pruning.apply(store, planned)
    _remove_boot_files(context, store)
    click.echo(f"removed {len(done.generations)} generations, {human_bytes(done.bytes_freed)}", err=True)


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


def _policy_rules(policy: str | None, tree: Path) -> Sequence[tuple[str, str]]:
    from sis.image import policy as policies

    if policy is None:
        return policies.OS_DEFAULTS if policies.tree_looks_like_os(tree) else ()
    if policy == "none":
        return ()
    if policy == "os":
        return policies.OS_DEFAULTS
    return policies.read_rules(policy)


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
    from sis.image.model import TYPE_OF_KIND, Kind
    from sis.image.names import show_path

    return {
        "path": show_path(entry.path),
        "mode": stat.filemode(TYPE_OF_KIND[entry.kind] | entry.mode),
        "owner": f"{entry.uid}:{entry.gid}",
        "size": f"{entry.rdev[0]},{entry.rdev[1]}" if entry.kind in (Kind.CHAR, Kind.BLOCK) else entry.size,
        "mtime_ns": entry.mtime_ns,
        "target": entry.target.decode("utf-8", "backslashreplace"),
        "xattrs": [name.decode("utf-8", "backslashreplace") for name, _ in entry.xattrs],
        "link": entry.link,
    }
