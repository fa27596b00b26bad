"""A guest of 512 bytes: a boot sector that prints a text on the serial line and halts. It shows whether a machine boots at all."""

from __future__ import annotations

_CODE = bytes.fromhex(
    "fa"  # cli: the BIOS prints from its timer, in the middle of the text
    "31c0"  # xor ax, ax
    "8ed8"  # mov ds, ax
    "be207c"  # mov si, text
    "baf803"  # mov dx, 0x3f8: COM1
    "ac"  # next: lodsb
    "84c0"  # test al, al
    "7403"  # jz end
    "ee"  # out dx, al
    "ebf8"  # jmp next
    "f4"  # end: hlt
    "ebfd"  # jmp end
)
_TEXT_AT = 0x20
_MOST = 510 - _TEXT_AT - 1


def boot_sector(text: bytes) -> bytes:
    """Returns the first sector of a disk that prints this text; it has no zero byte."""
    if len(text) > _MOST or b"\0" in text:
        raise ValueError(f"at most {_MOST} bytes, none of them zero")
    return (_CODE.ljust(_TEXT_AT, b"\x90") + text).ljust(510, b"\0") + b"\x55\xaa"
