"""Small file systems as a guest has them, made by their own tools, without root and without a mount; and a disk that holds them."""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

MIB = 1 << 20
TIME = 1_600_000_000
"""When all files were changed: 2020-09-13."""
BIG = random.Random(7).randbytes(3 * MIB + 12345)


class FileDisk:
    """A plain file that is read like a served disk. No file stays open."""

    def __init__(self, path: Path) -> None:
        self._path, self.size, self.bytes_read = path, path.stat().st_size, 0

    def read(self, offset: int, length: int) -> bytes:
        assert 0 <= offset <= offset + length <= self.size
        self.bytes_read += length
        with self._path.open("rb") as file:
            file.seek(offset)
            return file.read(length)


class DiskReader:
    """A disk as the libraries read it."""

    def __init__(self, disk: FileDisk) -> None:
        self._disk, self._at = disk, 0

    def read(self, size: int = -1, /) -> bytes:
        size = max(0, min(size if size >= 0 else self._disk.size, self._disk.size - self._at))
        found = self._disk.read(self._at, size) if size else b""
        self._at += len(found)
        return found

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self._at = offset + (0, self._at, self._disk.size)[whence]
        return self._at

    def tell(self) -> int:
        return self._at


def need(package: str, *programs: str) -> None:
    """Skips where a program is missing."""
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    if missing := [program for program in programs if shutil.which(program, path=path) is None]:
        pytest.skip(f"{', '.join(missing)} is not installed (Debian package {package}): such a file system cannot be made")


def need_library(*names: str) -> None:
    for name in names:
        pytest.importorskip(
            name, reason=f"{name} is not installed: pip install 'phd-daemon[files]'; no file is read out of a backup"
        )


