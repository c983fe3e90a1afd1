"""Every text in fixtures/spec is read: good ones come to the values beside them, bad ones give exactly those faults."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sis.errors import SpecInvalid
from sis.spec import cluster, imagespec, layout, yamlio

FIXTURES = Path(__file__).parents[2] / "fixtures" / "spec"


def _cases(folder: str) -> list[str]:
    return sorted(path.name for path in (FIXTURES / folder).glob("*.yaml"))


def _read(name: str) -> Any:
    kind = name.split("-", maxsplit=1)[0]
    if kind == "image":
        return imagespec.load(name, search=[Path()])
    if kind == "layout":
        return layout.load(name)
    if kind == "cluster":
        return {node.name: node for node in cluster.load(name).expand()}
    return yamlio.load(name)


def _at(value: Any, path: str) -> Any:
    for part in re.findall(r"[^.\[\]]+", path):
        if isinstance(value, Mapping):
            value = value[part]
        else:
            value = value[int(part)] if part.isdigit() else getattr(value, part)
    return value


@pytest.mark.parametrize("name", _cases("good"))
def test_good(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FIXTURES / "good")
    made = _read(name)
    for line in Path(name).with_suffix(".expect").read_text(encoding="utf-8").splitlines():
        path, wanted = line.split(" = ", 1)
        got = json.loads(json.dumps(_at(made, path), default=str))
        assert got == json.loads(wanted), path


@pytest.mark.parametrize("name", _cases("bad"))
def test_bad(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FIXTURES / "bad")
    with pytest.raises(SpecInvalid) as caught:
        _read(name)
    assert list(caught.value.details) == Path(name).with_suffix(".expect").read_text(encoding="utf-8").splitlines()
