"""Writes a Full: one gzip member a frame, in disk order. Decodes with `zcat`, `gzip -t < FULL`, `pigz -dc`."""

from __future__ import annotations

import hashlib

from restore_core.archive.frames import Effort, FullIdentity, full_member
from restore_core.targets.base import NewFile


class FullWriter:
    """Takes finished members in disk order and keeps what the Delta must know of them. Members are made in any thread."""

    def __init__(self, out: NewFile, identity: FullIdentity, effort: Effort) -> None:
        self._out, self._identity, self._effort = out, identity, effort
        self._sha = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        """Of everything written so far."""
        return self._sha.hexdigest()

    def member(self, frame: int, data: bytes) -> bytes:
        """The member of frame number `frame`."""
        return full_member(data, self._effort, self._identity if frame == 0 else None)

    def add(self, members: bytes) -> None:
        """Append members."""
        self._out.write(members)
        self._sha.update(members)
        self.size += len(members)

    def finish(self) -> None:
        """A disk of 0 bytes still is a gzip: one empty member, which carries the id."""
        if self.size == 0:
            self.add(self.member(0, b""))
