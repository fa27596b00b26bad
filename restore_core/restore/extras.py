"""The small jobs beside a restore: the VMX of a Delta alone, a stub for a flat file, the end of a broken-off change."""

from __future__ import annotations

import os
import stat as stat_module
from pathlib import Path

from restore_core import durable
from restore_core.archive.delta_reader import DeltaReader
from restore_core.disk.destination import Destination, half_applied
from restore_core.disk.foreign import kind_of_file
from restore_core.disk.known_datastores import DatastoreRecord, refuse_unmounted
from restore_core.disk.vmdk import descriptor_name_for, is_flat_name, render_descriptor
from restore_core.errors import BadArchive, DestinationError, DestinationExists, UsageError, from_os_error
from restore_core.naming import printable
from restore_core.restore.part import held_destination, remove_empty_parts
from restore_core.restore.recovery import recover, recover_to
from restore_core.restore.redo import in_its_place
from restore_core.restore.redo import pending as redo_is_pending
from restore_core.restore.redo_file import Side
from restore_core.targets import TargetSet
from restore_core.targets.base import ArchiveRef, Stop


def restore_vmx(ref: ArchiveRef, targets: TargetSet, folder: Path, datastores: DatastoreRecord | None = None) -> Path:
    """Write the VMX in a Delta into a folder, which is made if need be, as `VMNAME.vmx`, unedited. Never over an existing file.

    `datastores` is the record of which disk each datastore is (None: only mount points are asked about).
    """
    with targets.open(ref) as source:
        delta = DeltaReader(source)
        data = delta.text("vmx")
        # The VM's name comes from an archive: it is a label, and must not lead out of the folder.
        name = printable(delta.header.vm).replace("/", "_").lstrip(".") or "vm"
    if data is None:
        raise BadArchive(f"{ref}: it holds no VMX", remedy="The disk was backed up without its VM; make a VMX for it by hand.")
    path = folder / f"{name}.vmx"
    with held_destination(path.absolute(), roots=None, make_folders=True, datastores=datastores):
        return _write_new(path, data)


def recover_disk(path: Path, side: Side | None, records: Path | None, stop: Stop) -> list[str]:
    """End what was interrupted at a disk: bring it to one side, or (None) give it its name as it is. Returns what was done.

    Raises `DestinationError` where nothing was interrupted, and what `recovery` raises.
    """
    refuse_unmounted(path)
    with held_destination(path, roots=None, make_folders=False) as (destination, hold):
        destination.lets_go = True
        unfinished = hold.record() is not None or destination.names_of_ours()
        if redo_is_pending(destination) and not in_its_place(destination):
            notes = [recover_to(destination, side, records, stop)]
        else:
            notes = recover(destination, hold, records, stop)
        remove_empty_parts(destination)
    if not unfinished:
        there = os.path.lexists(path)
        what = "no change was interrupted here" + ("" if there else ", and no disk of that name is here")
        remedy = "There is nothing to do." if there else "Check the name: it is that of the descriptor, NAME.vmdk."
        raise DestinationError(f"{printable(str(path))}: {what}", remedy=remedy)
    return notes or ["nothing of the disk had been changed; what was left of the restore can go on, or be removed"]


def write_stub(flat: Path) -> Path:
    """Write the descriptor for a flat file, beside it; `X-flat.vmdk` gets `X.vmdk`. Never over an existing file."""
    if not is_flat_name(flat.name):
        raise UsageError(
            f"{printable(str(flat))}: a flat file is called NAME-flat.vmdk", remedy="Rename it so, then run this again."
        )
    refuse_unmounted(flat)
    try:
        facts = flat.stat()
    except OSError as error:
        raise from_os_error(error, doing="looking at the flat file", where=printable(str(flat))) from error
    if not stat_module.S_ISREG(facts.st_mode):
        raise DestinationError(f"{printable(str(flat))}: not a regular file", remedy="Name the flat file itself.")
    if (reason := half_applied(flat)) is not None:
        raise DestinationError(
            reason, remedy="Restore onto it again, with overwrite: that completes it and gives it its descriptor."
        )
    path = flat.with_name(descriptor_name_for(flat.name))
    with held_destination(path.absolute(), roots=None, make_folders=False) as (destination, _hold):
        now = destination.stat_disk()  # another disk may have taken its place before it was held
        if now is None or redo_is_pending(destination):
            raise DestinationError(f"{printable(str(flat))}: it is being changed", remedy="Wait until it is there again.")
        _refuse_foreign(destination)
        thin = now.st_blocks * 512 < now.st_size
        text = render_descriptor(flat_name=flat.name, size=now.st_size, thin=thin, original=None)
        text_of = text.encode("utf-8", "surrogateescape")
        return _write_new(path, text_of, "Is it the right one? Then there is nothing to do; else move it away.")


def _refuse_foreign(destination: Destination) -> None:
    """Refuse to call a file flat that is an image of another kind: its descriptor would make a disk of its headers."""
    try:
        fd = destination.open(destination.disk_name)
        try:
            foreign = kind_of_file(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise from_os_error(error, doing="reading the flat file", where=destination.where) from error
    if foreign is not None:
        raise DestinationError(
            f"{printable(destination.disk_name)}: {foreign.what}, not the plain bytes of a disk", remedy=foreign.remedy
        )


def _write_new(path: Path, data: bytes, if_there: str = "Move it away, or choose another folder.") -> Path:
    try:
        durable.write_whole(path, data, replace=False)
    except FileExistsError as error:
        raise DestinationExists(f"{printable(str(path))} is there already", remedy=if_there) from error
    except OSError as error:
        raise from_os_error(error, doing="writing", where=printable(os.fspath(path))) from error
    return path
