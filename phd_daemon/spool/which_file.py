"""Which control file a name stands for, also where the file system cannot say whether a file is the one it was.

ext4 and XFS count the generations of an inode. Overlayfs (a container), tmpfs and FUSE do not, and give the number of a removed
file to the next one at once: there its content and its owner decide. So an edit of a file that waits is a new request there.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from phd_daemon.spool.control_file import MAX_BYTES
from restore_core.disk.identity import Identity, generation

_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_NOT_A_GENERATION = 1 << 64


def which_file(fd: int) -> Identity:
    """The identity of an open control file. Raises `OSError`."""
    found = os.fstat(fd)
    return Identity(inode=found.st_ino, generation=generation(fd) or _by_content(fd, found))


def file_at(path: Path) -> Identity:
    """The same for what lies under a name; of what cannot be opened (a link, no right to read) only the inode. Raises `OSError`."""
    found = os.lstat(path)
    try:
        fd = os.open(path, _READ)
    except OSError:
        return Identity(inode=found.st_ino, generation=0)
    try:
        return which_file(fd)
    finally:
        os.close(fd)


def _by_content(fd: int, found: os.stat_result) -> int:
    """A number that stands for content and owner, larger than any generation; 0 for what holds no content."""
    try:
        text = os.pread(fd, MAX_BYTES + 1, 0)
    except OSError:
        return 0
    digest = hashlib.blake2b(text, digest_size=8, key=f"{found.st_uid} {found.st_size}".encode()).digest()
    return _NOT_A_GENERATION | int.from_bytes(digest, "big")
