"""What stands between a finished part file and a disk that may be used: refusals, read-back, final names."""

from __future__ import annotations

import os
from pathlib import Path

from restore_core import durable
from restore_core.archive.delta_reader import DeltaReader
from restore_core.archive.full_reader import block_length, check_block
from restore_core.archive.index_map import ZERO
from restore_core.disk.destination import PART_SUFFIX, Destination
from restore_core.disk.scan import is_zero
from restore_core.disk.vmdk import render_descriptor
from restore_core.errors import BadArchive, BlockMismatch, DestinationExists
from restore_core.naming import printable
from restore_core.restore.redo import APPLYING_SUFFIX
from restore_core.restore.request import Provision, RestoreRequest, Stop, VmxChoice


def refuse_contents(destination: Destination, request: RestoreRequest, delta: DeltaReader) -> None:
    """Refuse early what could not be published at the end: a descriptor that cannot be written, a VMX that cannot be put."""
    descriptor_text(destination, request, delta.header.disk_size, delta.descriptor())
    if request.vmx is VmxChoice.AS_IS:
        _vmx_to_put(destination, delta)


def descriptor_text(destination: Destination, request: RestoreRequest, size: int, original: bytes | None) -> str | None:
    """The descriptor of a finished disk of `size` bytes, after the one that was backed up; None for a raw image."""
    if destination.descriptor_name is None:
        return None
    text = original.decode("utf-8", "surrogateescape") if original is not None else None
    return render_descriptor(flat_name=destination.disk_name, size=size, thin=request.provision is Provision.THIN, original=text)


def read_back(delta: DeltaReader, fd: int, where: str, stop: Stop) -> None:
    """Read the finished disk again, past the cache, and check every block, the zero ones too."""
    header = delta.header
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    for number in range(delta.pages):
        page = delta.page(number)
        for index, kind in enumerate(page.kinds):
            block = page.first_block + index
            data = os.pread(fd, block_length(header.disk_size, header.block_size, block), block * header.block_size)
            if kind != ZERO:
                check_block(delta, page, index, data, f"{where} (read back)")
            elif not is_zero(data):
                raise BlockMismatch(block=block, offset=block * header.block_size, where=where, expected="zeros", found="data")
            if block % 64 == 0:
                stop()


def publish(destination: Destination, request: RestoreRequest, *, size: int, original: bytes | None) -> None:
    """Give the durable part file its final name; the descriptor comes last, since it makes the disk usable.

    If a disk is replaced by one of another size, the old descriptor is set aside first, so that no moment shows a descriptor
    and a flat file that do not belong together.
    """
    folder, name = destination.folder_fd, destination.descriptor_name
    old, old_descriptor = destination.stat_disk(), destination.stat_descriptor()
    if old is not None and name is not None and old_descriptor is not None and old.st_size != size:
        durable.move(name, name + APPLYING_SUFFIX, replace=True, source_dir_fd=folder, to_dir_fd=folder)
    durable.move(destination.part_name, destination.disk_name, replace=request.overwrite, source_dir_fd=folder, to_dir_fd=folder)
    put_descriptor(destination, request, size=size, original=original, mode=old_descriptor and old_descriptor.st_mode)


def put_descriptor(
    destination: Destination, request: RestoreRequest, *, size: int, original: bytes | None, mode: int | None = None
) -> None:
    """Write the descriptor of a finished disk; one that was set aside goes. Nothing for a raw image."""
    name, text = destination.descriptor_name, descriptor_text(destination, request, size, original)
    if name is None or text is None:
        return
    folder = destination.folder_fd
    data = text.encode("utf-8", "surrogateescape")
    part = name + PART_SUFFIX
    durable.write_whole(name, data, mode=(mode or request.mode) & 0o7777, replace=request.overwrite, dir_fd=folder, part=part)
    durable.remove(name + APPLYING_SUFFIX, dir_fd=folder)


def keep_owner(fd: int, old: os.stat_result) -> None:
    """A disk that is replaced keeps its owner and mode; the owner is only changed where it must be, since that is a privilege."""
    ours = os.fstat(fd)
    if (ours.st_uid, ours.st_gid) != (old.st_uid, old.st_gid):
        os.fchown(fd, old.st_uid, old.st_gid)
    os.fchmod(fd, old.st_mode & 0o7777)


def put_vmx(destination: Destination, request: RestoreRequest, delta: DeltaReader) -> Path | None:
    """Put the VMX of the Delta beside the disk, unedited; None when nobody asked."""
    if request.vmx is VmxChoice.NONE:
        return None
    name, data = _vmx_to_put(destination, delta)
    if data is not None:
        folder = destination.folder_fd
        durable.write_whole(name, data, mode=request.mode, replace=False, dir_fd=folder, part=name + PART_SUFFIX)
    return request.destination.with_name(name)


def _vmx_to_put(destination: Destination, delta: DeltaReader) -> tuple[str, bytes | None]:
    """Name and bytes of the VMX to write; None for the bytes when the very same file lies there."""
    data = delta.text("vmx")
    if data is None:
        raise BadArchive(f"{delta.where}: it holds no VMX", remedy='Restore without the VMX (vmx = "none").')
    name = destination.vmx_name
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=destination.folder_fd)
    except FileNotFoundError:
        return name, data
    except OSError:
        fd = -1
    same = False
    if fd >= 0:
        with open(fd, "rb") as file:
            same = file.read(len(data) + 1) == data
    if not same:
        raise DestinationExists(
            f"{printable(str(destination.path.with_name(name)))}: another VMX is there",
            remedy="Move it away, or restore without the VMX.",
        )
    return name, None
