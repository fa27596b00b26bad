"""A folder as a target (`file:///path`), and single local files. Links inside a target are not followed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat as stat_module
from collections.abc import Generator, Iterator
from pathlib import Path

from restore_core import durable
from restore_core.capabilities import Capabilities, of_folder, tried
from restore_core.errors import (
    ArchiveAbsent,
    BadArchive,
    PhdError,
    TargetFull,
    TargetRefused,
    TargetUnavailable,
    TryAgainLater,
    remedy_for,
)
from restore_core.mounts import unmounted_mount_point
from restore_core.naming import MAX_NAME_BYTES, printable
from restore_core.targets import base
from restore_core.targets.base import LOCAL, NEW_FILE_SUFFIX, ArchiveRef, FileStat, ListedFile, TargetSpec
from restore_core.targets.gaps import Gap
from restore_core.targets.local_listing import as_refused, list_folders, root_of, unreachable
from restore_core.targets.remote.connection import Bandwidth

NO_LIMIT = Bandwidth(0)
_GONE = {errno.ENOENT, errno.ENOTDIR}
_ABSENT = {*_GONE, errno.ELOOP, errno.ENAMETOOLONG}


class LocalSource(base.ByteSource):
    """A local archive, read with `pread`, so that any number of threads may read at once."""

    def __init__(self, fd: int, ref: ArchiveRef, bandwidth: Bandwidth = NO_LIMIT) -> None:
        facts = os.fstat(fd)
        try:
            _refuse_no_file(facts, ref)
        except ArchiveAbsent:
            os.close(fd)
            raise
        self._fd = fd
        self._bandwidth = bandwidth
        self.ref = ref
        self.size = facts.st_size
        self.stat = FileStat(size=facts.st_size, mtime=facts.st_mtime)

    def read_at(self, offset: int, length: int) -> bytes:
        """Returns exactly `length` bytes; a short file raises `BadArchive`, an I/O error `TryAgainLater`."""
        if length > self.size or offset < 0 or offset > self.size - length:
            raise _short(self.ref, offset + length, self.size)
        try:
            data = os.pread(self._fd, length, offset)
            while len(data) < length:
                more = os.pread(self._fd, length - len(data), offset + len(data))
                if not more:
                    raise _short(self.ref, offset + length, offset + len(data))
                data += more
        except OSError as error:
            raise TryAgainLater(f"{self.ref}: reading at {offset}: {error.strerror}", remedy=remedy_for(error)) from error
        self._bandwidth.spend(length)
        return data

    def ranges(self, wanted: Iterator[base.Range]) -> Generator[base.Buffer]:
        """Yields the bytes of each range, with one read for each."""
        for offset, length in wanted:
            yield self.read_at(offset, length)

    def interrupt(self) -> None:
        """Does nothing: a local read ends by itself."""

    def close(self) -> None:
        """Closes the file; harmless when repeated."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class LocalNewFile:
    """A file that is called `NAME.phd-part` until it is complete and durable. `made` is the folder that was made for it.

    Where NAME leaves no room for the suffix, a digest of it takes its place.
    """

    def __init__(self, folder_fd: int, name: str, ref: ArchiveRef, bandwidth: Bandwidth, *, made: str | None = None) -> None:
        self._folder_fd, self._name, self._ref, self._bandwidth, self._made = folder_fd, name, ref, bandwidth, made
        room = MAX_NAME_BYTES - len(os.fsencode(name)) >= len(NEW_FILE_SUFFIX)
        self._part = (name if room else f"phd-{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}") + NEW_FILE_SUFFIX
        try:
            self._fd = durable.take_part(self._part, dir_fd=folder_fd)
        except OSError as error:
            os.close(folder_fd)
            self._remove_made()
            raise _write_error(error, ref) from error
        self._position = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Appends at the end of what was written so far."""
        self.write_at(data, self._position)
        self._position += len(data)

    def write_at(self, data: bytes | bytearray | memoryview, offset: int) -> None:
        """Overwrites; the place for `write` does not move."""
        try:
            durable.write_all_at(self._fd, data, offset)
        except OSError as error:
            raise _write_error(error, self._ref) from error
        self._bandwidth.spend(len(data))

    def publish(self) -> None:
        """Makes the file durable, renames it without replacing, and makes its name durable."""
        try:
            durable.sync_file(self._fd)
            durable.move(self._part, self._name, source_dir_fd=self._folder_fd, to_dir_fd=self._folder_fd)
        except OSError as error:
            self.discard()
            if isinstance(error, FileExistsError):
                raise
            raise _write_error(error, self._ref) from error
        self._close()

    def discard(self) -> None:
        """Deletes the file; does nothing after `publish`."""
        if self._fd >= 0:
            durable.remove(self._part, dir_fd=self._folder_fd)
            self._close()
            self._remove_made()

    def _remove_made(self) -> None:
        if self._made is not None:
            with contextlib.suppress(OSError):  # something else is in it
                os.rmdir(self._made)

    def _close(self) -> None:
        os.close(self._fd)
        os.close(self._folder_fd)
        self._fd = -1


def open_target(spec: TargetSpec, _address: base.Address, _limits: base.ServerLimits, _stop: base.Stop | None) -> base.Target:
    """Returns a folder of this machine as a target."""
    return LocalTarget(spec)


class LocalTarget:
    """A folder. A target whose folder does not exist is unreachable, not empty: its file system may not be mounted."""

    def __init__(self, spec: TargetSpec) -> None:
        self.spec = spec
        self._bandwidth = Bandwidth(spec.bandwidth)  # a folder may be a mount of a network
        self._root = root_of(spec)

    def listing(self, gaps: list[Gap] | None = None) -> Iterator[ListedFile]:
        """Yields the files in the folders of this target, and those at its root."""
        self._check_mount()
        yield from list_folders(self.spec, self._root, gaps)

    def _check_mount(self) -> None:
        """Raises if nothing is mounted where this target's file system belongs: what is seen there is another disk."""
        point = unmounted_mount_point(Path(self._root)) if self.spec.name != LOCAL else None
        if point is not None:
            raise TargetUnavailable(
                f"target {self.spec.name} ({printable(self.spec.url)}): nothing is mounted at {printable(point)}",
                remedy=f"Mount it ('mount {printable(point)}'). If nothing belongs there any more, take it out of /etc/fstab.",
            )

    def stat(self, path: str) -> FileStat:
        """Returns size and time of one file."""
        with self._open(*self._parts(path)) as source:
            return source.stat

    def open(self, path: str) -> LocalSource:
        """Opens one archive, without following a link below the target's folder."""
        parts = self._parts(path)
        try:
            return self._open(*parts)
        except ArchiveAbsent as error:
            self._check_mount()
            with contextlib.suppress(OSError):
                base.raise_if_empty(self.spec, os.listdir(self._root), error)
            raise

    def _open(self, ref: ArchiveRef, folders: list[str], name: str) -> LocalSource:
        folder_fd = self._enter(folders, ref, make=False)
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            return LocalSource(os.open(name, flags, dir_fd=folder_fd), ref, self._bandwidth)
        except OSError as error:
            raise _read_error(error, ref) from error
        finally:
            os.close(folder_fd)

    def create(self, path: str) -> base.NewFile:
        """Begins a new archive; makes missing folders."""
        ref, folders, name = self._parts(path)
        self._check_mount()
        _refuse_unable(self._root, ref)
        made = os.path.join(self._root, folders[0]) if len(folders) == 1 else None
        made = None if made is None or os.path.lexists(made) else made
        return LocalNewFile(self._enter(folders, ref, make=True), name, ref, self._bandwidth, made=made)

    def capabilities(self) -> Capabilities:
        """Returns what the folder's file system can do."""
        return of_folder(self._root)

    def close(self) -> None:
        """Does nothing: nothing is held open."""

    def _parts(self, path: str) -> tuple[ArchiveRef, list[str], str]:
        ref = ArchiveRef(target=self.spec.name, path=path)
        *folders, name = base.safe_parts(path, ref)
        return ref, folders, name

    def _enter(self, folders: list[str], ref: ArchiveRef, *, make: bool) -> int:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        try:
            fd = os.open(self._root, flags)
        except OSError as error:
            raise unreachable(self.spec, error) from error
        for folder in folders:
            try:
                if make:
                    _make_folder(folder, fd)
                inner = os.open(folder, flags | os.O_NOFOLLOW, dir_fd=fd)
            except OSError as error:
                raise (_write_error if make else _read_error)(error, ref) from error
            finally:
                os.close(fd)
            fd = inner
        return fd


