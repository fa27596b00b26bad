"""What can be backed up: one flat disk, a raw image, a block device, or all the disks of a VMX.

Anything else is refused by name, because its file does not hold the bytes of the disk in order: a snapshot chain, a sparse or
split VMDK, a raw device mapping, an image of another hypervisor. The data inside a flat file or a device are never looked at: they
are the guest's.

Not guaranteed: that the disk of a running VM (`live`) is consistent. A file that changes while it is read is seen
by its size and times; a change of a device is seen only if its size differs.
"""

from __future__ import annotations

import errno
import os
import stat as stat_module
from dataclasses import dataclass, field
from pathlib import Path

from restore_core.disk import vmdk
from restore_core.disk.destination import half_applied, is_unfinished
from restore_core.disk.encodings import read_text
from restore_core.disk.foreign import kind_of_file
from restore_core.disk.locks import holder_of
from restore_core.disk.session_record import FINISHING_SUFFIX, OVERLAY_SUFFIX, beside
from restore_core.disk.vmx import MAX_VMX, VmxFile, parse_vmx
from restore_core.errors import BadData, PhdError, SourceRefused, TryAgainLater, remedy_for
from restore_core.naming import printable

_CONVERT = "Convert it first, with the VM powered off: qemu-img convert -O raw IMAGE DISK.img"
_GONE = {errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO, errno.ENOMEDIUM}


