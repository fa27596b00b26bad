"""Tells by its first and last bytes that a file is no plain disk, but an image of another kind, an archive or a compressed file.

One table for every way in: `phd backup` of an image, `phd adopt` of a gzip, `phd stub` of a flat file. An ISO is not in it: it is
the plain bytes of a disk, and disks begin as one. What follows the magic is not proved: no guest begins its disk so by chance.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from restore_core.errors import SourceRefused

HEAD = 1024
"""How many of the first bytes `foreign_kind` has to see."""
TAIL = 512
"""How many of the last bytes."""
_SIZE_IN_FOOTER = slice(48, 56)
_CHECKSUM = slice(148, 156)
_QEMU = "Convert it first, with the VM powered off: qemu-img convert -O raw IMAGE DISK.img"
_UNPACK = "Unpack it first, and name the disk that is in it: {}"
_NAME_FLAT = "It is only the text that describes the disk. Name the .vmdk itself, or the file that its extent line names."


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignKind:
    """What a file is instead of a plain disk, and the sentence that says how to make one of it."""

    what: str
    remedy: str


_MAGIC = (
    (b"KDMV", "a sparse VMDK", _QEMU),
    (b"COWD", "a sparse VMDK", _QEMU),
    (b"\xbe\xba\xfe\xca\0\0\0\0", "a sparse VMDK (SEsparse)", _QEMU),
    (b"QFI\xfb", "a qcow2 image", _QEMU),
    (b"QED\0", "a QED image", _QEMU),
    (b"vhdxfile", "a VHDX image", _QEMU),
    (b"conectix", "a VHD image", _QEMU),
    (b"<<< ", "a VDI image of VirtualBox", _QEMU),
    (b"WithoutFreeSpace", "a disk image of Parallels", _QEMU),
    (b"WithouFreSpacExt", "a disk image of Parallels", _QEMU),
    (b"Bochs Virtual HD Image", "a disk image of Bochs", _QEMU),
    (b"VMA\0", "a backup of Proxmox (VMA)", _UNPACK.format("vma extract FILE FOLDER")),
    (b"EVF\x09\x0d\x0a\xff\0", "an image of EnCase (EWF)", _UNPACK.format("ewfexport -f raw FILE")),
    (b"MSWIM\0\0\0", "a WIM archive", _UNPACK.format("wimextract FILE 1")),
    (b"\x1f\x8b\x08", "a gzip file", _UNPACK.format("gzip -dc FILE > DISK.img")),
    (b"\xfd7zXZ\0", "an xz file", _UNPACK.format("xz -dc FILE > DISK.img")),
    (b"\x28\xb5\x2f\xfd", "a zstd file", _UNPACK.format("zstd -dc FILE > DISK.img")),
    (b"\x04\x22\x4d\x18", "an lz4 file", _UNPACK.format("lz4 -dc FILE > DISK.img")),
    (b"BZh", "a bzip2 file", _UNPACK.format("bzip2 -dc FILE > DISK.img")),
    (b"LZIP\x01", "an lzip file", _UNPACK.format("lzip -dc FILE > DISK.img")),
    (b"\x89LZO\0\r\n\x1a\n", "an lzop file", _UNPACK.format("lzop -dc FILE > DISK.img")),
    (b"PK\x03\x04", "a zip archive", _UNPACK.format("unzip FILE")),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK.format("7z x FILE")),
    (b"Rar!\x1a\x07", "a RAR archive", _UNPACK.format("unrar x FILE")),
    (b"07070", "a cpio archive", _UNPACK.format("cpio -id < FILE")),
)
_TAR = ForeignKind(what="a tar archive (as .tar or .ova)", remedy=_UNPACK.format("tar -xf FILE"))
_DESCRIPTOR = ForeignKind(what="a VMDK descriptor under another name", remedy=_NAME_FLAT)
_EMPTY = ForeignKind(what="nothing (0 bytes)", remedy="Make the gzip anew from the disk.")
_FIXED_VHD = ForeignKind(what="a VHD image (of fixed size)", remedy=_QEMU.replace("convert", "convert -f vpc"))


def foreign_kind(head: bytes, tail: bytes, size: int) -> ForeignKind | None:
    """Returns what a file is if it is no plain disk, else None. Pure.

    `head` is the first `HEAD` bytes of the file and `tail` its last `TAIL`, both shorter for a shorter file; `size` is its length.
    """
    for magic, what, remedy in _MAGIC:
        if head.startswith(magic):
            return ForeignKind(what=what, remedy=remedy)
    if head.removeprefix(b"\xef\xbb\xbf").lstrip()[:21].lower() == b"# disk descriptorfile":
        return _DESCRIPTOR
    if head[257:262] == b"ustar" or _sums_up_as_tar(head[:512]):
        return _TAR
    if tail.startswith(b"conectix") and int.from_bytes(tail[_SIZE_IN_FOOTER], "big") == size - TAIL:
        return _FIXED_VHD
    return None


def kind_of_file(fd: int) -> ForeignKind | None:
    """Returns what an open plain file is if it is no plain disk, else None. Raises `OSError`."""
    size = os.fstat(fd).st_size
    return foreign_kind(os.pread(fd, HEAD, 0), os.pread(fd, TAIL, max(0, size - TAIL)), size)


def only_plain(stream: Iterator[bytes], where: str) -> Iterator[bytes]:
    """Passes the plain bytes of a gzip on. Raises `SourceRefused` if they are no plain disk: before the first, or at the end."""
    head, tail, size = b"", b"", 0
    for data in stream:
        if len(head) < HEAD:
            head += data[: HEAD - len(head)]
            if len(head) == HEAD:
                _refuse(foreign_kind(head, b"", 0), where)
        tail = (tail + data[-TAIL:])[-TAIL:]
        size += len(data)
        yield data
    _refuse(foreign_kind(head, tail, size) if size else _EMPTY, where)


def _refuse(foreign: ForeignKind | None, where: str) -> None:
    if foreign is not None:
        remedy = f"This gzip is left as it is; gzip -dc gives back what is in it. {foreign.remedy}"
        raise SourceRefused(f"{where}: a gzip of {foreign.what}, not of the plain bytes of a disk", remedy=remedy)


def _sums_up_as_tar(header: bytes) -> bool:
    """Whether this is the header of a tar of before 1988, which has no magic: it holds the sum of its own bytes."""
    written = header[_CHECKSUM].strip(b" \0")
    if len(header) < 512 or not written or any(digit not in b"01234567" for digit in written):
        return False
    return sum(header) - sum(header[_CHECKSUM]) + 8 * ord(" ") == int(written, 8)
