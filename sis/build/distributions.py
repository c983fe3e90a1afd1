"""The distributions apt builds: their keyrings, the parts of their archives, their names for things."""

from __future__ import annotations

from dataclasses import dataclass

from sis.errors import NotFound


@dataclass(frozen=True)
class Distribution:
    """`keyrings` sign its own archives, files on the head; `components` are the parts those archives have."""

    name: str
    keyrings: tuple[str, ...]
    components: frozenset[str]
    keyring_package: str


DISTRIBUTIONS = {
    "debian": Distribution(
        name="debian",
        keyrings=("/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-archive-keyring.pgp"),
        components=frozenset({"main", "contrib", "non-free", "non-free-firmware"}),
        keyring_package="debian-archive-keyring",
    ),
    "ubuntu": Distribution(
        name="ubuntu",
        keyrings=("/usr/share/keyrings/ubuntu-archive-keyring.gpg",),
        components=frozenset({"main", "restricted", "universe", "multiverse"}),
        keyring_package="ubuntu-keyring",
    ),
}


def distribution(name: str) -> Distribution:
    """The distribution of that name. Raises NotFound."""
    found = DISTRIBUTIONS.get(name)
    if found is None:
        raise NotFound.of("distribution", name, DISTRIBUTIONS)
    return found
