"""What belongs to a finished disk beside its bytes: its VMX, its owner and mode, and the proof by reading it back."""

from __future__ import annotations

import os
from pathlib import Path

from restore_core import durable
from restore_core.archive.delta_reader import DeltaReader
from restore_core.archive.full_reader import block_length, check_block
from restore_core.archive.index_map import ZERO
from restore_core.disk.destination import PART_SUFFIX, Destination
from restore_core.disk.scan import is_zero
from restore_core.errors import BadArchive, BlockMismatch, DestinationExists
from restore_core.naming import printable
from restore_core.restore.request import RestoreRequest, Stop, VmxChoice


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


def keep_owner(fd: int, old: os.stat_result) -> None:
    """A disk that is replaced keeps its owner and mode; the owner is only changed where it must be, since that is a privilege."""
    ours = os.fstat(fd)
    if (ours.st_uid, ours.st_gid) != (old.st_uid, old.st_gid):
        os.fchown(fd, old.st_uid, old.st_gid)
    os.fchmod(fd, old.st_mode & 0o7777)


def put_vmx(destination: Destination, request: RestoreRequest, delta: DeltaReader) -> Path | None:
    """Put the VMX of the Delta beside the disk, unedited; None when nobody asked."""
    if request.options.vmx is VmxChoice.NONE:
        return None
    name, data = vmx_to_put(destination, delta)
    if data is not None:
        folder = destination.folder_fd
        durable.write_whole(name, data, mode=request.mode, replace=False, dir_fd=folder, part=name + PART_SUFFIX)
    return request.destination.with_name(name)


def vmx_to_put(destination: Destination, delta: DeltaReader) -> tuple[str, bytes | None]:
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
