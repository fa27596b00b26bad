"""Reads XFS and NTFS with the libraries of the libyal project: libfsxfs, libfsntfs. They are imported only when they are used.

They are C code that parses hostile input, so only the confined child of `phd_daemon/guest` runs this. What they cannot tell, or
would tell wrong, is refused here, file by file (`problem`).
"""

from __future__ import annotations

import contextlib
import importlib
import stat
from collections.abc import Iterator
from typing import Any

from restore_core.errors import BadData, TargetUnavailable
from restore_core.serve.file_systems.guest_file import CHUNK, GuestFacts, GuestFile, Reader, Volume

_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link"}
_SPECIAL = {stat.S_IFIFO: "is a FIFO", stat.S_IFSOCK: "is a socket", stat.S_IFCHR: "is a device", stat.S_IFBLK: "is a device"}
_EPOCH_OF_WINDOWS = 116444736000000000
"""1970 in 100 ns since 1601."""
_COMPRESSED, _REPARSE, _ENCRYPTED = 0x800, 0x400, 0x4000
_OWN_RECORDS = 24
"""Records of the MFT that belong to NTFS itself."""


class _LibraryFile(GuestFile):
    """A file of one of the libraries. What differs between file systems is in its subclasses."""

    def __init__(self, volume: Any, entry: Any, facts: GuestFacts) -> None:
        super().__init__(facts)
        self._volume, self._entry = volume, entry  # the volume must not be collected before its entries

    def facts_of(self, entry: Any) -> GuestFacts:
        raise NotImplementedError

    def hides(self, facts: GuestFacts) -> bool:
        del facts
        return False

    def tells_holes(self, entry: Any) -> bool:
        del entry
        return True

    def children(self) -> Iterator[GuestFile]:
        with _bad_data("the folder"):
            count = self._entry.number_of_sub_file_entries
        for index in range(count):
            entry = None
            try:
                entry = self._entry.get_sub_file_entry(index)
                facts = self.facts_of(entry)
            except (OSError, ValueError, OverflowError) as error:
                facts = GuestFacts(name=f"entry-{index}-cannot-be-read", kind="special", problem=_first(error))
            if not self.hides(facts):
                yield type(self)(self._volume, entry, facts)

    def data(self) -> Iterator[bytes | int]:
        with _bad_data("its content"):
            runs = _runs(self._entry, self.facts.size, told=self.tells_holes(self._entry))
            self._entry.seek(0)
        done = 0
        for length, hole in runs:
            if hole:
                yield length
                if done + length < self.facts.size:
                    with _bad_data("its content"):
                        self._entry.seek(done + length)
            else:
                yield from self._read(length)
            done += length

    def _read(self, left: int) -> Iterator[bytes]:
        while left:
            with _bad_data("its content"):
                piece = self._entry.read(min(CHUNK, left))
            if not piece:
                raise BadData(f"its content ends {left} bytes early")
            left -= len(piece)
            yield piece


def _runs(entry: Any, size: int, *, told: bool) -> list[tuple[int, bool]]:
    """Returns the lengths of the data and, with True, of the holes; all is data where the extents do not say (not `told`)."""
    if not size or not told:
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


def _stored(entry: Any, size: int, *, told: bool) -> int:
    """Returns the bytes of a file that are in no hole. Small files are not looked into."""
    return size if size < CHUNK else sum(length for length, hole in _runs(entry, size, told=told) if not hole)


class _XfsFile(_LibraryFile):
    def facts_of(self, entry: Any) -> GuestFacts:
        mode, number = int(entry.file_mode), int(entry.inode_number)
        kind = _KINDS.get(stat.S_IFMT(mode), "special")
        size = int(entry.size) if kind != "folder" else 0
        problem = _SPECIAL.get(stat.S_IFMT(mode), "is of no known type") if kind == "special" else ""
        link = (entry.symbolic_link_target or "") if kind == "link" else ""
        if len(link.encode("utf-8", "surrogateescape")) != size and kind == "link":
            link, problem = "", "is a link whose target lies in a block of its own, which cannot be read here"
        return GuestFacts(
            name=_name(entry, number),
            kind=kind,
            size=size,
            stored=_stored(entry, size, told=True) if kind == "file" else 0,
            mode=stat.S_IMODE(mode),
            mtime=int(entry.get_modification_time_as_integer()),
            uid=int(entry.owner_identifier),
            gid=int(entry.group_identifier),
            identity=number,
            links=int(entry.number_of_links),
            link=link,
            problem=problem,
        )


