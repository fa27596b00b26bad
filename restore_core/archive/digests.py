"""The digests an archive may name: BLAKE3 (fast without special instructions) or SHA-256 for blocks, SHA-256 for the rest."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Callable
from typing import TypeAlias

import blake3

Buffer: TypeAlias = bytes | bytearray | memoryview
DIGEST_BYTES = 32


class BlockDigest(enum.Enum):
    """Digest of one block of the finished disk; 32 bytes either way."""

    BLAKE3 = "blake3"
    SHA256 = "sha256"

    @property
    def of(self) -> Callable[[Buffer], bytes]:
        """The function from a block's bytes to its digest."""
        return _blake3 if self is BlockDigest.BLAKE3 else sha256


def sha256(data: Buffer) -> bytes:
    """SHA-256 of some bytes."""
    return hashlib.sha256(data).digest()


def _blake3(data: Buffer) -> bytes:
    return blake3.blake3(data).digest()