@dataclass(slots=True, kw_only=True)
class DiskSource:
    """A disk opened for reading; its owner closes it.

    `path` is the file the bytes come from, `size` its bytes. `disk_name` names the backup: the VMDK's name (also of a
    flat file alone), or the raw file's own. `descriptor` is the VMDK's text (undecodable bytes as surrogates), None for a raw disk.
    `folder` is the name of the folder that holds the disk, which is the VM's name for a VMDK.
    """

    path: Path
    fd: int
    size: int
    disk_name: str
    descriptor: str | None
    is_device: bool
    folder: str
    opened_as: tuple[int, int, int] = field(repr=False)

    def unchanged(self) -> None:
        """Raises `SourceRefused` if the file changed since it was opened: size, mtime or ctime; of a device the size only."""
        try:
            found = _state(self.fd, is_device=self.is_device)
        except OSError as error:
            raise _refused(error, self.path) from error
        for what, before, now in zip(
            ("size", "time of change (mtime)", "time of change (ctime)"), self.opened_as, found, strict=True
        ):
            if before != now:
                raise SourceRefused(
                    f"{printable(str(self.path))}: changed while it was read: {what} was {before}, is {now}",
                    remedy="Power the VM off, or back up a disk that nobody writes to (a snapshot's base, a copy).",
                )

    def close(self) -> None:
        """Closes the file; may be repeated."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class VmSource:
    """A VM to back up: the folder's name, `uuid.bios`, the VMX as it is, and (SCSI id, descriptor's path) of each disk.

    `troubles` is (SCSI id, what is wrong with its name) of the disks that are no path of this machine; they are not in `disks`.
    `notes` are the lines of the VMX that were passed over. Of an `encrypted` one a part cannot be read. `independent` are the SCSI
    ids of the disks that no snapshot of the VM holds.
    """

    vm: str
    uuid: str | None
    vmx: bytes
    disks: tuple[tuple[str, Path], ...]
    troubles: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    encrypted: bool = False
    independent: frozenset[str] = frozenset()


def open_disk(path: Path, *, live: bool) -> DiskSource:
    """Opens a descriptor, its flat file, a raw image or a block device for a backup.

    Raises `SourceRefused` for what is not one flat disk, is absent, or is held by a VM (unless `live`), `TryAgainLater`
    for an I/O error.
    """
    where = printable(str(path))
    name = path.name
    if name.lower().endswith(".vmx"):
        raise SourceRefused(f"{where}: a VMX, not a disk", remedy="Name a disk of it, or back up the VMX with all its disks.")
    if is_unfinished(name):
        raise SourceRefused(f"{where}: an unfinished file of a restore, not a disk", remedy="Let the restore run again first.")
    try:
        _refuse_in_session(path)
        if vmdk.is_flat_name(name):
            source = _open_flat(path)
        elif vmdk.is_vmdk_name(name):
            source = _open_vmdk(Path(os.path.realpath(path)))
        else:
            source = _open_raw(path, check_kind=True)
    except OSError as error:
        raise _refused(error, path) from error
    try:
        if not live:
            _refuse_running(source)
    except BaseException:
        source.close()
        raise
    return source


def _refuse_in_session(path: Path) -> None:
    """Refuse a disk whose guest writes into the overlay of an instant session: a backup of the disk would lack all of that."""
    flat = Path(os.path.realpath(path))
    if vmdk.is_vmdk_name(flat.name) and not vmdk.is_flat_name(flat.name):
        flat = flat.with_name(vmdk.flat_name_for(flat.name))
    for suffix in (OVERLAY_SUFFIX, FINISHING_SUFFIX):
        if os.path.lexists(beside(flat, suffix)):
            raise SourceRefused(
                f"{printable(str(path))}: in an instant session; what its guest wrote is in {printable(flat.name + suffix)}",
                remedy="Finish the session first (phd instant finish), then back the disk up.",
            )


def open_vmx(path: Path) -> VmSource:
    """Returns the disks that a VMX names, in order. Raises `SourceRefused` if it is no VMX, has no disks, or names one twice."""
    where = printable(str(path))
    real = Path(os.path.realpath(path))
    try:
        fd = _open_file(real)
        try:
            data = os.pread(fd, MAX_VMX + 1, 0)
        finally:
            os.close(fd)
        found = _parse_vmx(data, where, real.parent)
    except OSError as error:
        raise _refused(error, path) from error
    disks = tuple((disk.scsi, real.parent / disk.file) for disk in found.disks if disk.trouble is None)
    troubles = tuple((disk.scsi, f"{printable(disk.file)}: {disk.trouble}") for disk in found.disks if disk.trouble is not None)
    if not disks and not troubles and not found.encrypted:
        raise SourceRefused(f"{where}: no disks in this VMX", remedy="Name a disk instead of the VMX.")
    seen: dict[str, str] = {}
    for scsi, disk in disks:
        for key in (os.path.realpath(disk), f"SCSI id {scsi}"):
            if key in seen:
                text = f"{where}: {printable(key)} is given twice, as {seen[key]} and as {scsi}"
                raise SourceRefused(text, remedy="Correct the VMX: each disk belongs to one place.")
            seen[key] = scsi
    return VmSource(
        vm=real.parent.name,
        uuid=found.uuid_bios,
        vmx=data,
        disks=disks,
        troubles=troubles,
        notes=found.warnings,
        encrypted=found.encrypted,
        independent=frozenset(disk.scsi for disk in found.disks if disk.independent),
    )


def _open_vmdk(path: Path) -> DiskSource:
    """Opens the flat file beside a descriptor, whose links are resolved."""
    where = printable(str(path))
    descriptor = _read_descriptor(path)
    reason = vmdk.why_not_flat(descriptor)
    if reason is not None:
        raise SourceRefused(f"{where}: {reason}; only flat disks can be backed up", remedy=_remedy(reason))
    file = descriptor.extents[0].file or ""
    if file in {"", ".", ".."} or "/" in file or "\0" in file:
        text = f"{where}: its data lie in {printable(file)}, outside its folder"
        raise SourceRefused(text, remedy="Move both files into one folder and correct the extent line.")
    flat = path.parent / file
    fd = _open_file(flat, follow=False)
    source = _source(flat, fd, disk_name=path.name, descriptor=descriptor.text, folder=path.parent.name)
    if source.size != descriptor.size:
        source.close()
        raise SourceRefused(
            f"{where}: the descriptor says {descriptor.size} bytes, {printable(file)} has {source.size}",
            remedy="They do not belong together, or the file was cut short. Write a descriptor that fits with 'phd stub'.",
        )
    return source


def _open_flat(path: Path) -> DiskSource:
    """Opens a flat file: by the descriptor beside it where there is one, else as a raw disk, named as its VMDK would be."""
    real = Path(os.path.realpath(path))
    beside = real.with_name(vmdk.descriptor_name_for(real.name)) if vmdk.is_flat_name(real.name) else None
    if beside is None or not os.path.lexists(beside):
        if (reason := half_applied(real)) is not None:
            raise SourceRefused(reason, remedy="Restore onto it again, with overwrite: that completes it.")
        source = _open_raw(path, check_kind=False)
        source.disk_name = vmdk.descriptor_name_for(source.disk_name)  # no disk can be restored under the name of a flat file
        return source
    descriptor = _read_descriptor(beside)
    if vmdk.why_not_flat(descriptor) is None and descriptor.extents[0].file != real.name:
        text = f"{printable(str(path))}: {printable(beside.name)} beside it describes another file"
        raise SourceRefused(text, remedy="Correct the descriptor, or move it away to back up this file as a raw disk.")
    return _open_vmdk(beside)


def _open_raw(path: Path, *, check_kind: bool) -> DiskSource:
    """Opens a raw image or a device under the given name: /dev/mapper/NAME is stable, the node to which it leads is not."""
    path = Path(os.path.abspath(path))
    fd = _open_file(path, device=True)
    source = _source(path, fd, disk_name=path.name, descriptor=None, folder=path.parent.name)
    foreign = None if source.is_device or not check_kind else kind_of_file(fd)
    if foreign is not None:
        source.close()
        raise SourceRefused(f"{printable(str(path))}: {foreign.what}, not the plain bytes of a disk", remedy=foreign.remedy)
    return source


def _read_descriptor(path: Path) -> vmdk.VmdkDescriptor:
    fd = _open_file(path)
    try:
        return vmdk.load_descriptor(fd, printable(str(path)), lambda name: _lies(path.parent, name))
    except BadData as error:
        if "encrypted" in error.message:
            raise SourceRefused(error.message, remedy=_remedy("encrypted")) from error
        sparse = isinstance(error, vmdk.SparseVmdk)
        remedy = _CONVERT if sparse else "If it is a raw disk, give it another suffix (.img), or NAME-flat.vmdk and 'phd stub'."
        raise SourceRefused(error.message, remedy=remedy) from error
    finally:
        os.close(fd)


def _open_file(path: Path, *, device: bool = False, follow: bool = True) -> int:
    """Opens a plain file (or block device) for reading; never waits at a fifo. Raises `OSError`, `SourceRefused`."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    fd = os.open(path, flags)
    mode = os.fstat(fd).st_mode
    if stat_module.S_ISREG(mode) or (device and stat_module.S_ISBLK(mode)):
        return fd
    os.close(fd)
    folder = stat_module.S_ISDIR(mode)
    text = f"{printable(str(path))}: {'a folder' if folder else 'neither a plain file nor a block device'}"
    raise SourceRefused(
        text, remedy="Name the VMX or the disk in it." if folder else "Name a disk: a .vmdk, a raw image or a device."
    )


