"""Folders over SFTP, several at a time: while one is read the next are being opened, and no round trip is waited for alone.

Measured on loopback, 100,000 files in 2,000 folders: one after the other 1.4 s, so 1.0 s. Far away it is the difference
between three round trips a folder and a fraction of one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from restore_core.targets.server import Budget, Entry, honest
from restore_core.targets.sftp_wire import Answer, Ask, Declined, Fields, Status, Wire, string

_OPENING, _READING = 16, 8


def read_folders(wire: Wire, folders: Iterable[tuple[str, bytes]], budget: Budget) -> Iterator[tuple[str, list[Entry] | None]]:
    """(name, path on the server) -> (name, its entries), in the same order; None for a folder that is not there."""
    todo = iter(folders)
    opening = deque[tuple[str, int]]()
    reading = deque[tuple[str, bytes, list[int]]]()
    try:
        while True:
            while len(opening) < _OPENING and (following := next(todo, None)) is not None:
                opening.append((following[0], wire.ask(Ask.OPENDIR, string(following[1]))))
            if opening:
                name, number = opening.popleft()
                handle = _opened(wire, number)
                # Twice at once: the second answer of most folders is that there is no more.
                asked = [wire.ask(Ask.READDIR, string(handle)) for _ in range(2)] if handle is not None else []
                reading.append((name, handle or b"", asked))
            if not reading:
                return
            if len(reading) >= _READING or not opening:
                name, handle, asked = reading[0]
                found = _read(wire, handle, asked, budget) if handle else None
                reading.popleft()
                yield name, found
    finally:
        for number in (*(number for _, number in opening), *(number for _, _, asked in reading for number in asked)):
            wire.drop(number)


def _opened(wire: Wire, number: int) -> bytes | None:
    try:
        return Fields(wire.answer(number, Answer.HANDLE)).text()
    except Declined as no:
        if no.code == Status.NO_SUCH_FILE:
            return None
        raise


def _read(wire: Wire, handle: bytes, asked: list[int], budget: Budget) -> list[Entry]:
    found: list[Entry] = []
    over = False
    while asked:
        try:
            body = wire.answer(asked.pop(0), Answer.NAME)
            budget.spend(entries=_names(body, found), size=len(body))
        except Declined as no:
            if no.code != Status.EOF:
                raise
            over = True
        if not over:
            asked.append(wire.ask(Ask.READDIR, string(handle)))
    wire.drop(wire.ask(Ask.CLOSE, string(handle)))
    return found


def _names(body: bytes, found: list[Entry]) -> int:
    fields = Fields(body)
    count = fields.u32()
    for _ in range(count):
        name = fields.text().decode("utf-8", "surrogateescape")
        fields.text()  # the same as `ls -l` would print it
        facts = fields.attributes()
        if honest(name) and (facts.regular or facts.folder):
            found.append(Entry(name=name, folder=facts.folder, stat=facts.stat))
    return count
