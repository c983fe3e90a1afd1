"""The methods that are measured, in the order they run. One small module each."""

from __future__ import annotations

from collections.abc import Iterable

from sis.errors import UsageFault
from tests.bench.methods.casync import Casync
from tests.bench.methods.method import Method
from tests.bench.methods.ostree import Ostree, OstreeDelta
from tests.bench.methods.ours import Ours, OursHead
from tests.bench.methods.rsync import Rsync, RsyncChecksum, RsyncCompressed

METHODS: tuple[type[Method], ...] = (
    Ours,
    OursHead,
    Rsync,
    RsyncCompressed,
    RsyncChecksum,
    Casync,
    Ostree,
    OstreeDelta,
)


def chosen(names: Iterable[str]) -> tuple[type[Method], ...]:
    """The methods of those names, all of them for none. Raises UsageFault."""
    known = {method.name: method for method in METHODS}
    wanted = [name for name in names if name]
    for name in wanted:
        if name not in known:
            raise UsageFault(f"BENCH_METHODS: no such method: {name}", hint=f"some of {', '.join(known)}")
    return tuple(method for method in METHODS if not wanted or method.name in wanted)
