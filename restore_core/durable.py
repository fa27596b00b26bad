"""Writes, renames and deletes files durably. Nothing else in this product calls fsync or rename.

The order is always: write the bytes, fsync the file, rename it, fsync its folder. On XFS a rename over a file without the
first fsync left a file of 0 bytes after a power cut, and without the last one the new name was gone. An fsync that failed
is never repeated: the kernel reports a lost page once, and a second fsync succeeds although the data is lost.

All functions take either plain paths or names relative to an open folder (`dir_fd`).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import secrets
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

_RENAME_NOREPLACE, _RENAME_EXCHANGE = 1, 2
_SYNC_FILE_RANGE_WRITE, _AT_FDCWD, _FUSE_MAGIC = 2, -100, 0x65735546
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EIO}
"""What a file system without hard links says. A broken disk fails again at the next step."""
NO_RENAME_FLAGS = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})
"""What a file system or a kernel without RENAME_NOREPLACE and RENAME_EXCHANGE says."""
_NO_MODES = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_libc = ctypes.CDLL(None, use_errno=True)


def sync_file(fd: int) -> None:
    """Makes the bytes of an open file durable. Raises `OSError`; never call it again after that."""
    os.fsync(fd)


def start_writing(fd: int) -> None:
    """Asks the kernel to begin writing the cached bytes of a file: a last fsync is quicker then. Makes nothing durable."""
    with contextlib.suppress(AttributeError):
        _libc.sync_file_range(fd, ctypes.c_int64(0), ctypes.c_int64(0), _SYNC_FILE_RANGE_WRITE)


def sync_folder(path: str | Path, *, dir_fd: int | None = None) -> None:
    """Makes the names in a folder durable. Raises `OSError`."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_file_system(fd: int) -> None:
    """Makes all that was written to the file system of an open file or folder durable: one call for very many small files."""
    if _libc.syncfs(fd) != 0:
        raise OSError(code := ctypes.get_errno(), os.strerror(code))


def second_name(source: str, to: str, *, source_dir_fd: int, to_dir_fd: int) -> None:
    """Gives a file a second name, without following a link. A power cut can undo it. Raises `OSError`."""
    os.link(source, to, src_dir_fd=source_dir_fd, dst_dir_fd=to_dir_fd, follow_symlinks=False)


def move(
    source: str | Path,
    to: str | Path,
    *,
    replace: bool = False,
    durable: bool = True,
    source_dir_fd: int | None = None,
    to_dir_fd: int | None = None,
) -> None:
    """Renames within one file system, durably. Without `replace` an existing `to` raises `FileExistsError`.

    With `durable=False` a power cut can undo it until the next durable change in the folder.
    """
    if replace:
        os.rename(source, to, src_dir_fd=source_dir_fd, dst_dir_fd=to_dir_fd)
    else:
        _rename_noreplace(source, to, source_dir_fd, to_dir_fd)
    if not durable:
        return
    sync_folder(os.path.dirname(to) or ".", dir_fd=to_dir_fd)
    if (os.path.dirname(source), source_dir_fd) != (os.path.dirname(to), to_dir_fd):
        sync_folder(os.path.dirname(source) or ".", dir_fd=source_dir_fd)


def write_whole(
    path: str | Path,
    data: bytes,
    *,
    mode: int = 0o600,
    like: os.stat_result | None = None,
    replace: bool = True,
    durable: bool = True,
    dir_fd: int | None = None,
    part: str | None = None,
    made: Callable[[int], None] | None = None,
) -> None:
    """Writes a whole file at once: a reader sees the old file or the new one, never a part of it. An `OSError` names `path`.

    With `durable=False` a power cut can undo it (progress, caches). `like` gives the new file owner, group and mode of another
    one; raises `PermissionError` where this user may not do that. A crash leaves the unfinished file; a caller that alone writes
    `path` may give its name, `part`, and the next call replaces it. `made` is called with the open file before it gets its name,
    to set who may read it.
    """
    if part is None:
        part = os.path.join(os.path.dirname(path), f".phd-{secrets.token_hex(8)}.tmp")
    else:
        remove(part, dir_fd=dir_fd, durable=False)
    with _errors_name(path):
        fd = os.open(part, _NEW_FILE, mode, dir_fd=dir_fd)
    try:
        with _errors_name(path):
            try:
                if like is not None:
                    copy_owner_and_mode(fd, like)
                if made is not None:
                    made(fd)
                write_all(fd, data)
                if durable:
                    sync_file(fd)
            finally:
                os.close(fd)
        move(part, path, replace=replace, durable=durable, source_dir_fd=dir_fd, to_dir_fd=dir_fd)
    except BaseException:
        remove(part, dir_fd=dir_fd, durable=False)
        raise


