"""The render cases of fixtures/render: case.json (about, tree, facts), record.json and expected/ in one directory each.

`python -m tests.golden.render_cases` writes every expected/ anew; look at the difference before you keep it.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import NamedTuple

from configurator.errors import ConfiguratorError
from configurator.evidence import of_tree
from configurator.facts import Facts, decode_facts
from configurator.footprint import Footprint
from configurator.record import decode
from configurator.render import render
from configurator.rendered import RenderedFile
from tests.trees import FIXTURES, found, read_listing, reader

CASES = FIXTURES / "render"


class Case(NamedTuple):
    """One case. `expected` holds manifest.json and files/, or error.txt."""

    name: str
    directory: Path
    tree: dict[str, str]
    facts_file: Path | None

    @property
    def record_file(self) -> Path:
        return self.directory / "record.json"

    @property
    def expected(self) -> Path:
        return self.directory / "expected"

    @property
    def facts(self) -> Facts:
        return decode_facts(self.facts_file.read_bytes()) if self.facts_file else Facts()

    @property
    def footprint(self) -> Footprint:
        return of_tree(found(self.tree), reader(self.tree))

    def render(self) -> tuple[RenderedFile, ...]:
        return render(decode(self.record_file.read_bytes()), self.facts, self.footprint)

    def is_error(self) -> bool:
        return (self.expected / "error.txt").exists()

    def expected_files(self) -> tuple[RenderedFile, ...]:
        rows = json.loads((self.expected / "manifest.json").read_text())
        return tuple(self._expected_file(row) for row in rows)

    def _expected_file(self, row: dict[str, str | int]) -> RenderedFile:
        path, kind = str(row["path"]), str(row["kind"])
        return RenderedFile(
            path=path,
            kind=kind,  # type: ignore[arg-type]
            mode=int(str(row["mode"]), 8),
            uid=int(row.get("uid", 0)),
            gid=int(row.get("gid", 0)),
            content=(self.expected / "files" / path.lstrip("/")).read_bytes() if kind == "file" else b"",
            target=str(row.get("target", "")),
            origin=str(row["origin"]),
        )


def cases() -> list[Case]:
    """Every case there is."""
    return [_case(file.parent) for file in sorted(CASES.glob("*/case.json"))]


def _case(directory: Path) -> Case:
    told = json.loads((directory / "case.json").read_text())
    facts = FIXTURES / "facts" / f"{told['facts']}.json" if "facts" in told else None
    return Case(directory.name, directory, read_listing(CASES / "trees" / f"{told['tree']}.json"), facts)


def write_expected(case: Case) -> None:
    """Make what the case renders today what it expects."""
    shutil.rmtree(case.expected, ignore_errors=True)
    case.expected.mkdir()
    try:
        files = case.render()
    except ConfiguratorError as error:
        (case.expected / "error.txt").write_text(f"{error}\n")
        return
    rows = []
    for file in files:
        row: dict[str, str | int] = {"path": file.path, "kind": file.kind, "mode": f"{file.mode:04o}"}
        if (file.uid, file.gid) != (0, 0):
            row |= {"uid": file.uid, "gid": file.gid}
        if file.kind == "symlink":
            row["target"] = file.target
        rows.append(row | {"origin": file.origin})
        if file.kind == "file":
            copy = case.expected / "files" / file.path.lstrip("/")
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.content)
    text = ",\n".join(json.dumps(row) for row in rows)
    (case.expected / "manifest.json").write_text(f"[\n{text}\n]\n")


if __name__ == "__main__":
    for each in cases():
        write_expected(each)
        print(each.name)
