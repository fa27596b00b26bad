"""Every reason to refuse a restore before anything is changed: the restore raises the first, `phd plan` shows all."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Callable, Generator
from typing import Any

from restore_core.archive.delta_reader import DeltaReader
from restore_core.archive.header import utc
from restore_core.capabilities import tried
from restore_core.disk.allocation import refuse_if_no_space
from restore_core.disk.alone import Alone, alone
from restore_core.disk.confinement import walk_to
from restore_core.disk.destination import HIDDEN_SUFFIX, SCRIPT_OLD_SUFFIX, SCRIPT_PART_SUFFIX, Destination, names_for
from restore_core.disk.known_datastores import refuse_unless_known
from restore_core.disk.locks import refuse_if_in_use
from restore_core.disk.session_guard import refuse_in_session
from restore_core.errors import (
    DestinationError,
    DestinationExists,
    DestinationHeld,
    InSession,
    Overtaken,
    PhdError,
    from_os_error,
    is_no_answer,
)
from restore_core.naming import printable
from restore_core.restore import publish
from restore_core.restore.decide import Decision, Way, diverged, for_new, may_be_ours
from restore_core.restore.existing import ExistingDisk, is_thick, ranges_to_allocate
from restore_core.restore.plan import plan_summary
from restore_core.restore.publish import descriptor_text
from restore_core.restore.redo import pending
from restore_core.restore.replace import third_file
from restore_core.restore.request import Provision, RestoreRequest, VmxChoice

_SCRIPT_IS_SILENT = 900.0
"""Seconds without a write after which a script's part file that nobody has open counts as a leftover."""


def refusals(
    destination: Destination, request: RestoreRequest, delta: DeltaReader, record: dict[str, Any] | None
) -> Generator[PhdError]:
    """Yields why the restore may not begin, worst first. `record` is that of the hold. Changes nothing. Raises `OSError`."""
    yield from _refusals_of_existing(destination, request, delta.header.delta_id, record)
    yield from _each(
        lambda: refuse_overtaken(destination, request, delta, record),
        lambda: refuse_beside_a_script(destination),
        lambda: refuse_unwritable(destination),
        lambda: refuse_contents(destination, request, delta),
    )


def refusals_of_missing_folders(request: RestoreRequest, delta: DeltaReader) -> Generator[PhdError]:
    """Yields the same before a folder is made, or locked, for the disk; little if its folder is there. Changes nothing."""
    try:
        refuse_unless_known(request.destination, request.datastores)
        disk_name, descriptor_name = names_for(request.destination, confined=request.roots is not None)
        walk = walk_to(request.destination.parent, request.roots)
    except PhdError as error:
        yield error
        return
    except OSError as error:
        yield from_os_error(error, doing="opening its folder", where=printable(str(request.destination)))
        return
    with Destination(
        path=request.destination,
        folder_fd=walk.fd,
        disk_name=disk_name,
        descriptor_name=descriptor_name,
        key=(0, 0, disk_name),
        datastore=walk.datastore,
        roots=request.roots,
    ) as nearest:
        yield from _each(lambda: refuse_unwritable(nearest), lambda: refuse_unable(nearest, delta.header.disk_size))
        if walk.missing:
            yield from _each(
                lambda: refuse_contents(nearest, request, delta),
                lambda: refuse_space(nearest, request, for_new(plan_summary(delta), None), delta, None),
            )


def refusals_before_recovery(destination: Destination) -> Generator[PhdError]:
    """Yields what neither a recovery nor a restore can end: something else under a name of ours. Changes nothing."""
    yield from _each(lambda: refuse_folders(destination), lambda: refuse_third_file(destination))


def refuse_rival(request: RestoreRequest) -> Callable[[Destination], None]:
    """Returns the guard of a restore: it refuses a disk in an instant session, except to the job of that session.

    A restore that may replace any disk does not wait: it would begin when the session was finished, over what the guest wrote.
    """

    def guard(destination: Destination) -> None:
        try:
            refuse_in_session(destination, request.session, str(request.delta))
        except InSession as refusal:
            if request.options.overwrite is True and request.session is None:
                remedy = "It may replace the disk, so it does not wait for the end of the session: ask for it anew after that."
                raise DestinationError(refusal.message, remedy=remedy) from refusal
            raise

    return guard


def refuse_folders(destination: Destination) -> None:
    """Refuse where a folder has the name of a file that a restore makes."""
    for name in destination.names_of_ours():
        facts = os.stat(name, dir_fd=destination.folder_fd, follow_symlinks=False)
        if stat.S_ISDIR(facts.st_mode):
            raise DestinationError(
                f"{destination.where}: {printable(name)} is a folder, and a restore needs this name for a file",
                remedy="Move it away, then restore again.",
            )


