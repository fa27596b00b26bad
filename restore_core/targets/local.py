"""A folder as a target (`file:///path`), and single local files. Links inside a target are not followed.

Each folder of a target is listed for itself, so that one that cannot be read hides no other.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat as stat_module
import urllib.parse
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

from restore_core import durable
from restore_core.errors import ArchiveAbsent, BadArchive, PhdError, TargetFull, TargetUnavailable, TryAgainLater
from restore_core.mounts import unmounted_mount_point
from restore_core.naming import printable
from restore_core.targets import base
from restore_core.targets.base import LOCAL, NEW_FILE_SUFFIX, ArchiveRef, FileStat, ListedFile, TargetSpec
from restore_core.targets.capabilities import Capabilities, of_folder
from restore_core.targets.gaps import Gap, GapKind, link_gap, may_be_backups, refuse_partial
from restore_core.targets.remote.connection import Bandwidth

NO_LIMIT = Bandwidth(0)
_GONE = {errno.ENOENT, errno.ENOTDIR}
_ABSENT = {*_GONE, errno.ELOOP, errno.ENAMETOOLONG}
_OF_ONE_FOLDER = {errno.EACCES, errno.EPERM, errno.EIO, errno.EUCLEAN, errno.ELOOP, errno.ENAMETOOLONG, errno.EBADMSG}
"""Errors of one folder, or of its blocks on the disk. Any other error is taken for one of the whole file system."""


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
            raise TryAgainLater(f"{self.ref}: reading at {offset}: {error.strerror}") from error
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
    """A file that is called `NAME.phd-part` until it is complete and durable."""

    def __init__(
        self,
        folder_fd: int,
        name: str,
        ref: ArchiveRef,
        bandwidth: Bandwidth = NO_LIMIT,
        *,
        made: Sequence[durable.MadeFolders] = (),
    ) -> None:
        self._folder_fd, self._name, self._ref, self._bandwidth = folder_fd, name, ref, bandwidth
        self._made = made
        """Folders that were made for it: gone at the end if they are empty."""
        self._part = name + NEW_FILE_SUFFIX
        try:
            self._fd = durable.take_part(self._part, dir_fd=folder_fd)
        except OSError as error:
            os.close(folder_fd)
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

    def _close(self) -> None:
        os.close(self._fd)
        os.close(self._folder_fd)
        self._fd = -1
        for made in self._made:
            made.close()


def open_target(spec: TargetSpec, _address: base.Address, _limits: base.ServerLimits, _stop: base.Stop | None) -> base.Target:
    """Returns a folder of this machine as a target."""
    return LocalTarget(spec)


class LocalTarget:
    """A folder. A target whose folder does not exist is unreachable, not empty: its file system may not be mounted."""

    def __init__(self, spec: TargetSpec) -> None:
        self.spec = spec
        self._bandwidth = Bandwidth(spec.bandwidth)  # a folder may be a mount of a network
        self._root = urllib.parse.unquote(urllib.parse.urlsplit(spec.url).path, errors="surrogateescape")

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
        folder_fd = self._enter(folders, ref)
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
        made: list[durable.MadeFolders] = []
        try:
            return LocalNewFile(self._enter(folders, ref, made=made), name, ref, self._bandwidth, made=made)
        except BaseException:
            for each in made:
                each.close()
            raise

    def capabilities(self) -> Capabilities:
        """Returns what the folder's file system can do."""
        return of_folder(self._root)

    def close(self) -> None:
        """Does nothing: nothing is held open."""

    def _parts(self, path: str) -> tuple[ArchiveRef, list[str], str]:
        ref = ArchiveRef(target=self.spec.name, path=path)
        *folders, name = base.safe_parts(path, ref)
        return ref, folders, name

    def _enter(self, folders: list[str], ref: ArchiveRef, *, made: list[durable.MadeFolders] | None = None) -> int:
        """Opens a folder of the target. With `made` missing ones are made, and put on record there."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        try:
            fd = os.open(self._root, flags)
        except OSError as error:
            raise _unreachable(self.spec, error) from error
        if made is not None:
            made.append(durable.MadeFolders(fd))
        for folder in folders:
            try:
                if made is not None:
                    made[0].make(folder, fd)
                inner = os.open(folder, flags | os.O_NOFOLLOW, dir_fd=fd)
            except OSError as error:
                raise (_read_error if made is None else _write_error)(error, ref) from error
            finally:
                os.close(fd)
            fd = inner
        return fd


def list_folders(spec: TargetSpec, root: str, gaps: list[Gap] | None) -> Iterator[ListedFile]:
    """Yields the files in `root` and in its folders; `gaps` as in `Target.listing`."""
    found: list[Gap] = [] if gaps is None else gaps
    try:
        with os.scandir(root) as entries:
            top = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise _unreachable(spec, error) from error
    yield from _files(spec, "", top, found)
    for entry in top:
        if not entry.name.startswith(".") and _may_be_folder(entry):
            yield from _files(spec, entry.name, _scan(spec, root, entry.name, found), found)
    if gaps is None:
        refuse_partial(spec.name, found)


def _scan(spec: TargetSpec, root: str, folder: str, gaps: list[Gap]) -> list[os.DirEntry[str]]:
    found: list[os.DirEntry[str]] = []
    try:
        with os.scandir(os.path.join(root, folder)) as entries:
            found.extend(entries)
    except OSError as error:
        if error.errno not in _GONE:  # deleted since its parent was read: those backups are gone
            gaps.append(_gap(spec, folder, error))
    return sorted(found, key=lambda entry: entry.name)


def _files(spec: TargetSpec, folder: str, entries: list[os.DirEntry[str]], gaps: list[Gap]) -> Iterator[ListedFile]:
    for entry in entries:
        path = f"{folder}/{entry.name}" if folder else entry.name
        try:
            if entry.is_file(follow_symlinks=False) and not entry.name.endswith(NEW_FILE_SUFFIX):
                facts = entry.stat(follow_symlinks=False)
                yield ListedFile(path=path, stat=FileStat(size=facts.st_size, mtime=facts.st_mtime))
            elif entry.is_symlink() and may_be_backups(folder, entry.name):
                gaps.append(link_gap(folder, entry.name))
        except OSError as error:
            if error.errno not in _GONE:
                gaps.append(_gap(spec, path, error))


def _gap(spec: TargetSpec, path: str, error: OSError) -> Gap:
    """Returns the gap that an error makes; raises if the error is not about one folder."""
    if error.errno not in _OF_ONE_FOLDER:
        raise _unreachable(spec, error, path) from error
    return Gap(path=path, kind=GapKind.UNREADABLE, why=error.strerror or str(error))


def _may_be_folder(entry: os.DirEntry[str]) -> bool:
    """Whether a name may be that of a folder. One that cannot be looked at is opened as one, and that error is reported."""
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return True


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
    try:
        fd = os.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _write_error(error, ref) from error
    return LocalNewFile(fd, name, ref)


def _refuse_no_file(facts: os.stat_result, ref: ArchiveRef) -> None:
    if not stat_module.S_ISREG(facts.st_mode):
        raise ArchiveAbsent(f"{ref}: not a regular file", remedy="An archive is a plain file; name that file itself.")


def _short(ref: ArchiveRef, wanted: int, size: int) -> BadArchive:
    return BadArchive(
        f"{ref}: the file ends at {size}, {wanted} bytes are needed",
        remedy="The archive is truncated or still being copied. Bring it again, or restore from another copy.",
    )


def _unreachable(spec: TargetSpec, error: OSError, path: str = "") -> TargetUnavailable:
    """Returns the error for a folder that cannot be looked at; it says nothing of what the folder holds."""
    where = f"{printable(path)}: " if path else ""
    return TargetUnavailable(
        f"target {spec.name} ({printable(spec.url)}): {where}{error.strerror}",
        remedy="Is the file system mounted, and may this user read the folder?",
    )


def _read_error(error: OSError, ref: ArchiveRef) -> PhdError:
    if error.errno in _ABSENT:
        return ArchiveAbsent(f"{ref}: {error.strerror}", remedy="See what there is with 'phd backups'.")
    return TargetUnavailable(f"{ref}: {error.strerror}", remedy="Check that this user may read the target.")


def _write_error(error: OSError, ref: ArchiveRef) -> PhdError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return TargetFull(where=str(ref), why=error.strerror or str(error))
    if error.errno == errno.EFBIG:
        return TargetFull(where=str(ref), why="the file system there takes no file of this size (vfat: less than 4 GiB)")
    if error.errno == errno.EROFS:
        return TargetUnavailable(f"{ref}: cannot be written: read-only", remedy="Mount the target for writing, or choose another.")
    return TargetUnavailable(f"{ref}: cannot be written: {error.strerror}", remedy="Check space and rights on the target.")