class _NtfsFile(_LibraryFile):
    folds = True

    def hides(self, facts: GuestFacts) -> bool:
        return not self.facts.name and facts.identity < _OWN_RECORDS and facts.name.startswith(("$", "."))

    def tells_holes(self, entry: Any) -> bool:
        return not int(entry.file_attribute_flags or 0) & (_COMPRESSED | _REPARSE)

    def facts_of(self, entry: Any) -> GuestFacts:
        number, flags = int(entry.file_reference) & (1 << 48) - 1, int(entry.file_attribute_flags or 0)
        target = entry.symbolic_link_target if flags & _REPARSE else None
        streams = [stream.name for stream in entry.alternate_data_streams] if entry.number_of_alternate_data_streams else []
        kind = "link" if target else "folder" if entry.has_directory_entries_index() else "file"
        problem = ""
        if kind == "file" and flags & _ENCRYPTED:
            problem = "is encrypted by Windows (EFS)"
        elif kind == "file" and flags & _REPARSE and "WofCompressedData" not in streams:
            problem = "is a reparse point (deduplicated, or in a cloud): its content lies elsewhere"
        named = [each for each in streams if each != "WofCompressedData"]
        size = int(entry.size) if kind == "file" and entry.has_default_data_stream() else 0
        return GuestFacts(
            name=_name(entry, number),
            kind=kind,
            size=size,
            stored=_stored(entry, size, told=self.tells_holes(entry)),
            mtime=(int(entry.get_modification_time_as_integer()) - _EPOCH_OF_WINDOWS) * 100,
            identity=number,
            links=2,  # not told at once; two names of one file are found by their identity
            link=("/" if target and target[1:2] == ":" else "") + (target or "").replace("\\", "/"),
            problem=problem,
            note=f"{len(named)} alternate data streams are not taken" if named else "",
        )


_CLASSES: dict[str, tuple[str, type[_LibraryFile]]] = {"XFS": ("pyfsxfs", _XfsFile), "NTFS": ("pyfsntfs", _NtfsFile)}


def load_library(file_system: str) -> Any:
    """Imports the library that reads XFS or NTFS. Raises `TargetUnavailable` if it is not installed."""
    name, _ = _CLASSES[file_system]
    try:
        return importlib.import_module(name)
    except ImportError as error:
        text = f"the library that reads {file_system} is not installed here ({name})"
        raise TargetUnavailable(text, remedy="Install it: pip install 'phd-daemon[files]'.") from error


def open_with_library(file_system: str, reader: Reader) -> Volume:
    """Opens XFS or NTFS. Raises `BadData` for a broken one, and what `load_library` raises."""
    volume = load_library(file_system).volume()
    with _bad_data("the file system"):
        volume.open_file_object(reader)
        root = volume.get_root_directory()
    return Volume(root=_CLASSES[file_system][1](volume, root, GuestFacts(name="", kind="folder")))


def _name(entry: Any, number: int) -> str:
    """Returns the name of an entry. What is no UTF-8 the libraries cannot tell; it gets a name from its number."""
    try:
        name = entry.name
    except OSError:
        name = None
    return name if isinstance(name, str) else f"name-that-cannot-be-told-{number}"


@contextlib.contextmanager
def _bad_data(what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, OverflowError, MemoryError) as error:
        raise BadData(f"{what} cannot be read: {_first(error)}") from error


def _first(error: Exception) -> str:
    """Returns the first sentence of a library's error, which lists all functions that it went through."""
    return str(error).partition(". ")[0].partition(": ")[2] or str(error)[:200]
