"""Commands that change something have a row in the audit log, written before they act and completed after."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from sis.cli import program
from sis.cli.context import Context
from sis.errors import SisError

if TYPE_CHECKING:
    from sis.inventory.db import Inventory

CHANGES = frozenset(
    {
        "node add", "node set", "node delete", "node discover accept", "node discover reject", "node discover watch",
        "node release", "node maintenance", "node reboot", "group add", "group remove", "group delete",
        "cluster apply", "cluster edit", "cluster forget", "inventory import", "inventory prune", "inventory keep",
        "deploy", "sync", "rollout pause", "rollout resume", "rollout abort", "head init", "head netboot",
        "image build", "image commit", "image publish", "image rollback", "image prune", "image untag", "image delete",
        "token add", "token revoke", "web login", "web logout", "config apply",
    }
)  # fmt: skip
"""Commands by their words. With -n they change nothing, and have no row."""
_SECRET = ("database",)
_DETAIL_CHARS = 400


class LazyCommand(program.LazyCommand):
    """A command of the head's program: it, and all below it, write to the audit log when they are among CHANGES."""

    def load(self) -> click.Command:
        command = super().load()
        _audit(command)
        return command


def _audit(command: click.Command) -> None:
    if isinstance(command, click.Group):
        for member in command.commands.values():
            _audit(member)
    elif command.callback is not None and not hasattr(command.callback, "_audited"):
        command.callback = _audited(command.callback)


def _audited(callback: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(callback)
    def run(*args: Any, **kwargs: Any) -> Any:
        ctx = click.get_current_context()
        context = ctx.find_object(Context)
        words = " ".join(ctx.command_path.split()[1:])
        if context is None or words not in CHANGES or ctx.params.get("dry_run"):
            return callback(*args, **kwargs)
        entry = _begin(context, words, _target(ctx))
        try:
            done = callback(*args, **kwargs)
        except BaseException as error:
            _end(context, entry, words, _target(ctx), "failed", _reason(error))
            raise
        _end(context, entry, words, _target(ctx), "ok", "")
        return done

    run._audited = True  # type: ignore[attr-defined]  # seen above
    return run


def _begin(context: Context, action: str, target: str) -> int | None:
    """The id of the new row; None where there is no inventory yet."""
    with contextlib.ExitStack() as stack:
        inventory = _opened(context, stack)
        return _row(inventory, action, target) if inventory is not None else None


def _end(context: Context, entry: int | None, action: str, target: str, outcome: Any, detail: str) -> None:
    """Complete the row, or write it when the command itself made the inventory."""
    with contextlib.ExitStack() as stack:
        inventory = _opened(context, stack)
        if inventory is not None:
            known = entry if entry is not None else _row(inventory, action, target)
            inventory.audit.end(known, outcome, detail)


def _opened(context: Context, stack: contextlib.ExitStack) -> Inventory | None:
    where = context.database
    if not isinstance(where, str) and not where.exists():
        return None
    return stack.enter_context(context.open_inventory())


def _row(inventory: Inventory, action: str, target: str) -> int:
    from sis.inventory import acting

    return inventory.audit.begin(acting.user(), "admin", "command", action, target)


def _target(ctx: click.Context) -> str:
    """What was typed behind the command's words; what is secret is not told."""
    words = []
    for param in ctx.command.params:
        value = ctx.params.get(param.name or "")
        source = ctx.get_parameter_source(param.name or "")
        if value in (None, "", (), False) or source is not click.core.ParameterSource.COMMANDLINE:
            continue
        values = [str(each) for each in value] if isinstance(value, tuple) else [str(value)]
        if isinstance(param, click.Argument):
            words += values
        elif value is True:
            words.append(param.opts[-1])
        else:
            words += [f"{param.opts[-1]}={'…' if param.name in _SECRET else each}" for each in values]
    return " ".join(words)


def _reason(error: BaseException) -> str:
    if isinstance(error, SisError):
        return str(error)[:_DETAIL_CHARS]
    return "interrupted" if isinstance(error, click.Abort | KeyboardInterrupt) else repr(error)[:_DETAIL_CHARS]
