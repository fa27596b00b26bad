"""What a target or a file system can do: facts for people, and for choosing a way, or refusing, before the work.

Each fact is yes, no, or None where nobody knows without trying. A target answers from what its server announces and what the
kernel says of a file system; a backup target may be read-only, so nothing is written to find out. Where something is about to be
written anyway, `tried` asks a file system that phd does not know with one small file, which it deletes.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from restore_core import durable
from restore_core.errors import is_no_answer
from restore_core.mounts import mount_of

_FOUR_GIB = (4 << 30) - 1
_FAT = frozenset({"vfat", "msdos", "fuse.fusefat"})
_FAT_LIKE = _FAT | {"exfat"}
_NO_LINKS = _FAT_LIKE | {"fuse.rclone"}
_FOLDING = _FAT_LIKE | {"ntfs", "ntfs3", "cifs", "smb3"}
_NO_EXCHANGE = _NO_LINKS - {"vfat", "exfat"} | {"nfs", "nfs4"}
_KNOWN = frozenset({"ext4", "xfs", "btrfs", "tmpfs", "overlay"})
"""File systems that can do all that a disk or an archive needs; they are not tried."""
_TIMES_MOVE = frozenset({"fuse.rclone"})
"""rclone gives a file a new time when it is uploaded, opened for writing, or when bytes are read that it has not in its cache."""
_MOUNT_RCLONE = "Mount it with --vfs-cache-mode writes (or full), or choose a folder on another file system."
_TRIED = b"phd tries what this file system can do\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """The facts about one target. None means not known; sizes are bytes.

    `resume` reads from the middle of a file (FTP: REST). `exact_listing` has sizes and times as facts (MLSD). `exact_times` asks
    for the time of one file (MDTM). `no_replace` renames without replacing, `hard_links` is the other way to the same end.
    `folds_case` takes `A` and `a` for one name. `writable` is False for what is mounted or exported read-only.
    `exchange` lets two files change names in one step. `steady_times` are those of a file that nobody writes; `steady_numbers`
    (of inodes) outlast a remount.
    `missing` names what a disk or an archive needs and cannot be done here: nothing is written then.
    """

    file_system: str = ""
    resume: bool | None = None
    exact_listing: bool | None = None
    exact_times: bool | None = None
    no_replace: bool | None = None
    hard_links: bool | None = None
    symlinks: bool | None = None
    folds_case: bool | None = None
    normalises_names: bool | None = None
    syncs: bool | None = None
    writable: bool | None = None
    free: int | None = None
    largest_file: int | None = None
    exchange: bool | None = None
    steady_times: bool | None = None
    steady_numbers: bool | None = None
    missing: tuple[str, ...] = ()

    @property
    def remedy(self) -> str:
        """What helps where something is `missing`."""
        return _MOUNT_RCLONE if self.file_system == "fuse.rclone" else "Choose a folder on another file system."

    def remarks(self) -> Iterator[str]:
        """Yields in words what is missing, and what it means. What is not known is not spoken of."""
        for what in self.missing:
            yield f"cannot hold disks or archives: no way to {what}"
        facts = (
            (self.writable is False, "read-only: nothing can be written to it"),
            (self.resume is False, "no REST: reads from the start, slower"),
            (self.exact_listing is False, "no MLSD: sizes and times are read from a listing for people"),
            (self.exact_times is False, "no MDTM: the times of files are rough"),
            (
                self.no_replace is False and self.hard_links is False,
                "no rename without replacing and no hard links: whether a name is free is looked at just before",
            ),
            (self.folds_case is True, "capital and small letters are the same name"),
            (self.normalises_names is True, "names may come back in another Unicode form"),
            (self.syncs is False, "no fsync: after a power cut a new archive may be gone"),
            (self.largest_file is not None, f"a file has at most {((self.largest_file or 0) + 1) >> 30} GiB"),
            (self.steady_times is False, "the times of files change by themselves: a disk is replaced as a whole"),
        )
        yield from (words for said, words in facts if said)


def of_folder(path: str) -> Capabilities:
    """Returns what is known of a folder of this machine: from its mount and its file system; nothing is written."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return Capabilities()
    try:
        return of_open_folder(fd)
    finally:
        os.close(fd)