def refuse_third_file(destination: Destination) -> None:
    """Refuse a hidden disk whose redo file is gone, where something else took its name."""
    hidden = destination.disk_name + HIDDEN_SUFFIX
    lost = destination.has(hidden) and not pending(destination) and not destination.private_names()
    if lost and destination.stat_disk() is not None:
        raise third_file(destination, hidden)


def refuse_first(found: Generator[PhdError]) -> None:
    """Raise the first of them, if there is one; the folder that they look at is closed then."""
    with contextlib.closing(found):
        first = next(found, None)
    if first is not None:
        raise first


def _each(*checks: Callable[[], None]) -> Generator[PhdError]:
    for check in checks:
        try:
            check()
        except PhdError as error:
            yield error


def refuse_existing(destination: Destination, request: RestoreRequest, delta_id: str | None, record: dict[str, Any] | None) -> None:
    """Refuse a disk that is there: without `overwrite`; one in use; and one that is not ours, when only ours may be touched.

    Not if an earlier attempt has put there the very disk that is asked for (`delta_id`).
    """
    refuse_first(_refusals_of_existing(destination, request, delta_id, record))


def _refusals_of_existing(
    destination: Destination, request: RestoreRequest, delta_id: str | None, record: dict[str, Any] | None
) -> Generator[PhdError]:
    receipt = may_be_ours(request, destination, record)
    if not (request.again and receipt is not None and receipt.delta_id == delta_id):
        yield from _each(
            lambda: _refuse_there(destination, request),
            lambda: refuse_if_in_use(request.destination, dir_fd=destination.folder_fd),
        )
    if request.options.only_ours and destination.stat_disk() is not None and receipt is None:
        yield diverged(request)


def _refuse_there(destination: Destination, request: RestoreRequest) -> None:
    if not request.options.overwrite and (destination.stat_descriptor() is not None or destination.stat_disk() is not None):
        raise there_already(destination)


def there_already(destination: Destination) -> DestinationExists:
    """Returns the refusal of a disk that nobody said may be replaced, by its descriptor's name if it has one, hidden or not."""
    name = destination.descriptor_name
    described = name is not None and (destination.has(name) or destination.has(name + HIDDEN_SUFFIX))
    return DestinationExists(
        f"{destination.where}: {printable((name if described else None) or destination.disk_name)} is there already",
        remedy="Choose another name, or say that it may be replaced: overwrite = true (--overwrite).",
    )


def refuse_overtaken(destination: Destination, request: RestoreRequest, delta: DeltaReader, record: dict[str, Any] | None) -> None:
    """Refuse a job of a rule when a newer backup was restored there after the pass made the job: a replica never goes back."""
    receipt, time_of = may_be_ours(request, destination, record), delta.header.time
    if request.decided_at and receipt is not None and receipt.written >= request.decided_at and receipt.taken > time_of:
        raise Overtaken(
            f"{destination.where}: a newer backup was restored there after this job was queued, that of {utc(receipt.taken)}; "
            f"this one is of {utc(time_of)}",
            remedy="A replica never goes back by itself. To have the older one, restore it by hand with overwrite = true.",
        )


def refuse_beside_a_script(destination: Destination) -> None:
    """Refuse while the script of a Delta (`sh DELTA`) writes this disk, or left it half replaced.

    Scripts of this version take the hold; those of earlier versions take none.
    """
    for old in filter(None, (destination.disk_name, destination.descriptor_name)):
        if destination.has(old + SCRIPT_OLD_SUFFIX):
            raise DestinationError(
                f"{destination.where}: the script of a Delta (sh DELTA --overwrite) was interrupted: "
                f"{printable(old + SCRIPT_OLD_SUFFIX)} is what lay there before",
                remedy=f"Give it its name again (mv), or remove it if {printable(old)} is the new one; then restore again.",
            )
    name = destination.disk_name + SCRIPT_PART_SUFFIX
    try:
        fd = destination.open(name)
    except FileNotFoundError:
        return
    except OSError as error:
        if is_no_answer(error):
            raise from_os_error(error, doing=f"looking at {printable(name)}", where=destination.where) from error
        raise DestinationError(
            f"{destination.where}: {printable(name)} is in the way: {error.strerror}",
            remedy="Remove it by hand.",
        ) from error
    try:
        live = alone(fd) is Alone.NO or time.time() - os.fstat(fd).st_mtime < _SCRIPT_IS_SILENT
    finally:
        os.close(fd)
    if live:
        raise DestinationHeld(
            f"{destination.where}: the script of a Delta (sh DELTA) is writing {printable(name)}",
            remedy=f"Wait until it ends. If none runs, remove {printable(name)}; a queued job goes on by itself after 15 minutes.",
        )


