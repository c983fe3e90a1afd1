"""Work that is cut into tasks, done by as many as there are cores: each takes the next task when it has done one.

Second processes where this one has no other thread, so that no two wait for one interpreter; threads otherwise.
"""

from __future__ import annotations

import contextlib
import os
import queue
import selectors
import signal
import struct
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

TASKS_MAX = 8192
"""Their numbers, 4 bytes each, lie in a pipe from the beginning."""

_HANDS_MAX = 4
_THREADS = 3
_LEAVE_AFTER_S = 2.0
"""How long a thread that waits for its server is waited for when work is broken off."""

_NUMBER = struct.Struct("<I")
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
    kind: type[_Result], tasks: int, worker: _Worker[_Result], *, is_much: bool, begun: Callable[[], None]
) -> Generator[_Result, None, None]:
    """Do the tasks 0, 1, … and yield what comes of each, in any order; `begun` is called when all are under way.

    kind     of the results, something msgspec can encode
    is_much  whether the work is worth processes of its own

    Raises what a task raises; the others are broken off.
    """
    if tasks <= 1:
        begun()
        with worker() as do:
            for number in range(tasks):
                yield do(number)
        return
    hands = min(tasks, _HANDS_MAX, os.cpu_count() or 1)
    crew: _Processes[_Result] | _Threads[_Result]
    crew = _Processes(kind, tasks, hands, worker) if is_much and forked.is_possible() else _Threads(tasks, worker)
    try:
        begun()
        yield from crew.results()
    finally:
        crew.leave()


class _Threads(Generic[_Result]):
    def __init__(self, tasks: int, worker: _Worker[_Result]) -> None:
        self._worker = worker
        self._left = iter(range(tasks))
        self._guard = threading.Lock()
        self._stop = threading.Event()
        self._told: queue.SimpleQueue[tuple[bytes, _Result | BaseException | None]] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"ready-{number}", daemon=True)
            for number in range(min(tasks, _THREADS))
        ]
        for thread in self._threads:
            thread.start()

    def results(self) -> Iterator[_Result]:
        ended = 0
        while ended < len(self._threads):
            what, told = self._told.get()
            if what == _ENDED:
                ended += 1
            elif isinstance(told, BaseException):
                raise told
            else:
                yield told  # type: ignore[misc]

    def leave(self) -> None:
        self._stop.set()
        given_up = time.monotonic() + _LEAVE_AFTER_S
        for thread in self._threads:
            thread.join(max(0.0, given_up - time.monotonic()))

    def _work(self) -> None:
        try:
            with self._worker() as do:
                while not self._stop.is_set():
                    with self._guard:
                        number = next(self._left, None)
                    if number is None:
                        break
                    self._told.put((_DONE, do(number)))
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that iterates
            self._told.put((_FAILED, error))
        self._told.put((_ENDED, None))


class _Processes(Generic[_Result]):
    """Its members end with this process, however that ends; until then they hold the same locks."""

    def __init__(self, kind: type[_Result], tasks: int, hands: int, worker: _Worker[_Result]) -> None:
        self._decoder = msgspec.msgpack.Decoder(kind)
        self._tasks, end = os.pipe()
        with contextlib.closing(os.fdopen(end, "wb")) as file:
            file.write(b"".join(map(_NUMBER.pack, range(tasks))))
        self._pipes: dict[int, int] = {}
        self._selector = selectors.DefaultSelector()
        for _ in range(hands):
            self._start(worker)

    def results(self) -> Iterator[_Result]:
        held = {pipe: bytearray() for pipe in self._pipes}
        ended: set[int] = set()
        while self._pipes:
            for key, _events in self._selector.select():
                piece = os.read(key.fd, 1 << 20)
                held[key.fd] += piece
                for what, told in _messages(held[key.fd]):
                    if what == _ENDED:
                        ended.add(key.fd)
                    elif what == _FAILED:
                        _raise(told)
                    else:
                        yield self._decoder.decode(told)
                if not piece:
                    self._reap(key.fd)
                    if key.fd not in ended:
                        raise SisError(
                            "a process that made new files ready was killed",
                            hint="perhaps there was too little memory (see 'dmesg'); another run goes on from here",
                        )

    def leave(self) -> None:
        for pid in self._pipes.values():
            os.kill(pid, signal.SIGKILL)
        for pipe in tuple(self._pipes):
            self._reap(pipe)
        self._selector.close()
        os.close(self._tasks)

    def _reap(self, pipe: int) -> None:
        self._selector.unregister(pipe)
        os.close(pipe)
        os.waitpid(self._pipes.pop(pipe), 0)

    def _start(self, worker: _Worker[_Result]) -> None:
        pipe, end = os.pipe()
        this = os.getpid()
        pid = forked.fork()
        if pid == 0:
            try:
                parent.end_with(this)
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                memory.keep_pieces()
                os.close(pipe)
                self._work(end, worker)
            finally:
                os._exit(0)
        os.close(end)
        self._pipes[pipe] = pid
        self._selector.register(pipe, selectors.EVENT_READ)

    def _work(self, end: int, worker: _Worker[_Result]) -> None:
        try:
            with worker() as do:
                while number := os.read(self._tasks, _NUMBER.size):
                    _tell(end, _DONE, do(_NUMBER.unpack(number)[0]))
            _tell(end, _ENDED, None)
        except BaseException as error:  # noqa: BLE001 - raised again in the process that iterates
            _tell(end, _FAILED, _fault(error))


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
