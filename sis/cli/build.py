"""`sis image build`: a spec becomes a committed version, with the files its nodes boot from."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from sis.cli.context import Context
from sis.cli.output import emit_one, human_bytes

if TYPE_CHECKING:
    from sis.build.pipeline import Built
    from sis.spec.imagespec import ImageSpec

INSTALLER = "installer"


@click.command("build")
@click.argument("name")
@click.option("--note", default="", help="A line of text kept with the version.")
@click.option("--anew", is_flag=True, help="Install the packages anew, though a tree of the very same is kept.")
@click.option("--no-boot-files", is_flag=True, help="Do not make the kernel and installer that nodes netboot.")
@click.pass_obj
def build(context: Context, name: str, note: str, anew: bool, no_boot_files: bool) -> None:
    """Build the image spec NAME (or a path to one) and commit it as the next version.

    Specs are looked up in STATE/imagespecs, in /etc/sis/imagespecs, then among those that come with sis.
    """
    from sis.build import pipeline
    from sis.spec import imagespec, search

    spec = imagespec.load(name, search=search.folders((context.state / "imagespecs",)))
    with _interruptible(), _told(context.verbose) as progress:

        def boot_files(built: Built) -> None:
            _boot_files(context, spec, built, progress)

        boots = spec.kernel is not None and spec.agent and not no_boot_files
        afterwards = boot_files if boots else None
        built = pipeline.build(spec, context.state, progress=progress, afterwards=afterwards, note=note, anew=anew)
    for notice in built.notices:
        click.echo(f"notice: {notice}", err=True)
    _show(context, built)


def _boot_files(context: Context, spec: ImageSpec, built: Built, progress: Callable[[str, str], None]) -> None:
    """Kernel, ramdisk and installer root of the version, from the installer image (built when there is none)."""
    from sis.netboot import installer

    tree = _installer_tree(context, spec, progress)
    installer.build(
        image_tree=built.tree,
        installer_tree=tree,
        version_id=built.version_id,
        out=context.state / "boot",
        progress=lambda doing: progress("boot files", doing),
    )


def _installer_tree(context: Context, spec: ImageSpec, progress: Callable[[str, str], None]) -> Path:
    """The tree of the installer image; built when it is missing or its spec has changed since."""
    from sis.build import pipeline, trees
    from sis.image.store.local import LocalStore
    from sis.spec import imagespec

    wanted = imagespec.load(INSTALLER, search=spec.folders)
    tree = trees.place(context.state, INSTALLER)
    store = LocalStore(context.store)
    if tree.is_dir() and INSTALLER in store.images():
        generations = store.ref(INSTALLER).generations
        newest = store.version(generations[max(generations, key=int)])
        if newest.spec == wanted.canonical():
            return tree
    return pipeline.build(
        wanted, context.state, progress=lambda step, doing: progress(f"installer: {step}", doing)
    ).tree


def _show(context: Context, built: Built) -> None:
    version = built.version
    seconds = {step: round(took, 1) for step, took in built.seconds.items()}
    row = {
        "name": f"{version.image}@{version.generation}",
        "id": built.version_id,
        "unchanged": built.unchanged,
        "entries": version.entries,
        "content_bytes": version.content_bytes,
        "packages": len(version.lock),
        "tree": str(built.tree),
        "log": str(built.log),
        "seconds": seconds,
    }
    if context.output != "table":
        emit_one(row, context.output)
        return
    state = "unchanged" if built.unchanged else "committed"
    size = human_bytes(version.content_bytes)
    click.echo(f"{row['name']}: {state}; {version.entries} entries, {size}, {len(version.lock)} packages")
    click.echo("  ".join(f"{step} {took:.1f} s" for step, took in seconds.items()))


@contextmanager
def _told(verbose: bool) -> Iterator[Callable[[str, str], None]]:
    """Progress for people: one line a step; on a terminal, also what the step is doing, overwritten in place.

    With `verbose` elsewhere than on a terminal what it is doing gets lines too.
    """
    live = sys.stderr.isatty()

    def progress(step: str, doing: str) -> None:
        if not doing:
            click.echo(f"\r\x1b[K▸ {step}" if live else f"▸ {step}", err=True)
        elif live:
            click.echo(f"\r\x1b[K  {doing[:90]}", nl=False, err=True)
        elif verbose:
            click.echo(f"  {doing}", err=True)

    try:
        yield progress
    finally:
        if live:
            click.echo("\r\x1b[K", nl=False, err=True)


@contextmanager
def _interruptible() -> Iterator[None]:
    """A plain `kill` cleans up as ^C does."""

    def interrupt(_: int, __: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
