"""Writes files that come out of a guest's file system into one folder of this host.

Nothing is written outside of that folder: names are single components, folders are opened one by one below an open folder
without following a link, a file gets its name by a rename. What the guest says is kept where it can do no harm:

    file      content, time, mode without setuid, setgid and sticky; owner only if asked
    link      only one that cannot leave what is taken: `..` at the begin, no more of it than folders around the link
    device, FIFO, socket    never
    hard link               a second name of the file that was written first

What is left out is recorded with its reason. A file that is there stays, unless it may be overwritten. All is durable when
`finish` returns, not before: a file is not synced alone.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from dataclasses import dataclass, field

from restore_core import durable
from restore_core.disk.confinement import open_beneath
from restore_core.errors import BadData, DestinationError, from_os_error, size_text
from restore_core.naming import MAX_NAME_BYTES, printable
from restore_core.serve.file_systems.guest_file import GuestFacts

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_STOPS = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE}
"""Errors that the next file would meet, too."""
_ZEROS = bytes(1 << 20)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A file or folder that was not taken, or not all of it. `damaged` where its content could not be read."""

    path: str
    why: str
    damaged: bool = False


@dataclass(slots=True, kw_only=True)
class TakenFiles:
    """What was written: counts, bytes without holes, what was left out, and notes on what of a file was."""

    files: int = 0
    folders: int = 0
    links: int = 0
    bytes_written: int = 0
    left_out: list[LeftOut] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class _Folder:
    fd: int
    names: tuple[str, ...]
    facts: GuestFacts
    made: bool


@dataclass(slots=True, kw_only=True)
class _File:
    fd: int
    part: str
    name: str
    facts: GuestFacts
    at: int = 0


