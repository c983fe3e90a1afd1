"""Tasks are done once each, by processes or threads; what goes wrong in one of them is told by the one that waits."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sis.errors import Corrupt, NoSpace, SisError
from sis.sync.staging import crew


def done(
    do: Callable[[int], int], tasks: int = 50, *, is_much: bool = True, begun: Callable[[], None] = lambda: None
) -> list[int]:
    """What comes of the tasks, sorted."""

    @contextlib.contextmanager
    def worker() -> Iterator[Callable[[int], int]]:
        yield do

    with contextlib.closing(crew.results(int, tasks, worker, is_much=is_much, begun=begun)) as results:
        return sorted(results)


@pytest.mark.parametrize("is_much", [True, False])
@pytest.mark.parametrize("tasks", [0, 1, 2, 5000])
def test_every_task_is_done_once(is_much: bool, tasks: int) -> None:
    begun: list[bool] = []
    assert done(lambda number: number, tasks, is_much=is_much, begun=lambda: begun.append(True)) == list(range(tasks))
    assert begun == [True]


def test_much_is_done_by_other_processes_unless_there_are_threads() -> None:
    if threading.active_count() == 1 and (os.cpu_count() or 1) > 1:
        assert os.getpid() not in done(lambda _number: os.getpid())
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait)
    thread.start()
    assert set(done(lambda _number: os.getpid())) == {os.getpid()}
    ended.set()
    thread.join()


@pytest.mark.parametrize("is_much", [True, False])
def test_errors_arrive_as_what_they_were(is_much: bool) -> None:
    def fail(error: BaseException) -> Callable[[int], int]:
        def do(number: int) -> int:
            if number == 7:
                raise error
            return number

        return do

    with pytest.raises(OSError, match="No space left") as caught:
        done(fail(OSError(28, "No space left on device", b"d/\xff")), is_much=is_much)
    assert (caught.value.errno, os.fsencode(caught.value.filename)) == (28, b"d/\xff")
    with pytest.raises(NoSpace, match="full") as refused:
        done(fail(NoSpace("full", hint="free some", details=["/: 3"])), is_much=is_much)
    assert (refused.value.hint, refused.value.details) == ("free some", ("/: 3",))
    with pytest.raises(Corrupt, match="bad"):
        done(fail(Corrupt("bad")), is_much=is_much)
    with pytest.raises((RuntimeError, ZeroDivisionError), match="no such thing"):
        done(fail(ZeroDivisionError("no such thing")), is_much=is_much)


def test_a_process_that_is_killed_is_missed() -> None:
    this = os.getpid()

    def do(number: int) -> int:
        if os.getpid() != this and number == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        if os.getpid() == this and number == 3:
            raise SisError("a process that made new files ready was killed")  # threads are here: nobody to be killed
        return number

    with pytest.raises(SisError, match="was killed"):
        done(do)


def test_nobody_is_left_when_it_is_broken_off() -> None:
    @contextlib.contextmanager
    def worker() -> Iterator[Callable[[int], int]]:
        yield lambda number: number

    before = _children()
    results = crew.results(int, 4000, worker, is_much=True, begun=lambda: None)
    next(results)
    results.close()
    assert _children() == before


def _children() -> set[int]:
    """Processes this one has begun and not waited for; a test's process may have some of its own."""
    found = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            pid, _, rest = status.read_text().partition(" (")
            if int(rest.rpartition(") ")[2].split()[1]) == os.getpid():
                found.add(int(pid))
    return found
