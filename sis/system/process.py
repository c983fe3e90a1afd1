"""The one door to programs: argv lists, no shell, stdin null, clean environment, a deadline, a pasteable log line."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sis.errors import ProgramFailed, SisError

log = logging.getLogger(__name__)

Argv = Sequence[str | os.PathLike[str]]
Child = subprocess.Popen[bytes]
"""A program that `start` started."""

_KEPT_VARIABLES = ("PATH", "HOME", "TMPDIR", "http_proxy", "https_proxy", "no_proxy", "SSH_AUTH_SOCK")
_SBIN = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Completed:
    """A program that ended. `stdout` and `stderr` are text (bytes that are not UTF-8 become surrogates)."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str
    seconds: float


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment children get: a few kept variables, C.UTF-8, and `extra`."""
    env = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    env["PATH"] = env.get("PATH", "") + (":" if env.get("PATH") else "") + _SBIN
    env["LANG"] = env["LC_ALL"] = "C.UTF-8"
    env["DEBIAN_FRONTEND"] = "noninteractive"
    if extra:
        env.update(extra)
    return env


def find(program: str) -> Path | None:
    """Where `program` is on PATH (sbin directories included), or None."""
    found = shutil.which(program, path=environment()["PATH"])
    return Path(found) if found else None


def run(
    argv: Argv,
    *,
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str | bytes | None = None,
    timeout_s: float | None = 600.0,
    check: bool = True,
    on_line: Callable[[str], None] | None = None,
    log_to: Path | None = None,
) -> Completed:
    """Run a program to its end.

    `env` is added to the clean environment. `on_line` gets each line of stdout+stderr as it appears (then
    `stderr` of the result is empty: both streams are one); `log_to` has the same lines appended. On timeout
    or an exception in this process the whole process group of the child is ended before the exception goes on.

    Raises ProgramFailed when it exits non-zero and `check` is true; SisError when the program is missing or
    the deadline passes.
    """
    words = tuple(os.fspath(word) for word in argv)
    log.debug("run: %s", shlex.join(words))
    started = time.monotonic()
    merged = on_line is not None or log_to is not None
    try:
        child = subprocess.Popen(
            words,
            cwd=cwd,
            env=environment(env),
            stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if merged else subprocess.PIPE,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        if cwd is not None and not os.path.isdir(cwd):
            raise SisError(f"{words[0]}: no such working directory: {cwd}") from error
        raise SisError(f"program not found: {words[0]}", hint="run 'sis doctor' to see what is missing") from error
    timer = _Deadline(child, timeout_s)
    try:
        with timer:
            if merged:
                out, err = _follow(child, stdin, on_line, log_to), ""
            else:
                data = stdin.encode() if isinstance(stdin, str) else stdin
                raw_out, raw_err = child.communicate(data)
                out, err = _text(raw_out), _text(raw_err)
            child.wait()
    except BaseException:
        end_group(child.pid)
        child.wait()
        raise
    finally:
        for stream in (child.stdin, child.stdout, child.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
    seconds = time.monotonic() - started
    if timer.passed:
        raise SisError(f"{words[0]} did not end within {timeout_s:.0f} s", details=(out + err).splitlines()[-20:])
    log.debug("ended: %s rc=%d %.2fs", words[0], child.returncode, seconds)
    if check and child.returncode != 0:
        raise ProgramFailed(words, child.returncode, out + err)
    return Completed(words, child.returncode, out, err, seconds)


def start(
    argv: Argv,
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    output: Path | None = None,
    new_session: bool = True,
) -> subprocess.Popen[bytes]:
    """Start a program that goes on (a daemon, a virtual machine); its output goes to `output` or nowhere."""
    words = tuple(os.fspath(word) for word in argv)
    log.debug("start: %s", shlex.join(words))
    sink: int = subprocess.DEVNULL
    if output is not None:
        sink = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        return subprocess.Popen(
            words,
            cwd=cwd,
            env=environment(env),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=new_session,
        )
    except FileNotFoundError as error:
        raise SisError(f"program not found: {words[0]}", hint="run 'sis doctor' to see what is missing") from error
    finally:
        if sink >= 0:
            os.close(sink)


@contextlib.contextmanager
def running(
    argv: Argv, *, output: Path | None = None, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """`start`, and `stop` when the block is left."""
    child = start(argv, output=output, env=env)
    try:
        yield child
    finally:
        stop(child)


def stop(child: subprocess.Popen[bytes], grace_s: float = 5.0) -> int:
    """End a started program: SIGTERM, then SIGKILL after `grace_s`. Returns its exit code."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(grace_s)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    assert child.returncode is not None
    return child.returncode


def end_group(pid: int, grace_s: float = 3.0) -> None:
    """End the process group led by `pid` (one we started): SIGTERM, then SIGKILL."""
    for signum, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 0.0)):
        try:
            os.killpg(pid, signum)
        except (ProcessLookupError, PermissionError):
            return
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline:
            try:
                if os.waitpid(pid, os.WNOHANG)[0] == pid:
                    break
            except ChildProcessError:
                break
            time.sleep(0.05)


class _Deadline:
    """Ends the child's process group when time is up; `passed` says so."""

    def __init__(self, child: subprocess.Popen[bytes], timeout_s: float | None) -> None:
        self.passed = False
        self._child = child
        self._timer = threading.Timer(timeout_s, self._end) if timeout_s is not None else None

    def _end(self) -> None:
        self.passed = True
        for signum in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child.pid, signum)
            time.sleep(0.5)

    def __enter__(self) -> _Deadline:
        if self._timer is not None:
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()


def _follow(
    child: subprocess.Popen[bytes],
    stdin: str | bytes | None,
    on_line: Callable[[str], None] | None,
    log_to: Path | None,
) -> str:
    lines: list[str] = []
    if child.stdin is not None and stdin is not None:
        feed = stdin.encode() if isinstance(stdin, str) else stdin
        threading.Thread(target=_feed, args=(child, feed), daemon=True).start()
    assert child.stdout is not None
    with contextlib.ExitStack() as stack:
        sink = stack.enter_context(log_to.open("ab")) if log_to is not None else None
        for raw in child.stdout:
            if sink is not None:
                sink.write(raw)
                sink.flush()
            line = _text(raw).rstrip("\n")
            lines.append(line)
            if on_line is not None:
                on_line(line)
    return "\n".join(lines)


def _feed(child: subprocess.Popen[bytes], data: bytes) -> None:
    assert child.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        child.stdin.write(data)
    child.stdin.close()


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
