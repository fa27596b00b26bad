"""The disks of a backup and their facts: VM name, UUID and SCSI id, from the VMX, the folder, or what the person gave."""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import uuid as uuid_module
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from restore_core.archive.delta_writer import DiskFacts
from restore_core.backup.source import DiskSource, VmSource, open_disk, open_vmx
from restore_core.disk.vmdk import render_descriptor
from restore_core.errors import BadData, DestinationError, SourceRefused, UsageError
from restore_core.naming import MAX_NAME_BYTES, delta_name, folder_name, printable, scsi_colon

_A_DAY = dt.datetime(2026, 11, 24, 3)  # noqa: DTZ001 - for the length of names alone
_NAMESPACE = uuid_module.UUID("8c6f1d0e-5a43-5c1b-9a55-7068642d7068")


_NAME_IT = "Name that disk itself, by its path on this machine."


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the person gave on the command line; None where the disk or the VMX tells it.

    `skip` names disks of a VMX that are left out, as the VMX does (`scsi0:1`) or as the names of archives do (`01`).
    """

    vm: str | None = None
    uuid: str | None = None
    scsi: str | None = None
    live: bool = False
    skip: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One opened disk and its facts. `notes` are what was passed over in its VMX."""

    source: DiskSource
    disk: DiskFacts
    notes: tuple[str, ...] = ()


@contextmanager
def open_subjects(path: Path, asked: Asked) -> Iterator[list[Subject]]:
    """Opens all disks of a VMX, or the one disk at any other path; closes them at the end."""
    opened: list[Subject] = []
    try:
        if path.suffix.lower() == ".vmx":
            _open_vm(path, asked, opened)
        else:
            opened.append(_open_single(path, asked))
        yield opened
    finally:
        for subject in opened:
            subject.source.close()


def _open_vm(path: Path, asked: Asked, opened: list[Subject]) -> None:
    if asked.scsi is not None:
        raise UsageError("--scsi goes with a single disk; the VMX names the ids of its own", remedy="Leave --scsi out.")
    machine = open_vmx(path)
    if machine.encrypted:
        text = f"{printable(str(path))}: an encrypted VM: a part of its VMX cannot be read, and may name other disks"
        raise SourceRefused(text, remedy="Decrypt the VM first, or name its disks one by one instead of the VMX.")
    vm = asked.vm or machine.vm
    uuid = asked.uuid or machine.uuid
    if uuid is None:
        raise SourceRefused(f"{printable(str(path))}: no uuid.bios in it", remedy="Start the VM once, or give --uuid.")
    skipped = _skipped(machine, asked, path)
    refused: list[tuple[str, str, str | None]] = [
        (scsi, trouble, _NAME_IT) for scsi, trouble in machine.troubles if scsi not in skipped
    ]
    for scsi, disk_path in machine.disks:
        if scsi in skipped:
            continue
        if scsi in machine.independent:
            refused.append((scsi, f"{printable(disk_path.name)}: an independent disk: no snapshot of the VM holds it", _NAME_IT))
            continue
        try:
            source = open_disk(disk_path, live=asked.live)
        except SourceRefused as error:
            refused.append((scsi, error.message, error.remedy))
            continue
        facts = replace(_facts(source, vm, uuid, scsi, machine.vmx), left_out=tuple(map(bus_and_unit, sorted(skipped))))
        opened.append(Subject(source=source, disk=facts, notes=machine.notes))
    if refused:
        raise _some_refused(path, refused, len(machine.disks) + len(machine.troubles))


def _skipped(machine: VmSource, asked: Asked, path: Path) -> frozenset[str]:
    """Returns the SCSI ids of the disks to leave out. Raises `UsageError` for one that the VM has not, or for all of them."""
    known = {scsi for scsi, _ in (*machine.disks, *machine.troubles)}
    skipped = {text: text.lower().removeprefix("scsi").replace(":", "") for text in asked.skip}
    has = ", ".join(bus_and_unit(scsi) for scsi in sorted(known)) or "none"
    for text, scsi in skipped.items():
        if scsi not in known:
            raise UsageError(f"--skip {printable(text)}: {printable(str(path))} has no such disk", remedy=f"It has {has}.")
    if known and known == set(skipped.values()):
        raise UsageError("--skip leaves no disk of this VM to back up", remedy=f"It has {has}.")
    return frozenset(skipped.values())


def bus_and_unit(scsi: str) -> str:
    """Returns the id as a VMX writes it: `01` -> `scsi0:1`, `sata00` -> `sata0:0`."""
    return f"{'scsi' if scsi[:1].isdigit() else ''}{scsi_colon(scsi)}"


