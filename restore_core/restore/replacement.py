"""The record of one replacement of a disk by another, kept in the hold.

It says which inode is the new disk and which the old one, and the names they may have meanwhile. After a crash it tells which
file is which.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Self

from restore_core import durable
from restore_core.disk.alone import Alone, alone
from restore_core.disk.destination import Destination
from restore_core.disk.identity import Identity, Stamps, stamps_of
from restore_core.errors import DestinationError, is_no_answer
from restore_core.naming import printable

_DOING = "replacing"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedFile:
    """One of the two files, as the record names it."""

    inode: int
    generation: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, stamps: Stamps) -> Self:
        """As it is now."""
        identity = stamps.identity
        return cls(inode=identity.inode, generation=identity.generation, size=stamps.size, mtime_ns=stamps.mtime_ns)

    def is_it(self, stamps: Stamps) -> bool:
        """The same file, whatever was written to it."""
        return Identity(inode=self.inode, generation=self.generation).same(stamps.identity)

    def unchanged(self, fd: int) -> bool:
        """Nobody wrote it since."""
        now = stamps_of(fd)
        return self.is_it(now) and (self.size, self.mtime_ns) == (now.size, now.mtime_ns)

    def unused(self, fd: int) -> bool:
        """Nobody else has it open, and nobody wrote it since. The process must have no other descriptor of it."""
        return self.unchanged(fd) and alone(fd) is not Alone.NO


@dataclass(frozen=True, slots=True, kw_only=True)
class Replacement:
    """`private` is the new file's name before the exchange and the old one's after it; `aside` the old one's without one."""

    private: str
    aside: str
    new: RecordedFile
    old: RecordedFile
    descriptor: str | None
    boot: str
    proven: bool = False
    """The exchange is done and nobody had the old disk open: from here on there is only forward."""

    def as_record(self) -> dict[str, Any]:
        """For `Hold.write_record`."""
        return {"doing": _DOING, **asdict(self)}

    @classmethod
    def from_record(cls, record: dict[str, Any] | None, destination: Destination) -> Self | None:
        """None for a record of anything else, and for one with names that are not ours: those may lead out of the folder."""
        if record is None or record.get("doing") != _DOING:
            return None
        with contextlib.suppress(KeyError, TypeError):
            new, old = RecordedFile(**record["new"]), RecordedFile(**record["old"])
            plain = {key: record[key] for key in ("private", "aside", "descriptor", "boot", "proven")}
            if destination.is_private(plain["private"]) and destination.is_private(plain["aside"]):
                return cls(new=new, old=old, **plain)
        return None

    @contextlib.contextmanager
    def opened(self, destination: Destination) -> Iterator[dict[str, tuple[str, int]]]:
        """(name, descriptor) of the new and the old file, wherever they lie. Raises `OSError` if they cannot be looked for now."""
        found: dict[str, tuple[str, int]] = {}
        names = (destination.disk_name, self.private, self.aside, destination.part_name, *destination.private_names())
        try:
            for name in dict.fromkeys(names):
                if (fd := _opened(name, destination.folder_fd)) is None:
                    continue
                which = self._which(stamps_of(fd))
                if which and which not in found:
                    found[which] = (name, fd)
                else:
                    os.close(fd)
            yield found
        finally:
            for _name, fd in found.values():
                os.close(fd)

    def _which(self, stamps: Stamps) -> str:
        return "new" if self.new.is_it(stamps) else "old" if self.old.is_it(stamps) else ""


def _opened(name: str, folder_fd: int) -> int | None:
    """Returns an open file, None where there is none of ours.

    An error that says nothing about the file is raised: an old disk that cannot be opened for want of descriptors is not gone.
    """
    try:
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder_fd)
    except OSError as error:
        if is_no_answer(error):
            raise
        return None


def back_to_part(destination: Destination, private: str) -> None:
    """Give a private name back to the part file; where there is another one already, it goes. Raises `OSError`.

    So does a file with a second name: it may be somebody's copy of a disk, and a part file is written to.
    """
    if os.stat(private, dir_fd=destination.folder_fd, follow_symlinks=False).st_nlink > 1:
        durable.remove(private, dir_fd=destination.folder_fd, durable=False)
        return
    folder = destination.folder_fd
    try:
        durable.move(private, destination.part_name, source_dir_fd=folder, to_dir_fd=folder)
    except FileExistsError:
        durable.remove(private, dir_fd=folder, durable=False)


def third_file(destination: Destination, *names: str) -> DestinationError:
    """The refusal when neither of the two lies under the disk's name."""
    lies = ", ".join(printable(name) for name in names)
    return DestinationError(
        f"{destination.where}: a change of the disk was interrupted and a third file took the name; the disk lies there as {lies}",
        remedy="Decide which one is wanted, give it the name, remove the others, then restore again.",
    )
