"""What a node knows of itself before it asks: from the kernel command line (install) or /etc/sis/node.json (after)."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from sis.errors import SisError

CONFIG_PATH = Path("etc/sis/node.json")


class NodeConfig(msgspec.Struct, frozen=True, kw_only=True):
    """An installed node's identity: the head's URL, its own name, its own private key, and the head's public key.

    Both keys are Ed25519, in hex. `secret` signs what the node says; `key` is pinned: it signs images and answers.
    """

    head: str
    node: str
    secret: str
    key: str


class BootConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What the boot answer put on the kernel command line for one install."""

    head: str
    node: str
    token: str
    key: str
    debug: bool = False


def read_config(root: Path = Path("/")) -> NodeConfig:
    """The node's own configuration below `root`. Raises SisError when the node was not installed by sis."""
    path = root / CONFIG_PATH
    try:
        return msgspec.json.decode(path.read_bytes(), type=NodeConfig)
    except FileNotFoundError as error:
        raise SisError(
            f"this node was not installed by sis: {path} is missing",
            hint="without a head: sis-node sync --from URL|DIR --image NAME --root DIR",
        ) from error
    except PermissionError as error:
        raise SisError(f"cannot read {path}", hint="run as root") from error
    except msgspec.MsgspecError as error:
        raise SisError(f"{path}: {error}", hint="reinstall the node, or restore the file from a backup") from error


def write_config(root: Path, config: NodeConfig) -> None:
    """Write the node's configuration below `root`, readable by root only, in one rename."""
    path = root / CONFIG_PATH
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(msgspec.json.format(msgspec.json.encode(config), indent=2) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)


def boot_config(command_line: str | None = None) -> BootConfig:
    """The install parameters on the kernel command line (`sis.head=`, `sis.node=`, `sis.token=`, `sis.key=`)."""
    text = Path("/proc/cmdline").read_text() if command_line is None else command_line
    given = {}
    for word in text.split():
        name, _, value = word.partition("=")
        if name.startswith("sis."):
            given[name.removeprefix("sis.")] = value
    missing = [f"sis.{name}=" for name in ("head", "node", "token", "key") if not given.get(name)]
    if missing:
        raise SisError(
            f"not booted for an install: the kernel command line lacks {', '.join(missing)}",
            hint="arm the node with 'sis deploy NODE' and boot it from the network",
        )
    return BootConfig(
        head=given["head"],
        node=given["node"],
        token=given["token"],
        key=given["key"],
        debug="debug" in given,
    )
