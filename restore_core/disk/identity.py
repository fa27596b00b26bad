"""Which file a name means: its inode and generation, because ext4 uses the number of a freed inode again at once.

The device is not compared: the files lie in one folder, and device numbers may change with a boot.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from dataclasses import dataclass

_FS_IOC_GETVERSION = 0x80087601


@dataclass(frozen=True, slots=True, kw_only=True)
class FileIdentity:
    """One file. `generation` is 0 where the file system has none or it could not be read."""

    inode: int
    generation: int

    def same(self, other: FileIdentity) -> bool:
        """Whether it is the same file. An unknown generation is equal to any."""
        unknown = 0 in (self.generation, other.generation)
        return self.inode == other.inode and (unknown or self.generation == other.generation)


def generation(fd: int) -> int:
    """Returns the generation number of the inode, 0 where the file system has none (tmpfs, FUSE)."""
    with contextlib.suppress(OSError):
        answer = fcntl.ioctl(fd, _FS_IOC_GETVERSION, bytes(struct.calcsize("l")))
        return int(struct.unpack("l", answer)[0]) & 0xFFFFFFFF
    return 0


def identity_of(fd: int) -> FileIdentity:
    """Returns the identity of an open file."""
    return FileIdentity(inode=os.fstat(fd).st_ino, generation=generation(fd))


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamps:
    """A file at one moment: which one it is, and everything that changes when somebody writes it or gives it another name."""

    identity: FileIdentity
    size: int
    mtime_ns: int
    ctime_ns: int
    links: int

    def same_content(self, other: Stamps) -> bool:
        """Whether nobody wrote the file in between. It may have been moved, or have another owner."""
        same = (self.size, self.mtime_ns) == (other.size, other.mtime_ns)
        return same and self.identity.same(other.identity)

    def same(self, other: Stamps) -> bool:
        """Whether nobody wrote the file in between nor changed anything else of it."""
        return self.same_content(other) and (self.ctime_ns, self.links) == (other.ctime_ns, other.links)


def stamps_of(fd: int) -> Stamps:
    """Returns the stamps of an open file now."""
    facts = os.fstat(fd)
    return Stamps(
        identity=FileIdentity(inode=facts.st_ino, generation=generation(fd)),
        size=facts.st_size,
        mtime_ns=facts.st_mtime_ns,
        ctime_ns=facts.st_ctime_ns,
        links=facts.st_nlink,
    )
