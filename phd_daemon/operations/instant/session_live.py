"""Finishes a session while its guest runs: QEMU copies what the overlay holds into the disk, and the guest goes over to it.

    node and device of each overlay found > record `finishing` > descriptor hidden, disk opened by QEMU, disk hidden
    > header of the overlay names the hidden disk > blockdev-mirror, sync=top > all ready > `stop` > nothing left to copy
    > fsync > record `pivoting` with stamps > job-complete: the guest's device is on the disk > record `finished` > names > `cont`

From the moment the header names the hidden disk, the overlay over that disk is the truth: QEMU copies also what the guest has not
flushed, and a guest that starts on the overlay after a crash must go on from the same bytes that a later copy will keep.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from phd_daemon.config.model import Config
from phd_daemon.host.qmp import QmpError
from phd_daemon.operations.instant.guest_monitor import GuestMonitor
from phd_daemon.operations.instant.qemu_img import backing_of
from phd_daemon.operations.instant.qemu_nodes import LiveDisk, device_is_on, live_disk, name_backing, open_elsewhere
from phd_daemon.operations.instant.session_disks import HeldDisk, write_session
from phd_daemon.operations.instant.session_proof import path_of_hidden, proven_disk, refuse_no_room, refuse_unfit_overlay
from phd_daemon.operations.instant.session_server import start_server
from restore_core import durable
from restore_core.disk.destination import HIDDEN_SUFFIX
from restore_core.disk.identity import Stamps
from restore_core.disk.session_record import InstantSession, SessionState, back_to_serving
from restore_core.errors import DestinationInUse, PhdError, TryAgainLater
from restore_core.naming import printable
from restore_core.restore import redo
from restore_core.restore.receipt import boot_id
from restore_core.targets.base import Stop

_LOOK_EVERY = 0.2
_PAUSE_SECONDS = 30.0
"""For which a guest is stopped at most until nothing is left to copy; then it runs on, and the command says so."""


def begin_live(
    config: Config,
    session: InstantSession,
    held: Sequence[HeldDisk],
    *,
    qmp: Path,
    stop: Stop,
    decide: Callable[[], InstantSession],
) -> InstantSession:
    """Brings a session from `serving` to `finishing`, with the copy begun. `decide` proves the disks and writes the record.

    An error before the first copied byte is undone. Raises as `finish`.
    """
    start_server(config, session)  # QEMU is silent while it waits for it
    with GuestMonitor(qmp) as monitor:
        disks = [live_disk(monitor, one, session.id, number) for number, one in enumerate(held, 1)]
        for one in held:
            refuse_unfit_overlay(one, one.overlay_name)
            refuse_no_room(one, one.overlay_name)
        session = decide()
        begun: list[LiveDisk] = []
        try:
            for disk in disks:
                begun.append(disk)
                _give_to_qemu(config, monitor, disk, stop)
        except PhdError:
            for disk in begun:
                _take_back(monitor, disk, session)
            write_session(held[0], back_to_serving(session))
            raise
        for disk in disks:
            monitor.command(
                "blockdev-mirror",
                {"job-id": disk.name, "device": disk.node, "target": disk.name, "sync": "top", "auto-dismiss": False},
            )
    return session


def finish_live(
    session: InstantSession, held: Sequence[HeldDisk], *, qmp: Path, stop: Stop, end: Callable[[], None]
) -> InstantSession:
    """Waits for the copy, and lets the guest go over to its disks; goes on where an earlier run ended.

    `end` gives the names back when the record says `finished`, before the guest runs on. Raises `TryAgainLater` where QEMU does not
    copy: the overlay is whole then, and the guest runs on it.
    """
    names = [f"phd-{session.id}-{number}" for number in range(1, len(held) + 1)]
    with contextlib.ExitStack() as files:
        # Opened before the last write: a later descriptor is not told of an error that came before.
        opened = [one.destination.open(one.destination.disk_name + HIDDEN_SUFFIX) for one in held]
        for fd in opened:
            files.callback(os.close, fd)
        _wait_until_ready(qmp, names, stop)
        with GuestMonitor(qmp) as monitor:
            ran = session.ran or bool(monitor.command("query-status")["running"])
            monitor.command("stop")
            try:
                session = _gone_over(monitor, replace(session, ran=ran), held, names, opened)
                done = session.to(SessionState.FINISHED)
                write_session(held[0], done)
            except BaseException:
                with contextlib.suppress(QmpError):
                    if ran and not any(device_is_on(monitor, name) for name in names):
                        monitor.command("cont")  # all of it goes to the overlays again
                raise
            try:
                end()
            finally:
                if ran:
                    monitor.command("cont")
            return done


def run_on(session: InstantSession, qmp: Path) -> None:
    """Lets the guest of a finished session run on, which phd stopped, if a crash came before that. Raises `QmpError`."""
    names = [f"phd-{session.id}-{number}" for number in range(1, len(session.disks) + 1)]
    with GuestMonitor(qmp) as monitor:
        if session.ran and not _pending(monitor, names):
            monitor.command("cont")


def _give_to_qemu(config: Config, monitor: GuestMonitor, disk: LiveDisk, stop: Stop) -> None:
    """Lets QEMU open the disk under its name, then hides it; nobody else may have it open, and it must be what was proven."""
    held, destination = disk.held, disk.held.destination
    with proven_disk(config, held, stop) as proven:
        stamps = proven.stamps
    if destination.descriptor_name is not None and destination.has(destination.descriptor_name):
        destination.move(destination.descriptor_name, destination.descriptor_name + HIDDEN_SUFFIX)
    file = {"driver": "file", "filename": os.fspath(held.path(destination.disk_name)), "read-only": False, "auto-read-only": False}
    monitor.command("blockdev-add", {"driver": "raw", "node-name": disk.name, "read-only": False, "file": file})
    hidden = destination.disk_name + HIDDEN_SUFFIX
    destination.move(destination.disk_name, hidden)
    facts = os.stat(hidden, dir_fd=destination.folder_fd, follow_symlinks=False)
    other = open_elsewhere(facts, monitor.pid)
    if other is not None or not _same(facts, stamps):
        who = f"process {other} has it open" if other is not None else "it was written just now"
        raise DestinationInUse(f"{destination.where}: in use: {who}", remedy="Find out who uses the restored disk.")
    name_backing(monitor, disk, os.fspath(path_of_hidden(held)))


def _same(facts: os.stat_result, stamps: Stamps) -> bool:
    found = (facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_nlink)
    return found == (stamps.identity.inode, stamps.size, stamps.mtime_ns, 1)


def _take_back(monitor: GuestMonitor, disk: LiveDisk, session: InstantSession) -> None:
    """Undoes `_give_to_qemu`, as far as it came; no byte of the disk was written."""
    backing = backing_of(session.socket, disk.held.disk.export)
    name_backing(monitor, disk, backing)
    monitor.attempt("blockdev-del", {"node-name": disk.name})
    redo.unhide(disk.held.destination)


def _wait_until_ready(qmp: Path, names: Sequence[str], stop: Stop) -> None:
    while True:
        with GuestMonitor(qmp) as monitor:
            if all(job["status"] == "ready" for job in _jobs(monitor, _pending(monitor, names))):
                return
        stop()
        time.sleep(_LOOK_EVERY)


def _pending(monitor: GuestMonitor, names: Sequence[str]) -> list[str]:
    """Returns which disks the guest has not gone over to yet: node and job of a disk have one name."""
    return [name for name in names if not device_is_on(monitor, name)]


def _jobs(monitor: GuestMonitor, names: Sequence[str]) -> list[dict[str, Any]]:
    """Returns our jobs in QEMU. Raises `TryAgainLater` if one is gone or failed."""
    found = {job["id"]: job for job in monitor.command("query-jobs")}
    for name in names:
        error = found[name].get("error") if name in found else "it is not there any more"
        if error:
            monitor.attempt("job-dismiss", {"id": name})
            raise TryAgainLater(
                f"{monitor.where}: the copy into the disk has ended: {printable(str(error))}",
                remedy="The guest runs on its overlay. Switch it off when that suits, then finish without --qmp.",
            )
    return [found[name] for name in names]


def _gone_over(
    monitor: GuestMonitor, session: InstantSession, held: Sequence[HeldDisk], names: Sequence[str], opened: Sequence[int]
) -> InstantSession:
    """Lets the stopped guest go over to its disks, which are equal to the overlays and durable before that."""
    pending = _pending(monitor, names)
    _wait_until_equal(monitor, pending)
    disks = []
    for one, disk, fd in zip(held, session.disks, opened, strict=True):
        durable.sync_file(fd)
        overlay = os.stat(one.overlay_name, dir_fd=one.destination.folder_fd, follow_symlinks=False)
        disks.append(replace(disk, disk_stamps=short_stamps(os.fstat(fd)), overlay_stamps=short_stamps(overlay)))
    session = session.to(SessionState.PIVOTING, disks=tuple(disks), boot=boot_id())
    write_session(held[0], session)
    for name in pending:
        monitor.command("job-complete", {"id": name})
    end = time.monotonic() + _PAUSE_SECONDS
    while _pending(monitor, names):
        if time.monotonic() > end:
            raise TryAgainLater(f"{monitor.where}: the guest does not go over to its disk", remedy="Give the command again.")
        time.sleep(_LOOK_EVERY / 10)
    for name in pending:
        monitor.attempt("job-dismiss", {"id": name})
    return session


def _wait_until_equal(monitor: GuestMonitor, names: Sequence[str]) -> None:
    """Returns when nothing is left to copy. Only after the answer to `stop` these numbers say that disk and overlay are equal."""
    end = time.monotonic() + _PAUSE_SECONDS
    while not all(job["status"] == "ready" and job["current-progress"] == job["total-progress"] for job in _jobs(monitor, names)):
        if time.monotonic() > end:
            raise TryAgainLater(
                f"{monitor.where}: the copy does not come to its end", remedy="Try again when the guest writes less."
            )
        time.sleep(_LOOK_EVERY / 10)


def short_stamps(facts: os.stat_result) -> tuple[int, ...]:
    """Returns what changes when somebody writes a file: inode, size, mtime. A rename changes none of them."""
    return facts.st_ino, facts.st_size, facts.st_mtime_ns
