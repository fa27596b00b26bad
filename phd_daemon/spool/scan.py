"""What a scan sees: the control files of every stem, as plain facts. Nothing is read and nothing is followed."""

from __future__ import annotations

import enum
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass

from phd_daemon.spool.in_the_way import is_strange
from phd_daemon.spool.layout import Spool, State, parse_name, too_long
from phd_daemon.spool.which_file import which_file
from restore_core.disk.identity import Identity

_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


class Kind(enum.Enum):
    """What a directory entry is. `OTHER` is a directory, FIFO, socket or device: never a job."""

    REGULAR = "regular file"
    SYMLINK = "symbolic link"
    OTHER = "no file"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFacts:
    """One control file as `lstat` sees it. Times are nanoseconds since the epoch."""

    kind: Kind
    identity: Identity
    size: int
    mtime_ns: int
    ctime_ns: int
    links: int


Files = Mapping[State, FileFacts]
"""The control files of one stem."""


class FolderReader:
    """Reads one spool folder again and again; remembers what it saw, so that a file is opened once and not per scan."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._known: dict[str, FileFacts] = {}
        self.too_long: frozenset[str] = frozenset()
        """Names in the last scan that would be control files if they were shorter."""
        self.in_the_way: frozenset[str] = frozenset()
        """Names of control files that somebody else gave, in the last scan, to what can be none (a folder, a FIFO): never a job."""

    def scan(self) -> dict[str, Files]:
        """All stems that have a control file, those that are too long left out. Raises `OSError` with the folder gone."""
        found: dict[str, dict[State, FileFacts]] = {}
        names: set[str] = set()
        too_long_names = []
        strange = []
        with os.scandir(self._spool.folder) as entries:
            for entry in entries:
                parsed = parse_name(entry.name)
                if parsed is None:
                    continue
                if too_long(parsed[0]):
                    too_long_names.append(entry.name)
                    continue
                try:
                    seen = entry.stat(follow_symlinks=False)
                    if is_strange(seen):
                        strange.append(entry.name)
                        continue
                    facts = self._facts(entry.name, seen)
                except FileNotFoundError:
                    continue
                names.add(entry.name)
                found.setdefault(parsed[0], {})[parsed[1]] = facts
        self.too_long, self.in_the_way = frozenset(too_long_names), frozenset(strange)
        self._known = {name: known for name, known in self._known.items() if name in names}
        return dict(found)

    def look(self, stem: str) -> Files:
        """The control files of one stem, by name.

        A file renamed while the folder is read can be missed under both names, so that nothing is believed gone
        before every name was asked for twice.
        """
        return self._look_once(stem) or self._look_once(stem)

    def _look_once(self, stem: str) -> Files:
        files: dict[State, FileFacts] = {}
        for state in State:
            name = self._spool.control(stem, state).name
            try:
                seen = os.lstat(self._spool.folder / name)
                if not is_strange(seen):
                    files[state] = self._facts(name, seen)
            except FileNotFoundError:
                continue
        return files

    def _facts(self, name: str, found: os.stat_result) -> FileFacts:
        known = self._known.get(name)
        if known is not None and _looks_like(known, found):
            return known
        kind = Kind.REGULAR if stat.S_ISREG(found.st_mode) else Kind.SYMLINK if stat.S_ISLNK(found.st_mode) else Kind.OTHER
        identity = self._identity(name, found) if kind is Kind.REGULAR else None
        facts = FileFacts(
            kind=kind,
            identity=identity or Identity(inode=found.st_ino, generation=0),
            size=found.st_size,
            mtime_ns=found.st_mtime_ns,
            ctime_ns=found.st_ctime_ns,
            links=found.st_nlink,
        )
        if identity is not None:
            self._known[name] = facts
        return facts

    def _identity(self, name: str, found: os.stat_result) -> Identity | None:
        """None where it cannot be known just now: not readable for us, gone again, or another one already."""
        try:
            fd = os.open(self._spool.folder / name, _READ)
        except OSError:
            return None
        try:
            now = os.fstat(fd)
            same = (now.st_ino, now.st_ctime_ns) == (found.st_ino, found.st_ctime_ns)
            return which_file(fd) if same else None
        finally:
            os.close(fd)


def _looks_like(known: FileFacts, found: os.stat_result) -> bool:
    """Another file, or this one changed, would have another inode or another ctime; a coarse clock is helped by the rest."""
    return (known.identity.inode, known.ctime_ns, known.mtime_ns, known.size, known.links) == (
        found.st_ino,
        found.st_ctime_ns,
        found.st_mtime_ns,
        found.st_size,
        found.st_nlink,
    )
