"""The digests of blocks and map pages: a new one is one line in `BlockDigest`. All other digests in an archive are SHA-256."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Callable
from typing import Self, TypeAlias

import blake3

Buffer: TypeAlias = bytes | bytearray | memoryview


def sha256(data: Buffer) -> bytes:
    """Returns the SHA-256 of `data`."""
    return hashlib.sha256(data).digest()


class BlockDigest(enum.Enum):
    """A digest, by its name in the header. `of` computes it, `size` is its length in bytes.

    BLAKE3 is the default: it is fast on processors without SHA instructions.
    """

    BLAKE3 = "blake3", lambda data: blake3.blake3(data).digest()
    SHA256 = "sha256", sha256

    _value_: str
    of: Callable[[Buffer], bytes]
    size: int

    def __new__(cls, name: str, *function: Callable[[Buffer], bytes]) -> Self:
        """Makes the member of one line. `function` is optional only because mypy reads `BlockDigest(name)` as a call of this."""
        self = object.__new__(cls)
        self._value_, (self.of,) = name, function
        self.size = len(self.of(b""))
        return self