def _some_refused(path: Path, refused: list[tuple[str, str, str | None]], of: int) -> SourceRefused:
    named = "; ".join(f"{bus_and_unit(scsi)}: {message}" for scsi, message, _ in refused)
    options = " ".join(f"--skip {bus_and_unit(scsi)}" for scsi, _, _ in refused)
    remedies = " ".join(dict.fromkeys(remedy for *_, remedy in refused if remedy))
    which = f"{len(refused)} of its {of} disks" if of > 1 else "its disk"
    skip = f" Or leave {'them' if len(refused) > 1 else 'it'} out: {options}" if len(refused) < of else ""
    return SourceRefused(f"{printable(str(path))}: {which} cannot be backed up: {named}", remedy=f"{remedies}{skip}")


def _open_single(path: Path, asked: Asked) -> Subject:
    if asked.skip:
        raise UsageError("--skip goes with a VMX; this is a single disk", remedy="Leave --skip out.")
    source = open_disk(path, live=asked.live)
    try:
        vm, uuid, scsi, vmx = _from_neighbour(path, source)
        vm = asked.vm or vm
        uuid = asked.uuid or uuid or derived_uuid(f"{vm}/{source.disk_name}")
        return Subject(source=source, disk=_facts(source, vm, uuid, asked.scsi or scsi, vmx))
    except BaseException:
        source.close()
        raise


def derived_uuid(name: str) -> str:
    """Returns the `uuid5` of a name of any bytes; `uuid.uuid5` takes only text in UTF-8."""
    digest = hashlib.sha1(_NAMESPACE.bytes + os.fsencode(name), usedforsecurity=False).digest()
    return str(uuid_module.UUID(bytes=digest[:16], version=5))


def _from_neighbour(path: Path, source: DiskSource) -> tuple[str, str | None, str, bytes | None]:
    """Returns (VM, UUID, SCSI id, VMX) of a single disk: from a VMX beside it that names it, else from its own name."""
    if source.descriptor is None:
        return Path(source.disk_name).stem or "disk", None, "00", None
    for vmx in sorted(path.parent.glob("*.vmx")):
        try:
            machine = open_vmx(vmx)
        except SourceRefused:
            continue  # another disk's, or not readable: this disk is backed up without a VMX
        for scsi, disk_path in machine.disks:
            if disk_path.resolve() == path.with_name(source.disk_name).resolve():
                return machine.vm, machine.uuid, scsi, machine.vmx
    return source.folder or Path(source.disk_name).stem, None, "00", None


def check_names(vm: str, uuid: str) -> None:
    """Raises `UsageError` for a UUID or a VM name that cannot be part of a folder's name."""
    if len(uuid) != 36 or "." in uuid or "/" in uuid:
        raise UsageError(
            f"{printable(uuid)!r} is not a UUID of 36 characters", remedy="Write it as 564d122a-0ed7-3b92-2f46-aee9456b2074."
        )
    if not vm or "/" in vm or "\0" in vm or vm.startswith("."):
        raise UsageError(f"{printable(vm)!r} cannot be the name of a VM's folder", remedy="Give another with --vm.")
    over = len(os.fsencode(folder_name(date=_A_DAY, vm=vm, uuid=uuid))) - MAX_NAME_BYTES
    if over > 0:
        text = f"the name of the VM is {over} bytes too long for the folder of its backups: {printable(vm)}"
        raise UsageError(text, remedy="Give a shorter one with --vm.")


def check_length(scsi: str, disk: str, stamp: dt.datetime = _A_DAY, base: dt.datetime = _A_DAY) -> None:
    """Raises `SourceRefused` for a disk whose name is too long to be a part of an archive's, which is longer with seconds in it."""
    over = len(os.fsencode(delta_name(scsi=scsi, disk=disk, stamp=stamp, base=base))) - MAX_NAME_BYTES
    if over > 0:
        text = f"{printable(disk)}: the name of the disk is {over} bytes too long for the name of a Delta"
        wait = " Or wait for a minute in which it has no backup: the name of this one has seconds in it." if stamp.second else ""
        raise SourceRefused(text, remedy=f"Give the disk a shorter name.{wait}")


def _facts(source: DiskSource, vm: str, uuid: str, scsi: str, vmx: bytes | None) -> DiskFacts:
    check_names(vm, uuid)
    check_length(scsi, source.disk_name)
    descriptor = source.descriptor.encode("utf-8", "surrogateescape") if source.descriptor is not None else None
    return DiskFacts(
        vm=vm,
        uuid=uuid,
        scsi=scsi,
        disk=source.disk_name,
        disk_size=source.size,
        vmx=vmx,
        descriptor=descriptor,
        path=os.path.abspath(source.path.with_name(source.disk_name)),
    )


def with_stub(disk: DiskFacts) -> DiskFacts:
    """Returns `disk` with its `stub`: a descriptor in which a shell has to replace only the name of the data file.

    Without one where no descriptor is possible: a size that is no whole number of sectors, or an original that is no descriptor.
    """
    original = disk.descriptor.decode("utf-8", "surrogateescape") if disk.descriptor is not None else None
    try:
        text = render_descriptor(flat_name="NAME-flat.vmdk", size=disk.disk_size, thin=False, original=original)
    except (BadData, DestinationError):
        return disk
    return replace(disk, stub=text.encode("utf-8", "surrogateescape"))
