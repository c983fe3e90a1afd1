"""Kernel command lines: layers joined, the record's words."""

from __future__ import annotations

import pytest

from configurator.kernel import command_line, joined_parameters
from configurator.record import Boot, Kerrighed, Record


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ([], ()),
        ([["quiet"], ["quiet"]], ("quiet",)),
        ([["a=1", "b=2"], ["a=3"]], ("b=2", "a=3")),
        ([["quiet", "splash"], ["-quiet"]], ("splash",)),
        ([["mitigations=off"], ["-mitigations"], ["mitigations=auto"]], ("mitigations=auto",)),
        ([["console=tty0"], ["console=ttyS0"]], ("console=tty0", "console=ttyS0")),
        ([["console=tty0"], ["-console", "console=ttyS0"]], ("console=ttyS0",)),
        (
            [["hugepagesz=2M", "hugepages=4", "hugepagesz=1G", "hugepages=8"]],
            ("hugepagesz=2M", "hugepages=4", "hugepagesz=1G", "hugepages=8"),
        ),
    ],
)
def test_joined(layers: list[list[str]], words: tuple[str, ...]) -> None:
    assert joined_parameters(layers) == words


def test_command_line() -> None:
    record = Record(
        name="n003", id=3, boot=Boot(parameters=("quiet", "node_id=9")), kerrighed=Kerrighed(session=1, min_nodes=2)
    )
    assert command_line(record) == ("quiet", "session_id=1", "node_id=3", "nb_nodes_min=2")
    assert command_line(Record(name="n003", id=3)) == ()
