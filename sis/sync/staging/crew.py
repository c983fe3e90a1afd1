"""Work that is cut into tasks, done by as many as there are cores while more of it is being prepared: each takes the
next task when it has done one.

Second processes where this one has no other thread, so that no two wait for one interpreter; threads otherwise. A
process knows the tasks there were when it was forked; when these are done another takes its place, and knows more.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import queue
import selectors
import signal
import struct
import termios
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterator
from typing import Generic, NoReturn, TypeVar

import msgspec

from sis import errors
from sis.errors import SisError
from sis.sync import forked
from sis.system import memory, parent

_DECK_TASKS = 1024
"""Their numbers, 4 bytes each, lie in a pipe from the beginning: a page, which any pipe holds."""

_PIPE_BYTES = 1 << 20
_HANDS_MAX = 4
_THREADS = 3
_LEAVE_AFTER_S = 2.0
"""How long a thread that waits for its server is waited for when work is broken off."""

_NUMBER = struct.Struct("<I")
_COUNT = struct.Struct("i")
_HEAD = struct.Struct("<cI")
_DONE, _FAILED, _ENDED = b"d", b"f", b"e"

_Result = TypeVar("_Result")
_Worker = Callable[[], contextlib.AbstractContextManager[Callable[[int], _Result]]]
"""Makes, in a process or thread of its own, what does a task when it is called with its number."""


class _Fault(msgspec.Struct, array_like=True):
    """An error on its way between processes. `kind` is a class of `sis.errors`, or "" for one of the kernel's."""

    kind: str
    message: str
    hint: str | None = None
    details: tuple[str, ...] = ()
    number: int = 0
    filename: bytes | None = None


def results(
    kind: type[_Result], portions: Iterator[int | None], worker: _Worker[_Result], *, is_much: bool
) -> Generator[_Result, None, None]:
    """Do tasks and yield what comes of each, in any order.

    kind      of the results, something msgspec can encode
    portions  prepares the tasks: each step tells how many there are by now, numbered 0, 1, …, or None when it wants to
              go on only after one of those under way has been done
    is_much   whether the work is worth processes of its own

    Raises what a task or a step raises; the others are broken off.
    """
    tasks = under_way = 0
    if not is_much:
        tasks = under_way = max((by_now for by_now in portions if by_now is not None), default=0)
        if tasks <= 1:
            with worker() as do:
                yield from map(do, range(tasks))
            return
    crew: _Processes[_Result] | _Threads[_Result]
    if is_much and forked.is_possible():
        crew = _Processes(kind, min(_HANDS_MAX, os.cpu_count() or 1), worker)
    else:
        crew = _Threads(worker)
    try:
        crew.add(range(tasks))
        for by_now in portions:
            if by_now is not None:
                crew.add(range(tasks, by_now))
                tasks, under_way = by_now, under_way + by_now - tasks
            for result in crew.told(patiently=by_now is None and under_way > 0):
                under_way -= 1
                yield result
        while under_way:
            for result in crew.told(patiently=True):
                under_way -= 1
                yield result
    finally:
        crew.leave()


