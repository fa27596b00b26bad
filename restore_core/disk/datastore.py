"""Tells which disk a datastore is, by a marker file in it and by its file system.

    marker        .phd-datastore in the datastore, a small text with a UUID: moves with `cp -a` to a new disk
    file system   its type and UUID, and which folder of it the datastore is: survives the removal of the marker

Either is enough. Only when both differ it is another disk, or an empty mount point. The device number is not compared: it
changes with a reboot or a remount. Where the kernel tells no UUID, f_fsid is used on file systems that make it from their UUID,
and the mount's source (`nas:/export`, `/dev/mapper/vg-data`) on all others. The folder is compared, too, because the empty mount
point of a bind mount may be a folder of the same file system.

Not guaranteed: where only the source is known (XFS before Linux 4, FAT, a share), another disk behind the same source is the same.
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from restore_core import mounts
from restore_core.errors import is_no_answer

MARKER = ".phd-datastore"
_FS_IOC_GETFSUUID = 0x80111500
_XFS_IOC_FSGEOMETRY_V1 = 0x80705864
_XFS_UUID = slice(64, 80)
_NEW_EACH_TIME = frozenset({"tmpfs", "ramfs"})
"""File systems to which the kernel gives a new UUID with each mount."""
_FSID_FROM_UUID = frozenset({"ext2", "ext3", "ext4", "btrfs", "zfs", "f2fs"})
_MARKED = re.compile(rb"^datastore ([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$", re.MULTILINE)
_MAX_MARKER = 4096
_MARKER_TEXT = """\
# phd knows this disk by this file: it shows that it is mounted, and not another disk or an empty mount point.
# Leave it here. A copy of the whole datastore may have a copy of it. See 'phd datastores'.
datastore {}
"""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSystem:
    """A file system, and its folder that is the datastore. `uuid` and `fsid` are empty where the kernel tells none."""

    type: str
    uuid: str
    fsid: str
    source: str
    folder: str

    def same(self, other: FileSystem) -> bool:
        """Whether it is the same folder of the same file system, as far as both are known."""
        if (self.type, self.folder) != (other.type, other.folder):
            return False
        if self.uuid and other.uuid:
            return self.uuid == other.uuid
        if self.type in _FSID_FROM_UUID and self.fsid and other.fsid:
            return self.fsid == other.fsid
        return self.source == other.source

    def describe(self) -> str:
        """Returns a text for people: `ext4 1f0c...`, `nfs4 nas:/export`."""
        return f"{self.type} {self.uuid or self.source}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DatastoreFacts:
    """What a datastore is now, or was when it was recorded. `marker` is None where there is none, or it cannot be read."""

    marker: str | None
    file_system: FileSystem


class Standing(enum.Enum):
    """How a datastore compares with its record."""

    NEW = "new"
    BOTH = "marker and file system"
    MARKER = "marker"
    FILE_SYSTEM = "file system"
    OTHER = "another disk than recorded"


def compare(recorded: DatastoreFacts | None, now: DatastoreFacts) -> Standing:
    """Returns which of marker and file system are as recorded. Pure."""
    if recorded is None:
        return Standing.NEW
    marker = recorded.marker is not None and recorded.marker == now.marker
    file_system = recorded.file_system.same(now.file_system)
    if marker and file_system:
        return Standing.BOTH
    if marker:
        return Standing.MARKER
    return Standing.FILE_SYSTEM if file_system else Standing.OTHER


def facts_of_datastore(datastore: Path) -> DatastoreFacts:
    """Returns what a datastore is now. Raises `OSError` when the folder cannot be opened, or nothing can be read now."""
    fd = os.open(datastore, _FOLDER)
    try:
        return DatastoreFacts(marker=_marker(fd), file_system=_file_system(fd))
    finally:
        os.close(fd)


def datastore_of(path: Path, roots: tuple[Path, ...]) -> Path | None:
    """Returns the datastore of a path, as it is written: the direct child of the longest root above it. Pure."""
    root = max((root for root in roots if root in path.parents), key=lambda each: len(each.parts), default=None)
    return None if root is None else root / path.relative_to(root).parts[0]


def new_marker() -> tuple[str, bytes]:
    """Returns a new UUID for a marker, and the bytes of the marker file."""
    name = _spelled(os.urandom(16))
    return name, marker_text(name)


def marker_text(name: str) -> bytes:
    """Returns the bytes of the marker file."""
    return _MARKER_TEXT.format(name).encode()


def _marker(folder: int) -> str | None:
    try:
        fd = os.open(MARKER, _READ, dir_fd=folder)
    except OSError as error:
        if is_no_answer(error):
            raise
        return None
    try:
        found = _MARKED.search(os.pread(fd, _MAX_MARKER, 0)) if stat.S_ISREG(os.fstat(fd).st_mode) else None
        return found[1].decode() if found else None
    finally:
        os.close(fd)


def _file_system(folder: int) -> FileSystem:
    mount = mounts.mount_of(folder)
    kind = mount.type if mount else ""
    return FileSystem(
        type=kind,
        uuid=_uuid(folder, kind),
        fsid=f"{fsid:x}" if (fsid := os.fstatvfs(folder).f_fsid) else "",
        source=mount.source if mount else "",
        folder=mounts.folder_in(mount, os.readlink(f"/proc/self/fd/{folder}")) if mount else "",
    )


def _uuid(folder: int, kind: str) -> str:
    """Returns the UUID that the file system tells: since Linux 6.9 any that has one, XFS always. Empty for none."""
    with contextlib.suppress(OSError):
        answer = fcntl.ioctl(folder, _FS_IOC_GETFSUUID, bytes(17))
        if answer[0] == 16 and any(answer[1:]) and kind not in _NEW_EACH_TIME:
            return _spelled(answer[1:])
    if kind == "xfs":
        with contextlib.suppress(OSError):
            return _spelled(fcntl.ioctl(folder, _XFS_IOC_FSGEOMETRY_V1, bytes(112))[_XFS_UUID])
    return ""


def _spelled(raw: bytes) -> str:
    """Returns 16 bytes as blkid(8) writes a UUID. The module `uuid` takes 3 ms to import, in every worker, so it is not used."""
    text = raw.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