def open_local_file(path: str) -> base.ByteSource:
    """Opens a local archive by its own path (`/path` in a control file or on the command line); a link in it is followed."""
    ref = ArchiveRef(target=LOCAL, path=path)
    try:
        # Checked before it is opened: opening a device (a tape, a watchdog) may start something, and a submitter names this path.
        _refuse_no_file(os.stat(path), ref)
        return LocalSource(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), ref)
    except OSError as error:
        raise _read_error(error, ref) from error


def create_local_file(path: str) -> base.NewFile:
    """Begins a new file in an existing local folder, under the rules of `Target.create`."""
    ref = ArchiveRef(target=LOCAL, path=path)
    folder, name = os.path.split(path)
    _refuse_unable(folder or ".", ref)
    try:
        fd = os.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _write_error(error, ref) from error
    return LocalNewFile(fd, name, ref, NO_LIMIT)


def _make_folder(name: str, parent_fd: int) -> None:
    try:
        os.mkdir(name, 0o700, dir_fd=parent_fd)
    except FileExistsError:
        return
    durable.sync_folder(".", dir_fd=parent_fd)


def _refuse_no_file(facts: os.stat_result, ref: ArchiveRef) -> None:
    if not stat_module.S_ISREG(facts.st_mode):
        raise ArchiveAbsent(f"{ref}: not a regular file", remedy="An archive is a plain file; name that file itself.")


