"""A spec's packages changed in its text: a line comes and goes, comments stay, what is inherited is taken away."""

from __future__ import annotations

from typing import Any

from sis.spec import package_list, yamlio

SPEC = """\
# our nodes
image: ours   # by name
extends: compute

# what users asked for
packages:
  - tree      # directories
  - htop
# the clock
timezone: UTC
"""


def read(text: str) -> Any:
    return yamlio.parse(text.encode(), "spec").value


def test_a_package_is_added_below_the_others_and_all_else_stays() -> None:
    changed = package_list.add(SPEC, "vim")
    assert changed == SPEC.replace("  - htop\n", "  - htop\n  - vim\n")
    assert package_list.add(changed, "vim") == changed


def test_a_package_goes_with_its_line() -> None:
    assert package_list.remove(SPEC, "htop", inherited=False) == SPEC.replace("  - htop\n", "")
    last = package_list.remove(package_list.remove(SPEC, "htop", inherited=False), "tree", inherited=False)
    assert "packages" not in read(last)
    assert "# the clock" in last


def test_what_is_inherited_is_taken_away_and_given_back() -> None:
    without = package_list.remove(SPEC, "openssh-server", inherited=True)
    assert read(without)["packages"] == ["tree", "htop", "-openssh-server"]
    assert package_list.add(without, "openssh-server") == SPEC


def test_packages_in_one_line_or_none_are_written_anew() -> None:
    assert read(package_list.add("image: a\npackages: [b, c]\n", "d"))["packages"] == ["b", "c", "d"]
    assert read(package_list.add("image: a\n", "d")) == {"image": "a", "packages": ["d"]}
    assert read(package_list.remove("image: a\npackages: [b, c]\n", "b", inherited=False))["packages"] == ["c"]


def test_only_keys_that_differ_are_written() -> None:
    same = {"timezone": "UTC", "packages": ["tree", "htop"], "locale": None}
    assert package_list.set_keys(SPEC, same) == SPEC
    changed = package_list.set_keys(SPEC, {**same, "timezone": "Europe/Paris", "kernel": {"modules": ["bonding"]}})
    assert changed.startswith(SPEC.replace("UTC", "Europe/Paris"))
    assert read(changed)["kernel"] == {"modules": ["bonding"]}