def write_new(path: str | Path, data: bytes, *, mode: int, dir_fd: int | None = None) -> None:
    """Writes a file that does not exist yet. Its bytes are durable; its name is after the next durable change in the folder.

    A crash can leave a part of it. An `OSError` names `path`.
    """
    with _errors_name(path):
        fd = os.open(path, _NEW_FILE, mode, dir_fd=dir_fd)
        try:
            set_mode(fd, mode)
            write_all(fd, data)
            sync_file(fd)
        finally:
            os.close(fd)


@contextlib.contextmanager
def _errors_name(path: str | Path) -> Iterator[None]:
    """Puts `path` into each `OSError`: one of an open file has no name, and that of a part file says nothing to a person."""
    try:
        yield
    except OSError as error:
        error.filename = os.fspath(path)
        raise


def copy_owner_and_mode(fd: int, like: os.stat_result) -> None:
    """Gives an open file the owner, group and mode of another one. Raises `PermissionError` where this user may not do that."""
    own = os.fstat(fd)
    if (own.st_uid, own.st_gid) != (like.st_uid, like.st_gid):
        os.fchown(fd, like.st_uid, like.st_gid)
    set_mode(fd, stat.S_IMODE(like.st_mode))  # past the umask, and after the owner: a change of it takes bits away


def exchange(one: str | Path, other: str | Path, *, dir_fd: int | None = None) -> None:
    """Exchanges two files of one folder, durably: both names exist at every moment. `FileNotFoundError` if one is not there.

    Raises `OSError` with one of `NO_RENAME_FLAGS` where the file system or the kernel cannot do it.
    """
    _renameat2(one, other, dir_fd, dir_fd, _RENAME_EXCHANGE)
    sync_folder(os.path.dirname(other) or ".", dir_fd=dir_fd)


def take_part(name: str, *, dir_fd: int, mode: int = 0o600, keep: bool = False) -> int:
    """Opens a part file and locks it; the lock is held while the returned descriptor is open, and ends with this process.

    A leftover of a crash is taken over: emptied, or, with `keep`, as it is. Raises `BlockingIOError` when a live process
    is writing that very file.
    """
    _remove_unless_plain(name, dir_fd)
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    fd = os.open(name, flags, mode, dir_fd=dir_fd)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        there, ours = os.stat(name, dir_fd=dir_fd, follow_symlinks=False), os.fstat(fd)
        if (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino):
            raise BlockingIOError(errno.EAGAIN, "another process has just finished this file")
        if not keep:
            os.ftruncate(fd, 0)
        set_mode(fd, mode)
    except BaseException:
        os.close(fd)
        raise
    return fd


def set_mode(fd: int, mode: int) -> None:
    """Sets the mode of a file. Without modes (vfat, exfat) the mount says who may read; a file of another user stays refused."""
    facts = os.fstat(fd)
    try:
        os.fchmod(fd, mode)
    except OSError as error:
        if error.errno not in _NO_MODES or facts.st_uid != os.geteuid():
            raise


def _remove_unless_plain(name: str, dir_fd: int) -> None:
    """Deletes a link, a FIFO or a second name of another file in the place of a part file: somebody may have put it there."""
    with contextlib.suppress(FileNotFoundError):
        facts = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
        if not stat.S_ISREG(facts.st_mode) or facts.st_nlink != 1:
            os.unlink(name, dir_fd=dir_fd)


def remove(path: str | Path, *, dir_fd: int | None = None, durable: bool = True) -> bool:
    """Deletes a file; returns False where there was none."""
    try:
        os.unlink(path, dir_fd=dir_fd)
    except FileNotFoundError:
        return False
    if durable:
        sync_folder(os.path.dirname(path) or ".", dir_fd=dir_fd)
    return True


def append_line(path: str | Path, line: bytes, *, mode: int = 0o644) -> None:
    """Appends one line durably. If a crash left a torn last line, a newline ends it first. An `OSError` names `path`."""
    created = not os.path.exists(path)
    fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, mode)
    try:
        refuse_special(fd, path)
        size = os.fstat(fd).st_size
        torn = size > 0 and os.pread(fd, 1, size - 1) != b"\n"
        with _errors_name(path):
            write_all(fd, (b"\n" if torn else b"") + line + b"\n")
            sync_file(fd)
    finally:
        os.close(fd)
    if created:
        sync_folder(os.path.dirname(path) or ".")


