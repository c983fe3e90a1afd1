"""sis-node sync and sis-node check: a tree and a version in a store, without a head."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from sis.image.store.reference import Resolved
    from sis.sync.model import Change, Outcome, Totals
    from sis.sync.rules import PathPolicy

DEFAULT_STATE = Path("/var/lib/sis-node")
_PROGRESS_EVERY_S = 0.2
_LINES_AT_ONCE = 4096


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(
        (
            click.option(
                "--from",
                "where",
                metavar="URL|DIR",
                help="A head, a copy of a store, or one. Default: this node's head.",
            ),
            click.option("--image", metavar="NAME[@…]", help="compute, compute@12, compute@stable, …"),
            click.option(
                "--root",
                type=click.Path(path_type=Path, file_okay=False),
                help="The tree to be equal to it. Must exist. Default, with neither --from nor --image: /.",
            ),
            click.option("--full", is_flag=True, help="Trust nothing remembered: read every byte."),
            click.option(
                "--state",
                type=click.Path(path_type=Path, file_okay=False),
                default=DEFAULT_STATE,
                show_default=True,
                help="Where what is known of trees is kept between runs.",
            ),
            click.option(
                "--policy",
                default="version",
                show_default=True,
                metavar="version|none|FILE",
                help="Whose paths are whose.",
            ),
            click.option(
                "--mount",
                "mounts",
                multiple=True,
                metavar="PATH",
                help="A mount point to hold too, as it is named below the root: boot. May be given again.",
            ),
            click.option("--key", metavar="HEX", help="Public key the image must be signed with."),
            click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True),
        )
    ):
        command = option(command)
    return command


@click.command
@_options
@click.option("-n", "--dry-run", is_flag=True, help="Say what would change, itemised; change nothing.")
def sync(dry_run: bool, output: str, **given: Any) -> int:
    """Make the tree below --root equal to an image version, moving only what differs. Exits 4 if something stays."""
    from sis.errors import DifferencesFound
    from sis.sync import engine

    started = time.monotonic()
    with _prepared(changing=not dry_run, **given) as (root, arguments), _progress(output) as observe:
        outcome = engine.sync(root, dry_run=dry_run, observe=observe, **arguments)
    _show(outcome, output, time.monotonic() - started, "would change" if dry_run else "changed")
    return 0 if outcome.in_sync or dry_run else DifferencesFound.exit_code


@click.command
@_options
def check(output: str, **given: Any) -> int:
    """Say what differs between the tree below --root and an image version. Exits 4 if anything does."""
    from sis.errors import DifferencesFound
    from sis.sync import engine

    started = time.monotonic()
    with _prepared(changing=False, **given) as (root, arguments):
        outcome = engine.check(root, **arguments)
    _show(outcome, output, time.monotonic() - started, "differ")
    return 0 if outcome.in_sync else DifferencesFound.exit_code


@contextlib.contextmanager
def _prepared(
    *,
    changing: bool,
    where: str | None,
    image: str | None,
    root: Path | None,
    full: bool,
    state: Path,
    policy: str,
    mounts: tuple[str, ...],
    key: str | None,
) -> Iterator[tuple[Path, dict[str, Any]]]:
    from sis.errors import NotFound, UsageFault

    if where is None and image is None and root in (None, Path("/")):
        given = (("--mount", bool(mounts)), ("--policy", policy != "version"), ("--key", key is not None))
        if by_hand := [name for name, is_given in given if is_given]:
            raise UsageFault(
                f"{' and '.join(by_hand)}: what this node is held to, its head says",
                hint="they go with --from, --image and --root; without these leave them out",
            )
        yield _as_the_head_says(full, state)
        return
    if where is None or image is None or root is None:
        missing = [name for name, value in (("--from", where), ("--image", image), ("--root", root)) if value is None]
        raise UsageFault(
            f"missing {' and '.join(missing)}",
            hint="give --from, --image and --root; or none of them, on a node, to compare with what its head wants",
        )
    if not root.is_dir():
        raise NotFound(f"no such directory: {root}", hint="--root must exist; mkdir makes an empty one to be filled")
    from sis.cli.given_mounts import mount_points, must_be_in
    from sis.cli.store_below import refuse_store_below
    from sis.sync import engine

    held = mount_points(root, mounts)
    state = state_of(root, state)
    with engine.begin(root, state, full=full, changing=changing) as begun:
        from sis.image.kept.store import KeptStore
        from sis.image.store.opening import open_store
        from sis.image.store.reference import parse, resolve
        from sis.sync.desired import desired_tree
        from sis.sync.staging.source import documents_of, open_source

        with contextlib.closing(KeptStore(open_store(where), documents_of(state))) as store:
            resolved = resolve(store, parse(image), key=key)
            rules = _policy(policy, resolved)
            if changing:
                refuse_store_below(root, where, rules, held)
            yield (
                root,
                {
                    "want": must_be_in(desired_tree(resolved.version.manifest, store.manifest), held),
                    "policy": rules,
                    "source": open_source(store, resolved.version_id, resolved.version),
                    "state": state,
                    "mounts": held,
                    "full": full,
                    "begun": begun,
                },
            )


def _as_the_head_says(full: bool, state: Path) -> tuple[Path, dict[str, Any]]:
    """This very node, against the image and the layer its head holds it to."""
    from sis.node.config import read_config
    from sis.node.connection import HeadConnection
    from sis.node.held import held_to

    config = read_config()
    head = HeadConnection.of(config)
    held = held_to(head.desired(patience_s=30.0), config.head, pinned_key=config.key, state=state)
    return (
        Path("/"),
        {
            "want": held.want,
            "policy": held.policy,
            "source": held.source,
            "state": state,
            "mounts": held.mounts,
            "full": full,
        },
    )


def state_of(root: Path, state: Path) -> Path:
    """Where what is known of `root` is kept: `state` itself for the running system, else a directory below it."""
    from blake3 import blake3

    real = root.resolve()
    if real == Path("/"):
        return state
    return state / "roots" / blake3(str(real).encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _policy(given: str, resolved: Resolved) -> PathPolicy:
    from sis.image.policy import Policy, read_rules

    if given == "version":
        return Policy(resolved.version.policy)
    if given == "none":
        return Policy()
    return Policy(read_rules(given))


def _show(outcome: Outcome, output: str, seconds: float, verb: str) -> None:
    if output == "json":
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode(outcome), indent=2).decode())
        return
    for start in range(0, len(outcome.changes), _LINES_AT_ONCE):
        click.echo("\n".join(map(_line, outcome.changes[start : start + _LINES_AT_ONCE])))
    for notice in outcome.notices:
        click.echo(f"note: {notice}", err=True)
    click.echo(_summary(outcome.totals, len(outcome.changes), outcome.in_sync, verb, seconds))


def _line(change: Change) -> str:
    """One change, much as rsync itemises: what is done, what differs, where."""
    what = ",".join(change.what) or "-"
    told = "" if change.policy == "enforce" else f"  [{change.policy}]"
    fetched = f"  ({_amount(change.bytes_to_fetch)} to fetch)" if change.bytes_to_fetch else ""
    return f"{change.action:<8} {what:<20} {change.path}{fetched}{told}"


def _summary(totals: Totals, changes: int, in_sync: bool, verb: str, seconds: float) -> str:
    if not changes:
        return f"{totals.entries} entries, nothing differs, {seconds:.1f} s"
    counts = (
        ("created", totals.created),
        ("updated", totals.updated),
        ("metadata", totals.metadata),
        ("removed", totals.removed),
        ("reported only", totals.reported),
    )
    told = ", ".join(f"{count} {name}" for name, count in counts if count)
    return (
        f"{totals.entries} entries, {changes} {verb}: {told}; {_amount(totals.bytes_fetched)} fetched"
        f"{f' ({_amount(totals.bytes_delta)} of it as a delta)' if totals.bytes_delta else ''},"
        f" {_amount(totals.bytes_local)} from this machine, {seconds:.1f} s{'' if in_sync else ', not in sync'}"
    )


def _amount(size_bytes: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size_bytes >= size:
            return f"{size_bytes / size:.1f} {unit}"
    return f"{size_bytes} bytes"


@contextlib.contextmanager
def _progress(output: str) -> Iterator[Callable[[int, int], None] | None]:
    """A line on a terminal's stderr that shows how far it is, gone at the end."""
    if output != "table" or not sys.stderr.isatty():
        yield None
        return
    last = 0.0

    def observe(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if total and now - last >= _PROGRESS_EVERY_S:
            last = now
            click.echo(f"\r\033[K{done * 100 // total:3d}% of {_amount(total)}", nl=False, err=True)

    try:
        yield observe
    finally:
        if last:
            click.echo("\r\033[K", nl=False, err=True)
