"""Reads the file systems of guests: ext2-4, XFS, NTFS and FAT, from anything that reads like a file.

The libraries of the libyal project do it (libfsext, libfsxfs, libfsntfs, libfsfat: LGPL, wheels for x86_64 and aarch64, tested
for years by the forensic tools that are built on them, fuzzed). They were chosen over

    dissect     pure Python, but AGPL; no bigalloc, and it cuts inline data off without a word
    pytsk3      no XFS
    debugfs, ntfs-3g, mtools      want a file, and so FUSE, which containers lack; none of them reads XFS

They need neither FUSE nor root, and one way serves all four. They are C code that parses hostile input: only the confined child
of `phd_daemon/guest` imports them. What they are known to get wrong is refused or mended here, file by file (`problem`).

A journal is not applied. `notes` says where that matters.
"""

from __future__ import annotations

import contextlib
import importlib
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from restore_core.errors import BadData, TargetUnavailable, UsageError

LIBRARIES = {
    "ext2": "pyfsext",
    "ext3": "pyfsext",
    "ext4": "pyfsext",
    "XFS": "pyfsxfs",
    "NTFS": "pyfsntfs",
    "FAT": "pyfsfat",
    "FAT12": "pyfsfat",
    "FAT16": "pyfsfat",
    "FAT32": "pyfsfat",
}
"""Which library reads which file system, by the names that `partitions.detect` gives them."""
CHUNK = 1 << 20
_FAT_MONTH_TOO_LATE = "20260826"
"""The version of libfsfat that counts the days of a date's own month twice, and one day more in a leap year."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestFacts:
    """What a file system says of one of its files. Nothing in it can be trusted.

    `kind` is file, folder, link or special; `stored` are the bytes of `size` that are in no hole; `mode` is None where the file
    system has none; `mtime` in ns since 1970; `identity` is equal for the names of one file. `problem` says why its content
    cannot be had, `note` what of it is not taken.
    """

    name: str
    kind: str
    size: int = 0
    stored: int = 0
    mode: int | None = None
    mtime: int | None = None
    uid: int | None = None
    gid: int | None = None
    identity: int = 0
    links: int = 1
    link: str = ""
    problem: str = ""
    note: str = ""


class Reader(Protocol):
    """What the libraries read from: a file that is open for reading."""

    def read(self, size: int = -1, /) -> bytes: ...  # noqa: D102
    def seek(self, offset: int, whence: int = 0, /) -> int: ...  # noqa: D102
    def tell(self) -> int: ...  # noqa: D102


class GuestFile:
    """One file or folder in a volume."""

    def __init__(self, volume: Volume, entry: Any, facts: GuestFacts) -> None:
        self._volume, self._entry, self.facts = volume, entry, facts

    def children(self) -> Iterator[GuestFile]:
        """Yields what a folder holds; an entry that cannot be read has a `problem`. Raises `BadData` for a broken folder."""
        with _bad_data("the folder"):
            count = self._entry.number_of_sub_file_entries
        for index in range(count):
            try:
                entry = self._entry.get_sub_file_entry(index)
                facts = self._volume.facts(entry)
            except (OSError, ValueError, OverflowError) as error:
                facts = GuestFacts(name=f"entry-{index}-cannot-be-read", kind="special", problem=_first(error))
                yield GuestFile(self._volume, None, facts)
                continue
            if not self._volume.hides(facts, of_root=self.facts.name == ""):
                yield GuestFile(self._volume, entry, facts)

    def find(self, name: str) -> GuestFile | None:
        """Returns the entry of that name; NTFS and FAT do not tell large letters from small ones."""
        other = None
        for child in self.children():
            if child.facts.name == name:
                return child
            if self._volume.folds and child.facts.name.casefold() == name.casefold():
                other = other or child
        return other

    def data(self) -> Iterator[bytes | int]:
        """Yields the content in order: bytes, or the length of a hole. Raises `BadData` where it ends too early."""
        for length, hole in self._runs():
            if hole:
                yield length
                continue
            left = length
            while left:
                with _bad_data("its content"):
                    piece = self._entry.read(min(CHUNK, left))
                if not piece:
                    raise BadData(f"its content ends {left} bytes early")
                left -= len(piece)
                yield piece

    def _runs(self) -> Iterator[tuple[int, bool]]:
        """Yields lengths of data and, with True, of holes. All is data where the extents do not say."""
        with _bad_data("its content"):
            runs = self._volume.runs(self._entry, self.facts.size)
            self._entry.seek(0)
        done = 0
        for length, hole in runs:
            yield length, hole
            done += length
            if hole and done < self.facts.size:
                with _bad_data("its content"):
                    self._entry.seek(done)


class Volume:
    """A file system that is open. `notes` says what of it a reader should know."""

    folds = False

    def __init__(self, library: Any, reader: Reader) -> None:
        self._reader = reader
        self._volume = library.volume()
        self.notes = self.examine()
        with _bad_data("the file system"):
            self._volume.open_file_object(reader)
            root = self._volume.get_root_directory()
        self.root = GuestFile(self, root, GuestFacts(name="", kind="folder"))

    def examine(self) -> list[str]:
        """Returns notes on the file system, before the library opens it."""
        return []

    def hides(self, facts: GuestFacts, *, of_root: bool) -> bool:
        """Returns whether a file belongs to the file system itself, and is no guest's."""
        del facts, of_root
        return False

    def tells_holes(self, entry: Any) -> bool:
        """Returns whether the extents of a file say where it has holes."""
        del entry
        return True

    def runs(self, entry: Any, size: int) -> list[tuple[int, bool]]:
        """Returns the lengths of the data and, with True, of the holes of a file, `size` in all."""
        if not size or not self.tells_holes(entry):
            return [(size, False)] if size else []
        extents = [entry.get_extent(index) for index in range(entry.number_of_extents)]
        runs, left = list[tuple[int, bool]](), size
        for _, length, flags in extents:
            if not left:
                break
            runs.append((min(length, left), bool(flags & 1)))
            left -= min(length, left)
        odd = left or any(length <= 0 or flags & ~1 for _, length, flags in extents)
        return [(size, False)] if odd else runs

    def stored(self, entry: Any, size: int) -> int:
        """Returns the bytes of a file that are in no hole. Small files have none worth the look."""
        return size if size < CHUNK else sum(length for length, hole in self.runs(entry, size) if not hole)

    def facts(self, entry: Any) -> GuestFacts:
        """Returns the facts of an entry of the library."""
        raise NotImplementedError


