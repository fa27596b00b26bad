"""Lists folders over SFTP, several at a time: while some are read, the next are being opened.

From a server far away a folder costs a fraction of a round trip, and not three. From a server near by the number of messages is
what costs time: requests travel together, and so do their answers.
"""

from __future__ import annotations

import contextlib
import itertools
import stat as stat_module
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TypeAlias

from restore_core.errors import TargetRefused
from restore_core.naming import printable
from restore_core.targets.base import FileStat
from restore_core.targets.gaps import GapKind
from restore_core.targets.remote.connection import Budget, Entry, FolderContent, is_single_path_component
from restore_core.targets.sftp.wire import AnswerType, Ask, Attributes, Declined, Fields, Status, Wire, string

_TOGETHER = 16
"""Folders whose requests travel in one message. Up to three times as many are open."""
_MANY = 64
"""An answer with at least this many names is one of several: OpenSSH sends 100 at a time."""
_Reading: TypeAlias = tuple[str, bytes, bytes | Declined, list[int]]
"""The name of a folder, its path, its handle or the refusal, and the numbers of the requests for its names."""
_Listed: TypeAlias = tuple[str, FolderContent | Declined]
"""The name of a folder, and what is in it or why the server does not open it."""


def read_folders(wire: Wire, folders: Iterable[tuple[str, bytes]], budget: Budget) -> Iterator[_Listed]:
    """Lists folders, given as (name, path on the server), in the same order."""
    todo = iter(folders)
    opening, reading = _open_some(wire, todo), deque[_Reading]()
    try:
        while opening or reading:
            before = len(reading)
            while opening:
                name, path, number = opening[0]
                handle = _opened(wire, number)
                opening.popleft()
                # Two requests at once: for most folders the second answer is that there is no more.
                asked = [wire.ask(Ask.READDIR, string(handle), later=True) for _ in range(2)] if isinstance(handle, bytes) else []
                reading.append((name, path, handle, asked))
            opening = _open_some(wire, todo)
            wire.flush()  # the server opens the next folders while we read these
            for _ in range(before or len(reading)):
                name, path, handle, asked = reading[0]
                found = _read(wire, path, handle, asked, budget) if isinstance(handle, bytes) else handle
                reading.popleft()
                yield name, found
    finally:
        for number in (*(number for *_, number in opening), *(number for *_, asked in reading for number in asked)):
            wire.drop(number)


def reason_of(no: Declined) -> str:
    """Returns the server's reason in words."""
    return f"the server answers: {printable(no.text) or f'status {no.code}'}"


def stat_told(found: Attributes, where: str) -> FileStat:
    """Returns size and time of a file. Raises `TargetRefused` if the server does not say its size."""
    if found.size is None:
        raise TargetRefused(
            f"{where}: the server does not say how long this file is", remedy="Look at the server's settings, or reach it by FTPS."
        )
    return FileStat(size=found.size, mtime=found.mtime)


def _open_some(wire: Wire, todo: Iterator[tuple[str, bytes]]) -> deque[tuple[str, bytes, int]]:
    return deque((name, path, wire.ask(Ask.OPENDIR, string(path), later=True)) for name, path in itertools.islice(todo, _TOGETHER))


def _opened(wire: Wire, number: int) -> bytes | Declined:
    try:
        return Fields(wire.answer(number, AnswerType.HANDLE)).text()
    except Declined as no:
        return no


def _read(wire: Wire, path: bytes, handle: bytes, asked: list[int], budget: Budget) -> FolderContent:
    found: list[Entry] = []
    no_size: list[str] = []
    missing: dict[str, GapKind] = {}
    over = itself = False
    while asked:
        many = False
        try:
            body = wire.answer(asked.pop(0), AnswerType.NAME)
            names, dot, no_type = _names(body, found, no_size)
            itself = itself or dot
            budget.spend(entries=names, size=len(body))
            many = names >= _MANY
            if no_type:
                missing.setdefault(f"the server does not say what {printable(no_type)} is", GapKind.UNKNOWN)
        except Declined as no:
            if no.code != Status.EOF:
                missing.setdefault(reason_of(no), GapKind.UNREADABLE)
            over = True
        if not over and (many or not asked):
            asked.append(wire.ask(Ask.READDIR, string(handle), later=True))
    wire.drop(wire.ask(Ask.CLOSE, string(handle), later=True))
    sure = _asked_for(wire, path, no_size)
    if len(sure) < len(no_size):
        missing.setdefault("the server does not say how long a file in it is", GapKind.UNKNOWN)
    found += sure
    return FolderContent(entries=found, missing=tuple((kind, why) for why, kind in missing.items()), lists_itself=itself)


def _asked_for(wire: Wire, path: bytes, names: list[str]) -> list[Entry]:
    """Asks for each file of which the listing did not say the size; those of which the server does not say it are left out."""
    found: list[Entry] = []
    for at in range(0, len(names), _MANY):
        some = [(name, path.rstrip(b"/") + b"/" + name.encode("utf-8", "surrogateescape")) for name in names[at : at + _MANY]]
        for name, number in [(name, wire.ask(Ask.LSTAT, string(whole), later=True)) for name, whole in some]:
            with contextlib.suppress(Declined):
                facts = Fields(wire.answer(number, AnswerType.ATTRS)).attributes()
                if facts.size is not None:
                    found.append(Entry(name=name, folder=False, stat=FileStat(size=facts.size, mtime=facts.mtime)))
    return found


def _names(body: bytes, found: list[Entry], no_size: list[str]) -> tuple[int, bool, str]:
    """Adds the names of an answer to `found`, those of files without a size to `no_size`.

    Returns their number, whether `.` is one, and a name without a type, if any.
    """
    fields, dot, no_type = Fields(body), False, ""
    count = fields.u32()
    for _ in range(count):
        name = fields.text().decode("utf-8", "surrogateescape")
        fields.skip()  # the same as `ls -l` would print it
        mode, size, mtime = fields.facts()
        folder = stat_module.S_ISDIR(mode)
        if folder or stat_module.S_ISREG(mode):
            dot = dot or name == "."
            if is_single_path_component(name):
                if size is None and not folder:
                    no_size.append(name)
                else:
                    found.append(Entry(name=name, folder=folder, stat=FileStat(size=size or 0, mtime=float(mtime))))
        elif is_single_path_component(name):
            if stat_module.S_ISLNK(mode):
                found.append(Entry(name=name, folder=False, stat=FileStat(size=0, mtime=0.0), link=True))
            elif not stat_module.S_IFMT(mode):
                no_type = name
    return count, dot, no_type
