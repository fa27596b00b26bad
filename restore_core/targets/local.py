"""A folder as a target (`file:///path`), and single local files. Links inside a target are not followed."""

from __future__ import annotations

import contextlib
import errno
import os
import stat as stat_module
import urllib.parse
from collections.abc import Generator, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from restore_core import durable
from restore_core.errors import ArchiveAbsent, BadArchive, PhdError, TargetUnavailable, TryAgainLater
from restore_core.mounts import unmounted_mount_point
from restore_core.naming import printable
from restore_core.targets.base import (
    LOCAL,
    Address,
    ArchiveRef,
    Buffer,
    ByteSource,
    FileStat,
    ListedFile,
    NewFile,
    Range,
    ServerLimits,
    Stop,
    Target,
    TargetSpec,
    refuse_bare,
    safe_parts,
)
from restore_core.targets.gaps import Gap
from restore_core.targets.local_listing import PART_SUFFIX, list_folders, unreachable

_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}


class LocalSource:
    """A local archive, read with `pread`, so that any number of threads may read at once."""

    def __init__(self, fd: int, ref: ArchiveRef) -> None:
        facts = os.fstat(fd)
        try:
            _refuse_no_file(facts, ref)
        except ArchiveAbsent:
            os.close(fd)
            raise
        self._fd = fd
        self._ref = ref
        self._size = facts.st_size
        self.stat = FileStat(size=facts.st_size, mtime=facts.st_mtime)

    @property
    def ref(self) -> ArchiveRef:
        """Where it lies."""
        return self._ref

    @property
    def size(self) -> int:
        """Bytes, when it was opened."""
        return self._size

    def read_at(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes; a short file raises `BadArchive`, an I/O error `TryAgainLater`."""
        if length > self._size or offset < 0 or offset > self._size - length:
            raise _short(self._ref, offset + length, self._size)
        try:
            data = os.pread(self._fd, length, offset)
            while len(data) < length:
                more = os.pread(self._fd, length - len(data), offset + len(data))
                if not more:
                    raise _short(self._ref, offset + length, offset + len(data))
                data += more
        except OSError as error:
            raise TryAgainLater(f"{self._ref}: reading at {offset}: {error.strerror}") from error
        return data

    def stream(self, offset: int = 0, length: int | None = None, *, chunk: int = 1 << 20) -> Iterator[bytes]:
        """The bytes of a range, in order."""
        end = self._size if length is None else offset + length
        while offset < end:
            data = self.read_at(offset, min(chunk, end - offset))
            offset += len(data)
            yield data

    def ranges(self, wanted: Iterator[Range]) -> Generator[Buffer]:
        """One read each."""
        for offset, length in wanted:
            yield self.read_at(offset, length)

    def interrupt(self) -> None:
        """A local read ends by itself."""

    def close(self) -> None:
        """Close the file; harmless when repeated."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class LocalNewFile:
    """A file that lies under `NAME.phd-part` until it is complete and durable."""

    def __init__(self, folder_fd: int, name: str, ref: ArchiveRef) -> None:
        self._folder_fd, self._name, self._ref = folder_fd, name, ref
        self._part = name + PART_SUFFIX
        try:
            self._fd = durable.take_part(self._part, dir_fd=folder_fd)
        except OSError as error:
            os.close(folder_fd)
            raise _write_error(error, ref) from error
        self._position = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append at the end of what was written so far."""
        try:
            durable.write_all_at(self._fd, data, self._position)
        except OSError as error:
            raise _write_error(error, self._ref) from error
        self._position += len(data)

    def write_at(self, data: bytes, offset: int) -> None:
        """Overwrite; the end of the file does not move."""
        try:
            durable.write_all_at(self._fd, data, offset)
        except OSError as error:
            raise _write_error(error, self._ref) from error

    def publish(self) -> None:
        """fsync, rename without replacing, fsync the folder."""
        try:
            durable.sync_file(self._fd)
            durable.move(self._part, self._name, source_dir_fd=self._folder_fd, to_dir_fd=self._folder_fd)
        except FileExistsError:
            self.discard()
            raise
        except OSError as error:
            self.discard()
            raise _write_error(error, self._ref) from error
        self._close()

    def discard(self) -> None:
        """Remove the part file."""
        if self._fd >= 0:
            durable.remove(self._part, dir_fd=self._folder_fd)
            self._close()

    def _close(self) -> None:
        os.close(self._fd)
        os.close(self._folder_fd)
        self._fd = -1


def open_target(spec: TargetSpec, _address: Address, _limits: ServerLimits, _stop: Stop | None) -> Target:
    """Returns a folder of this machine as a target."""
    return LocalTarget(spec)


class LocalTarget:
    """A folder. It must exist: a target whose folder is gone (unmounted) is unreachable, not empty."""

    def __init__(self, spec: TargetSpec) -> None:
        self.spec = spec
        parsed = urllib.parse.urlsplit(spec.url)
        self._root = urllib.parse.unquote(parsed.path, errors="surrogateescape")

    def listing(self, gaps: list[Gap] | None = None) -> Iterator[ListedFile]:
        """Files in the folders of this target, and those at its root."""
        self._check_mount()
        yield from list_folders(self.spec, self._root, gaps)

    def _check_mount(self) -> None:
        """Raise where the target's folder lies on the place of a mount that is not there: what is seen is another disk."""
        point = unmounted_mount_point(Path(self._root)) if self.spec.name != LOCAL else None
        if point is not None:
            raise TargetUnavailable(
                f"target {self.spec.name} ({printable(self.spec.url)}): nothing is mounted at {printable(point)}",
                remedy=f"Mount it ('mount {printable(point)}'). If nothing belongs there any more, take it out of /etc/fstab.",
            )

    def stat(self, path: str) -> FileStat:
        """Size and time of one file."""
        ref = ArchiveRef(target=self.spec.name, path=path)
        *folders, name = safe_parts(path, ref)
        with self._open(folders, name, ref) as source:
            return source.stat

    def open(self, path: str) -> LocalSource:
        """One archive, reached without following a link below the target's folder."""
        ref = ArchiveRef(target=self.spec.name, path=path)
        *folders, name = safe_parts(path, ref)
        try:
            return self._open(folders, name, ref)
        except ArchiveAbsent as error:
            self._check_mount()
            with contextlib.suppress(OSError):
                refuse_bare(self.spec, os.listdir(self._root), error)
            raise

    def _open(self, folders: list[str], name: str, ref: ArchiveRef) -> LocalSource:
        folder_fd = self._enter(folders, ref, make=False)
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            return LocalSource(os.open(name, flags, dir_fd=folder_fd), ref)
        except OSError as error:
            raise _read_error(error, ref) from error
        finally:
            os.close(folder_fd)

    def create(self, path: str) -> NewFile:
        """A new archive under this target."""
        ref = ArchiveRef(target=self.spec.name, path=path)
        *folders, name = safe_parts(path, ref)
        folder_fd = self._enter(folders, ref, make=True)
        return LocalNewFile(folder_fd, name, ref)

    def close(self) -> None:
        """Nothing is held open."""

    def _enter(self, folders: list[str], ref: ArchiveRef, *, make: bool) -> int:
        if make:
            self._check_mount()
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


def _refuse_no_file(facts: os.stat_result, ref: ArchiveRef) -> None:
    if not stat_module.S_ISREG(facts.st_mode):
        raise ArchiveAbsent(f"{ref}: not a regular file", remedy="An archive is a plain file; name that file itself.")


def open_local_file(path: str) -> ByteSource:
    """A local archive by its own path (`/path` in a control file or on the command line); links are the caller's own."""
    ref = ArchiveRef(target=LOCAL, path=path)
    try:
        # Asked before: a device (a tape, a watchdog) may do something when it is only opened, and who drops jobs names this path.
        _refuse_no_file(os.stat(path), ref)
        return LocalSource(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), ref)
    except OSError as error:
        raise _read_error(error, ref) from error


