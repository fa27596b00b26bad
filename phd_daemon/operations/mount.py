"""Shows the disk of a backup and its partitions as files, over FUSE, read-only, until it is unmounted.

FUSE is the way for programs that want a file: fuse2fs, ntfs-3g, losetup. phd mounts no file system of a guest: the kernel's
drivers are not made for those that were made to hurt. Each read goes to the disk, and each byte was verified.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from restore_core.errors import DestinationError, PhdError, TargetUnavailable, UsageError
from restore_core.naming import printable
from restore_core.serve.disk import ServedDisk
from restore_core.serve.magic_bytes import DiskBytes
from restore_core.serve.partitions import PartBytes, PartitionTable, read_partitions

RAW = "disk.raw"
_INSTALL = "Install it: pip install 'phd-daemon[mount]', and Debian's package fuse3."


@dataclass(frozen=True, slots=True, kw_only=True)
class Mounted:
    """A disk that is mounted: the folder, its table, and the sizes of the files by name."""

    folder: Path
    table: PartitionTable
    files: dict[str, int]


def mount_disk(disk: ServedDisk, folder: Path, *, ready: Callable[[Mounted], None], complain: Callable[[str], None]) -> None:
    """Mounts and serves until the folder is unmounted or ^C. `ready` is called once, `complain` for each read that failed.

    Raises `UsageError` for a folder that is none or not empty, `TargetUnavailable` without FUSE, `DestinationError` if the mount
    is refused.
    """
    where = printable(str(folder))
    if not folder.is_dir():
        raise UsageError(f"{where}: there is no such folder", remedy="Make it, empty.")
    if any(folder.iterdir()):
        raise UsageError(f"{where}: this folder is not empty", remedy="Name an empty one: a mount hides what is in it.")
    fuse = _fuse()
    table = read_partitions(disk)
    parts: dict[str, DiskBytes] = {RAW: disk, **{part.name: PartBytes(disk, part) for part in table.partitions}}
    mounted = Mounted(folder=folder, table=table, files={name: part.size for name, part in parts.items()})
    operations = _Files(disk, parts, complain)
    operations.ready = lambda: ready(mounted)
    options = {"foreground": True, "ro": True, "nosuid": True, "nodev": True, "noexec": True, "default_permissions": True}
    try:
        fuse.FUSE(operations, os.fspath(folder), nothreads=False, fsname="phd", kernel_cache=True, **options)
    except RuntimeError as error:
        remedy = "See what fusermount3 says above; /dev/fuse must be there and open to this user."
        raise DestinationError(f"{where}: FUSE does not mount it (code {error})", remedy=remedy) from error


def _fuse() -> Any:
    try:
        import mfusepy
    except (ImportError, OSError) as error:  # without libfuse its import raises OSError
        raise TargetUnavailable(f"FUSE is not installed here: {printable(str(error))}", remedy=_INSTALL) from error
    if not os.path.exists("/dev/fuse"):
        raise TargetUnavailable(
            "there is no /dev/fuse here", remedy="Load the module (modprobe fuse), or give it to the container."
        )
    return mfusepy


class _Files:
    """What answers the kernel; the methods have the names and arguments of the library's `Operations`."""

    use_ns = True

    def __init__(self, disk: ServedDisk, parts: dict[str, DiskBytes], complain: Callable[[str], None]) -> None:
        self._parts, self._complain = parts, complain
        time = disk.header.time * 10**9
        self._facts = {"st_uid": os.geteuid(), "st_gid": os.getegid(), "st_mtime": time, "st_ctime": time, "st_atime": time}
        self.ready: Callable[[], None] = lambda: None

    def init(self, _path: str) -> None:
        self.ready()

    def getattr(self, path: str, _fh: int | None = None) -> dict[str, int]:
        if path == "/":
            return {"st_mode": stat.S_IFDIR | 0o500, "st_nlink": 2, **self._facts}
        return {"st_mode": stat.S_IFREG | 0o400, "st_nlink": 1, "st_size": self._part(path).size, **self._facts}

    def readdir(self, _path: str, _fh: int) -> list[str]:
        return [".", "..", *self._parts]

    def open(self, path: str, flags: int) -> int:
        self._part(path)
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return 0

    def read(self, path: str, size: int, offset: int, _fh: int) -> bytes:
        part = self._part(path)
        size = max(0, min(size, part.size - offset))
        try:
            return part.read(offset, size) if size else b""
        except PhdError as error:
            self._complain(error.message)
            raise OSError(errno.EIO, os.strerror(errno.EIO)) from error

    def _part(self, path: str) -> DiskBytes:
        if path[1:] not in self._parts:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        return self._parts[path[1:]]
