"""Switch ports by DHCP option 82: dnsmasq's lease script writes what relays added, a small file for each MAC."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Mapping
from pathlib import Path

SCRIPT_NAME = "dhcp-script"
FOLDER = "dhcp-ports"
KEPT_S = 3600.0
"""How long a file waits for its machine to be discovered: DHCP comes before the boot answer."""

_SCRIPT = """\
#!/bin/sh
# Run by dnsmasq at each lease: DNSMASQ_CIRCUIT_ID and DNSMASQ_REMOTE_ID are what a relay added (option 82).
[ "$1" != del ] && [ -n "$DNSMASQ_CIRCUIT_ID$DNSMASQ_REMOTE_ID" ] || exit 0
case $2 in *[!0-9a-f:]*) exit 0 ;; esac
cd '{folder}' || exit 0
printf '%s\\n%s\\n' "$DNSMASQ_REMOTE_ID" "$DNSMASQ_CIRCUIT_ID" > ".$2" && mv ".$2" "$2"
"""
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_BYTES = re.compile(r"[0-9a-fA-F]{1,2}(:[0-9a-fA-F]{1,2})*")


def script(folder: Path) -> str:
    """The text of the script, which writes into `folder`."""
    return _SCRIPT.format(folder=folder)


def seen(folder: Path) -> Mapping[str, dict[str, str]]:
    """MAC → {"switch": …, "port": …}, as far as told; files that are too old are dropped."""
    found: dict[str, dict[str, str]] = {}
    with contextlib.suppress(FileNotFoundError):
        for path in folder.iterdir():
            if not _MAC.fullmatch(path.name):
                continue
            lines = path.read_text(errors="replace").splitlines()
            told = {"switch": readable(lines[0] if lines else ""), "port": readable(lines[1] if len(lines) > 1 else "")}
            found[path.name] = {name: value for name, value in told.items() if value}
            if time.time() - path.stat().st_mtime > KEPT_S:
                path.unlink(missing_ok=True)
    return found


def forget(folder: Path, mac: str) -> None:
    """Drop what was told of a MAC: it is known now."""
    (folder / mac).unlink(missing_ok=True)


def readable(value: str) -> str:
    """An id as dnsmasq gives it, in hex pairs: as text where all of it is printable, else in one run of hex digits."""
    value = value.strip()
    if not _BYTES.fullmatch(value):
        return "".join(filter(str.isprintable, value))[:64]
    raw = bytes(int(pair, 16) for pair in value.split(":"))
    text = raw.decode("ascii", "replace")
    return text[:64] if text.isascii() and text.isprintable() else raw.hex()[:64]
