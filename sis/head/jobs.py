"""Long work asked for in the console: a `sis` command as the head's child, one at a time, its log told live."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import sys
import threading
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Literal

import msgspec
from anyio import to_thread

from sis.errors import Locked, NotFound, SisError
from sis.inventory.clock import now, seconds_between
from sis.inventory.db import Inventory
from sis.inventory.stream import row
from sis.system import files, process

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.4
KEPT = 50
STEPS_SHOWN = 100
LOG_PIECE_BYTES = 256 << 10
LISTEN_S = 900.0
HEARTBEAT_S = 15.0
END_GRACE_S = 20.0
_STEP = b"\xe2\x96\xb8 "
"""What a command's output has before each step it begins."""

Outcome = Literal["running", "ok", "failed", "cancelled", "lost"]


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One command that was run. `words` go after `sis`; `outcome` "lost": the head ended while it ran."""

    id: int
    title: str
    words: tuple[str, ...]
    by: str
    started: str
    pid: int = 0
    ended: str | None = None
    outcome: Outcome = "running"
    told: str = ""
    """The last line of a job that failed."""

    @property
    def command(self) -> str:
        return "sis " + shlex.join(self.words)

    @property
    def seconds(self) -> float:
        """How long it took, or has taken so far."""
        return seconds_between(self.started, self.ended or now())


class Jobs:
    """Jobs below STATE/jobs: `<id>.json` what it is, `<id>.log` what it said. Safe in threads."""

    def __init__(self, state: Path, inventory: Inventory) -> None:
        self._state = state
        self._inventory = inventory
        self._folder = state / "jobs"
        self._lock = threading.Lock()
        self._child: process.Child | None = None
        self._running: Job | None = None
        self._cancelled = False
        self._read_bytes = 0
        self._settled = False
        self.listeners = 0

    def start(self, title: str, words: Sequence[str], *, by: str) -> Job:
        """Run `sis WORDS…`. Raises Locked while another job runs."""
        with self._lock:
            self._settle_old()
            if self._running is not None:
                raise Locked(
                    f"job {self._running.id} ({self._running.title}) is running since {self._running.started}",
                    hint="wait for its end, or cancel it",
                )
            files.make_dirs(self._folder)
            known = self._ids()
            job = Job(id=max(known, default=0) + 1, title=title, words=tuple(words), by=by, started=now())
            argv = [sys.executable, "-m", "sis", "--verbose", "--state", str(self._state), *words]
            env = {name: os.environ[name] for name in ("SIS_DATABASE",) if name in os.environ}
            self._child = process.start(argv, env=env, output=self.log_path(job.id))
            self._running = msgspec.structs.replace(job, pid=self._child.pid)
            self._cancelled, self._read_bytes = False, 0
            self._write(self._running)
            for old in known[:-KEPT]:
                (self._folder / f"{old}.json").unlink(missing_ok=True)
                self.log_path(old).unlink(missing_ok=True)
            running = self._running
        self._tell(running, "start", "start", running.command)
        return running

    def cancel(self, job_id: int) -> Job:
        """Ask a running job to end; it cleans up first. Raises NotFound when it is not running."""
        with self._lock:
            if self._running is None or self._running.id != job_id or self._child is None:
                raise NotFound(f"job {job_id} is not running")
            self._cancelled = True
            self._child.terminate()
            return self._running

    def running(self) -> Job | None:
        return self._running

    def all(self) -> list[Job]:
        """Newest first."""
        with self._lock:
            self._settle_old()
            return [job for number in reversed(self._ids()) if (job := self._read(number)) is not None]

    def get(self, job_id: int) -> Job:
        """Raises NotFound."""
        with self._lock:
            self._settle_old()
            job = self._read(job_id)
        if job is None:
            raise NotFound(f"no such job: {job_id}")
        return job

    def log_path(self, job_id: int) -> Path:
        return self._folder / f"{job_id}.log"

    def tail(self, job_id: int, limit_bytes: int = LOG_PIECE_BYTES) -> tuple[str, int]:
        """The end of a job's log from the start of a line, and the place in it up to where this goes."""
        try:
            with self.log_path(job_id).open("rb") as stream:
                size = stream.seek(0, os.SEEK_END)
                stream.seek(max(0, size - limit_bytes))
                raw = stream.read(limit_bytes)
        except FileNotFoundError:
            return "", 0
        if size > limit_bytes:
            raw = raw[raw.find(b"\n") + 1 :]
        return raw.decode("utf-8", "replace"), size

    def steps(self, job: Job) -> list[tuple[str, float, bool]]:
        """Its steps so far: name, seconds, and whether it is over."""
        rows = self._inventory.stream.last(STEPS_SHOWN, kinds=("job",), ref=job.id)
        begun = [each for each in rows if each.what not in ("start", "end") and each.time >= job.started]
        ends = [each.time for each in begun[1:]] + [job.ended or now()]
        return [
            (each.what, seconds_between(each.time, end), each is not begun[-1] or job.ended is not None)
            for each, end in zip(begun, ends, strict=False)
        ]

    async def frames(self, job_id: int, place: int) -> AsyncIterator[bytes]:
        """Server-sent events of a job's log after byte `place`: `log` with text, `end` with the outcome."""
        self.listeners += 1
        try:
            until = time.monotonic() + LISTEN_S
            beat = time.monotonic()
            yield b"retry: 2000\n\n"
            while time.monotonic() < until:
                job = await to_thread.run_sync(self.get, job_id)
                raw = await to_thread.run_sync(self._piece, job_id, place)
                if job.outcome == "running":
                    raw = raw[: raw.rfind(b"\n") + 1]
                if raw:
                    place += len(raw)
                    text = msgspec.json.encode({"text": raw.decode("utf-8", "replace")})
                    yield b"event: log\nid: %d\ndata: %s\n\n" % (place, text)
                    continue
                if job.outcome != "running":
                    yield b"event: end\nid: %d\ndata: %s\n\n" % (place, msgspec.json.encode({"outcome": job.outcome}))
                    return
                if time.monotonic() - beat > HEARTBEAT_S:
                    beat = time.monotonic()
                    yield b": alive\n\n"
                await asyncio.sleep(LOOK_EVERY_S)
        finally:
            self.listeners -= 1

    async def follow(self) -> None:
        """Tell the steps of the running job and note its end, for as long as the head runs."""
        while True:
            if self._running is not None:
                try:
                    await to_thread.run_sync(self._look)
                except SisError as fault:
                    log.warning("%s", fault.message)
            await asyncio.sleep(LOOK_EVERY_S)

    def end_soon(self) -> None:
        """Ask the running job to end, without waiting for it."""
        child = self._child
        if child is not None:
            child.terminate()

    def stop(self) -> None:
        """End the running job, and wait for its end: the head goes, and nothing is left behind."""
        with self._lock:
            child, job = self._child, self._running
            self._child = self._running = None
            if child is None or job is None:
                return
            process.stop(child, END_GRACE_S)
            self._write(msgspec.structs.replace(job, ended=now(), outcome="lost", told="the head ended"))

    def _look(self) -> None:
        with self._lock:
            child, job = self._child, self._running
        if child is None or job is None:
            return
        code = child.poll()
        for step in self._new_steps(job.id):
            self._tell(job, step, "start", "")
        if code is None:
            return
        outcome: Outcome = "ok" if code == 0 else "cancelled" if self._cancelled else "failed"
        text, _ = self.tail(job.id, 4096)
        said = [line for line in text.splitlines() if line.startswith("sis: ")] or text.splitlines()[-1:]
        told = "" if code == 0 else (said[-1] if said else f"exit code {code}")
        ended = msgspec.structs.replace(job, ended=now(), outcome=outcome, told=told[:500])
        with self._lock:
            if self._running is not job:
                return
            self._child = self._running = None
            self._write(ended)
        self._tell(ended, "end", outcome, told, seconds=ended.seconds)

    def _new_steps(self, job_id: int) -> list[str]:
        """Names of the steps its log has told since the last look; a line not yet whole waits."""
        raw = self._piece(job_id, self._read_bytes)
        whole = raw[: raw.rfind(b"\n") + 1]
        self._read_bytes += len(whole)
        return [
            line.removeprefix(_STEP).decode("utf-8", "replace")[:32]
            for line in whole.splitlines()
            if line.startswith(_STEP)
        ]

    def _piece(self, job_id: int, place: int) -> bytes:
        try:
            with self.log_path(job_id).open("rb") as stream:
                stream.seek(place)
                return stream.read(LOG_PIECE_BYTES)
        except FileNotFoundError:
            return b""

    def _tell(self, job: Job, what: str, outcome: str, text: str, *, seconds: float = 0.0) -> None:
        self._inventory.stream.tell(
            [row("job", subject=job.title, what=what, outcome=outcome, text=text, ref=job.id, seconds=seconds)]
        )

    def _settle_old(self) -> None:
        """Once: jobs that an earlier head left running are ended and lost."""
        if self._settled:
            return
        self._settled = True
        for number in self._ids():
            job = self._read(number)
            if job is not None and job.outcome == "running":
                if _is_ours(job):
                    process.end_group(job.pid)
                self._write(msgspec.structs.replace(job, ended=now(), outcome="lost", told="the head ended"))

    def _ids(self) -> list[int]:
        return sorted(int(path.stem) for path in self._folder.glob("*.json") if path.stem.isdecimal())

    def _read(self, job_id: int) -> Job | None:
        try:
            return msgspec.json.decode((self._folder / f"{job_id}.json").read_bytes(), type=Job)
        except (OSError, msgspec.MsgspecError):
            return None

    def _write(self, job: Job) -> None:
        files.atomic_write(self._folder / f"{job.id}.json", msgspec.json.encode(job))


def _is_ours(job: Job) -> bool:
    """Whether the process of that number still is the job: numbers are used again."""
    try:
        argv = Path(f"/proc/{job.pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return all(word.encode() in argv for word in ("--verbose", "--state", *job.words))
