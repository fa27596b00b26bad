"""From a path to an open folder, confined to datastores or not.

    /vmfs/volumes   ISCSI02     ronzo/2007
    root            datastore   folders

With roots: the datastore is a direct child of a root, must exist and is never made. It may be a link, which is resolved once,
when it is opened; below it no link is followed: openat2 tells the kernel so, and on an old kernel the folders are opened one by
one (O_NOFOLLOW). Without roots (a restore that a person runs) links are followed. Missing folders are made one by one in the
open folder, mode 0700, durably, and marked: so those that hold nothing of anyone go when the job ends, whoever ends it.

Not checked here: whether a datastore is mounted and is the disk that it was (`known_datastores`).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import stat as stat_module
import struct
from dataclasses import dataclass
from pathlib import Path

from restore_core import durable
from restore_core.disk.hold import folder_removed
from restore_core.errors import DestinationError, DestinationOutside, PhdError, from_os_error
from restore_core.naming import printable

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NO_FOLDER = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}
_OPENAT2 = 437
_NO_MAGICLINKS, _NO_SYMLINKS, _BENEATH = 2, 4, 8
MADE = ".phd-made"
"""Marks a folder that a restore made, until a disk or anything of somebody else is in it. Whoever ends the last unfinished file
there takes it away, whichever process of whichever job made it. It holds the folder's inode and has its owner: a mark that was
copied with a folder, or that somebody else put into one, counts for nothing."""
UNFINISHED = re.compile(r"\.phd-(?:[a-z-]+|overlay[a-z-]*\.qcow2)\Z")
"""Ends of the names of files that are not a disk yet, or not at the moment; the last are overlays (`session_record`)."""
_PRIVATE = ".phd-"
_MARK_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_libc = ctypes.CDLL(None, use_errno=True)


def make_folder(name: str, parent_fd: int) -> None:
    """Make a folder (0700) for a disk, durably and with our mark, or find it there. Raises `OSError`; then it is not made."""
    try:
        os.mkdir(name, 0o700, dir_fd=parent_fd)
    except FileExistsError:
        return
    try:
        fd = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=parent_fd)
        try:
            _mark(fd)
        finally:
            os.close(fd)
    except OSError:
        with contextlib.suppress(OSError):
            os.rmdir(name, dir_fd=parent_fd)
        raise
    durable.sync_folder(".", dir_fd=parent_fd)


def let_go(folder_fd: int, *, used: bool = False) -> None:
    """Take away this folder, and those above it, as long as each bears our mark and holds nothing else.

    One that holds a disk, or anything of somebody else, only loses its mark: from then on it is not ours. One with unfinished
    files, of whichever restore, stays as it is: the last of them lets it go. What cannot be done now stays, too. `used`: it is
    known to be somebody's.
    """
    with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
        fd = folder_fd
        while stat_module.S_ISREG(os.stat(MADE, dir_fd=fd, follow_symlinks=False).st_mode):
            parent = os.open("..", _FOLDER, dir_fd=fd)
            stack.callback(os.close, parent)
            names = os.listdir(fd)
            used = used or not _is_marked(fd) or any(not _is_ours(name, fd) for name in names)
            if used:
                durable.remove(MADE, dir_fd=fd, durable=False)
            elif names != [MADE]:
                return
            else:
                _remove_marked(fd, parent)
            fd = parent


def _let_go_below(fd: int, names: tuple[str, ...]) -> None:
    """Let go the deepest of these folders that is there, one below the other, and those above it."""
    for count in range(len(names), 0, -1):
        with contextlib.suppress(OSError):
            deepest = os.open("/".join(names[:count]), _FOLDER | os.O_NOFOLLOW, dir_fd=fd)
            let_go(deepest)
            os.close(deepest)
            return


def above_made(folder_fd: int, datastore: str) -> int:
    """Returns the deepest open folder, this one or one above it, that we did not make: it stays whatever is let go meanwhile.

    It is never above the datastore. Closes `folder_fd` if it is another one. Raises `OSError`.
    """
    fd = folder_fd
    while _is_marked(fd) and not os.path.samestat(os.fstat(fd), os.stat(datastore)):
        parent = os.open("..", _FOLDER, dir_fd=fd)
        os.close(fd)
        fd = parent
    return fd


def _remove_marked(fd: int, parent_fd: int) -> None:
    """Remove a folder that holds only its mark. Raises `OSError`; it has its mark then, unless it is gone."""
    name = os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))
    if not os.path.samestat(os.stat(name, dir_fd=parent_fd, follow_symlinks=False), os.fstat(fd)):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
    durable.remove(MADE, dir_fd=fd, durable=False)
    try:
        os.rmdir(name, dir_fd=parent_fd)
    except OSError:  # a file came meanwhile, or a worker may not write in the folder above: its daemon lets it go
        _mark(fd)
        raise


def _mark(folder_fd: int) -> None:
    """Put our mark into an open folder. Raises `OSError`; then it has none."""
    fd = os.open(MADE, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _MARK_FLAGS, 0o600, dir_fd=folder_fd)
    try:
        durable.write_all(fd, _inode(folder_fd))
    except OSError:
        durable.remove(MADE, dir_fd=folder_fd, durable=False)
        raise
    finally:
        os.close(fd)


def _inode(folder_fd: int) -> bytes:
    return f"{os.fstat(folder_fd).st_ino}\n".encode()


def _is_ours(name: str, folder_fd: int) -> bool:
    """Whether it is an unfinished file of a restore, or a folder that a restore made."""
    if UNFINISHED.search(name) or name.startswith(_PRIVATE):
        return True
    with contextlib.suppress(OSError):
        fd = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=folder_fd)
        try:
            return _is_marked(fd)
        finally:
            os.close(fd)
    return False


def _is_marked(folder_fd: int) -> bool:
    """Whether an open folder bears the mark that a restore gave it, and is still of the user who did."""
    with contextlib.suppress(OSError), open(os.open(MADE, os.O_RDONLY | _MARK_FLAGS, dir_fd=folder_fd), "rb") as mark:
        facts = os.fstat(mark.fileno())
        plain = stat_module.S_ISREG(facts.st_mode) and facts.st_nlink == 1
        return plain and facts.st_uid == os.fstat(folder_fd).st_uid and mark.read(64) == _inode(folder_fd)
    return False


@dataclass(slots=True, kw_only=True)
class Walk:
    """How far a path exists: `fd` is the deepest existing folder, open; `missing` are the names below it.

    `datastore` is the path of the datastore, without roots that of the mount point. The owner of a walk closes `fd`.
    """

    where: str
    fd: int
    missing: tuple[str, ...]
    datastore: str

    def refuse_missing(self) -> int:
        """Returns the open folder. Raises `DestinationError`, and closes it, if a part of the path is missing."""
        if self.missing:
            os.close(self.fd)
            text = f"{self.where}: there is no folder {printable('/'.join(self.missing))}"
            raise DestinationError(text, remedy="Make it, or correct the path.")
        return self.fd

    def make_missing(self) -> int:
        """Makes the missing folders and returns the last one.

        Closes `fd`, lets go what was made, and raises a typed error or `OSError` when it cannot.
        """
        start, names = os.dup(self.fd), self.missing
        try:
            while self.missing:
                self._make_first()
        except BaseException:
            _let_go_below(start, names)
            raise
        finally:
            os.close(start)
        return self.fd

    def _make_first(self) -> None:
        before = self.missing
        try:
            make_folder(before[0], self.fd)
        except OSError as error:
            removed = os.fstat(self.fd).st_nlink == 0
            os.close(self.fd)
            if removed:
                raise folder_removed(self.where) from error
            raise
        self.descend()
        if self.missing == before:
            os.close(self.fd)
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), before[0])

    def descend(self) -> None:
        """Opens the next folders, following no link, up to the first that is missing. Closes `fd` after an error."""
        whole = open_beneath(self.fd, self.missing) if self.missing else None
        if whole is not None:
            os.close(self.fd)
            self.fd, self.missing = whole, ()
        while self.missing:  # a folder is missing, a link is in the way, or the kernel is old
            try:
                inner = os.open(self.missing[0], _FOLDER | os.O_NOFOLLOW, dir_fd=self.fd)
            except FileNotFoundError:
                return
            except OSError as error:
                refusal = self._not_a_folder() or from_os_error(error, doing="opening the folder", where=self.where)
                os.close(self.fd)
                raise refusal from error
            os.close(self.fd)
            self.fd, self.missing = inner, self.missing[1:]

    def _not_a_folder(self) -> PhdError | None:
        name = self.missing[0]
        with contextlib.suppress(OSError):
            mode = os.stat(name, dir_fd=self.fd, follow_symlinks=False).st_mode
            if stat_module.S_ISLNK(mode):
                text = f"{self.where}: {printable(name)} is a link; below a datastore no link is followed"
                return DestinationOutside(text, remedy="Write the path that the link leads to, if it is on a datastore.")
            if not stat_module.S_ISDIR(mode):
                return DestinationError(f"{self.where}: {printable(name)} is not a folder", remedy="Choose another path.")
        return None


def open_beneath(fd: int, names: tuple[str, ...]) -> int | None:
    """Opens the folder at the end of these names, below an open one, in one call that follows no link and leaves that folder never.

    Returns None when that fails, for any reason: an old kernel, a missing folder, a link.
    """
    how = struct.pack("=QQQ", _FOLDER | os.O_NOFOLLOW, 0, _BENEATH | _NO_MAGICLINKS | _NO_SYMLINKS)
    path = os.fsencode("/".join(names))
    found = int(_libc.syscall(_OPENAT2, fd, ctypes.c_char_p(path), how, ctypes.c_size_t(len(how))))
    return found if found >= 0 else None


def walk_to(folder: Path, roots: tuple[Path, ...] | None) -> Walk:
    """Walks to an absolute folder without `..`, as far as it exists.

    Raises `DestinationOutside` for a path on no datastore or over a link, `DestinationError` for a missing datastore or
    something that is no folder, `OSError` for other errors.
    """
    parts = tuple(part for part in folder.parts if part.strip("/"))
    where = printable(str(folder))
    return _walk_own(parts, where) if roots is None else _walk_confined(parts, roots, where)


def _walk_own(parts: tuple[str, ...], where: str) -> Walk:
    """Walks to the nearest existing folder and follows links: for a path without roots."""
    for count in range(len(parts), 0, -1):
        existing = "/" + "/".join(parts[:count])
        try:
            fd = os.open(existing, _FOLDER)
        except FileNotFoundError as error:
            if os.path.islink(existing):
                text = f"{where}: {printable(existing)} is a link that leads nowhere"
                raise DestinationError(text, remedy="Correct the link or the path.") from error
            continue
        return Walk(where=where, fd=fd, missing=parts[count:], datastore=_mount_point(existing))
    return Walk(where=where, fd=os.open("/", _FOLDER), missing=parts, datastore="/")


def _walk_confined(parts: tuple[str, ...], roots: tuple[Path, ...], where: str) -> Walk:
    above = [root for root in roots if parts[: len(root.parts) - 1] == root.parts[1:]]
    if not above:
        known = ", ".join(printable(str(each)) for each in roots) or "none is configured"
        raise DestinationOutside(f"{where}: not below a root of datastores ({known})", remedy="Choose a path on a datastore.")
    root = max(above, key=lambda each: len(each.parts))
    below = parts[len(root.parts) - 1 :]
    if not below:
        text = f"{where}: this is the root of the datastores, not a datastore"
        raise DestinationOutside(text, remedy=f"Write {printable(str(root))}/DATASTORE/...")
    datastore = str(root / below[0])
    try:
        fd = os.open(datastore, _FOLDER)
    except OSError as error:
        if error.errno not in _NO_FOLDER:
            raise
        text = f"{where}: there is no datastore {printable(datastore)}"
        raise DestinationError(text, remedy="Mount it, or correct the path; a datastore is never made.") from error
    walk = Walk(where=where, fd=fd, missing=below[1:], datastore=datastore)
    walk.descend()
    return walk


def _mount_point(folder: str) -> str:
    folder = os.path.realpath(folder)
    while not os.path.ismount(folder):
        folder = os.path.dirname(folder)
    return folder
