"""What belongs to a finished disk beside its bytes: its descriptor, its VMX, its owner and mode, and the proof by reading it back.

The descriptor is written durably under its unfinished name before the disk is touched, and only renamed at the end. So the last
step of a restore needs no space, and a complete disk does not stay without its descriptor on a full file system.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from restore_core import durable
from restore_core.archive.delta_reader import DeltaReader
from restore_core.archive.full_reader import block_length, check_block
from restore_core.archive.index_map import ZERO
from restore_core.disk.destination import HIDDEN_SUFFIX, PART_SUFFIX, Destination
from restore_core.disk.scan import is_zero
from restore_core.disk.vmdk import render_descriptor
from restore_core.errors import BadArchive, BlockMismatch, DestinationExists
from restore_core.naming import printable
from restore_core.restore.request import Provision, RestoreRequest, VmxChoice
from restore_core.targets.base import Stop


def descriptor_text(destination: Destination, request: RestoreRequest, size: int, original: bytes | None) -> str | None:
    """Returns the descriptor of a finished disk of `size` bytes, made from the one that was backed up; None for a raw image."""
    if destination.descriptor_name is None:
        return None
    text = original.decode("utf-8", "surrogateescape") if original is not None else None
    return render_descriptor(
        flat_name=destination.disk_name, size=size, thin=request.options.provision is Provision.THIN, original=text
    )


def prepare_descriptor(destination: Destination, text: str | None, mode: int) -> None:
    """Write the text under its unfinished name, durably. Nothing for a raw image. Raises `OSError`.

    `mode` is for a new descriptor; an existing one, also a hidden one, keeps its own. If an attempt before a crash has prepared the
    same text, that file is kept: there may be no space for another.
    """
    name, folder = destination.descriptor_name, destination.folder_fd
    if name is None or text is None:
        return
    data, part = text.encode("utf-8", "surrogateescape"), name + PART_SUFFIX
    if destination.holds(part, data):
        return
    for there in (name, name + HIDDEN_SUFFIX):
        with contextlib.suppress(FileNotFoundError):
            mode = os.stat(there, dir_fd=folder, follow_symlinks=False).st_mode & 0o7777
    destination.remove(part)
    durable.write_new(part, data, mode=mode, dir_fd=folder)


def show_descriptor(destination: Destination, *, replace: bool) -> None:
    """Give the prepared descriptor its name, and delete a hidden one.

    Raises `FileExistsError` unless it may `replace` the one that is there, and `OSError`.
    """
    name = destination.descriptor_name
    if name is not None:
        destination.move(name + PART_SUFFIX, name, replace=replace)
        destination.remove(name + HIDDEN_SUFFIX)


def hide_descriptor(destination: Destination, *, sync: bool = True) -> None:
    """Take the name from the descriptor, if there is one: `V.phd-applying`. Raises `OSError`."""
    name = destination.descriptor_name
    if name is not None and destination.has(name):
        destination.move(name, name + HIDDEN_SUFFIX, replace=True, sync=sync)


def read_back(delta: DeltaReader, fd: int, where: str, stop: Stop) -> None:
    """Read the finished disk again, past the cache, and check every block, the zero ones too. Raises `BlockMismatch`."""
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


def put_vmx(destination: Destination, request: RestoreRequest, delta: DeltaReader) -> Path | None:
    """Write the VMX of the Delta beside the disk, unedited. Returns its path, or None when nobody asked for it."""
    if request.options.vmx is VmxChoice.NONE:
        return None
    name, data = vmx_to_put(destination, delta)
    if data is not None:
        folder = destination.folder_fd
        durable.write_whole(name, data, mode=request.mode, replace=False, dir_fd=folder, part=name + PART_SUFFIX)
    return request.destination.with_name(name)


def vmx_to_put(destination: Destination, delta: DeltaReader) -> tuple[str, bytes | None]:
    """Returns name and bytes of the VMX to write; None for the bytes when the very same file is there, under any name.

    A VM has one VMX, and each of its disks brings it. Raises `DestinationExists` when another VMX is there.
    """
    data = delta.text("vmx")
    if data is None:
        raise BadArchive(f"{delta.where}: it holds no VMX", remedy='Restore without the VMX (vmx = "none").')
    name = destination.vmx_name
    if destination.has(name) and not destination.holds(name, data):
        raise DestinationExists(
            f"{printable(str(destination.path.with_name(name)))}: another VMX is there",
            remedy="Move it away, or restore without the VMX.",
        )
    others = [other for other in sorted(os.listdir(destination.folder_fd)) if other.lower().endswith(".vmx")]
    same = [other for other in (name, *others) if destination.holds(other, data)]
    return (same[0], None) if same else (name, data)
