"""Every render case gives its expected bytes: in this process, and alone with nothing of sis to import."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import msgspec
import pytest

from configurator.errors import ConfiguratorError
from configurator.evidence import of_root
from configurator.rendered import RenderedFile
from sis.system import process
from tests.golden.render_cases import Case, cases
from tests.trees import make_tree

CASES = cases()
GOOD = [case for case in CASES if not case.is_error()]

ALONE = """
import io, json, sys
sys.path.insert(0, sys.argv[1])
from configurator.__main__ import main
for argv in json.load(open(sys.argv[2])):
    out, err = io.TextIOWrapper(io.BytesIO()), io.StringIO()
    sys.stdout, sys.stderr = out, err
    code = main(argv)
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
    out.flush()
    print(json.dumps([code, out.buffer.getvalue().decode(), err.getvalue()]))
assert not any(name == "sis" or name.startswith("sis.") for name in sys.modules)
try:
    import sis
except ImportError:
    pass
else:
    raise SystemExit("sis can be imported: this proves nothing")
"""


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 20


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Case) -> None:
    if case.is_error():
        with pytest.raises(ConfiguratorError) as caught:
            case.render()
        assert f"{caught.value}\n" == (case.expected / "error.txt").read_text()
        return
    rendered = {file.path: file for file in case.render()}
    expected = {file.path: file for file in case.expected_files()}
    assert list(rendered) == sorted(expected)
    for path, file in expected.items():
        assert rendered[path] == file


@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.name)
def test_text_is_whole_lines(case: Case) -> None:
    for file in case.render():
        if file.path == "/etc/hostid":
            continue
        text = file.content.decode()
        assert text == "" or text.endswith("\n")
        assert all(letter == "\n" or letter == "\t" or letter.isprintable() for letter in text)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str, str]]:
    """Exit code, stdout and stderr of `render -o json` for every case, from an isolated interpreter."""
    place = tmp_path_factory.mktemp("alone")
    packages = place / "packages"
    packages.mkdir()
    import jinja2
    import markupsafe

    import configurator

    for package in (configurator, msgspec, jinja2, markupsafe):
        assert package.__file__ is not None
        (packages / package.__name__).symlink_to(Path(package.__file__).parent)
    calls = []
    for case in CASES:
        root = make_tree(case.tree, place / "roots" / case.name)
        argv = ["render", "--record", str(case.record_file), "--root", str(root), "-o", "json"]
        calls.append([*argv, "--facts", str(case.facts_file)] if case.facts_file else argv)
    (place / "calls.json").write_text(json.dumps(calls))
    done = process.run([sys.executable, "-I", "-S", "-c", ALONE, str(packages), str(place / "calls.json")], cwd=place)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return {case.name: tuple(row) for case, row in zip(CASES, rows, strict=True)}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_alone_gives_the_same(case: Case, alone: dict[str, tuple[int, str, str]]) -> None:
    code, out, err = alone[case.name]
    if case.is_error():
        expected = (case.expected / "error.txt").read_text().replace("record is not", f"{case.record_file} is not")
        said = "".join(line for line in err.splitlines(keepends=True) if not line.startswith("notice: "))
        assert (code, out, said) == (1, "", f"error: {expected}")
    else:
        assert code == 0
        assert msgspec.json.decode(out, type=tuple[RenderedFile, ...]) == case.expected_files()


@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.name)
def test_a_real_tree_has_the_same_footprint(case: Case, tmp_path: Path) -> None:
    assert of_root(make_tree(case.tree, tmp_path)) == case.footprint