def create_local_file(path: str) -> NewFile:
    """A new file in an existing local folder, under the rules of `Target.create`."""
    ref = ArchiveRef(target=LOCAL, path=path)
    folder, name = os.path.split(path)
    try:
        fd = os.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _write_error(error, ref) from error
    return LocalNewFile(fd, name, ref)


def _make_folder(name: str, parent_fd: int) -> None:
    try:
        os.mkdir(name, 0o700, dir_fd=parent_fd)
    except FileExistsError:
        return
    durable.sync_folder(".", dir_fd=parent_fd)


def _short(ref: ArchiveRef, wanted: int, size: int) -> BadArchive:
    return BadArchive(
        f"{ref}: the file ends at {size}, {wanted} bytes are needed",
        remedy="The archive is truncated or still being copied. Bring it again, or restore from another copy.",
    )


def _read_error(error: OSError, ref: ArchiveRef) -> PhdError:
    if error.errno in _ABSENT:
        return ArchiveAbsent(f"{ref}: {error.strerror}", remedy="See what there is with 'phd backups'.")
    return TargetUnavailable(f"{ref}: {error.strerror}", remedy="Check that this user may read the target.")


def _write_error(error: OSError, ref: ArchiveRef) -> PhdError:
    return TargetUnavailable(f"{ref}: cannot be written: {error.strerror}", remedy="Check space and rights on the target.")