class FolderWriter:
    """Takes files into the open folder `fd`. It is the visitor of a walk; call `begin` before each, `finish` after the last."""

    def __init__(self, fd: int, *, overwrite: bool, owners: bool) -> None:
        self._fd, self._overwrite, self._owners = fd, overwrite, owners
        self._folders: list[_Folder] = []
        self._file: _File | None = None
        self._first: dict[int, tuple[str, ...]] = {}
        self._top, self._prefix = "", ""
        self.taken = TakenFiles()

    def begin(self, *, name: str, prefix: str) -> None:
        """What comes next, if it has no name, gets this one; `prefix` is the path of what is around it, for messages."""
        self._top, self._prefix = name, prefix
        self._first.clear()

    def found(self, facts: GuestFacts, depth: int) -> bool:
        """Returns whether the content is wanted."""
        if depth != len(self._folders):
            raise BadData(f"{self._prefix}: a file at depth {depth} in {len(self._folders)} folders")
        name = facts.name if facts.name or depth else self._top
        try:
            why = self._refusal(name, facts)
            if not why:
                return self._begin_one(name, facts)
        except OSError as error:
            why = self._said(error)
        self._leave_out(name, why)
        return False

    def _refusal(self, name: str, facts: GuestFacts) -> str:
        if facts.problem:
            return facts.problem
        if not is_harmless_name(name):
            return "its name cannot be that of a file here"
        with contextlib.suppress(FileNotFoundError):
            there = os.stat(name, dir_fd=self._here, follow_symlinks=False)
            if facts.kind == "folder" and stat.S_ISDIR(there.st_mode):
                return ""
            if facts.kind == "folder" or stat.S_ISDIR(there.st_mode):
                return "is there already, and is a folder here or there"
            if not self._overwrite:
                return "is there already"
        return self._link_refusal(facts.link) if facts.kind == "link" else ""

    def _link_refusal(self, target: str) -> str:
        """Returns why a link must not be made. `..` behind a name could lead through another link, so it only stands in front."""
        parts = [part for part in target.split("/") if part not in ("", ".")]
        ups = next((index for index, part in enumerate(parts) if part != ".."), len(parts))
        relative = bool(target) and not target.startswith("/") and "\0" not in target
        if relative and ".." not in parts[ups:] and ups <= max(0, len(self._folders) - 1):
            return ""
        return f"is a link to {printable(target) or 'nothing'}, which may lead out of what is taken"

    def _begin_one(self, name: str, facts: GuestFacts) -> bool:
        if facts.note:
            self.taken.notes.append(f"{self._path(name)}: {facts.note}")
        match facts.kind:
            case "folder":
                self._enter(name, facts)
                return True
            case "link":
                self._write_link(name, facts)
                return False
            case _:
                return not self._write_second_name(name, facts) and self._open(name, facts)

    def _enter(self, name: str, facts: GuestFacts) -> None:
        made = True
        try:
            os.mkdir(name, 0o700, dir_fd=self._here)
        except FileExistsError:
            made = False
        fd = os.open(name, _FOLDER, dir_fd=self._here)
        names = (*(self._folders[-1].names if self._folders else ()), name)
        self._folders.append(_Folder(fd=fd, names=names, facts=facts, made=made))
        self.taken.folders += 1

    def _write_link(self, name: str, facts: GuestFacts) -> None:
        part = _part()
        os.symlink(facts.link, part, dir_fd=self._here)
        try:
            if facts.mtime is not None:
                with contextlib.suppress(OSError, OverflowError):
                    os.utime(part, ns=(facts.mtime, facts.mtime), dir_fd=self._here, follow_symlinks=False)
            if self._owners and facts.uid is not None and facts.gid is not None:
                os.chown(part, facts.uid, facts.gid, dir_fd=self._here, follow_symlinks=False)
            self._name(part, name)
        except BaseException:
            durable.remove(part, dir_fd=self._here, durable=False)
            raise
        self.taken.links += 1

    def _write_second_name(self, name: str, facts: GuestFacts) -> bool:
        """Makes a hard link to the file that was written under another name. Returns False where there is none yet."""
        first = self._first.get(facts.identity) if facts.links > 1 else None
        if first is None:
            return False
        folder = open_beneath(self._fd, first[:-1]) if first[:-1] else os.dup(self._fd)
        if folder is None:
            return False
        part = _part()
        try:
            durable.second_name(first[-1], part, source_dir_fd=folder, to_dir_fd=self._here)
        except OSError:
            return False  # no hard links there, or too many: it is written once more
        finally:
            os.close(folder)
        self._name(part, name)
        durable.remove(part, dir_fd=self._here, durable=False)  # a rename onto another name of the same file does nothing
        self.taken.files += 1
        return True

    def _open(self, name: str, facts: GuestFacts) -> bool:
        room = os.fstatvfs(self._here)
        free = room.f_bavail * room.f_frsize
        if facts.stored > free:
            raise DestinationError(
                f"{self._path(name)}: needs {size_text(facts.stored)}, and {size_text(free)} are free there",
                remedy="Free space, or name another folder with --to. What was written until now is complete.",
            )
        part = _part()
        self._file = _File(fd=os.open(part, _NEW, 0o600, dir_fd=self._here), part=part, name=name, facts=facts)
        return True

    def data(self, piece: bytes) -> None:
        """Writes the next bytes of the file; zeros become holes."""
        file = self._now(len(piece))
        if piece != _ZEROS[: len(piece)]:
            try:
                durable.write_all_at(file.fd, piece, file.at)
            except OSError as error:
                raise from_os_error(error, doing="writing", where=self._path(file.name)) from error
            self.taken.bytes_written += len(piece)
        file.at += len(piece)

    def hole(self, length: int) -> None:
        """Leaves a hole in the file."""
        self._now(length).at += length

    def _now(self, length: int) -> _File:
        if self._file is None or self._file.at + length > self._file.facts.size:
            raise BadData(f"{self._prefix}: more bytes of a file than it has")
        return self._file

    def ended(self, problem: str) -> None:
        """Gives the file its name, or takes it away if there is a problem."""
        file, why = self._now(0), problem
        if not why and file.at != file.facts.size:
            why = f"its content ends {file.facts.size - file.at} bytes early"
        try:
            if not why:
                os.ftruncate(file.fd, file.facts.size)
                self._set_facts(file.fd, file.facts, 0o600)
                self._name(file.part, file.name)
                self.taken.files += 1
                if file.facts.links > 1:
                    self._first[file.facts.identity] = (*(self._folders[-1].names if self._folders else ()), file.name)
                os.close(file.fd)
                self._file = None
                return
        except OverflowError:
            why = "cannot be written: it is larger than any file"
        except OSError as error:
            why = self._said(error)
        self._drop_file()
        self._leave_out(file.name, why, damaged=bool(problem))

    def left(self, problem: str) -> None:
        """Leaves the folder that was entered last."""
        if not self._folders:
            raise BadData(f"{self._prefix}: a folder is over that was never entered")
        folder = self._folders.pop()
        try:
            if folder.made:
                self._set_facts(folder.fd, folder.facts, 0o700)
        except OSError as error:
            problem = problem or self._said(error)
        finally:
            os.close(folder.fd)
        if problem:
            self._leave_out(folder.names[-1], problem, damaged=True)

    def finish(self) -> TakenFiles:
        """Makes everything durable, and returns what was written. Raises a typed error."""
        try:
            durable.sync_file_system(self._fd)
        except OSError as error:
            raise from_os_error(error, doing="making the files durable", where=self._prefix) from error
        return self.taken

    def close(self) -> None:
        """Takes away the file that is not complete, and closes the folders. Harmless when repeated."""
        self._drop_file()
        while self._folders:
            os.close(self._folders.pop().fd)

    def _drop_file(self) -> None:
        if self._file is not None:
            os.close(self._file.fd)
            with contextlib.suppress(OSError):
                durable.remove(self._file.part, dir_fd=self._here, durable=False)
            self._file = None

    def _set_facts(self, fd: int, facts: GuestFacts, mode: int) -> None:
        """Sets owner (if asked), mode and time. A mode that lets run as another user is kept only together with the owner."""
        mode = mode if facts.mode is None else facts.mode & 0o777
        if self._owners and facts.uid is not None and facts.gid is not None:
            os.fchown(fd, facts.uid, facts.gid)
            mode = mode if facts.mode is None else facts.mode
        durable.set_mode(fd, mode)
        if facts.mtime is not None:
            with contextlib.suppress(OSError, OverflowError):  # a time that this file system cannot have
                os.utime(fd, ns=(facts.mtime, facts.mtime))

    def _name(self, part: str, name: str) -> None:
        durable.move(part, name, replace=self._overwrite, durable=False, source_dir_fd=self._here, to_dir_fd=self._here)

    @property
    def _here(self) -> int:
        return self._folders[-1].fd if self._folders else self._fd

    def _path(self, name: str) -> str:
        return self._prefix + printable("/".join([*(self._folders[-1].names if self._folders else ()), name]))

    def _leave_out(self, name: str, why: str, *, damaged: bool = False) -> None:
        self.taken.left_out.append(LeftOut(path=self._path(name), why=why, damaged=damaged))

    def _said(self, error: OSError) -> str:
        """Returns why one file cannot be written. Raises the typed error of a fault that all would meet."""
        if error.errno in _STOPS:
            raise from_os_error(error, doing="writing", where=self._prefix) from error
        return f"cannot be written: {error.strerror or error}"


def is_harmless_name(name: str) -> bool:
    """Returns whether a name can be that of a file in one folder of this host: one component, and neither `.` nor `..`."""
    try:
        raw = name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return name not in ("", ".", "..") and "/" not in name and "\0" not in name and len(raw) <= MAX_NAME_BYTES


def _part() -> str:
    return f".phd-{secrets.token_hex(8)}.tmp"
