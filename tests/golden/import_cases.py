"""The import cases of fixtures/import: input.*, and what is made of it: expected.yaml and report.txt, or error.txt.

`python -m tests.golden.import_cases` writes what is expected anew; look at the difference before you keep it.
"""

from __future__ import annotations

from pathlib import Path

from configurator.errors import ConfiguratorError
from configurator.importing import read
from tests.trees import FIXTURES


def cases() -> list[Path]:
    """The directory of every case."""
    return sorted(path for path in (FIXTURES / "import").iterdir() if path.is_dir())


def made(case: Path) -> dict[str, str]:
    """File name → text, of what the case gives today."""
    (file,) = case.glob("input.*")
    try:
        imported = read(file.name, file.read_bytes())
    except ConfiguratorError as error:
        return {"error.txt": f"{error}\n"}
    return {"expected.yaml": imported.yaml, "report.txt": "".join(f"{line}\n" for line in imported.report)}


if __name__ == "__main__":
    for each in cases():
        for name, text in made(each).items():
            (each / name).write_text(text)