class _Unix(Volume):
    """ext and XFS."""

    _inline = False

    def facts(self, entry: Any) -> GuestFacts:
        mode, number, problem = int(entry.file_mode), int(entry.inode_number), ""
        kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link"}
        kind = kinds.get(stat.S_IFMT(mode), "special")
        if kind == "special":
            problem = {
                stat.S_IFIFO: "is a FIFO",
                stat.S_IFSOCK: "is a socket",
                stat.S_IFCHR: "is a device",
                stat.S_IFBLK: "is a device",
            }.get(stat.S_IFMT(mode), "is of no known type")
        elif self._inline and kind != "link" and entry.size > 60 and not entry.number_of_extents:
            problem = "its content lies in its inode (inline_data), which cannot be read here"
        return GuestFacts(
            name=_name(entry, number),
            kind=kind,
            size=int(entry.size),
            stored=self.stored(entry, int(entry.size)) if kind == "file" else 0,
            mode=stat.S_IMODE(mode),
            mtime=int(entry.get_modification_time_as_integer()),
            uid=int(entry.owner_identifier),
            gid=int(entry.group_identifier),
            identity=number,
            links=int(entry.number_of_links),
            link=(entry.symbolic_link_target or "") if kind == "link" else "",
            problem=problem,
        )


class _Ext(_Unix):
    def examine(self) -> list[str]:
        self._reader.seek(1024)
        incompatible = struct.unpack_from("<I", self._reader.read(1024).ljust(1024, b"\0"), 96)[0]
        self._inline = bool(incompatible & 0x8000)
        notes = []
        if incompatible & 0x04:
            notes.append("it was in use when it was backed up, and its journal is not applied: the newest changes may be missing")
        if incompatible & 0x10000:
            notes.append("it has encrypted folders: their names and files come out as they are stored")
        return notes