def refuse_unwritable(destination: Destination) -> None:
    """Refuse a folder in which this user can make no file, or whose file system is read-only."""
    try:
        read_only = os.statvfs(destination.folder_fd).f_flag & os.ST_RDONLY
        writable = os.access(".", os.W_OK | os.X_OK, dir_fd=destination.folder_fd, effective_ids=True)
    except OSError as error:
        raise from_os_error(error, doing="looking at its folder", where=destination.where) from error
    if read_only or not writable:
        why = "its file system is mounted read-only" if read_only else "this user may not write in its folder"
        raise DestinationError(f"{destination.where}: {why}", remedy="Mend that, or choose another folder.")


def refuse_unable(destination: Destination, size: int | None) -> None:
    """Refuse a file system that cannot do what a restore needs, or takes no file of `size` bytes. One not known is tried."""
    try:
        can = tried(destination.folder_fd)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return  # recovery must work on a full file system; room is asked for by itself
        raise from_os_error(error, doing="trying what its file system can do", where=destination.where) from error
    system = printable(can.file_system)
    if can.missing:
        raise DestinationError(f"{destination.where}: on its file system ({system}) one cannot {can.missing[0]}", remedy=can.remedy)
    if can.largest_file is not None and size is not None and size > can.largest_file:
        raise DestinationError(
            f"{destination.where}: the disk has {size} bytes, and a file on its file system ({system}) at most {can.largest_file}",
            remedy="Choose a datastore on another file system (ext4, XFS, btrfs, exFAT).",
        )


def refuse_rights(destination: Destination, decision: Decision) -> None:
    """Refuse a way that needs a right this user lacks: to write into the disk that is there, or to give a new one its owner."""
    facts = destination.stat_disk()
    if facts is None or decision.way is Way.NOTHING:
        return
    owner = (facts.st_uid, facts.st_gid)
    if decision.way is Way.REDO and not os.access(destination.disk_name, os.W_OK, dir_fd=destination.folder_fd, effective_ids=True):
        text = f"{destination.where}: this user may not write the disk that is there"
        raise DestinationError(text, remedy="Change its mode or owner.")
    if decision.way is not Way.REDO and owner != (os.geteuid(), os.getegid()) and not _may_change_owners():
        raise DestinationError(
            f"{destination.where}: it belongs to user {owner[0]}, group {owner[1]}, and this user may not give it a new disk",
            remedy="Restore as root, or give the disk to this user first (chown).",
        )


def _may_change_owners() -> bool:
    """Whether this process has CAP_CHOWN. root has it, except in a confined service."""
    with contextlib.suppress(OSError, ValueError), open("/proc/thread-self/status", encoding="ascii", errors="replace") as file:
        return any(int(line.split()[1], 16) & 1 for line in file if line.startswith("CapEff:"))
    return os.geteuid() == 0


def refuse_contents(destination: Destination, request: RestoreRequest, delta: DeltaReader) -> None:
    """Refuse what could not be published at the end: a descriptor that cannot be written, a VMX that cannot be put."""
    descriptor_text(destination, request, delta.header.disk_size, delta.descriptor())
    if request.options.vmx is VmxChoice.AS_IS:
        publish.vmx_to_put(destination, delta)


def refuse_space(
    destination: Destination,
    request: RestoreRequest,
    decision: Decision,
    delta: DeltaReader,
    disk: ExistingDisk | None,
    *,
    taken: int = 0,
) -> None:
    """Raise `NoSpace` unless what the restore will allocate fits. `taken` are bytes that its part file has already.

    A refresh in place needs room for the redo file, with the new blocks and the old ones, and for the holes that it fills. Raises
    `OSError`.
    """
    plan, facts = decision.plan, destination.stat_disk()
    moved = plan.full_bytes + plan.delta_bytes
    whole = decision.way in (Way.NEW, Way.RESUME, Way.WHOLE)
    thick = whole and request.options.provision is Provision.THICK
    needed = plan.disk_size if thick else moved
    if decision.way is Way.REDO and facts is not None:
        old = min(facts.st_blocks * 512, moved + plan.zero_bytes)
        grown = max(0, plan.disk_size - facts.st_size) if is_thick(facts) else 0
        holes = ranges_to_allocate(disk, delta, decision.survey) if disk is not None and decision.survey is not None else []
        needed = moved + old + sum(length for _offset, length in holes) + grown
    refuse_if_no_space(destination, needed=needed, reserved=request.reserved, reusable=taken if whole else 0, thin=not thick)
