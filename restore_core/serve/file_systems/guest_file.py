"""What every file system is read as: a tree of `GuestFile`, each with its facts, its children or its content."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from restore_core.errors import BadData

CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestFacts:
    """What a file system says of one of its files. Nothing in it can be trusted.

    `kind` is file, folder, link or special; `stored` are the bytes of `size` that are in no hole; `mode` is None where the file
    system has none; `mtime` in ns since 1970; `identity` is equal for the names of one file. `problem` says why its content
    cannot be had, `note` what of it is not taken. A name is UTF-8, other bytes in it are surrogates (PEP 383).
    """

    name: str
    kind: str
    size: int = 0
    stored: int = 0
    mode: int | None = None
    mtime: int | None = None
    uid: int | None = None
    gid: int | None = None
    identity: int = 0
    links: int = 1
    link: str = ""
    problem: str = ""
    note: str = ""


class Reader(Protocol):
    """A partition that is open for reading, like a file."""

    def read(self, size: int = -1, /) -> bytes: ...  # noqa: D102
    def seek(self, offset: int, whence: int = 0, /) -> int: ...  # noqa: D102
    def tell(self) -> int: ...  # noqa: D102


class GuestFile(ABC):
    """One file or folder in a volume."""

    folds = False
    """Whether names do not tell large letters from small ones."""

    def __init__(self, facts: GuestFacts) -> None:
        self.facts = facts

    @abstractmethod
    def children(self) -> Iterator[GuestFile]:
        """Yields what a folder holds; an entry that cannot be read has a `problem`. Raises `BadData` for a broken folder."""

    @abstractmethod
    def data(self) -> Iterator[bytes | int]:
        """Yields the content in order: bytes, or the length of a hole. Raises `BadData` where it cannot be read."""

    def find(self, name: str) -> GuestFile | None:
        """Returns the entry of that name."""
        other = None
        for child in self.children():
            if child.facts.name == name:
                return child
            if self.folds and child.facts.name.casefold() == name.casefold():
                other = other or child
        return other


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A file system that is open. `notes` says what of it a reader should know."""

    root: GuestFile
    notes: tuple[str, ...] = ()


def read_at(reader: Reader, offset: int, length: int) -> bytes:
    """Returns exactly these bytes. Raises `BadData` where they end or cannot be read."""
    try:
        reader.seek(offset)
        found = reader.read(length)
    except OSError as error:
        raise BadData(f"{length} bytes at {offset} cannot be read: {error.strerror}") from error
    if len(found) < length:
        raise BadData(f"{length} bytes at {offset} lie beyond the end of the partition")
    return found


def pieces(reader: Reader, runs: Iterator[tuple[int | None, int]], size: int) -> Iterator[bytes | int]:
    """Yields the first `size` bytes of runs: each is an offset (None: a hole) and a length. What they do not say is a hole."""
    for start, whole in runs:
        length = min(whole, size)
        size -= length
        if start is None:
            if length:
                yield length
            continue
        for at in range(0, length, CHUNK):
            yield read_at(reader, start + at, min(CHUNK, length - at))
        if not size:
            return
    if size:
        yield size
