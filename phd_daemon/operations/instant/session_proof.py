"""What must be true before a session may be finished: each disk is exactly the restored backup, each overlay is whole and alone."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from phd_daemon.config.model import Config
from phd_daemon.operations.installation import spool_of
from phd_daemon.operations.instant import qemu_img
from phd_daemon.operations.instant.session_disks import HeldDisk
from phd_daemon.spool.layout import State
from phd_daemon.spool.requests import states
from restore_core.archive.digests import BlockDigest
from restore_core.disk.allocation import free_bytes
from restore_core.disk.destination import HIDDEN_SUFFIX
from restore_core.disk.session_record import InstantSession
from restore_core.errors import DestinationError, NoSpace, PhdError, TryAgainLater, from_os_error
from restore_core.naming import printable
from restore_core.restore.existing import ChangedMeanwhile, ExistingDisk
from restore_core.restore.receipt import Receipts
from restore_core.restore.survey import holds_digests
from restore_core.targets.base import Stop

_QCOW2 = b"QFI\xfb"
_MOST_BACKING = 1024


def refuse_jobs(config: Config, session: InstantSession) -> None:
    """Raises `TryAgainLater` while a job of the session may still write its disk."""
    spool = spool_of(config)
    for disk in session.disks:
        for state in set(states(spool.folder, disk.job)) & {State.WAITING, State.HELD, State.RUNNING}:
            raise TryAgainLater(
                f"{printable(disk.path)}: its restore, job {printable(disk.job)}, is {state.meaning}",
                remedy=f"Wait for its end ('phd instant status {session.id}'), or cancel it if the disk is restored all the same.",
            )


@contextlib.contextmanager
def proven_disk(config: Config, held: HeldDisk, stop: Stop) -> Iterator[ExistingDisk]:
    """Opens the disk, which must be exactly the restored backup, have one name, and be open nowhere else.

    Raises `DestinationError` if it is not that, `DestinationInUse`, `TryAgainLater`.
    """
    where, destination = held.destination.where, held.destination
    if destination.stat_disk() is None:
        raise _not_restored(where, "it is not restored yet")
    try:
        with ExistingDisk.opened(destination) as disk:
            _refuse_other_bytes(config, held, disk, stop)
            disk.surveyed()
            if disk.stamps.links != 1:
                raise DestinationError(f"{where}: the disk has a second name (hard link)", remedy="Remove the other name first.")
            yield disk
    except ChangedMeanwhile as error:
        raise TryAgainLater(f"{where}: somebody changes the disk: {error}", remedy="Find out who; then finish again.") from error
    except OSError as error:
        raise from_os_error(error, doing="proving that it is the restored backup", where=where) from error


def _refuse_other_bytes(config: Config, held: HeldDisk, disk: ExistingDisk, stop: Stop) -> None:
    where, facts = held.destination.where, os.fstat(disk.fd)
    receipts = Receipts(spool_of(config).receipts, held.destination)
    receipt = receipts.load(facts)
    if receipt is None or (receipt.delta_id, receipt.size) != (held.disk.delta_id, facts.st_size):
        raise _not_restored(where, "no record says that it is the restored backup of this session")
    if receipt.untouched(facts):
        return
    digests = receipts.digests(receipt)
    if digests is not None:
        try:
            kind = BlockDigest(receipt.block_digest)
            if holds_digests(disk.fd, receipt.size, receipt.block_size, kind, known=digests, stop=stop):
                return
        finally:
            digests.close()
    raise _not_restored(where, "somebody has written it since it was restored")


def _not_restored(where: str, why: str) -> DestinationError:
    return DestinationError(
        f"{where}: {why}, so nothing can be copied into it",
        remedy="'phd instant start' with the same backup and disk lets it be restored; then finish again.",
    )


def refuse_unfit_overlay(held: HeldDisk, name: str) -> None:
    """Raises `DestinationError` for an overlay that cannot be copied as a whole: replaced, resized, or with snapshots."""
    destination = held.destination
    where = f"{destination.where}: {printable(name)}"
    try:
        facts = os.stat(name, dir_fd=destination.folder_fd, follow_symlinks=False)
    except OSError as error:
        raise from_os_error(error, doing=f"looking at {printable(name)}", where=destination.where) from error
    if facts.st_ino != held.disk.overlay_inode or facts.st_nlink != 1:
        what = "is another file than the one that was made" if facts.st_nlink == 1 else "has a second name (hard link)"
        remedy = "A guest may still write the first one: find it, and bring it back under its one name."
        raise DestinationError(f"{where} {what}", remedy=remedy)
    info = qemu_img.overlay_info(held.path(name))
    if info.get("virtual-size") != held.disk.size:
        raise DestinationError(
            f"{where} was resized to {info.get('virtual-size')} bytes, and the disk has {held.disk.size}",
            remedy="Convert it to a disk of its own (qemu-img convert), while the server of the session answers.",
        )
    if info.get("snapshots"):
        raise DestinationError(f"{where} has snapshots in it", remedy="Delete them first (qm delsnapshot, qemu-img snapshot -d).")
    data = info.get("format-specific", {}).get("data", {})
    if data.get("corrupt") or data.get("bitmaps"):
        what = "is marked as corrupt" if data.get("corrupt") else "has dirty bitmaps (checkpoints) in it"
        raise DestinationError(f"{where} {what}", remedy="See qemu-img check, or remove the checkpoints; then finish again.")
    if (above := _image_above(held, name)) is not None:
        raise DestinationError(
            f"{where} has a snapshot above it: {printable(above)}; what the guest wrote last is in that",
            remedy="Commit that one into the overlay first (virsh blockcommit, qemu-img commit), and remove it.",
        )


def _image_above(held: HeldDisk, name: str) -> str | None:
    """Returns the name of an image in the folder whose backing is the overlay."""
    for other in sorted(os.listdir(held.destination.folder_fd)):
        if other != name and os.path.basename(_backing(held, other)) in (held.overlay_name, held.finishing_name):
            return other
    return None


def _backing(held: HeldDisk, name: str) -> str:
    """Returns the backing that the header of a qcow2 names; empty for any other file."""
    with contextlib.suppress(OSError, PhdError):
        fd = held.destination.open(name)
        try:
            head = os.pread(fd, 20, 0)
            if head[:4] == _QCOW2:
                offset, length = int.from_bytes(head[8:16], "big"), int.from_bytes(head[16:20], "big")
                return os.fsdecode(os.pread(fd, min(length, _MOST_BACKING), offset))
        finally:
            os.close(fd)
    return ""


def refuse_no_room(held: HeldDisk, name: str) -> None:
    """Raises `NoSpace` if the holes of the disk could not take what the overlay holds."""
    destination = held.destination
    try:
        overlay = os.stat(name, dir_fd=destination.folder_fd, follow_symlinks=False).st_blocks * 512
        disk = destination.stat_disk() or os.stat(destination.disk_name + HIDDEN_SUFFIX, dir_fd=destination.folder_fd)
        needed, free = min(overlay, max(0, disk.st_size - disk.st_blocks * 512)), free_bytes(destination.folder_fd)
    except OSError as error:
        raise from_os_error(error, doing="asking for free space", where=destination.where) from error
    if needed > free:
        raise NoSpace(where=destination.where, needed=needed, free=free, thin=True)


def refuse_third_files(held: HeldDisk, names: tuple[str, ...]) -> None:
    """Raises `DestinationError` if something has a name that `finish` is going to give."""
    for name in names:
        if held.destination.has(name):
            raise DestinationError(
                f"{held.destination.where}: {printable(name)} is in the way", remedy="Find out whose it is, and move it away."
            )


def path_of_hidden(held: HeldDisk) -> Path:
    """Returns the path of the disk while it is hidden."""
    return held.path(held.destination.disk_name + HIDDEN_SUFFIX)