class _Ntfs(Volume):
    folds = True

    def hides(self, facts: GuestFacts, *, of_root: bool) -> bool:
        return of_root and facts.identity < 24 and facts.name.startswith(("$", "."))

    def tells_holes(self, entry: Any) -> bool:
        return not int(entry.file_attribute_flags or 0) & 0xC00  # compressed, by NTFS or as a reparse point

    def facts(self, entry: Any) -> GuestFacts:
        number, flags = int(entry.file_reference) & (1 << 48) - 1, int(entry.file_attribute_flags or 0)
        target = entry.symbolic_link_target if flags & 0x400 else None
        streams = [stream.name for stream in entry.alternate_data_streams] if entry.number_of_alternate_data_streams else []
        kind = "link" if target else "folder" if entry.has_directory_entries_index() else "file"
        problem = ""
        if kind == "file" and flags & 0x4000:
            problem = "is encrypted by Windows (EFS)"
        elif kind == "file" and flags & 0x400 and "WofCompressedData" not in streams:
            problem = "is a reparse point (deduplicated, or in a cloud): its content lies elsewhere"
        size = int(entry.size) if kind == "file" and entry.has_default_data_stream() else 0
        named = [each for each in streams if each != "WofCompressedData"]
        return GuestFacts(
            name=_name(entry, number),
            kind=kind,
            size=size,
            stored=self.stored(entry, size),
            mtime=(int(entry.get_modification_time_as_integer()) - 116444736000000000) * 100,
            identity=number,
            links=2,  # not told at once; two names of one file are found by their identity
            link=("/" if target and target[1:2] == ":" else "") + (target or "").replace("\\", "/"),
            problem=problem,
            note=f"{len(named)} alternate data streams are not taken" if named else "",
        )


class _Fat(Volume):
    folds = True

    def __init__(self, library: Any, reader: Reader) -> None:
        self._late = library.get_version() == _FAT_MONTH_TOO_LATE
        super().__init__(library, reader)

    def examine(self) -> list[str]:
        return [] if self._late else ["the times of its files are not known: this version of libfsfat was not tried"]

    def facts(self, entry: Any) -> GuestFacts:
        folder = bool(int(entry.file_attribute_flags) & 0x10)
        size = 0 if folder else int(entry.size)
        return GuestFacts(
            name=_name(entry, int(entry.identifier)),
            kind="folder" if folder else "file",
            size=size,
            stored=size,
            mtime=_mended(int(entry.get_modification_time_as_integer())) if self._late else None,
            identity=int(entry.identifier),
        )


_VOLUMES: dict[str, type[Volume]] = {"pyfsext": _Ext, "pyfsxfs": _Unix, "pyfsntfs": _Ntfs, "pyfsfat": _Fat}


def open_volume(file_system: str, reader: Reader) -> Volume:
    """Opens the file system of a partition. Raises `BadData` for a broken one, and what `library_of` raises."""
    return _VOLUMES[LIBRARIES[file_system]](library_of(file_system), reader)


def library_of(file_system: str) -> Any:
    """Imports the library that reads a file system. Raises `UsageError` where none does, `TargetUnavailable` if it is not here."""
    name = LIBRARIES.get(file_system)
    if name is None:
        raise UsageError(f"{file_system or 'what lies there'} is no file system that phd reads")
    try:
        return importlib.import_module(name)
    except ImportError as error:
        text = f"the library that reads {file_system} is not installed here ({name})"
        raise TargetUnavailable(text, remedy="Install it: pip install 'phd-daemon[files]'.") from error


def _name(entry: Any, number: int) -> str:
    """Returns the name of an entry. What is no UTF-8, or has 255 bytes, libfsext cannot tell; it gets a name from its number."""
    try:
        name = entry.name
    except OSError:
        name = None
    return name if isinstance(name, str) else f"name-that-cannot-be-told-{number}"


def _mended(ticks: int) -> int | None:
    """Returns the ns since 1970 of a time that libfsfat tells a month too late, in 10 ms since 1980; None for none."""
    import datetime as dt

    days, rest = divmod(ticks, 8640000)
    told = dt.datetime(1980, 1, 1, tzinfo=dt.UTC) + dt.timedelta(days=days)
    for back in (1, 2):
        first = dt.datetime(told.year - (told.month <= back), (told.month - back - 1) % 12 + 1, 1, tzinfo=dt.UTC)
        leap = first.year % 4 == 0
        length = (dt.datetime(first.year + first.month // 12, first.month % 12 + 1, 1, tzinfo=dt.UTC) - first).days
        right = told - dt.timedelta(days=length + leap)
        if (right.year, right.month) == (first.year, first.month):
            return int(right.timestamp()) * 10**9 + rest * 10**7
    return None


@contextlib.contextmanager
def _bad_data(what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, OverflowError, MemoryError) as error:
        raise BadData(f"{what} cannot be read: {_first(error)}") from error


def _first(error: Exception) -> str:
    """Returns the first sentence of a library's error, which lists all functions that it went through."""
    return str(error).partition(". ")[0].partition(": ")[2] or str(error)[:200]
