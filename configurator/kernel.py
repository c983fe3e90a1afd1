"""Kernel parameters a node's record asks for, as words for its command line."""

from __future__ import annotations

from configurator.record import Record


def kernel_parameters(record: Record) -> tuple[str, ...]:
    """For example ("session_id=1", "node_id=3", "nb_nodes_min=4"); empty without Kerrighed.

    With autonodeid the kernel takes the last byte of its IPv4 address as node id, so none is given.
    """
    kerrighed = record.kerrighed
    if kerrighed is None:
        return ()
    node = "autonodeid=1" if kerrighed.autonodeid else f"node_id={record.id}"
    return (f"session_id={kerrighed.session}", node, f"nb_nodes_min={kerrighed.min_nodes}")
