"""The `sis` program itself: what it imports, its help, its exit codes and messages."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from sis import __version__
from sis.cli import COMMANDS, main
from sis.cli.output import as_yaml, human_bytes, plain, printable
from sis.cli.program import LazyCommand, Program
from sis.errors import DifferencesFound, NotFound, ProgramFailed, Refused, SisError, SomeNodesFailed, UsageFault

HEAVY = (
    "pydantic",
    "sqlalchemy",
    "fastapi",
    "starlette",
    "rich",
    "yaml",
    "msgspec",
    "ClusterShell",
    "cryptography",
    "jinja2",
)
NO_ROOM = "make room (df tells where), and run it again"
MOST_MODULES = 150
"""Modules loaded beyond the interpreter's own; click alone brings 62."""


@pytest.mark.parametrize("word", ["--version", "--help"])
def test_start_up_loads_click_and_little_else(word: str) -> None:
    code = f"""
import json, sys
before = set(sys.modules)
from sis.cli import main
try:
    main([{word!r}])
except SystemExit as ended:
    assert not ended.code
print(json.dumps(sorted(set(sys.modules) - before)), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = json.loads(done.stderr)
    assert not [name for name in loaded if name.split(".")[0] in HEAVY]
    assert len(loaded) < MOST_MODULES


def test_version() -> None:
    assert CliRunner().invoke(main, ["--version"]).output == f"sis {__version__}\n"


def every_command() -> list[tuple[tuple[str, ...], click.Command]]:
    found: list[tuple[tuple[str, ...], click.Command]] = []

    def visit(path: tuple[str, ...], command: click.Command) -> None:
        real = command.load() if isinstance(command, LazyCommand) else command
        found.append((path, real))
        if isinstance(real, click.Group):
            for name, member in real.commands.items():
                visit((*path, name), member)

    for command in COMMANDS:
        visit((str(command.name),), command)
    return found


@pytest.mark.parametrize(
    ("path", "command"), every_command(), ids=lambda it: " ".join(it) if isinstance(it, tuple) else ""
)
def test_every_command_has_help(path: tuple[str, ...], command: click.Command) -> None:
    done = CliRunner().invoke(main, [*path, "--help"])
    assert done.exit_code == 0, done.output
    assert command.help
    if path[0] in ("node", "cluster", "deploy", "sync", "status", "head", "doctor") and not isinstance(
        command, click.Group
    ):
        assert "Example: sis " in done.output


def test_near_names_of_commands_are_offered() -> None:
    for words, near in ((["imag"], "'image'"), (["node", "lisst"], "'list'")):
        done = CliRunner().invoke(main, words)
        assert done.exit_code == 2
        assert f"Did you mean {near}?" in done.output


def faulty(error: BaseException) -> click.Command:
    @click.group("sis", cls=Program)
    def program() -> None: ...

    @program.command()
    def go() -> None:
        raise error

    return program


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (SisError("broken", hint="mend it", details=["a", "b"]), 1, "sis: broken\n  a\n  b\nhint: mend it\n"),
        (UsageFault("wrong"), 2, "sis: wrong\n"),
        (NotFound.of("node", "n10", ["n1"]), 1, "sis: no such node: n10\nhint: did you mean n1?\n"),
        (SomeNodesFailed("2 of 3"), 3, "sis: 2 of 3\n"),
        (DifferencesFound("n1 differs"), 4, "sis: n1 differs\n"),
        (Refused("no"), 5, "sis: no\n"),
        (ProgramFailed(["mkfs"], 1, "line"), 1, "sis: mkfs failed (exit code 1)\n  line\n"),
        (KeyboardInterrupt(), 130, "\nsis: interrupted\n"),
        (
            PermissionError(errno.EACCES, "Permission denied", "/srv/sis/refs"),
            1,
            "sis: /srv/sis/refs: Permission denied\nhint: run as root, or as who owns it\n",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            1,
            f"sis: No space left on device\nhint: {NO_ROOM}\n",
        ),
    ],
)
def test_errors_become_text_and_exit_codes(error: BaseException, code: int, text: str) -> None:
    done = CliRunner().invoke(faulty(error), ["go"], prog_name="sis")
    assert done.exit_code == code
    assert done.stderr == text


@pytest.mark.parametrize(
    ("typed", "code", "said"),
    [(KeyboardInterrupt(), 130, "\nsis: interrupted\n"), (EOFError(), 1, "\nsis: no answer: nothing was done\n")],
)
def test_a_question_that_gets_no_answer(typed: BaseException, code: int, said: str) -> None:
    """As click raises it, whose question leaves the line as it is."""
    unanswered = click.Abort()
    unanswered.__context__, unanswered.__suppress_context__ = typed, True
    done = CliRunner().invoke(faulty(unanswered), ["go"], prog_name="sis")
    assert (done.exit_code, done.stderr) == (code, said)


@pytest.mark.parametrize("bug", [ZeroDivisionError("ours"), OSError(errno.EBADF, "Bad file descriptor")])
def test_a_bug_shows_its_traceback(bug: Exception) -> None:
    done = CliRunner().invoke(faulty(bug), ["go"], prog_name="sis")
    assert isinstance(done.exception, type(bug))


def test_usage_faults_are_two() -> None:
    assert CliRunner().invoke(main, ["node", "add"]).exit_code == 2
    assert CliRunner().invoke(main, ["-o", "xml", "node", "list"]).exit_code == 2


def test_global_options_stand_anywhere(tmp_path: Path) -> None:
    for words in (
        ["--state", str(tmp_path), "-o", "json", "node", "list"],
        ["node", "list", "--state", str(tmp_path), "-o", "json"],
    ):
        if not (tmp_path / "state.db").exists():
            assert CliRunner().invoke(main, ["--state", str(tmp_path), "head", "init"]).exit_code == 0
        done = CliRunner().invoke(main, words)
        assert (done.exit_code, done.output) == (0, "[]\n")


def test_a_closed_pipe_is_no_traceback(tmp_path: Path) -> None:
    done = subprocess.run(
        f"{sys.executable} -m sis --help | true", shell=True, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr


def test_values_on_the_screen() -> None:
    assert [human_bytes(n) for n in (0, 999, 1000, 12_345, 10**9, 5 * 10**15)] == [
        "0 B", "999 B", "1.0 kB", "12.3 kB", "1.0 GB", "5000.0 TB",
    ]  # fmt: skip
    assert [plain(v) for v in (None, True, ["a", 1], 3)] == ["", "yes", "a,1", "3"]
    assert printable("a\x1b[31mred\n") == "a\\x1b[31mred\\x0a"
    assert as_yaml([{"mac": "52:54:00:12:34:56", "no": "no"}]) == "- mac: '52:54:00:12:34:56'\n  'no': 'no'\n"


def test_colours_follow_the_switch_and_the_environment(tmp_path: Path) -> None:
    assert CliRunner().invoke(main, ["--state", str(tmp_path), "head", "init"]).exit_code == 0
    assert CliRunner().invoke(main, ["--state", str(tmp_path), "node", "add", "n[1-2]"]).exit_code == 0
    words = ["--state", str(tmp_path), "node", "list"]
    plain_text = CliRunner().invoke(main, words).output
    assert "\x1b[" not in plain_text
    assert "\x1b[" in CliRunner().invoke(main, [*words, "--color", "always"]).output
    assert "\x1b[" in CliRunner().invoke(main, words, env={"FORCE_COLOR": "1"}).output
    assert "\x1b[" not in CliRunner().invoke(main, words, env={"FORCE_COLOR": "1", "NO_COLOR": "1"}).output


def test_a_program_of_its_own_ends_with_all_written_and_its_last_acts_done() -> None:
    code = (
        "import atexit, sys; atexit.register(print, 'last'); sys.argv[1:] = ['--version'];"
        "from sis.cli.node_main import main; main(prog_name='sis-node')"
    )
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=buffered)
    assert done.stdout.splitlines()[1:] == ["last"]
    assert done.stdout.startswith("sis-node ")