def _source(path: Path, fd: int, *, disk_name: str, descriptor: str | None, folder: str) -> DiskSource:
    is_device = stat_module.S_ISBLK(os.fstat(fd).st_mode)
    state = _state(fd, is_device=is_device)
    return DiskSource(
        path=path,
        fd=fd,
        size=state[0],
        disk_name=disk_name,
        descriptor=descriptor,
        is_device=is_device,
        folder=folder,
        opened_as=state,
    )


def _state(fd: int, *, is_device: bool) -> tuple[int, int, int]:
    """Returns size, mtime and ctime in nanoseconds. The times of a device say nothing about its data and are 0 here."""
    if is_device:
        return os.lseek(fd, 0, os.SEEK_END), 0, 0
    facts = os.fstat(fd)
    return facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


def _refuse_running(source: DiskSource) -> None:
    try:
        holder = holder_of(source.path)
    except PhdError as error:
        raise SourceRefused(error.message, remedy="Check that this user may read the disk and its folder.") from error
    if holder is not None:
        raise SourceRefused(
            f"{printable(str(source.path))}: in use: {holder}",
            remedy="Power the VM off, or say --live if nothing writes to this disk now (the base of a snapshot).",
        )


def _remedy(reason: str) -> str:
    if "snapshot" in reason:
        return "Consolidate the VM's snapshots first, or name the base disk of the chain."
    if "encrypted" in reason:
        return "Its file holds ciphertext. Decrypt the disk first (in vSphere: give it a storage policy without encryption)."
    if "device mapping" in reason:
        return "Back up the device itself (phd backup /dev/...)."
    return _CONVERT


def _parse_vmx(data: bytes, where: str, folder: Path | None = None) -> VmxFile:
    """Reads a VMX by the encoding that it names; of several readings the one whose disks are there, seen from `folder`."""

    def there(found: VmxFile) -> bool:
        return folder is None or all(_lies(folder, disk.file) for disk in found.disks if disk.trouble is None)

    try:
        return read_text(data, where, lambda text: parse_vmx(text, where), there)
    except BadData as error:
        raise SourceRefused(error.message, remedy="Correct that line, or name one of the disks of the VM instead.") from error


def _lies(folder: Path, name: str) -> bool:
    """Whether there is something of this name, which may hold bytes that no path can."""
    try:
        return os.path.lexists(folder / name)
    except ValueError:
        return False


def _refused(error: OSError, path: Path) -> PhdError:
    what = "a link, which is not followed here" if error.errno == errno.ELOOP else error.strerror or str(error)
    text = f"{printable(str(path))}: {what}"
    if error.filename is not None and str(error.filename) != str(path):
        text = f"{printable(str(path))}: {printable(str(error.filename))}: {what}"
    if error.errno in _GONE:
        return SourceRefused(text, remedy="Check the name, and that this user may read it.")
    return TryAgainLater(text, remedy=remedy_for(error))
