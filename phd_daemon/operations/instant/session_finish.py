"""Finishes a session: what its guest wrote is copied from the overlay into the restored disk, which is the guest's from then on.

    all disks held, no job of the session > each disk is exactly the backup, each overlay whole and used by nobody
    > record `finishing` > overlays renamed, *alone* again > descriptors and disks hidden > qemu-img commit > fsync, *alone*
    > record `finished` > disks and descriptors have their names > overlays removed > server stopped > record removed

The copy may be repeated: every block that it ever wrote is in the overlay, so the overlay over the half-written disk has the same
bytes as the overlay over the backup. While the guest runs `session_live` does it; `session_settle` ends that when its
QEMU died.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from phd_daemon.config.model import Config
from phd_daemon.operations.installation import spool_of
from phd_daemon.operations.instant import qemu_img
from phd_daemon.operations.instant.session_disks import (
    HeldDisk,
    allow,
    held_disks,
    lone_overlay,
    refuse_used,
    session_lock,
    write_session,
)
from phd_daemon.operations.instant.session_live import begin_live, finish_live, run_on
from phd_daemon.operations.instant.session_proof import (
    path_of_hidden,
    proven_disk,
    refuse_jobs,
    refuse_no_room,
    refuse_third_files,
    refuse_unfit_overlay,
)
from phd_daemon.operations.instant.session_server import stop_server
from phd_daemon.operations.instant.session_settle import Keep, in_overlays
from phd_daemon.spool.session_hints import forget
from restore_core import durable
from restore_core.disk.alone import Alone, alone, in_use_error
from restore_core.disk.destination import HIDDEN_SUFFIX
from restore_core.disk.session_record import RECORD_SUFFIX, InstantSession, SessionState, back_to_serving
from restore_core.errors import DestinationError, PhdError, TryAgainLater, UsageError, from_os_error
from restore_core.naming import printable
from restore_core.restore import redo
from restore_core.restore.existing import ChangedMeanwhile
from restore_core.targets.base import Stop

_ON_THEIR_WAY = 0.02
"""Seconds after which a program that had looked a name up before its rename has opened the file (docs/disk.md)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedSession:
    """A session that is over: its disks are the guest's. `written` are the bytes that its overlays held."""

    session: InstantSession
    written: int


