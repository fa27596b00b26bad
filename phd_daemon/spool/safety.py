"""Checks that a folder can be a spool: nobody else may rename files in it, and kernel locks and events work there."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from phd_daemon.spool.access import let_read
from phd_daemon.spool.layout import Spool, side_file
from phd_daemon.spool.own_files import is_own, put_aside
from phd_daemon.spool.record import JobRecord, read_record
from restore_core import durable
from restore_core.errors import ConfigurationError, remedy_for
from restore_core.mounts import unmounted_mount_point
from restore_core.naming import printable

_NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "9p", "glusterfs", "lustre", "ncpfs", "coda", "ocfs2", "gfs2"}
_NETWORK_FUSE = {
    "sshfs",
    "glusterfs",
    "ceph",
    "rclone",
    "s3fs",
    "curlftpfs",
    "davfs2",
    "davfs",
    "mergerfs-nfs",
    "juicefs",
    "gcsfuse",
}
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_OTHERS = 0o007


def check_spool(spool: Spool) -> None:
    """Raises `ConfigurationError` for a folder that cannot be a spool, else creates its `.state` folder.

    Also takes the logs of older versions away from other readers. Raises `OSError`.
    """
    for fault in faults(spool.folder):
        raise fault
    for folder in (spool.state_folder, spool.receipts):
        _make_own_folder(folder)
    _close_to_others(spool)


def make_rooms(spool: Spool) -> None:
    """Makes the spool and its `.state` folder where no daemon has run yet: a restore by hand has something to record, too.

    They are for the user that the daemon runs as, the owner of the spool. Raises `ConfigurationError` for a folder that cannot be
    a spool, and `OSError` where this user may not make them.
    """
    if not os.path.lexists(spool.folder):
        if (point := unmounted_mount_point(spool.folder)) is not None:
            raise ConfigurationError(f"queue.spool: {printable(str(spool.folder))}: {point} is not mounted", remedy="Mount it.")
        spool.folder.mkdir(mode=0o700, parents=True)
    owner = os.stat(spool.folder)
    for fault in faults(spool.folder, owner.st_uid if os.geteuid() == 0 else None):
        raise fault
    for folder in (spool.state_folder, spool.receipts):
        if not os.path.lexists(folder):
            _make_own_folder(folder)
            if os.geteuid() == 0 != owner.st_uid:
                os.chown(folder, owner.st_uid, owner.st_gid, follow_symlinks=False)


def faults(folder: Path, daemon: int | None = None) -> Iterator[ConfigurationError]:
    """Yields every reason why a folder cannot be the spool of the user `daemon` (None: this user). Changes nothing."""
    name = printable(str(folder))
    try:
        found = os.stat(folder)
    except OSError as error:
        yield ConfigurationError(
            f"queue.spool: {name}: {error.strerror}",
            remedy=f"Make the folder (install -d -m 0700 {name}), or name another one in phd.toml."
            if isinstance(error, FileNotFoundError)
            else remedy_for(error),
        )
        return
    if not stat.S_ISDIR(found.st_mode):
        yield ConfigurationError(f"queue.spool: {name} is not a folder", remedy="Name a folder in phd.toml.")
        return
    yield from _open_to_others(folder, found, name, os.geteuid() if daemon is None else daemon)
    kind = file_system(folder)
    if kind in _NETWORK or kind.removeprefix("fuse.") in _NETWORK_FUSE:
        yield ConfigurationError(
            f"queue.spool: {name} is on a network file system ({kind}): locks and events of other machines are not seen there",
            remedy="Put the spool on a local disk. Archives and datastores may lie on the network, the spool may not.",
        )


def file_system(path: Path) -> str:
    """Returns the type of the file system of a path ("ext4", "nfs4", "fuse.sshfs"); empty if /proc does not say it."""
    real = os.path.realpath(path)
    best, kind = "", ""
    try:
        lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return ""
    for line in lines:
        left, _, right = line.partition(" - ")
        point = left.split()[4].encode("utf-8", "surrogateescape").decode("unicode_escape")  # a space is written \040
        if (real == point or real.startswith(point.rstrip("/") + "/")) and len(point) >= len(best):
            best, kind = point, right.split()[0]
    return kind


def _open_to_others(folder: Path, found: os.stat_result, name: str, daemon: int) -> Iterator[ConfigurationError]:
    mine = (0, daemon)
    link = os.lstat(folder)
    if stat.S_ISLNK(link.st_mode) and link.st_uid not in mine:
        yield ConfigurationError(
            f"queue.spool: {name} is a link that belongs to user {link.st_uid}, who can make it lead elsewhere",
            remedy="Name the folder itself in phd.toml.",
        )
    if found.st_uid not in mine:
        yield ConfigurationError(
            f"queue.spool: {name} belongs to user {found.st_uid}, who could change every job in it",
            remedy=f"Give it to the user the daemon runs as: chown {daemon} {name}.",
        )
    if found.st_mode & stat.S_ISVTX and found.st_uid != daemon != 0:
        yield ConfigurationError(
            f"queue.spool: {name} is a drop box (mode {stat.S_IMODE(found.st_mode):04o}) of another user than the daemon's: "
            "only its owner may rename what others put there",
            remedy=f"Give it to the user the daemon runs as: chown {daemon} {name}.",
        )
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not found.st_mode & stat.S_ISVTX:
        mode = f"{stat.S_IMODE(found.st_mode):04o}"
        yield ConfigurationError(
            f"queue.spool: {name} may be written by others (mode {mode}): they could rename each other's jobs",
            remedy=f"chmod 0700 {name}; or, for a drop box, chmod 1730 or 3730 and a group of its own.",
        )


def _make_own_folder(folder: Path) -> None:
    try:
        _make(folder)
    except FileExistsError:
        found = os.lstat(folder)
        if found.st_uid not in (0, os.geteuid()) and os.stat(folder.parent).st_mode & stat.S_ISVTX:
            put_aside(folder)  # another user of a drop box has created it first; that must not keep the daemon from starting
            _make(folder)
            return
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (0, os.geteuid()) or found.st_mode & 0o022:
            raise ConfigurationError(
                f"{printable(str(folder))} is not a folder of the daemon alone",
                remedy="Look at what is in it. The daemon makes it anew (mode 0700) when it is gone.",
            ) from None


def _make(folder: Path) -> None:
    os.mkdir(folder, 0o700)
    durable.sync_folder(folder.parent)


def _close_to_others(spool: Spool) -> None:
    """Closes logs and status files that an earlier version made readable for everybody. Raises `OSError` if the folder is gone.

    Their submitters, where they are known, and the spool's group may still read them.
    """
    for name in os.listdir(spool.folder):
        stem = side_file(name)
        if stem is not None:
            with contextlib.suppress(OSError):
                _close(spool, name, stem)


def _close(spool: Spool, name: str, stem: str) -> None:
    fd = os.open(spool.folder / name, _READ)
    try:
        found = os.fstat(fd)
        if is_own(found) and found.st_mode & _OTHERS:
            record = read_record(spool.record(stem))
            let_read(fd, spool.folder, uid=record.uid if isinstance(record, JobRecord) else None)
    finally:
        os.close(fd)
