"""Ask the running machine which disks it has and what is on them: lsblk, losetup, sfdisk, wipefs and blkid."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sis.disk.found import FoundDisk, Recording, is_disk, parse, partition_number
from sis.errors import Corrupt, NotFound, ProgramFailed
from sis.system import process

_COLUMNS = "NAME,KNAME,PATH,TYPE,SIZE,LOG-SEC,RO,RM,ROTA,TRAN,SERIAL,MODEL,MOUNTPOINTS"
_LINKS = Path("/dev/disk")
_AMBIVALENT = 8
_NOTHING_FOUND = 2


def found_disks(paths: Sequence[str | Path] = ()) -> tuple[FoundDisk, ...]:
    """The disks of this machine; with `paths` only those, which may also be loop devices or image files.

    Raises NotFound for a path that is not there or is neither a disk nor a file.
    """
    found = parse(record(paths))
    if not paths:
        return tuple(disk for disk in found if disk.kind not in ("loop", "file"))
    asked = [_resolved(path) for path in paths]
    return tuple(disk for path in asked for disk in found if disk.path == path)


def record(paths: Sequence[str | Path] = ()) -> Recording:
    """What the programs say about this machine's disks and about `paths` (see Recording)."""
    rows = _json("lsblk", "--json", "--bytes", "--output", _COLUMNS).get("blockdevices", [])
    loops = _json("losetup", "--json", "--list", "--output", "NAME,BACK-FILE,OFFSET,SIZELIMIT").get("loopdevices", [])
    known = {row["path"]: row["type"] for row in rows if is_disk(row)}
    wanted = [_resolved(path) for path in paths] if paths else [path for path in sorted(known) if known[path] == "disk"]
    for path in wanted:
        if path not in known:
            rows.append(_file_row(path))
    tables: dict[str, dict[str, Any]] = {}
    contents: dict[str, dict[str, dict[str, str]]] = {}
    signatures: dict[str, tuple[dict[str, Any], ...]] = {}
    damaged: list[str] = []
    unreadable: dict[str, str] = {}
    for path in wanted:
        wiped = process.run(["wipefs", "--json", "--no-act", path], check=False)
        if wiped.returncode != 0:
            unreadable[path] = wiped.stderr.strip().rpartition(": ")[2] or "wipefs failed"
            continue
        signatures[path] = tuple(_decoded(wiped.stdout, "wipefs")["signatures"])
        answer = process.run(["sfdisk", "--json", path], check=False)
        if answer.returncode != 0:
            continue
        tables[path] = table = _decoded(answer.stdout, "sfdisk")
        if "corrupt" in answer.stderr:
            damaged.append(path)
        contents[path] = dict(_contents(path, table["partitiontable"]))
    return Recording(
        lsblk=tuple(rows),
        loops=tuple(loops),
        links=dict(_links()),
        tables=tables,
        damaged=tuple(damaged),
        signatures=signatures,
        contents=contents,
        unreadable=unreadable,
    )


def _resolved(path: str | Path) -> str:
    try:
        return str(Path(path).resolve(strict=True))
    except OSError as error:
        raise NotFound(f"no such disk: {path}", hint="see: lsblk --output PATH,SIZE,SERIAL,MODEL") from error


def _file_row(path: str) -> dict[str, Any]:
    if not Path(path).is_file():
        raise NotFound(f"{path} is neither a disk nor an image file", hint="see: lsblk --output PATH,SIZE,SERIAL,MODEL")
    return {
        "name": Path(path).name,
        "kname": Path(path).name,
        "path": path,
        "type": "file",
        "size": Path(path).stat().st_size,
        "ro": not os.access(path, os.W_OK),
        "mountpoints": [],
    }


def _contents(path: str, table: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, str]]]:
    """Signatures by partition number, read at their offsets: the kernel need not know the partitions."""
    unit_bytes = int(table.get("sectorsize") or 512)
    for partition in table.get("partitions", ()):
        start_bytes, size_bytes = int(partition["start"]) * unit_bytes, int(partition["size"]) * unit_bytes
        found = signature(path, start_bytes, size_bytes)
        if found:
            yield str(partition_number(str(partition["node"]))), found


def signature(path: str, start_bytes: int = 0, size_bytes: int = 0) -> dict[str, str]:
    """The variables `blkid -p` prints for a device or part of it; {} when nothing is known there."""
    argv = ["blkid", "-p", "-o", "export", "-O", str(start_bytes)]
    if size_bytes:
        argv += ["-S", str(size_bytes)]
    answer = process.run([*argv, path], check=False)
    if answer.returncode == _NOTHING_FOUND:
        return {}
    if answer.returncode == _AMBIVALENT:
        return {"AMBIVALENT": "yes"}
    if answer.returncode != 0:
        raise ProgramFailed(answer.argv, answer.returncode, answer.stdout + answer.stderr)
    pairs = (line.partition("=") for line in answer.stdout.splitlines())
    return {name: _unescaped(value) for name, _, value in pairs if name in ("TYPE", "LABEL", "UUID", "PTTYPE")}


def _unescaped(value: str) -> str:
    """blkid escapes shell characters of a value with a backslash."""
    return value.replace("\\ ", " ").replace("\\\\", "\\")


def _links() -> Iterator[tuple[str, str]]:
    for folder in sorted(_LINKS.glob("by-*")):
        for link in sorted(folder.iterdir()):
            yield str(link), os.path.realpath(link)


def _json(*argv: str) -> dict[str, Any]:
    answer = process.run(argv)
    return _decoded(answer.stdout or "{}", argv[0])


def _decoded(text: str, program: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise Corrupt(f"{program} answered with something that is not JSON: {text[:80]!r}") from error
    if not isinstance(value, dict):
        raise Corrupt(f"{program} answered with something that is not a JSON object: {text[:80]!r}")
    return value
