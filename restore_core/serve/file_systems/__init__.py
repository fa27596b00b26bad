"""Reads the file systems of guests: ext2-4, XFS, NTFS and FAT, out of anything that reads like a file.

    open_volume(file_system, reader) -> Volume      root, notes

    guest_file   what all are read as: `GuestFile`, its facts, children and data
    ext, fat     read here: each number is checked, and each walk ends
    libyal       XFS and NTFS, by libfsxfs and libfsntfs (LGPL, wheels for x86_64 and aarch64, fuzzed)

What exists was tried first, against files that the tools of each file system wrote. dissect (pure Python, AGPL) reads no bigalloc
and cuts inline data off without a word; pytsk3 reads no XFS; libfsext returned wrong bytes for files with block lists (ext3) and
cannot tell names that are no UTF-8; libfsfat fails on FAT12 and tells times a month late; debugfs, ntfs-3g and mtools want a file,
and so FUSE, which containers lack. No file system is mounted, and none of this needs FUSE or root.

Journals are not applied: `notes` says where that matters.
"""

from restore_core.errors import UsageError
from restore_core.serve.file_systems.ext import open_ext
from restore_core.serve.file_systems.fat import open_fat
from restore_core.serve.file_systems.guest_file import Reader, Volume
from restore_core.serve.file_systems.libyal import load_library, open_with_library

FILE_SYSTEMS = ("ext2", "ext3", "ext4", "XFS", "NTFS", "FAT", "FAT12", "FAT16", "FAT32")
"""Those that can be read, by the names that `partitions.detect` gives them."""


def load(file_system: str) -> None:
    """Imports what a file system needs. Raises `UsageError` if it is not read here, `TargetUnavailable` without its library."""
    if file_system not in FILE_SYSTEMS:
        raise UsageError(f"{file_system or 'what lies there'} is no file system that phd reads")
    if file_system in ("XFS", "NTFS"):
        load_library(file_system)


def open_volume(file_system: str, reader: Reader) -> Volume:
    """Opens the file system of a partition. Raises `BadData` for a broken one, and what `load` raises."""
    load(file_system)
    if file_system.startswith("ext"):
        return open_ext(reader)
    return open_fat(reader) if file_system.startswith("FAT") else open_with_library(file_system, reader)