class _Threads(Generic[_Result]):
    """Threads of this process; work that is one task is done by whoever asks what came of it."""

    def __init__(self, worker: _Worker[_Result]) -> None:
        self._worker = worker
        self._left: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._told: queue.SimpleQueue[_Result | BaseException] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    def add(self, numbers: range) -> None:
        for number in numbers:
            self._left.put(number)
        for _ in range(min(len(numbers), _THREADS - len(self._threads))):
            thread = threading.Thread(target=self._work, name=f"ready-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def told(self, *, patiently: bool) -> Iterator[_Result]:
        """What has come since this was last asked; `patiently`: at least one."""
        while patiently or not self._told.empty():
            patiently = False
            told = self._told.get()
            if isinstance(told, BaseException):
                raise told
            yield told

    def leave(self) -> None:
        self._stop.set()
        for _ in self._threads:
            self._left.put(None)
        given_up = time.monotonic() + _LEAVE_AFTER_S
        for thread in self._threads:
            thread.join(max(0.0, given_up - time.monotonic()))

    def _work(self) -> None:
        try:
            with self._worker() as do:
                while (number := self._left.get()) is not None and not self._stop.is_set():
                    self._told.put(do(number))
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that iterates
            self._told.put(error)


class _Processes(Generic[_Result]):
    """Its members end with this process, however that ends; until then they hold the same locks."""

    def __init__(self, kind: type[_Result], hands: int, worker: _Worker[_Result]) -> None:
        self._decoder = msgspec.msgpack.Decoder(kind)
        self._hands = hands
        self._worker = worker
        self._decks: list[int] = []
        self._pipes: dict[int, int] = {}
        self._held: dict[int, bytearray] = {}
        self._ended: set[int] = set()
        self._selector = selectors.DefaultSelector()

    def add(self, numbers: range) -> None:
        for start in range(0, len(numbers), _DECK_TASKS):
            deck, end = os.pipe()
            self._decks.append(deck)
            with contextlib.closing(os.fdopen(end, "wb")) as file:
                file.write(b"".join(map(_NUMBER.pack, numbers[start : start + _DECK_TASKS])))
        if numbers:
            self._hire()

    def told(self, *, patiently: bool) -> Iterator[_Result]:
        """What has come since this was last asked; `patiently`: at least one."""
        while True:
            for key, _events in self._selector.select(None if patiently else 0):
                for result in self._read(key.fd):
                    patiently = False
                    yield result
            if not patiently:
                return

    def leave(self) -> None:
        for pid in self._pipes.values():
            os.kill(pid, signal.SIGKILL)
        for pipe in tuple(self._pipes):
            self._reap(pipe)
        self._selector.close()
        for deck in self._decks:
            os.close(deck)

    def _read(self, pipe: int) -> Iterator[_Result]:
        held = self._held[pipe]
        piece = os.read(pipe, _PIPE_BYTES)
        held += piece
        for what, told in _messages(held):
            if what == _ENDED:
                self._ended.add(pipe)
            elif what == _FAILED:
                _raise(told)
            else:
                yield self._decoder.decode(told)
        if piece:
            return
        self._reap(pipe)
        if pipe not in self._ended:
            raise SisError(
                "a process that made new files ready was killed",
                hint="perhaps there was too little memory (see 'dmesg'); another run goes on from here",
            )
        self._ended.remove(pipe)
        self._hire()

    def _hire(self) -> None:
        """Have as many at work as there are hands, or tasks that nobody has taken."""
        while self._decks and not _bytes_in(self._decks[0]):
            os.close(self._decks.pop(0))
        left = sum(map(_bytes_in, self._decks)) // _NUMBER.size
        for _ in range(min(left, self._hands - len(self._pipes))):
            self._start()

    def _reap(self, pipe: int) -> None:
        self._selector.unregister(pipe)
        os.close(pipe)
        del self._held[pipe]
        os.waitpid(self._pipes.pop(pipe), 0)

    def _start(self) -> None:
        pipe, end = os.pipe()
        with contextlib.suppress(OSError):  # more than this user may have: it only waits more often
            fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        this = os.getpid()
        pid = forked.fork()
        if pid == 0:
            try:
                parent.end_with(this)
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                memory.keep_pieces()
                os.close(pipe)
                self._work(end)
            finally:
                os._exit(0)
        os.close(end)
        self._pipes[pipe] = pid
        self._held[pipe] = bytearray()
        self._selector.register(pipe, selectors.EVENT_READ)

    def _work(self, end: int) -> None:
        try:
            with self._worker() as do:
                for deck in self._decks:
                    while number := os.read(deck, _NUMBER.size):
                        _tell(end, _DONE, do(_NUMBER.unpack(number)[0]))
            _tell(end, _ENDED, None)
        except BaseException as error:  # noqa: BLE001 - raised again in the process that iterates
            _tell(end, _FAILED, _fault(error))


def _bytes_in(pipe: int) -> int:
    (count,) = _COUNT.unpack(fcntl.ioctl(pipe, termios.FIONREAD, bytes(_COUNT.size)))
    return int(count)


def _fault(error: BaseException) -> _Fault:
    if isinstance(error, SisError):
        return _Fault(type(error).__name__, error.message, error.hint, error.details)
    if isinstance(error, OSError) and error.errno is not None:
        name = None if error.filename is None else os.fsencode(error.filename)
        return _Fault("", error.strerror or "", number=error.errno, filename=name)
    return _Fault("RuntimeError", traceback.format_exc())


def _raise(told: bytes) -> NoReturn:
    fault = msgspec.msgpack.decode(told, type=_Fault)
    if not fault.kind:
        raise OSError(fault.number, fault.message, fault.filename)
    kind = getattr(errors, fault.kind, None)
    if kind is None:
        raise RuntimeError(fault.message)
    raise kind(fault.message, hint=fault.hint, details=fault.details)


def _tell(end: int, what: bytes, told: object) -> None:
    data = msgspec.msgpack.encode(told)
    rest = memoryview(_HEAD.pack(what, len(data)) + data)
    while rest:
        rest = rest[os.write(end, rest) :]


def _messages(held: bytearray) -> Iterator[tuple[bytes, bytes]]:
    """Whole messages, taken from the beginning."""
    while len(held) >= _HEAD.size:
        what, size = _HEAD.unpack_from(held)
        if len(held) < _HEAD.size + size:
            return
        told = bytes(held[_HEAD.size : _HEAD.size + size])
        del held[: _HEAD.size + size]
        yield what, told
