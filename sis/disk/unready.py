"""Boot code for a disk that is not installed yet: it says so, and has the machine try its network again.

Without it a machine that lost its power in the middle of an install, and whom no DHCP server answers in time at the
next start, would run whatever lies in the first sector, and hang there for ever.
"""

from __future__ import annotations

import os

from sis.disk.planned import PlannedDisk

MESSAGE = b"\r\nsis: this disk is not installed yet; trying the network again\r\n"

_CODE_BYTES_MAX = 440
"""What a master boot record has room for, before the disk's number and the partition table."""

_SECTOR = 512
_SIGNATURE = b"\x55\xaa"
_LOADED_AT = 0x7C00

_BEGIN = bytes.fromhex("31c0 8ed8 8ed0 bc007c fb fc be")
"""xor ax,ax; mov ds,ax; mov ss,ax; mov sp,0x7c00; sti; cld; mov si,… (the message's address follows)"""

_SAY = bytes.fromhex("ac 84c0 7409 b40e bb0700 cd10 ebf2")
"""say: lodsb; test al,al; jz done; mov ah,0x0e; mov bx,7; int 0x10; jmp say"""

_AGAIN = bytes.fromhex("b486 b94c00 ba404b cd15 b0fe e664 eaf0ff00f0")
"""done: five seconds (int 0x15, ah 0x86, cx:dx µs); reset by the keyboard controller; jmp 0xf000:0xfff0"""


def boot_code() -> bytes:
    """The first 440 bytes of such a disk. 16-bit code, as a BIOS starts it at 0x7c00."""
    before = len(_BEGIN) + 2 + len(_SAY) + len(_AGAIN)
    code = _BEGIN + (_LOADED_AT + before).to_bytes(2, "little") + _SAY + _AGAIN + MESSAGE + b"\0"
    return code.ljust(_CODE_BYTES_MAX, b"\0")


def is_booted_by_bios(disk: PlannedDisk) -> bool:
    """Whether a boot loader for BIOS will lie on the disk."""
    return disk.sector_bytes == _SECTOR and any(partition.role == "bios-boot" for partition in disk.partitions)


def mark(device: str) -> None:
    """Put the code on a disk, durably; its partition table stays. A boot loader takes its place later."""
    handle = os.open(device, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.pwrite(handle, boot_code(), 0)
        os.pwrite(handle, _SIGNATURE, _SECTOR - len(_SIGNATURE))
        os.fsync(handle)
    finally:
        os.close(handle)
