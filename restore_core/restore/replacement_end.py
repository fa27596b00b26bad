"""Finishes, or undoes, a replacement of a disk that a crash interrupted: its record in the hold tells the two files apart.

Forward if nobody has used the old disk since, else back; where both may have been used, a person decides. Deciding changes nothing,
so that a plan can ask what a restore would be refused for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from restore_core import durable
from restore_core.disk.destination import HIDDEN_SUFFIX, Destination
from restore_core.disk.hold import Hold
from restore_core.errors import Diverged
from restore_core.naming import printable
from restore_core.restore import redo
from restore_core.restore.publish import prepare_descriptor, show_descriptor
from restore_core.restore.receipt import boot_id
from restore_core.restore.replace import Replacement, back_to_part, third_file

_Files = dict[str, tuple[str, int]]


def end_replacement(destination: Destination, hold: Hold) -> str | None:
    """Finish or undo what the record of the hold says was begun. Returns a note for the log. Raises `Diverged`, `OSError`."""
    record = Replacement.from_record(hold.record(), destination)
    note = None
    if record is not None:
        with record.opened(destination) as files:
            act, note = _decided(destination, record, files)
            act()
        hold.clear_record()
    for name in destination.private_names():
        back_to_part(destination, name)
    return note


def refuse_replacement(destination: Destination, record: dict[str, Any] | None) -> None:
    """Raise what `end_replacement` would raise of what lies there now. Changes nothing."""
    replacement = Replacement.from_record(record, destination)
    if replacement is not None:
        with replacement.opened(destination) as files:
            _decided(destination, replacement, files)


def name_without(destination: Destination, record: dict[str, Any] | None) -> str | None:
    """Returns the name that a disk has while it has not its own, which recovery gives it back; None where there is none such."""
    if destination.stat_disk() is not None:
        return None
    replacement = Replacement.from_record(record, destination)
    if replacement is not None:
        with replacement.opened(destination) as files:
            return next((files[which][0] for which in ("old", "new") if which in files), None)
    hidden = destination.disk_name + HIDDEN_SUFFIX
    return hidden if destination.has(hidden) else None


def _decided(destination: Destination, record: Replacement, files: _Files) -> tuple[Callable[[], None], str]:
    """Returns what to do, and the note that says so. Raises `Diverged`, or the refusal of a third file."""
    disk = destination.disk_name
    new, old = files.get("new"), files.get("old")
    if old is None:
        return lambda: _show(destination, record, new), "finished replacing the disk: the old one was gone already"
    if old[0] == disk:
        if new is not None and not record.new.unused(new[1]):
            raise _both_used(destination, disk, new[0])
        return lambda: redo.unhide(destination), "a replacement of the disk was interrupted before it began"
    in_place = new is not None and new[0] == disk
    if not in_place and destination.has(disk):
        raise third_file(destination, old[0], *([new[0]] if new else []))
    # Without the proof on record only the old disk's times can tell, and after another boot they tell nothing. With it nobody can
    # have opened the old disk by its name, and the new one may be complete: a reader of the old one is no reason to go back.
    if new is not None and record.proven and not record.old.unchanged(old[1]):
        raise _both_used(destination, disk if in_place else new[0], old[0])
    if new is not None and (record.proven or (record.boot == boot_id() and record.old.unused(old[1]))):
        note = "finished replacing the disk, which was interrupted just before its end"
        return lambda: _go_forward(destination, record, new, old[0]), note
    if new is not None and in_place and not record.new.unused(new[1]):
        raise _both_used(destination, disk, old[0])
    note = (
        "gave the old disk its name back: its replacement was interrupted, and the old disk was used since, or the new one is gone"
    )
    return lambda: _give_back(destination, old[0], in_place=in_place), note


def _both_used(destination: Destination, one: str, other: str) -> Diverged:
    return Diverged(
        f"{destination.where}: a replacement was interrupted, and both disks may have been used since: "
        f"one is there as {printable(one)}, the other as {printable(other)}",
        remedy=f"Power off the VMs that use them. Keep what you need of {printable(other)}, remove it, then restore again.",
    )


def _go_forward(destination: Destination, record: Replacement, new: tuple[str, int], old: str) -> None:
    disk = destination.disk_name
    if new[0] != disk:
        destination.move(new[0], disk)
    _show(destination, record, (disk, new[1]))
    destination.remove(old)


def _give_back(destination: Destination, old: str, *, in_place: bool) -> None:
    disk = destination.disk_name
    if in_place and not _exchanged(destination, old):
        destination.move(disk, destination.private_name())
        in_place = False
    if not in_place:
        destination.move(old, disk)
    redo.unhide(destination)


def _exchanged(destination: Destination, old: str) -> bool:
    try:
        durable.exchange(old, destination.disk_name, dir_fd=destination.folder_fd)
    except OSError as error:
        if error.errno not in durable.NO_RENAME_FLAGS:
            raise
        return False
    return True


def _show(destination: Destination, record: Replacement, new: tuple[str, int] | None) -> None:
    """Give the new disk, if it has its name, its descriptor, where the old one was hidden."""
    name = destination.descriptor_name
    if new is not None and new[0] == destination.disk_name and name is not None and record.descriptor is not None:
        if not destination.has(name):
            prepare_descriptor(destination, record.descriptor, 0o600)
            show_descriptor(destination, replace=False)
    else:
        redo.unhide(destination)
