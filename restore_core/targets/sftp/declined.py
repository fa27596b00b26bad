"""The error for each thing that an SFTP server refuses. What "Failure" means is asked for: OpenSSH says it of a full disk, too.

Version 3 of the protocol has no status for "no room", "over quota" and "read-only". Some servers send the words, or the numbers of
a later version. OpenSSH sends neither: statvfs@openssh.com tells how much room there is, and a small file whether there is any left
for this user (a quota).
"""

from __future__ import annotations

import contextlib
import secrets
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from restore_core.errors import ArchiveAbsent, PhdError, TargetFull, TargetRefused, TargetUnavailable, size_text
from restore_core.targets.base import NEW_FILE_SUFFIX
from restore_core.targets.remote.words import DENIED, FAILING, FULL, NOT_READ_ONLY, READ_ONLY
from restore_core.targets.sftp.listing import reason_of
from restore_core.targets.sftp.wire import AnswerType, Ask, Declined, Fields, Status, Wire, string

_STATVFS = b"statvfs@openssh.com"
_READ_ONLY = 1
_PIECE = 32 << 10
"""Bytes of one write: with less room than that, the next one fails."""
CREATE_NEW = struct.pack(">III", 0x2 | 0x8 | 0x20, 0x4, 0o600)
"""For OPEN: write, create, exclusively; with a mode."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Room:
    """What a server says of a file system; `free` are the bytes that may still be written."""

    free: int
    no_more_files: bool
    read_only: bool


def error_of_declined(wire: Wire, no: Declined, where: str, folder: bytes, *, writing: bool) -> PhdError:
    """Returns the error for a request about `where`, which lies in the `folder` on the server."""
    said = reason_of(no)
    text = f"{where}: {said}"
    if writing and (why := _why_no_room(wire, no, folder)) is not None:
        return TargetFull(where=where, why=f"{said}{why}")
    if no.code == Status.NO_SUCH_FILE and not writing:
        return ArchiveAbsent(text, remedy="See what there is with 'phd backups'.")
    if no.code == Status.FAILURE and not writing:
        return TargetUnavailable(text, remedy="Look at the server's log.")
    room = room_of(wire, folder) if writing and no.code == Status.FAILURE else None
    if no.code == Status.READ_ONLY or READ_ONLY.search(no.text) or (room is not None and room.read_only):
        known = "" if READ_ONLY.search(no.text) else "; its file system is read-only"
        return TargetRefused(f"{text}{known}", remedy=NOT_READ_ONLY)
    if FAILING.search(no.text):
        return TargetUnavailable(
            text, remedy="That disk fails, or is full: look at the system log of the server, and at its free space."
        )
    if no.code == Status.FAILURE and not DENIED.search(no.text):
        return TargetRefused(text, remedy="Look at the server's log: there is room for this user, and it does not say why.")
    return TargetRefused(text, remedy="Check what this user may do on the server.")


def _why_no_room(wire: Wire, no: Declined, folder: bytes) -> str | None:
    """Returns what shows that there is no room, beside what the server said; None if it is not that."""
    if no.code in (Status.NO_SPACE, Status.QUOTA) or FULL.search(no.text):
        return ""
    if no.code != Status.FAILURE or DENIED.search(no.text) or FAILING.search(no.text):
        return None
    room = room_of(wire, folder)
    if room is not None and room.read_only:
        return None
    if room is not None and room.free < _PIECE:
        return f", and {size_text(room.free)} are free there"
    if room is not None and room.no_more_files:
        return ", and no more files can be made there"
    if _is_room_for_a_small_file(wire, folder):
        return None
    return ", and takes no other file either; either the quota of this user is used up, or that disk fails (its system log says so)"


def room_of(wire: Wire, folder: bytes) -> _Room | None:
    """Returns how much room there is; None if the server does not say it."""
    if _STATVFS not in wire.extensions:
        return None
    with contextlib.suppress(Declined):
        fields = Fields(wire.answer(wire.ask(Ask.EXTENDED, string(_STATVFS) + string(folder)), AnswerType.EXTENDED_REPLY))
        _, unit, _, _, blocks, of, _, files, _, flags = (fields.u64() for _ in range(10))
        # A file system without a number of files of its own says 0 of 0.
        return _Room(free=unit * blocks, no_more_files=bool(of) and not files, read_only=bool(flags & _READ_ONLY))
    return None


def _is_room_for_a_small_file(wire: Wire, folder: bytes) -> bool:
    """Whether a file of one piece can be written; it is deleted again. Also true where this user may make none."""
    path = folder + f"/.phd-{secrets.token_hex(8)}{NEW_FILE_SUFFIX}".encode()
    try:
        handle = Fields(wire.answer(wire.ask(Ask.OPEN, string(path) + CREATE_NEW), AnswerType.HANDLE)).text()
    except Declined as no:
        return no.code != Status.FAILURE
    try:
        with _closed_and_removed(wire, handle, path):
            wire.done(wire.ask(Ask.WRITE, string(handle) + struct.pack(">Q", 0) + string(bytes(_PIECE))))
    except Declined:
        return False
    return True


@contextlib.contextmanager
def _closed_and_removed(wire: Wire, handle: bytes, path: bytes) -> Iterator[None]:
    try:
        yield
    finally:
        for request in ((Ask.CLOSE, handle), (Ask.REMOVE, path)):
            with contextlib.suppress(Declined):
                wire.done(wire.ask(request[0], string(request[1])))
