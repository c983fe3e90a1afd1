"""Words of a kernel's command line: what a node's record asks for, and how groups' and nodes' words are joined."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from configurator.record import Record

_REPEATABLE = frozenset({"console", "earlycon", "ip", "rd.driver.pre", "module_blacklist"})
"""Words that mean something each time they are said."""


def kernel_parameters(record: Record) -> tuple[str, ...]:
    """For example ("session_id=1", "node_id=3", "nb_nodes_min=4"); empty without Kerrighed.

    With autonodeid the kernel takes the last byte of its IPv4 address as node id, so none is given.
    """
    kerrighed = record.kerrighed
    if kerrighed is None:
        return ()
    node = "autonodeid=1" if kerrighed.autonodeid else f"node_id={record.id}"
    return (f"session_id={kerrighed.session}", node, f"nb_nodes_min={kerrighed.min_nodes}")


def joined_parameters(layers: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """The words of all layers, the most general first (cluster, groups, node).

    A later layer's `key=value` replaces what earlier layers said of that key (not for console and other words that
    may repeat); `-key` takes it away. Within a layer all words stand.
    """
    words: list[str] = []
    for layer in layers:
        removed = {_key(word[1:]) for word in layer if word.startswith("-")}
        said = [word for word in layer if not word.startswith("-")]
        replaced = removed | ({_key(word) for word in said} - _REPEATABLE)
        words = [word for word in words if _key(word) not in replaced and word not in said]
        words.extend(dict.fromkeys(said))
    return tuple(words)


def command_line(record: Record) -> tuple[str, ...]:
    """Everything the record wants on the kernel's command line but the root: its boot parameters and Kerrighed's."""
    own = record.boot.parameters if record.boot is not None else ()
    return joined_parameters([own, kernel_parameters(record)])


def _key(word: str) -> str:
    return word.partition("=")[0]