def finish_session(
    config: Config, session: InstantSession, *, stop: Stop, qmp: Path | None = None, keep: Keep | None = None
) -> FinishedSession:
    """Finishes a session, or goes on with a finish that was interrupted. With `qmp`, the socket of its QEMU, the guest runs on.

    `keep` says where the guest's bytes are if nothing else can tell (`session_settle`). Raises `TryAgainLater`, `DestinationInUse`
    or `DestinationError` for what stands in the way; the overlays are whole then.
    """
    with session_lock(session) as now, held_disks(config, now.disks, make_folders=False, may=allow) as held:
        written = sum(_overlay_bytes(one) for one in held)
        asked = _Asked(config=config, qmp=qmp, keep=keep, stop=stop)
        try:
            done = _finished(asked, now, held)
            end_finished(held, live=qmp is not None)
            if qmp is not None and now.state is SessionState.FINISHED:
                run_on(now, qmp)
            stop_server(config, done)
            _remove_record(held[0])
        except OSError as error:
            raise from_os_error(error, doing="finishing the session", where=printable(now.disks[0].path)) from error
    with contextlib.suppress(OSError):
        forget(spool_of(config), done.id)
    return FinishedSession(session=done, written=written)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What a person asked for."""

    config: Config
    qmp: Path | None
    keep: Keep | None
    stop: Stop


def _finished(asked: _Asked, session: InstantSession, held: Sequence[HeldDisk]) -> InstantSession:
    """Brings a session to `finished`, and returns it."""
    config, stop = asked.config, asked.stop
    if session.state is SessionState.SERVING:
        refuse_jobs(config, session)
    if asked.qmp is not None and session.state.in_overlay:
        if session.state is SessionState.SERVING:
            serving = session
            decide = partial(decided, config, serving, held, stop, live=True)
            session = begin_live(config, serving, held, qmp=asked.qmp, stop=stop, decide=decide)
        return finish_live(session, held, qmp=asked.qmp, stop=stop, end=partial(give_names, held))
    if session.state is SessionState.PIVOTING:
        return _settled(session, held, asked.keep)
    if session.state in (SessionState.SERVING, SessionState.FINISHING):
        session = _finish_off(config, session, held, stop)
    if session.state is not SessionState.FINISHED:
        word = "discard" if session.state is SessionState.DISCARDING else "start"
        raise UsageError(f"session {session.id} is {session.state.value}", remedy=f"Type: phd instant {word}.")
    return session


def _settled(session: InstantSession, held: Sequence[HeldDisk], keep: Keep | None) -> InstantSession:
    """Ends a session whose QEMU is gone in the middle of going over: a disk that lacks what its overlay has gets it."""
    for one in in_overlays(session, held, keep):
        refuse_unfit_overlay(one, overlay_there(one))
        _hide_overlay(one)
        _copy(one)
    done = session.to(SessionState.FINISHED)
    write_session(held[0], done)
    return done


def give_names(held: Sequence[HeldDisk]) -> None:
    """Gives the finished disks and their descriptors their names, durably. Raises `DestinationError` if another file has one."""
    for one in held:
        redo.unhide(one.destination)
        if one.destination.has(one.destination.disk_name + HIDDEN_SUFFIX):
            raise DestinationError(
                f"{one.destination.where}: the finished disk cannot have its name, since another file has it; "
                f"it is {printable(one.destination.disk_name + HIDDEN_SUFFIX)}",
                remedy="Move that other file away, then give 'phd instant finish' again.",
            )
        durable.sync_folder(".", dir_fd=one.destination.folder_fd)


def end_finished(held: Sequence[HeldDisk], *, live: bool) -> None:
    """Does what is left when the record says `finished`: names, overlays. May be repeated. Raises `OSError`.

    `live`: a QEMU may have the overlay open still, as a node that no device uses.
    """
    give_names(held)
    for one in held:
        for name in (one.finishing_name, one.overlay_name):
            _remove_overlay(one, name, live=live)
        durable.sync_folder(".", dir_fd=one.destination.folder_fd)


def _remove_record(first: HeldDisk) -> None:
    """Delete the record, last of all: until then the command given again does what is left."""
    folder = first.destination
    durable.remove(folder.disk_name + RECORD_SUFFIX, dir_fd=folder.folder_fd)


def _remove_overlay(held: HeldDisk, name: str, *, live: bool) -> None:
    """Delete the overlay if it is that of the session."""
    if not held.destination.has(name):
        return
    facts = os.stat(name, dir_fd=held.destination.folder_fd, follow_symlinks=False)
    if facts.st_ino != held.disk.overlay_inode:
        raise DestinationError(
            f"{held.destination.where}: {printable(name)} is not the overlay of this session; it was left",
            remedy="Find out whose it is, and move it away; then give 'phd instant finish' again.",
        )
    with contextlib.nullcontext() if live else lone_overlay(held, name):
        held.destination.remove(name)


def _overlay_bytes(held: HeldDisk) -> int:
    for name in (held.overlay_name, held.finishing_name):
        with contextlib.suppress(OSError):
            return os.stat(name, dir_fd=held.destination.folder_fd, follow_symlinks=False).st_blocks * 512
    return 0


def _finish_off(config: Config, session: InstantSession, held: Sequence[HeldDisk], stop: Stop) -> InstantSession:
    """Brings a session whose guest is off from `serving` or `finishing` to `finished`."""
    for one in held:
        refuse_unfit_overlay(one, overlay_there(one))
        refuse_no_room(one, overlay_there(one))
    fresh = session.state is SessionState.SERVING
    if fresh:
        session = decided(config, session, held, stop)
    held = [replace(one, disk=disk) for one, disk in zip(held, session.disks, strict=True)]
    try:
        for one in held:
            _hide_overlay(one)
        for one in held:
            hide_disk(config, one, stop)
    except PhdError:
        if fresh:
            _back(session, held)
        raise
    for one in held:
        _copy(one)
    done = session.to(SessionState.FINISHED)
    write_session(held[0], done)
    return done


def _back(session: InstantSession, held: Sequence[HeldDisk]) -> None:
    """Gives all names back and writes `serving`: no disk was changed yet."""
    for one in held:
        redo.unhide(one.destination)
        if one.destination.has(one.finishing_name) and not one.destination.has(one.overlay_name):
            one.destination.move(one.finishing_name, one.overlay_name)
    write_session(held[0], back_to_serving(session))


def overlay_there(held: HeldDisk) -> str:
    """Returns the name that the overlay has now. Raises `DestinationError` if it is gone."""
    for name in (held.finishing_name, held.overlay_name):
        if held.destination.has(name):
            return name
    raise DestinationError(
        f"{held.destination.where}: the overlay {printable(held.overlay_name)} is gone",
        remedy="What the guest wrote was in it: bring that very file back. Nothing was changed.",
    )


def decided(config: Config, session: InstantSession, held: Sequence[HeldDisk], stop: Stop, *, live: bool = False) -> InstantSession:
    """Proves that every disk can be finished, and writes `finishing` with their inodes. Nothing is changed before that."""
    inodes = []
    with contextlib.ExitStack() as stack:
        for one in held:
            hidden = tuple(name + HIDDEN_SUFFIX for name in (one.destination.disk_name, one.destination.descriptor_name) if name)
            refuse_third_files(one, (*hidden, *(() if live else (one.finishing_name,))))
            if not live:
                stack.enter_context(lone_overlay(one, one.overlay_name))
            disk = stack.enter_context(proven_disk(config, one, stop))
            inodes.append(disk.stamps.identity.inode)
        disks = tuple(replace(disk, disk_inode=inode) for disk, inode in zip(session.disks, inodes, strict=True))
        session = session.to(SessionState.FINISHING, disks=disks)
        write_session(held[0], session)
    return session


def _hide_overlay(held: HeldDisk) -> None:
    """Takes from the overlay the name under which a guest opens it; gives it back if somebody has opened it just then."""
    there = overlay_there(held)
    with lone_overlay(held, there) as fd:
        if there == held.finishing_name:
            return
        held.destination.move(there, held.finishing_name)
        try:
            for _ in range(2):
                if not held.destination.leads_to(held.finishing_name, fd):
                    raise TryAgainLater(f"{held.destination.where}: the overlay was replaced", remedy="Find out by whom.")
                refuse_used(fd, f"{held.destination.where}: {printable(there)}")
                time.sleep(_ON_THEIR_WAY)
        except PhdError:
            held.destination.move(held.finishing_name, there)
            raise


def hide_disk(config: Config, held: HeldDisk, stop: Stop) -> None:
    """Takes the names from descriptor and disk, so that no guest opens them by name while they are changed.

    A disk that has its name is proven to be the backup again: it was not changed yet, and somebody may have used it meanwhile.
    """
    destination, hidden = held.destination, held.destination.disk_name + HIDDEN_SUFFIX
    if destination.has(hidden):
        refuse_third_files(held, (destination.disk_name,))
        facts = os.stat(hidden, dir_fd=destination.folder_fd, follow_symlinks=False)
        if facts.st_ino != held.disk.disk_inode or facts.st_nlink != 1:
            raise DestinationError(
                f"{destination.where}: {printable(hidden)} is not the disk of this session, or has a second name",
                remedy="Bring the disk back under its one name; the overlay is whole.",
            )
        if destination.descriptor_name is not None and destination.has(destination.descriptor_name):
            destination.move(destination.descriptor_name, destination.descriptor_name + HIDDEN_SUFFIX)
        return
    with proven_disk(config, held, stop) as disk:
        redo.hide(destination, disk)
        try:
            disk.prove_again(hidden)
        except PhdError:
            redo.unhide(destination)
            raise
        except ChangedMeanwhile as error:
            redo.unhide(destination)
            remedy = "Find out who; then finish again."
            raise TryAgainLater(f"{destination.where}: somebody changes the disk: {error}", remedy=remedy) from error


def _copy(held: HeldDisk) -> None:
    """Copies what the overlay holds into the hidden disk, durably. Nobody else may have either open, before and after."""
    _refuse_used_disk(held)
    qemu_img.commit_overlay(held.path(held.finishing_name), path_of_hidden(held))
    with lone_overlay(held, held.finishing_name):
        _refuse_used_disk(held)
    held.destination.refuse_if_moved()


def _refuse_used_disk(held: HeldDisk) -> None:
    """Raise `DestinationInUse` if anybody has the hidden disk open; makes its bytes durable."""
    destination = held.destination
    fd = destination.open(destination.disk_name + HIDDEN_SUFFIX)
    try:
        if alone(fd) is Alone.NO:
            raise in_use_error(destination.where, "a program has the disk open while it is finished")
        durable.sync_file(fd)
    finally:
        os.close(fd)
