"""The disks of a session while one command works on it: their holds, their record, and what lies beside them.

`start` and `finish` hold every disk, as a restore does. `discard` touches no disk, and must work while the restore's job holds
one; so all three take a lock of the session itself first, beside its record.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from phd_daemon.config.model import Config
from phd_daemon.host.datastores import readable_record
from phd_daemon.operations.installation import destination, spool_of
from phd_daemon.operations.instant import qemu_img
from phd_daemon.spool.session_hints import known_sessions, remember, where_recorded
from restore_core import durable
from restore_core.disk.alone import Alone, alone, image_is_locked, in_use_error
from restore_core.disk.destination import Destination, names_for, open_destination
from restore_core.disk.hold import Hold, take_hold
from restore_core.disk.session_guard import in_session, session_names
from restore_core.disk.session_record import (
    FINISHING_SUFFIX,
    OVERLAY_SUFFIX,
    RECORD_SUFFIX,
    SESSION_ID,
    InstantSession,
    SessionDisk,
    beside,
    is_home,
    read_session,
)
from restore_core.errors import DestinationError, InSession, PhdError, UsageError, from_os_error, is_no_answer
from restore_core.naming import printable
from restore_core.restore.part import held_destination


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldDisk:
    """One disk of a session, held."""

    disk: SessionDisk
    destination: Destination
    hold: Hold

    @property
    def overlay_name(self) -> str:
        """The name of the overlay where a guest opens it."""
        return self.destination.disk_name + OVERLAY_SUFFIX

    @property
    def finishing_name(self) -> str:
        """The name of the overlay while it is copied into the disk."""
        return self.destination.disk_name + FINISHING_SUFFIX

    def path(self, name: str) -> Path:
        """The path of a file beside the disk, for programs that we run."""
        return self.destination.path.with_name(name)


def find_session(config: Config, text: str) -> InstantSession:
    """Returns the session that a person names: by its id, or by one of its disks. Raises `UsageError` if there is none."""
    spool = spool_of(config)
    if SESSION_ID.fullmatch(text):
        where = where_recorded(spool, text)
        session = read_session(where) if where is not None else None
        if session is not None and session.id == text:
            return session
        raise UsageError(f"no instant session is known as {text}", remedy="'phd instant list' shows them; or name its disk.")
    path = destination(text)
    flat = path.with_name(names_for(path, confined=False)[0])
    session = read_session(beside(flat, RECORD_SUFFIX))
    if session is not None:
        _refuse_strayed(session, beside(flat, RECORD_SUFFIX))
    else:
        named = (one for one in known_sessions(spool) if os.fspath(path) in {disk.path for disk in one.disks})
        session = next(named, None)
    if session is not None:
        with contextlib.suppress(OSError):  # a hint alone
            remember(spool, session)
        return session
    if os.path.lexists(beside(flat, RECORD_SUFFIX)):
        raise DestinationError(
            f"{printable(str(beside(flat, RECORD_SUFFIX)))} cannot be read as the record of a session",
            remedy="Use the version of phd that wrote it; the overlay beside it was left alone.",
        )
    for overlay in (beside(flat, OVERLAY_SUFFIX), beside(flat, FINISHING_SUFFIX)):
        if os.path.lexists(overlay):
            raise DestinationError(
                f"{printable(str(overlay))} may hold what a guest wrote, and no record of its session is known here",
                remedy="Name the first disk of its VM, or bring the *.phd-session back beside that. Do not delete the overlay.",
            )
    raise UsageError(f"{printable(str(path))}: no instant session uses this disk", remedy="'phd instant list' shows them.")


def _refuse_strayed(session: InstantSession, found: Path) -> None:
    """Raise `DestinationError` for a record that lies elsewhere: with its folder it was copied, or moved away.

    The session that it names has other files, which the person did not name.
    """
    if is_home(session, found):
        return
    raise DestinationError(
        f"{printable(str(found))}: the record of session {session.id}, whose disk is {printable(session.disks[0].path)}; "
        "this folder is a copy of that one, or was moved from there. Nothing was changed",
        remedy="Moved: move it back, then give the command again. A copy: remove the files of the session in it by hand.",
    )


@contextlib.contextmanager
def session_lock(session: InstantSession) -> Iterator[InstantSession]:
    """Keeps other commands from this session, and yields it as its record says now.

    Raises `DestinationHeld` while another one works on it, `UsageError` if it is over or is another one by now.
    """
    path = Path(session.disks[0].path)
    with (
        open_destination(path, roots=None, make_folders=False) as first,
        take_hold(first.folder_fd, first.disk_name + RECORD_SUFFIX, first.where),
    ):
        now = read_session(session.record)
        if now is None or now.id != session.id:
            raise UsageError(f"{first.where}: session {session.id} is over", remedy="'phd instant list' shows those that are not.")
        yield now


@contextlib.contextmanager
def held_disks(
    config: Config, disks: tuple[SessionDisk, ...], *, make_folders: bool, may: Callable[[Destination], None]
) -> Iterator[list[HeldDisk]]:
    """Holds every disk until the block ends; `may` is asked of each under its hold."""
    record = readable_record(config)
    with contextlib.ExitStack() as stack:
        held = []
        for disk in disks:
            one = held_destination(Path(disk.path), roots=None, make_folders=make_folders, datastores=record, may=may)
            found, hold = stack.enter_context(one)
            held.append(HeldDisk(disk=disk, destination=found, hold=hold))
        yield held


def allow(_destination: Destination) -> None:
    """The guard of the commands of a session: they are who may write its disks."""


def write_session(held: HeldDisk, session: InstantSession, *, new: bool = False) -> None:
    """Writes the record beside the first disk, durably. A new one never replaces what is there: raises `InSession`."""
    folder = held.destination
    name = folder.disk_name + RECORD_SUFFIX
    try:
        durable.write_whole(name, session.to_json(), dir_fd=folder.folder_fd, replace=not new)
    except FileExistsError as error:
        raise in_session(folder, session_names(folder)) from error
    except OSError as error:
        raise from_os_error(error, doing="writing the record of the session", where=folder.where) from error


def overlay_is_ours(held: HeldDisk, session: InstantSession) -> bool:
    """Whether an overlay of this session is there. Raises `InSession` for a file of that name that is none."""
    if not held.destination.has(held.overlay_name):
        return False
    wanted = qemu_img.backing_of(session.socket, held.disk.export)
    try:
        found = qemu_img.overlay_info(held.path(held.overlay_name))
    except PhdError:
        found = {}
    if found.get("full-backing-filename", found.get("backing-filename")) != wanted or found.get("virtual-size") != held.disk.size:
        raise InSession(
            f"{held.destination.where}: {printable(held.overlay_name)} is not the overlay of this session",
            remedy="It may hold the work of a guest: find out whose it is. It was left alone.",
        )
    return True


@contextlib.contextmanager
def lone_overlay(held: HeldDisk, name: str) -> Iterator[int]:
    """Opens the overlay, and proves that nobody else has it open. Raises `DestinationInUse`, `DestinationError`."""
    where = f"{held.destination.where}: {printable(name)}"
    try:
        fd = held.destination.open(name)
    except OSError as error:
        if is_no_answer(error):
            raise from_os_error(error, doing="opening the overlay", where=where) from error
        raise DestinationError(
            f"{where}: the overlay cannot be opened: {error.strerror}",
            remedy="What the guest wrote is in it: bring it back under its name. Nothing was changed.",
        ) from error
    try:
        refuse_used(fd, where)
        yield fd
    finally:
        os.close(fd)


def refuse_used(fd: int, where: str) -> None:
    """Raises `DestinationInUse` if anybody else has the overlay open; where there are no leases, if QEMU's locks say so."""
    if alone(fd) is Alone.NO or image_is_locked(fd):
        raise in_use_error(where, "a guest, or another program, has the overlay open")
