"""What this machine is made of, told to the head when it differs from what was told last."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

import msgspec

from configurator.facts import Facts, read_facts
from sis.errors import SisError
from sis.node.connection import HeadConnection
from sis.system.files import atomic_write
from sis.wire import Hello

log = logging.getLogger(__name__)

_TOLD = "facts.told"
_OF_THE_MOMENT: dict[str, Any] = {"link": False, "speed_mbps": None}


def tell_facts(head: HeadConnection, state: Path, root: Path = Path("/")) -> bool:
    """Tell the head the facts of the machine at `root` unless it knows them; whether they were told.

    A head that cannot be told now is told next time: nothing is raised.
    """
    facts = read_facts(root)
    digest = _digest(facts)
    place = state / _TOLD
    try:
        if place.exists() and place.read_text() == digest:
            return False
        head.hello(hello_of(head.node, facts), patience_s=30)
        atomic_write(place, digest.encode(), mode=0o644)
    except (SisError, OSError) as error:
        log.warning("the head was not told this machine's facts: %s", error)
        return False
    return True


def hello_of(node: str, facts: Facts) -> Hello:
    """The hello of a node that is installed already."""
    return Hello(
        node=node,
        macs=tuple(interface.mac for interface in facts.interfaces if interface.mac),
        uuid=facts.uuid,
        facts=msgspec.to_builtins(facts),
    )


def _digest(facts: Facts) -> str:
    """Names the hardware: a link that comes and goes is no other machine."""
    steady = [msgspec.structs.replace(each, **_OF_THE_MOMENT) for each in facts.interfaces]
    return hashlib.sha256(msgspec.json.encode(msgspec.structs.replace(facts, interfaces=tuple(steady)))).hexdigest()
