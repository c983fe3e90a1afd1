"""A port for a program that has to be told one: none that the kernel hands to somebody else in the meantime."""

from __future__ import annotations

import errno
import random
import socket
from pathlib import Path

_LOWEST = 15_000
_own = random.SystemRandom()  # a run with a fixed seed shares the machine with others that have the same


def free_port() -> int:
    """A free loopback port below those that connections and servers with port 0 get."""
    first_of_kernel = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for _ in range(1000):
        port = _own.randrange(_LOWEST, max(first_of_kernel, _LOWEST + 10_000))
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                continue
        return port
    raise AssertionError("no port is free")
