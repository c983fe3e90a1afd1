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


@contextlib.contextmanager
def doing(do: Callable[[int], int], portions: Iterator[int | None], *, is_much: bool = True) -> Iterator[Iterator[int]]:
    @contextlib.contextmanager
    def worker() -> Iterator[Callable[[int], int]]:
        yield do

    with contextlib.closing(crew.results(int, portions, worker, is_much=is_much)) as results:
        yield results


def done(do: Callable[[int], int], *portions: int, is_much: bool = True) -> list[int]:
    """What comes of the tasks, sorted. `portions`: how many there are by each step."""
    with doing(do, iter(portions or (50,)), is_much=is_much) as results:
        return sorted(results)


@pytest.mark.parametrize("is_much", [True, False])
@pytest.mark.parametrize(
    "portions", [(0,), (1,), (2,), (5000,), (0, 1), (0, 0, 1, 1, 3, 3, 40, 2000), (10, 20, 5000, 5001)]
)
def test_every_task_is_done_once(is_much: bool, portions: tuple[int, ...]) -> None:
    assert done(lambda number: number, *portions, is_much=is_much) == list(range(portions[-1]))


def test_more_is_prepared_while_work_is_under_way() -> None:
    """The first task waits for what is prepared after it."""
    reader, writer = os.pipe()

    def portions() -> Iterator[int]:
        yield 1
        os.write(writer, b"!")
        yield 2

    def do(number: int) -> int:
        return number or len(os.read(reader, 1))

    with doing(do, portions()) as results:
        assert sorted(results) == [1, 1]
    os.close(reader)
    os.close(writer)


def test_who_has_nothing_to_add_is_asked_again_when_something_is_done() -> None:
    came: list[int] = []

    def portions() -> Iterator[int | None]:
        yield 3
        while len(came) < 3:
            before = len(came)
            yield None
            assert len(came) > before
        yield 5

    with doing(lambda number: number, portions()) as results:
        came.extend(results)
    assert sorted(came) == [0, 1, 2, 3, 4]


def test_who_adds_nothing_is_not_kept_waiting() -> None:
    """The first task waits for what is prepared after steps that have nothing to add."""
    reader, writer = os.pipe()

    def portions() -> Iterator[int]:
        yield 1
        yield 1
        yield 1
        os.write(writer, b"!")

    with doing(lambda _number: len(os.read(reader, 1)), portions()) as results:
        assert list(results) == [1]
    os.close(reader)
    os.close(writer)


def test_what_is_prepared_later_is_known_to_those_who_do_it() -> None:
    known: list[str] = []

    def portions() -> Iterator[int]:
        for portion in range(1, 6):
            known.extend("x" * (portion * 100 - len(known)))
            yield portion * 100

    with doing(lambda number: len(known[number]), portions()) as results:
        assert list(results) == [1] * 500


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


@pytest.mark.parametrize("is_much", [True, False])
def test_what_goes_wrong_in_preparing_breaks_off_the_work(is_much: bool) -> None:
    def portions() -> Iterator[int]:
        yield 30
        raise NoSpace("full")

    before = _children()
    with pytest.raises(NoSpace, match="full"), doing(lambda number: number, portions(), is_much=is_much) as results:
        list(results)
    assert _children() == before


def test_nobody_is_left_when_it_is_broken_off() -> None:
    @contextlib.contextmanager
    def worker() -> Iterator[Callable[[int], int]]:
        yield lambda number: number

    before = _children()
    results = crew.results(int, iter((2000, 4000)), worker, is_much=True)
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
