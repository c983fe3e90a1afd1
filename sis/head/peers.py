"""The head's unix socket on this machine: the kernel says who calls, no password is needed."""

from __future__ import annotations

import asyncio
import contextlib
import grp
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sis.errors import SisError
from sis.head.who import GROUP, PEER

_CREDENTIALS = struct.Struct("3i")


class PeerProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which notes the (uid, gid) of a unix socket's peer in the scope's state."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        line = transport.get_extra_info("socket")
        if line is not None and line.family == socket.AF_UNIX:
            raw = line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            _, uid, gid = _CREDENTIALS.unpack(raw)
            self.app_state = {**self.app_state, PEER: (uid, gid)}


@contextlib.contextmanager
def listen_locally(path: Path) -> Iterator[socket.socket]:
    """A listening socket at `path`, for root and the group `sis` only; removed at the end of the block.

    The caller holds the head's lock, so what is left at `path` is of a head that was killed.
    """
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    mask = os.umask(0o177)
    try:
        # By way of the open folder: a socket's path may have 107 bytes only.
        listener.bind(f"/proc/self/fd/{folder}/{path.name}")
    except OSError as error:
        listener.close()
        raise SisError(f"cannot listen on {path}: {error.strerror}", hint="run as root, or give --state") from error
    finally:
        os.umask(mask)
        os.close(folder)
    try:
        with contextlib.suppress(KeyError, PermissionError):
            os.chown(path, -1, grp.getgrnam(GROUP).gr_gid)
            path.chmod(0o660)
        listener.listen()
        yield listener
    finally:
        listener.close()
        path.unlink(missing_ok=True)