def of_open_folder(fd: int) -> Capabilities:
    """Returns the same of an open folder."""
    free, writable = None, None
    with contextlib.suppress(OSError):
        facts = os.fstatvfs(fd)
        free = facts.f_bavail * facts.f_frsize
        writable = not facts.f_flag & os.ST_RDONLY and os.access(".", os.W_OK | os.X_OK, dir_fd=fd, effective_ids=True)
    mount = mount_of(fd)
    kind = mount.type if mount else ""
    known = kind in _KNOWN
    return Capabilities(
        file_system=kind,
        resume=True,
        exact_listing=True,
        exact_times=True,
        no_replace=True if known or kind in {"vfat", "msdos"} else False if kind in _NO_LINKS else None,
        hard_links=True if known else False if kind in _NO_LINKS else None,
        symlinks=True if known else False if kind in _NO_LINKS else None,
        folds_case=True if kind in _FOLDING else False if known else None,
        normalises_names=False if known else None,
        syncs=None if kind == "tmpfs" else True if known else None,
        writable=writable,
        free=free,
        largest_file=_FOUR_GIB if kind in _FAT else None,
        exchange=True if known else False if kind in _NO_EXCHANGE else None,
        steady_times=False if kind in _TIMES_MOVE else True if known else None,
        steady_numbers=False if kind in _FAT_LIKE or kind.startswith("fuse") else True if known else None,
    )


def tried(folder: int) -> Capabilities:
    """Returns the same, and what is `missing`: on a file system that is not known, by trying it with a small file in the folder.

    The file is deleted. Raises `OSError` if none can be made, or if the system could not answer now.
    """
    known = of_open_folder(folder)
    if known.file_system in _KNOWN or known.writable is False:
        return known
    name = f".phd-{secrets.token_hex(8)}.tmp"
    fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
    try:
        return replace(known, missing=tuple(_missing(folder, fd, name)))
    finally:
        with contextlib.suppress(OSError):
            os.close(fd)
        for one in (name, _renamed(name)):
            durable.remove(one, dir_fd=folder, durable=False)


def _renamed(name: str) -> str:
    return f"{name.removesuffix('.tmp')}-2.tmp"


def _missing(folder: int, fd: int, name: str) -> Iterator[str]:
    """Yields what does not work of all that a disk or an archive needs, in words that end a sentence with "cannot"."""
    needs: tuple[tuple[str, Callable[[], object]], ...] = (
        ("write to a file", lambda: durable.write_all(fd, _TRIED)),
        ("lock a file", lambda: fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)),
        ("write into the middle of a file", lambda: _overwrite(fd)),
        ("make a file longer", lambda: durable.write_all_at(fd, b"x", 1 << 16)),
        ("make a file shorter", lambda: os.ftruncate(fd, len(_TRIED))),
        ("make a file durable (fsync)", lambda: durable.sync_file(fd)),
        ("rename a file that is open", lambda: durable.move(name, _renamed(name), source_dir_fd=folder, to_dir_fd=folder)),
        ("tell which file a name means", lambda: _refuse_another(folder, fd, _renamed(name))),
    )
    for words, need in needs:
        try:
            need()
        except OSError as error:
            if is_no_answer(error) or error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            yield words
            return


def _overwrite(fd: int) -> None:
    durable.write_all_at(fd, b"PHD", 0)
    if os.pread(fd, len(_TRIED), 0) != b"PHD" + _TRIED[3:]:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))


def _refuse_another(folder: int, fd: int, name: str) -> None:
    if not os.path.samestat(os.stat(name, dir_fd=folder, follow_symlinks=False), os.fstat(fd)):
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
