"""The descriptor of a finished disk: written durably under its unfinished name before the disk is touched, shown by a rename after.

So the last step of a restore needs no room, and a disk that is complete does not stay without its descriptor on a full file system.
"""

from __future__ import annotations

import contextlib
import os

from restore_core import durable
from restore_core.disk.destination import HIDDEN_SUFFIX, PART_SUFFIX, Destination
from restore_core.disk.vmdk import render_descriptor
from restore_core.restore.request import Provision, RestoreRequest


def descriptor_text(destination: Destination, request: RestoreRequest, size: int, original: bytes | None) -> str | None:
    """The descriptor of a finished disk of `size` bytes, after the one that was backed up; None for a raw image."""
    if destination.descriptor_name is None:
        return None
    text = original.decode("utf-8", "surrogateescape") if original is not None else None
    thin = request.options.provision is Provision.THIN
    return render_descriptor(flat_name=destination.disk_name, size=size, thin=thin, original=text)


def prepare_descriptor(destination: Destination, text: str | None, mode: int) -> None:
    """Write the text under its unfinished name, durably. Nothing for a raw image. Raises `OSError`.

    `mode` is for a new one; one that is there, perhaps hidden, gives its own. What an attempt before a crash has prepared is
    kept if it is the same: there may be no room for another.
    """
    name, folder = destination.descriptor_name, destination.folder_fd
    if name is None or text is None:
        return
    data, part = text.encode("utf-8", "surrogateescape"), name + PART_SUFFIX
    if _holds(folder, part, data):
        return
    for there in (name, name + HIDDEN_SUFFIX):
        with contextlib.suppress(FileNotFoundError):
            mode = os.stat(there, dir_fd=folder, follow_symlinks=False).st_mode & 0o7777
    durable.remove(part, dir_fd=folder, durable=False)
    durable.write_new(part, data, mode=mode, dir_fd=folder)


def show_descriptor(destination: Destination, *, replace: bool) -> None:
    """Give the prepared descriptor its name; a hidden one goes. Raises `FileExistsError` unless it may `replace`, and `OSError`."""
    name, folder = destination.descriptor_name, destination.folder_fd
    if name is not None:
        durable.move(name + PART_SUFFIX, name, replace=replace, source_dir_fd=folder, to_dir_fd=folder)
        durable.remove(name + HIDDEN_SUFFIX, dir_fd=folder, durable=False)


def _holds(folder: int, name: str, data: bytes) -> bool:
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return False
    with open(fd, "rb") as file:
        return file.read(len(data) + 1) == data
