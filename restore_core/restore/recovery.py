"""Finishes, or undoes, what a crash interrupted at a destination. The holder of the destination calls it first.

    a replacement   the record in the hold tells the two files apart: forward if nobody has used the old disk since, else back
    a private name  a part file that was about to get its name is renamed to the part file again
    a redo file     where the disk has its name: deleted. Where it is hidden: every sector of the changed blocks must be old or new,
                    then all new blocks are written again; anything else is somebody's work: left as it is, a person decides

docs/disk.md lists the states and their reasons.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from restore_core.archive.digests import BlockDigest
from restore_core.disk.alone import Alone, alone, in_use_error, lock_image
from restore_core.disk.destination import HIDDEN_SUFFIX, REDO_SUFFIX, STAGED_SUFFIX, Destination
from restore_core.disk.hold import Hold
from restore_core.disk.identity import FileIdentity, identity_of
from restore_core.disk.locks import refuse_lock_files
from restore_core.disk.vmdk import load_descriptor
from restore_core.errors import BadData, Diverged, TryAgainLater
from restore_core.naming import printable
from restore_core.restore import redo
from restore_core.restore.receipt import Receipt, Receipts
from restore_core.restore.redo_file import RedoFile, Side, sides_on_disk
from restore_core.restore.replace import third_file
from restore_core.restore.replacement_end import end_replacement, refuse_replacement
from restore_core.restore.survey import holds_digests
from restore_core.targets.base import Stop

_NOT_THERE = "deleted the redo file of a disk that is not there any more"
_WAYS_OUT = "'phd recover DISK' finishes the change, --back takes it back, --as-it-is gives the disk its name as it is."


def recover(destination: Destination, hold: Hold, records: Path | None, stop: Stop) -> list[str]:
    """Finish or undo what was interrupted. Returns notes for the log.

    Raises `DestinationInUse` while somebody has such a disk open, `Diverged` where a person must decide, `TryAgainLater` for every
    error of the system, and the rest as a restore.
    """
    try:
        notes = [end_replacement(destination, hold), _recover_refresh(destination, Receipts(records, destination), stop)]
    except OSError as error:  # also one that would be final for a new restore: nothing else ends this
        raise redo.interrupted(destination.where, error) from error
    return [note for note in notes if note]


def refuse_recovery(destination: Destination, record: dict[str, Any] | None, records: Path | None, stop: Stop) -> None:
    """Raise what `recover` would raise of what lies there now, `record` being that of the hold. Changes nothing."""
    try:
        refuse_replacement(destination, record)
        _refuse_refresh(destination, Receipts(records, destination), stop)
    except OSError as error:
        raise redo.interrupted(destination.where, error) from error


def recover_to(destination: Destination, side: Side | None, records: Path | None, stop: Stop) -> str:
    """Do what a person decided about an interrupted change in place: finish it, take it back, or (None) show the disk as it is.

    There must be a redo file, and the disk must not be `in_its_place`: then it may have been used since. Returns a note for the
    log. Raises `DestinationInUse`, `TryAgainLater`, `DestinationError` and `OSError`.
    """
    try:
        with _opened(destination, copied=True) as (file, disk):
            if side is None:
                redo.unhide(destination)
                redo.discard(destination)
                return "the disk has its name again, as it is; what is in it is not known"
            _finish(destination, file, disk, side, receipts=Receipts(records, destination), stop=stop)
    except _NotTheDisk:
        redo.discard(destination)
        return _NOT_THERE
    redo.discard(destination)
    return f"the disk is the {side.value} one again as a whole" if side is Side.OLD else "the change was completed"


def _recover_refresh(destination: Destination, receipts: Receipts, stop: Stop) -> str | None:
    disk = destination.disk_name
    if not redo.pending(destination):
        if destination.has(disk + HIDDEN_SUFFIX):
            return _hidden_without_redo(destination)
        destination.remove(disk + STAGED_SUFFIX)
        return _recover_descriptor(destination)
    if redo.in_its_place(destination):
        redo.discard(destination)
        _recover_descriptor(destination)
        return "deleted the redo file of a refresh that was interrupted: the disk has its name and may have been used since"
    try:
        with _opened(destination) as (file, fd):
            side, sides = _side_to_take(destination, receipts, file, fd, stop)
            if side is not None:
                _finish(destination, file, fd, side, receipts=receipts, stop=stop)
            if side is not Side.NEW:
                redo.unhide(destination)
            redo.discard(destination)
            if side is not Side.NEW:
                return "a refresh was interrupted before its first write: the disk has its name again"
            return f"completed the refresh that was interrupted: {file.footer.records} blocks written again ({_words(sides)})"
    except _NotTheDisk:
        redo.discard(destination)
        return _NOT_THERE


def _refuse_refresh(destination: Destination, receipts: Receipts, stop: Stop) -> None:
    if not redo.pending(destination) or redo.in_its_place(destination):
        return
    with contextlib.suppress(_NotTheDisk), _opened(destination, only_looks=True) as (file, fd):
        side, _sides = _side_to_take(destination, receipts, file, fd, stop)
        if side is not None:
            _refuse_damaged(destination, file, side)


def _side_to_take(
    destination: Destination, receipts: Receipts, file: RedoFile, fd: int, stop: Stop
) -> tuple[Side | None, set[Side]]:
    """Returns the side that the disk must be brought to (None: it is whole as it is), and those that it is on now.

    Raises `Diverged` where somebody else wrote the disk.
    """
    sides, strange = sides_on_disk(fd, file)
    if strange is not None:
        raise _written_meanwhile(destination, f"at {strange} it holds neither the old bytes nor the new ones")
    # The disk grows before the first write: one that has grown goes forward.
    if Side.NEW not in sides and os.fstat(fd).st_size == file.footer.size_before:
        return (Side.OLD if _was_put_back(fd, receipts) else None), sides
    if _written_elsewhere(receipts, file, fd, stop):
        raise _written_meanwhile(destination, "blocks that the change leaves alone were written")
    return Side.NEW, sides


def _recover_descriptor(destination: Destination) -> str | None:
    """Give a hidden descriptor its name back, or delete it where there is another. The disk itself is whole and has its name.

    A descriptor of another size stays hidden: it is that of the disk that was replaced, and the restore writes a new one.
    """
    name = destination.descriptor_name
    if name is None or not destination.has(name + HIDDEN_SUFFIX):
        return None
    if destination.has(name):
        destination.remove(name + HIDDEN_SUFFIX)
    elif _says_its_size(destination, name + HIDDEN_SUFFIX):
        destination.move(name + HIDDEN_SUFFIX, name)
        return "gave the descriptor its name back"
    return None


def _says_its_size(destination: Destination, name: str) -> bool:
    """Whether the descriptor of this name says the size of the disk that is there."""
    facts = destination.stat_disk()
    with contextlib.suppress(OSError, BadData):
        fd = destination.open(name)
        try:
            return facts is not None and load_descriptor(fd, destination.where).size == facts.st_size
        finally:
            os.close(fd)
    return False


def _refuse_another_hidden(destination: Destination, *, only_looks: bool) -> None:
    """Refuse a hidden disk while another file has its name: a person decides. Delete the hidden name if both lead to one file.

    (A file system that cannot rename without replacing gives a file both names for a moment.)
    """
    hidden, there = destination.disk_name + HIDDEN_SUFFIX, destination.stat_disk()
    with contextlib.suppress(FileNotFoundError):
        other = os.stat(hidden, dir_fd=destination.folder_fd, follow_symlinks=False)
        if there is None or not os.path.samestat(there, other):
            raise third_file(destination, hidden)
        if not only_looks:
            destination.remove(hidden)


def _was_put_back(disk: int, receipts: Receipts) -> bool:
    """Whether the disk, with all blocks old, has other times than its receipt: the change was being taken back."""
    known = receipts.load()
    return known is not None and not known.ours(os.fstat(disk))


def _hidden_without_redo(destination: Destination) -> str:
    """Give a hidden disk its name, as it is: somebody removed its redo file, so nothing tells what its bytes were."""
    if destination.stat_disk() is not None:
        raise third_file(destination, destination.disk_name + HIDDEN_SUFFIX)
    redo.unhide(destination)
    return "gave a hidden disk its name back: its redo file is gone"


def _finish(destination: Destination, file: RedoFile, disk: int, side: Side, *, receipts: Receipts, stop: Stop) -> None:
    """Bring every changed block to one side, make it durable, show the disk, and stamp its receipt if it is exactly as recorded."""
    _refuse_damaged(destination, file, side)
    with redo.only_by_recovery(destination.where):
        redo.apply(destination, disk, file, side)
        known = receipts.load_next() if side is Side.NEW else receipts.load()
        ours = known is not None and _holds(receipts, known, disk, stop=stop) is True
        if ours:
            stamp = receipts.stamp_next if side is Side.NEW else receipts.stamp
            stamp(os.fstat(disk))
        if side is Side.NEW:
            ctime = redo.show(destination, disk, file.footer.descriptor)
        else:
            ctime = 0
            redo.unhide(destination)
    if ours and side is Side.NEW:
        receipts.settle(disk, ctime)
    elif ours:
        receipts.stamp(os.fstat(disk))  # its name changed its ctime


def _refuse_damaged(destination: Destination, file: RedoFile, side: Side) -> None:
    if not file.whole(side):
        other = "--back" if side is Side.NEW else "without --back"
        raise TryAgainLater(
            f"{destination.where}: a change in place was interrupted, and the {side.value} blocks in its redo file are damaged; "
            "the disk stays hidden",
            remedy=f"Look at the kernel's log. {_WAYS_OUT} Here only {other} can give a whole disk.",
        )


def _written_elsewhere(receipts: Receipts, file: RedoFile, disk: int, stop: Stop) -> bool:
    """Whether a block outside the change differs from the next receipt. False where there is no such receipt."""
    known = receipts.load_next()
    if known is None or (known.delta_id, known.block_size) != (file.footer.delta_id, file.footer.block_size):
        return False
    changed = bytearray(-(-max(file.footer.size_before, file.footer.size_after) // known.block_size))
    for change in file.changes():
        changed[change.offset // known.block_size] = 1
    return _holds(receipts, known, disk, stop=stop, changed=changed) is False


def _written_meanwhile(destination: Destination, what: str) -> Diverged:
    return Diverged(
        f"{destination.where}: a change in place was interrupted, and {what}; "
        f"it stays hidden ({printable(destination.disk_name)}{HIDDEN_SUFFIX})",
        remedy=f"Somebody may have written it. {_WAYS_OUT}",
    )


def _holds(receipts: Receipts, known: Receipt, disk: int, *, stop: Stop, changed: bytes | bytearray = b"") -> bool | None:
    """Whether the disk has exactly the digests of a receipt, except in the `changed` blocks. None where they are not known."""
    digests = receipts.digests(known)
    if digests is None:
        return None
    try:
        kind = BlockDigest(known.block_digest)
        size = os.fstat(disk).st_size if not changed else known.size
        return size == known.size and holds_digests(
            disk, size, known.block_size, kind, known=digests, stop=stop, passed_over=changed
        )
    finally:
        digests.close()


class _NotTheDisk(Exception):
    """The disk that is there is not the one that the redo file was made for."""


@contextlib.contextmanager
def _opened(destination: Destination, *, copied: bool = False, only_looks: bool = False) -> Iterator[tuple[RedoFile, int]]:
    """Opens the redo file and its disk, and proves that nobody else has the disk open. Raises `_NotTheDisk`, and as `recover`.

    With `copied` the hidden disk may be another file than the one that was being changed: a person says that it is a copy.
    With `only_looks` nothing is changed.
    """
    name = destination.disk_name
    with contextlib.ExitStack() as stack:
        fd = destination.open(name + REDO_SUFFIX)
        stack.callback(os.close, fd)
        file = RedoFile.opened(fd)
        if file is None:
            raise TryAgainLater(
                f"{destination.where}: its redo file cannot be read by this version of phd",
                remedy="Finish the refresh with the version that began it, or remove the redo file and restore with overwrite.",
            )
        hidden = name + HIDDEN_SUFFIX if destination.has(name + HIDDEN_SUFFIX) else name
        if hidden != name and destination.has(name):
            _refuse_another_hidden(destination, only_looks=only_looks)
            hidden = name
        try:
            disk = destination.open(hidden, os.O_RDWR)
        except FileNotFoundError as error:
            raise _NotTheDisk from error
        stack.callback(os.close, disk)
        same = identity_of(disk).same(FileIdentity(inode=file.footer.inode, generation=file.footer.generation))
        if not same and hidden == name:
            raise _NotTheDisk
        if not same and not copied:
            raise _written_meanwhile(destination, "the hidden one is another file, perhaps a copy of the disk")
        lock_image(disk, destination.where)
        refuse_lock_files(name, destination.folder_fd, destination.where)
        if alone(disk) is Alone.NO:
            raise in_use_error(destination.where, "another program has it open, while a change in place of it is unfinished")
        if os.fstat(disk).st_nlink > 1:
            raise Diverged(
                f"{destination.where}: a change in place was interrupted, and the disk has a second name (hard link) now",
                remedy=f"Remove the other name, or make it a copy of its own. {_WAYS_OUT}",
            )
        yield file, disk


def _words(sides: set[Side]) -> str:
    return "all had been written" if sides == {Side.NEW} else "some had been written"
