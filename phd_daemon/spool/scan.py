"""Scans the spool: the control files of every stem, as `lstat` sees them. No link is followed.

A control file has an identity, so that a new file under the same name is seen as a new request. ext4 and XFS count the generations
of an inode. Overlayfs (a container), tmpfs and FUSE do not, and give the number of a deleted file to the next one at once: there
the identity is made of content and owner, so an edit of a waiting file is a new request there.
"""

from __future__ import annotations

import enum
import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from phd_daemon.spool.control_file import MAX_BYTES
from phd_daemon.spool.layout import Spool, State, parse_name, too_long, why_no_job
from phd_daemon.spool.own_files import is_obstacle
from restore_core.disk.identity import FileIdentity, generation

_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_NOT_A_GENERATION = 1 << 64


class FileKind(enum.Enum):
    """What a directory entry is. `OTHER` is a directory, FIFO, socket or device: never a job."""

    REGULAR = "regular file"
    SYMLINK = "symbolic link"
    OTHER = "no file"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFacts:
    """One control file as `lstat` sees it. Times are nanoseconds since the epoch."""

    kind: FileKind
    identity: FileIdentity
    size: int
    mtime_ns: int
    ctime_ns: int
    links: int


Files = Mapping[State, FileFacts]
"""The control files of one stem."""


class FolderReader:
    """Scans one spool folder again and again. Remembers the files it has seen, so a file is opened once and not at every scan."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._known: dict[str, FileFacts] = {}
        self.too_long: frozenset[str] = frozenset()
        """Names of the last scan that would be control files if they were shorter."""
        self.obstacles: frozenset[str] = frozenset()
        """Names of control files that, in the last scan, something else had (a folder, a FIFO of another user): never a job."""
        self.strays: Mapping[str, str] = {}
        """Files of the last scan that are never read though a person may think so, each with the reason."""

    def scan(self) -> dict[str, Files]:
        """Returns the control files of all stems that are not too long. Raises `OSError` if the folder is gone."""
        found: dict[str, dict[State, FileFacts]] = {}
        names: set[str] = set()
        too_long_names = []
        obstacles = []
        strays = {}
        with os.scandir(self._spool.folder) as entries:
            for entry in entries:
                parsed = parse_name(entry.name)
                if parsed is None:
                    if (why := why_no_job(entry.name)) is not None and entry.is_file():
                        strays[entry.name] = why
                    continue
                if too_long(parsed[0]):
                    too_long_names.append(entry.name)
                    continue
                try:
                    seen = entry.stat(follow_symlinks=False)
                    if is_obstacle(seen):
                        obstacles.append(entry.name)
                        continue
                    facts = self._facts(entry.name, seen)
                except FileNotFoundError:
                    continue
                names.add(entry.name)
                found.setdefault(parsed[0], {})[parsed[1]] = facts
        self.too_long, self.obstacles, self.strays = frozenset(too_long_names), frozenset(obstacles), strays
        self._known = {name: known for name, known in self._known.items() if name in names}
        return dict(found)

    def look(self, stem: str) -> Files:
        """Returns the control files of one stem, each looked up by its name.

        Every name is looked up twice before the files are taken for gone: one look misses a file that is renamed meanwhile.
        """
        return self._look_once(stem) or self._look_once(stem)

    def _look_once(self, stem: str) -> Files:
        files: dict[State, FileFacts] = {}
        for state in State:
            name = self._spool.control(stem, state).name
            try:
                seen = os.lstat(self._spool.folder / name)
                if not is_obstacle(seen):
                    files[state] = self._facts(name, seen)
            except FileNotFoundError:
                continue
        return files

    def _facts(self, name: str, found: os.stat_result) -> FileFacts:
        known = self._known.get(name)
        if known is not None and _looks_like(known, found):
            return known
        kind = (
            FileKind.REGULAR if stat.S_ISREG(found.st_mode) else FileKind.SYMLINK if stat.S_ISLNK(found.st_mode) else FileKind.OTHER
        )
        identity = self._identity(name, found) if kind is FileKind.REGULAR else None
        facts = FileFacts(
            kind=kind,
            identity=identity or FileIdentity(inode=found.st_ino, generation=0),
            size=found.st_size,
            mtime_ns=found.st_mtime_ns,
            ctime_ns=found.st_ctime_ns,
            links=found.st_nlink,
        )
        if identity is not None:
            self._known[name] = facts
        return facts

    def _identity(self, name: str, found: os.stat_result) -> FileIdentity | None:
        """Returns None if it cannot be known now: the file is not readable for us, is gone, or was replaced."""
        try:
            fd = os.open(self._spool.folder / name, _READ)
        except OSError:
            return None
        try:
            now = os.fstat(fd)
            same = (now.st_ino, now.st_ctime_ns) == (found.st_ino, found.st_ctime_ns)
            return identity_of(fd) if same else None
        finally:
            os.close(fd)


def _looks_like(known: FileFacts, found: os.stat_result) -> bool:
    """Whether it is the same file, unchanged. Inode and ctime would say so alone; the rest helps where the clock is coarse."""
    return (known.identity.inode, known.ctime_ns, known.mtime_ns, known.size, known.links) == (
        found.st_ino,
        found.st_ctime_ns,
        found.st_mtime_ns,
        found.st_size,
        found.st_nlink,
    )


def identity_of(fd: int) -> FileIdentity:
    """Returns the identity of an open control file. Raises `OSError`."""
    found = os.fstat(fd)
    return FileIdentity(inode=found.st_ino, generation=generation(fd) or _by_content(fd, found))


def identity_at(path: Path) -> FileIdentity:
    """Returns the identity of the file at `path`; of one that cannot be opened (a link, no right to read) only the inode.

    Raises `OSError`.
    """
    found = os.lstat(path)
    try:
        fd = os.open(path, _READ)
    except OSError:
        return FileIdentity(inode=found.st_ino, generation=0)
    try:
        return identity_of(fd)
    finally:
        os.close(fd)


def _by_content(fd: int, found: os.stat_result) -> int:
    """Returns a number that stands for content and owner, larger than any generation; 0 if the content cannot be read."""
    try:
        text = os.pread(fd, MAX_BYTES + 1, 0)
    except OSError:
        return 0
    digest = hashlib.blake2b(text, digest_size=8, key=f"{found.st_uid} {found.st_size}".encode()).digest()
    return _NOT_A_GENERATION | int.from_bytes(digest, "big")