def write_again(path: str | Path, line: bytes, offset: int) -> None:
    """Makes a line durable that is in a file already, but perhaps only in memory: a crash or an error came before its fsync.

    A second fsync proves nothing (see above), so the same bytes are written to the same place first. Raises
    `BlockingIOError` when other bytes are there now.
    """
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        refuse_special(fd, path)
        if os.pread(fd, len(line), offset) != line:
            raise BlockingIOError(errno.EAGAIN, "somebody has just edited it", os.fspath(path))
        write_all_at(fd, line + b"\n", offset)
        sync_file(fd)
    finally:
        os.close(fd)
    sync_folder(os.path.dirname(path) or ".")


def read_plain(path: str | Path, most: int = -1) -> bytes:
    """Returns the bytes of a regular file, at most `most`. Follows links. Raises `OSError`, also for a FIFO, a device, a folder."""
    with open_plain(path) as file:
        return file.read(most)


def open_plain(path: str | Path) -> BinaryIO:
    """Opens a regular file for reading; never waits at a FIFO. Raises `OSError`."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        refuse_special(fd, path)
        return os.fdopen(fd, "rb")
    except BaseException:
        os.close(fd)
        raise


def refuse_special(fd: int, path: str | Path) -> None:
    """Raises `OSError` if the open file is not a regular one."""
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise OSError(errno.EINVAL, "is no regular file: remove it, or rename it", os.fspath(path))


def write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    """Writes all of `data`: one `write` of the kernel may take less."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def write_all_at(fd: int, data: bytes | bytearray | memoryview, offset: int) -> None:
    """Writes all of `data` at an offset: one `pwrite` of the kernel may take less."""
    written = os.pwrite(fd, data, offset)
    while written < len(data):
        written += os.pwrite(fd, memoryview(data)[written:], offset + written)


def _rename_noreplace(source: str | Path, to: str | Path, source_dir_fd: int | None, to_dir_fd: int | None) -> None:
    try:
        _renameat2(source, to, source_dir_fd, to_dir_fd, _RENAME_NOREPLACE)
    except OSError as error:
        if error.errno not in NO_RENAME_FLAGS:
            raise
        if _is_fuse(os.path.dirname(to) or ".", to_dir_fd):
            _rename_to_a_free_name(source, to, source_dir_fd, to_dir_fd)
        else:
            _link_to_a_free_name(source, to, source_dir_fd, to_dir_fd)


def _is_fuse(folder: str, dir_fd: int | None) -> bool:
    """Whether a folder is on FUSE: an open file that had a second name is told badly there (ntfs-3g counts both)."""
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        facts = ctypes.create_string_buffer(256)
        return _libc.fstatfs(fd, facts) == 0 and int.from_bytes(facts.raw[:4], sys.byteorder) == _FUSE_MAGIC
    finally:
        os.close(fd)


def _link_to_a_free_name(source: str | Path, to: str | Path, source_dir_fd: int | None, to_dir_fd: int | None) -> None:
    """Gives the file a second name, which refuses one that is taken, and takes the first: NFS. A crash in between leaves both."""
    try:
        os.link(source, to, src_dir_fd=source_dir_fd, dst_dir_fd=to_dir_fd, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _rename_to_a_free_name(source, to, source_dir_fd, to_dir_fd)
    else:
        os.unlink(source, dir_fd=source_dir_fd)


def _rename_to_a_free_name(source: str | Path, to: str | Path, source_dir_fd: int | None, to_dir_fd: int | None) -> None:
    """Looks whether the name `to` is free, then renames: one step, so a crash leaves the file under its old name or under `to`.

    A file that another program makes as `to` between the two calls is replaced. To take the name with an empty file first would
    shut that out, and a crash would leave the empty file under the final name: worse, and over rclone a rename takes long.
    """
    with contextlib.suppress(FileNotFoundError):
        os.stat(to, dir_fd=to_dir_fd, follow_symlinks=False)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fspath(to))
    os.rename(source, to, src_dir_fd=source_dir_fd, dst_dir_fd=to_dir_fd)


def _renameat2(source: str | Path, to: str | Path, source_dir_fd: int | None, to_dir_fd: int | None, flag: int) -> None:
    folders = [_AT_FDCWD if folder is None else folder for folder in (source_dir_fd, to_dir_fd)]
    if _libc.renameat2(folders[0], os.fsencode(source), folders[1], os.fsencode(to), flag) != 0:
        raise OSError(code := ctypes.get_errno(), os.strerror(code), os.fspath(source), None, os.fspath(to))
