"""How a command line program of ours behaves: commands loaded when named, faults turned into text and exit codes."""

from __future__ import annotations

import atexit
import dataclasses
import errno
import gc
import importlib
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from sis.cli.context import OUTPUTS, Context
from sis.errors import SisError

INTERRUPTED = 130


class Program(click.Group):
    """A top-level group: the one place where SisError, ^C and usage faults become messages and exit codes."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        program = prog_name or self.name or "sis"
        # A list of 5,000 nodes is some 300,000 small objects, no garbage: looking for cycles took a fifth of its time.
        gc.set_threshold(100_000, 20, 20)
        try:
            code = super().main(args, program, complete_var, standalone_mode=False, **extra)
            sys.stdout.flush()
        except SisError as fault:
            tell(fault, program)
            sys.exit(fault.exit_code)
        except click.ClickException as fault:
            fault.show()
            sys.exit(fault.exit_code)
        except click.Abort as fault:
            sys.exit(_told_abort(fault, program))
        except OSError as fault:
            if fault.errno == errno.EPIPE:
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            elif fault.errno in _OF_THE_MACHINE:
                tell(_of_the_machine(fault), program)
            else:
                raise
            sys.exit(1)
        code = code if isinstance(code, int) else 0
        if args is None and threading.active_count() == 1:
            _leave(code)
        sys.exit(code)


def _leave(code: int) -> NoReturn:
    """End this very process, all being written: the kernel takes its memory back at once, Python piece by piece.

    Of a sync that changes nothing that was a seventh.
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


_PERMISSION = "run as root, or as who owns it"
_NO_ROOM = "make room (df tells where), and run it again"
_OF_THE_MACHINE = {
    errno.EACCES: _PERMISSION,
    errno.EPERM: _PERMISSION,
    errno.EROFS: "it is mounted read-only",
    errno.ENOSPC: _NO_ROOM,
    errno.EDQUOT: _NO_ROOM,
    errno.ENOTDIR: "there is a file where a directory is needed",
    errno.EIO: "the disk does not do what it should: see the kernel's log",
}
"""What a machine may lack wherever something is opened or written, and what to do about it."""


def _of_the_machine(fault: OSError) -> SisError:
    where = f"{os.fsdecode(fault.filename)}: " if isinstance(fault.filename, str | bytes) else ""
    return SisError(f"{where}{fault.strerror}", hint=_OF_THE_MACHINE[fault.errno or 0])


def _told_abort(fault: click.Abort, program: str) -> int:
    """Say why nothing more is done: ^C, or a question that got no answer."""
    cause = fault.__cause__ or fault.__context__
    if isinstance(cause, KeyboardInterrupt):
        # click ends the line of a program that was interrupted, not that of a question.
        click.echo(f"{'' if fault.__cause__ else chr(10)}{program}: interrupted", err=True)
        return INTERRUPTED
    click.echo(f"\n{program}: no answer: nothing was done", err=True)
    return 1


def tell(fault: SisError, program: str) -> None:
    """Print a fault on stderr: message, details, hint."""
    click.echo(f"{click.style(f'{program}:', fg='red', bold=True)} {fault.message}", err=True)
    for line in fault.details:
        click.echo(f"  {line}", err=True)
    if fault.hint:
        click.echo(f"{click.style('hint:', bold=True)} {fault.hint}", err=True)


class LazyCommand(click.Command):
    """A command known by name and one line of help; `target` ("module:attribute") is imported when it is called.

    `members` are added to the loaded group when it has no command of that name itself.
    """

    def __init__(self, name: str, target: str, summary: str, *, members: Sequence[LazyCommand] = ()) -> None:
        super().__init__(name, short_help=summary, help=summary)
        self._target = target
        self._members = members

    def load(self) -> click.Command:
        """The real command. Global options are accepted by it and by everything below it."""
        module, _, attribute = self._target.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command), self._target
        if isinstance(command, click.Group):
            for member in self._members:
                command.commands.setdefault(member.name or "", member)
        _accept_global_options(command)
        return command

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        return self.load().make_context(info_name, args, parent, **extra)


def _accept_global_options(command: click.Command) -> None:
    if isinstance(command, click.Group):
        for member in command.commands.values():
            if not isinstance(member, LazyCommand):
                _accept_global_options(member)
        return
    taken = {word for param in command.params for word in param.opts}
    for option in _global_options():
        if taken.isdisjoint(option.opts):
            command.params.append(option)


def _global_options() -> tuple[click.Option, ...]:
    shared: dict[str, Any] = {"expose_value": False, "callback": _override, "hidden": True}
    return (
        click.Option(["-o", "--output"], type=click.Choice(OUTPUTS), **shared),
        click.Option(["--state"], type=click.Path(path_type=Path, file_okay=False), **shared),
        click.Option(["--color"], type=click.Choice(["auto", "always", "never"]), **shared),
    )


def _override(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    known = ctx.find_object(Context)
    if value is None or known is None or param.name is None:
        return
    if isinstance(value, Path):
        value = value.absolute()
    ctx.obj = dataclasses.replace(known, **{param.name: value})