def run(*command: str | Path, stdin: str = "") -> None:
    environment = {**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin", "TZ": "UTC", "MTOOLS_SKIP_CHECK": "1"}
    subprocess.run(list(map(str, command)), input=stdin.encode(), check=True, capture_output=True, env=environment, timeout=60)


def source(folder: Path) -> Path:
    """A folder of what a guest may hold: all kinds of files, and names and links that are meant to hurt."""
    etc = folder / "etc"
    (etc / "deep" / "er").mkdir(parents=True)
    (etc / "fstab").write_text("UUID=1 / ext4\n")
    (etc / "fstab").chmod(0o4755)
    (etc / "big").write_bytes(BIG)
    (etc / "empty").touch()
    with (etc / "sparse").open("wb") as file:
        file.truncate(40 * MIB)
        file.seek(20 * MIB)
        file.write(b"middle" * 1000)
        file.seek(30 * MIB + 5)
        file.write(b"late")
    os.link(etc / "fstab", etc / "fstab.second")
    (etc / "in").symlink_to("deep/er")
    (etc / "deep" / "up").symlink_to("../fstab")
    (etc / "abs").symlink_to("/etc/passwd")
    (etc / "out").symlink_to("../../../../etc")
    (etc / "back").symlink_to("deep/../..")
    os.mkfifo(etc / "fifo")
    (etc / "new\nline").write_text("n")
    (etc / "-rf %s ü").write_text("u")
    with open(os.fsencode(etc) + b"/lat\xe9n", "w") as file:
        file.write("latin")
    (etc / ("n" * 255)).write_text("254")
    for path in sorted(etc.rglob("*"), reverse=True):
        os.utime(path, (TIME, TIME), follow_symlinks=False)
    os.utime(etc, (TIME, TIME))
    return folder


def ext(path: Path, folder: Path, *options: str, size: int = 64 * MIB) -> Path:
    need("e2fsprogs", "mke2fs")
    with path.open("wb") as file:
        file.truncate(size)
    run("mke2fs", "-q", "-F", *options, "-d", folder, path)
    return path


def xfs(path: Path, folder: Path) -> Path:
    """XFS of at least 300 MiB, sparse, with a part of the files: a protofile tells no times, and no odd names."""
    need("xfsprogs", "mkfs.xfs")
    etc = folder / "etc"
    lines = ["/none", "0 0", "d--755 0 0", "etc d--755 0 0"]
    lines += [f" fstab -u-755 11 12 {etc}/fstab", f" big ---644 0 0 {etc}/big", f" empty ---600 0 0 {etc}/empty"]
    lines += [
        " abs l--777 0 0 /etc/passwd",
        " in l--777 0 0 fstab",
        " fifo p--644 0 0",
        " null c--666 0 0 1 3",
        " $",
        "many d--755 0 0",
    ]
    lines += [f" file-number-{number:04} ---644 0 0 {etc}/fstab" for number in range(500)]
    with path.open("wb") as file:
        file.truncate(300 * MIB)
    proto = path.with_suffix(".proto")
    proto.write_text("\n".join([*lines, " $", "$", ""]))
    run("mkfs.xfs", "-q", "-f", "-p", proto, path)
    return path


def fat(path: Path, folder: Path, *, bits: int = 16, size: int = 24 * MIB) -> Path:
    need("dosfstools", "mkfs.vfat")
    need("mtools", "mcopy")
    with path.open("wb") as file:
        file.truncate(size)
    run("mkfs.vfat", "-F", str(bits), path)
    for name in ("fstab", "big", "empty", "deep"):
        run("mcopy", "-s", "-m", "-i", path, folder / "etc" / name, "::/")
    return path


def ntfs(path: Path, folder: Path) -> Path:
    need("ntfs-3g", "mkntfs", "ntfscp")
    with path.open("wb") as file:
        file.truncate(24 * MIB)
    run("mkntfs", "-q", "-F", path)
    for name in ("fstab", "big", "empty"):
        run("ntfscp", path, folder / "etc" / name, name)
    run("ntfscp", "-N", "stream", path, folder / "etc" / "fstab", "fstab")
    return path


def disk_of(path: Path, *systems: Path) -> Path:
    """A disk with a GPT and one partition for each file system."""
    need("fdisk", "sfdisk")
    sizes = [(one.stat().st_size + MIB - 1) // MIB for one in systems]
    with path.open("wb") as file:
        file.truncate((sum(sizes) + 2) * MIB)
    run("sfdisk", "-q", path, stdin="label: gpt\n" + "".join(f"size={size}M, type=L\n" for size in sizes))
    at = 1
    for one, size in zip(systems, sizes, strict=True):
        run("dd", f"if={one}", f"of={path}", "bs=1M", f"seek={at}", "conv=notrunc,sparse")
        at += size
    return path


LVM_ID = "l1AdhNDk49zsWGac7hCjHPFJhCHk2elo"


def lvm_text(volumes: dict[str, list[tuple[int, int]]], *, extent: int = 2048, **others: str) -> str:
    """The metadata of a group `vg0`, as LVM writes it: for each volume its (first extent, extents) on the disk, in order."""
    parts = []
    for name, segments in volumes.items():
        lines, first = [f"segment_count = {len(segments)}"], 0
        for number, (at, count) in enumerate(segments, 1):
            lines += [f"segment{number} {{", f"start_extent = {first}", f"extent_count = {count}", "", 'type = "striped"']
            lines += ["stripe_count = 1\t# linear", "", "stripes = [", f'"pv0", {at}', "]", "}"]
            first += count
        parts += [f"{name} {{", 'id = "x"', 'status = ["READ", "WRITE", "VISIBLE"]', "flags = []", *lines, "}"]
    parts += [f"{name} {{\n{text}\n}}" for name, text in others.items()]
    dashed = "-".join([LVM_ID[:6], *(LVM_ID[at : at + 4] for at in range(6, 26, 4)), LVM_ID[26:]])
    lines = ["vg0 {", 'id = "y"', "seqno = 3", 'status = ["RESIZEABLE"]', f'extent_size = {extent}\t\t# a "size"', ""]
    lines += ["physical_volumes {", "", "pv0 {", f'id = "{dashed}"', 'device = "/dev/sda3"\t# Hint only', "pe_start = 2048"]
    lines += ["pe_count = 99", "}", "}", "", "logical_volumes {", *parts, "}", "}", "# Generated by LVM2: ", "version = 1", ""]
    return "\n".join(lines)


def lvm_head(text: str, *, at: int = 512) -> bytearray:
    """The first MiB of a physical volume: its label, one area of metadata, the text at an offset in it (which may wrap)."""
    head, start, size = bytearray(MIB), 4096, MIB - 4096
    head[512:544] = struct.pack("<8sQII8s", b"LABELONE", 1, 0, 32, b"LVM2 001")
    head[544 : 544 + 40] = LVM_ID.encode() + struct.pack("<Q", 0)
    struct.pack_into("<8Q", head, 584, MIB, 0, 0, 0, start, size, 0, 0)
    raw = text.encode() + b"\0"
    for index, byte in enumerate(raw):
        place = at + index
        head[start + (place if place < size else place - size + 512)] = byte
    area = bytearray(512)
    struct.pack_into("<16sIQQQQII", area, 4, b" LVM2 x[5A%r0N*>", 1, start, size, at, len(raw), lvm_crc(raw), 0)
    struct.pack_into("<I", area, 0, lvm_crc(bytes(area[4:])))
    head[start : start + 512] = area
    return head


def lvm_crc(data: bytes) -> int:
    """LVM's checksum, bit by bit."""
    crc = 0xF597A6CF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xEDB88320 if crc & 1 else 0)
    return crc


def lvm(path: Path, image: Path) -> Path:
    """A physical volume with the volume `root`, which holds an image: its second half lies before its first."""
    data = image.read_bytes()
    extents = len(data) // MIB
    half = extents // 2
    text = lvm_text({"root": [(extents - half, half), (0, extents - half)], "gone": [(0, 5000)]})
    path.write_bytes(bytes(lvm_head(text)) + data[half * MIB :] + data[: half * MIB])
    return path