def _short(ref: ArchiveRef, wanted: int, size: int) -> BadArchive:
    return BadArchive(
        f"{ref}: the file ends at {size}, {wanted} bytes are needed",
        remedy="The archive is truncated or still being copied. Bring it again, or restore from another copy.",
    )


def _read_error(error: OSError, ref: ArchiveRef) -> PhdError:
    if error.errno in _ABSENT:
        return ArchiveAbsent(f"{ref}: {error.strerror}", remedy="See what there is with 'phd backups'.")
    return as_refused(error)(f"{ref}: {error.strerror}", remedy=remedy_for(error))


def _refuse_unable(folder: str, ref: ArchiveRef) -> None:
    """Refuse a folder on whose file system no archive can be made. Raises `TargetRefused`. Other errors are told by the work."""
    can = Capabilities()
    with contextlib.suppress(OSError):
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            can = tried(fd)
        finally:
            os.close(fd)
    if can.missing:
        system = printable(can.file_system)
        raise TargetRefused(f"{ref}: on its file system ({system}) one cannot {can.missing[0]}", remedy=can.remedy)


def _write_error(error: OSError, ref: ArchiveRef) -> PhdError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return TargetFull(where=str(ref), why=error.strerror or str(error))
    if error.errno == errno.EFBIG:
        return TargetFull(where=str(ref), why="the file system there takes no file of this size (vfat: less than 4 GiB)")
    if error.errno == errno.EROFS:
        return TargetRefused(f"{ref}: cannot be written: read-only", remedy="Mount the target for writing, or choose another.")
    return as_refused(error)(f"{ref}: cannot be written: {error.strerror}", remedy=remedy_for(error))
