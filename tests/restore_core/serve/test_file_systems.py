"""What the tools of a file system wrote is what is read: contents, holes, times, links. What cannot be right is refused."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from restore_core.errors import BadData, UsageError
from restore_core.serve.file_systems import load, open_volume
from restore_core.serve.file_systems.guest_file import GuestFile, Volume
from restore_core.serve.magic_bytes import detect
from tests.guest_disk import BIG, MIB, TIME, DiskReader, FileDisk, ext, fat, need, need_library, ntfs, run, source, xfs

KINDS: dict[str, Callable[[Path, Path], Path]] = {
    "ext2": lambda path, folder: ext(path, folder, "-t", "ext2", "-b", "1024"),
    "ext3": lambda path, folder: ext(path, folder, "-t", "ext3"),
    "ext4": lambda path, folder: ext(path, folder, "-t", "ext4"),
    "ext4 bigalloc": lambda path, folder: ext(path, folder, "-t", "ext4", "-O", "bigalloc"),
    "ext4 meta_bg": lambda path, folder: ext(path, folder, "-t", "ext4", "-O", "meta_bg,^resize_inode"),
    "XFS": xfs,
    "FAT12": lambda path, folder: fat(path, folder, bits=12, size=8 * MIB),
    "FAT16": fat,
    "FAT32": lambda path, folder: fat(path, folder, bits=32, size=40 * MIB),
    "NTFS": ntfs,
}
EXT = [name for name in KINDS if name.startswith("ext")]
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return source(tmp_path_factory.mktemp("guest"))


@pytest.fixture(scope="module")
def image(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def make(kind: str) -> Path:
        if kind in ("XFS", "NTFS"):
            need_library({"XFS": "pyfsxfs", "NTFS": "pyfsntfs"}[kind])
        if kind not in made:
            made[kind] = KINDS[kind](tmp_path_factory.mktemp("image") / "image", files)
        return made[kind]

    return make


def opened(path: Path) -> Volume:
    disk = FileDisk(path)
    return open_volume(detect(disk, 0, disk.size), DiskReader(disk))


def at(volume: Volume, path: str) -> GuestFile:
    here = volume.root
    for name in path.split("/"):
        found = here.find(name)
        assert found is not None, path
        here = found
    return here


def content(file: GuestFile) -> bytes:
    return b"".join(bytes(piece) if isinstance(piece, int) else piece for piece in file.data())


@pytest.mark.parametrize("kind", KINDS)
def test_the_file_system_is_known_by_its_magic_bytes(image: Callable[[str], Path], kind: str):
    disk = FileDisk(image(kind))
    assert detect(disk, 0, disk.size) == kind.split(maxsplit=1)[0]


@pytest.mark.parametrize("kind", KINDS)
def test_content_is_what_was_written(image: Callable[[str], Path], files: Path, kind: str):
    volume = opened(image(kind))
    prefix = "etc/" if kind in EXT or kind == "XFS" else ""
    for name in ("fstab", "big", "empty"):
        file = at(volume, prefix + name)
        assert (file.facts.kind, file.facts.problem) == ("file", "")
        assert content(file) == (files / "etc" / name).read_bytes()
        assert file.facts.size == (files / "etc" / name).stat().st_size


@pytest.mark.parametrize("kind", [*EXT, "FAT16", "FAT32"])
def test_times_are_what_was_written(image: Callable[[str], Path], kind: str):
    mtime = at(opened(image(kind)), "etc/big" if kind in EXT else "big").facts.mtime
    assert mtime == TIME * 10**9


@pytest.mark.parametrize("day", ["2020-01-01", "2020-01-31", "2020-02-29", "2021-03-01", "2024-12-31", "1999-06-15", "1980-01-01"])
def test_times_of_fat_are_right_on_every_day(files: Path, tmp_path: Path, day: str):
    name = tmp_path / "dated"
    name.write_text("x")
    run("touch", "-d", f"{day} 12:34:56", name)
    path = fat(tmp_path / "image", files)
    run("mcopy", "-m", "-i", path, name, "::/")
    assert at(opened(path), "dated").facts.mtime == name.stat().st_mtime_ns


@pytest.mark.parametrize("kind", EXT)
def test_a_sparse_file_keeps_its_holes_and_its_bytes(image: Callable[[str], Path], files: Path, kind: str):
    file = at(opened(image(kind)), "etc/sparse")
    holes = sum(piece for piece in file.data() if isinstance(piece, int))
    assert holes > 38 * MIB
    assert content(file) == (files / "etc/sparse").read_bytes()
    assert file.facts.stored < 2 * MIB


def test_a_part_that_is_allocated_and_never_written_reads_as_zeros(files: Path, tmp_path: Path):
    path = ext(tmp_path / "image", files, "-t", "ext4")
    run("debugfs", "-w", "-R", "fallocate /etc/sparse 0 9000", path)
    assert content(at(opened(path), "etc/sparse")) == (files / "etc/sparse").read_bytes()


def test_links_modes_owners_and_second_names_are_told(image: Callable[[str], Path]):
    volume = opened(image("ext4"))
    facts = {child.facts.name: child.facts for child in at(volume, "etc").children()}
    assert (facts["abs"].kind, facts["abs"].link) == ("link", "/etc/passwd")
    assert facts["fstab"].mode == 0o4755
    assert facts["fstab"].links == 2
    assert facts["fstab"].identity == facts["fstab.second"].identity
    assert facts["fifo"].problem == "is a FIFO"
    assert "new\nline" in facts
    assert "-rf %s ü" in facts
    assert "n" * 255 in facts
    volume = opened(image("XFS"))
    facts = {child.facts.name: child.facts for child in at(volume, "etc").children()}
    assert (facts["fstab"].mode, facts["fstab"].uid, facts["fstab"].gid) == (0o4755, 11, 12)
    assert (facts["abs"].link, facts["null"].problem) == ("/etc/passwd", "is a device")
    assert len(list(at(volume, "many").children())) == 500


def test_a_name_that_is_no_utf_8_is_kept_byte_for_byte(image: Callable[[str], Path]):
    file = at(opened(image("ext4")), "etc/" + os.fsdecode(b"lat\xe9n"))
    assert content(file) == b"latin"


@pytest.mark.parametrize("size", [50, 100, 150])
def test_content_in_an_inode_is_read(tmp_path: Path, size: int):
    (tmp_path / "guest").mkdir()
    (tmp_path / "guest" / "inline").write_bytes(bytes(range(size)))
    volume = opened(ext(tmp_path / "image", tmp_path / "guest", "-t", "ext4", "-O", "inline_data", "-I", "512"))
    assert content(at(volume, "inline")) == bytes(range(size))


def test_a_journal_that_was_not_applied_is_said(files: Path, tmp_path: Path):
    path = ext(tmp_path / "image", files, "-t", "ext4")
    assert opened(path).notes == ()
    need("e2fsprogs", "debugfs")
    run("debugfs", "-w", "-R", "feature needs_recovery", path)
    assert "journal is not applied" in opened(path).notes[0]


def test_ntfs_names_are_found_in_either_case_its_own_files_are_hidden_and_streams_are_noted(image: Callable[[str], Path]):
    volume = opened(image("NTFS"))
    assert sorted(child.facts.name for child in volume.root.children()) == ["big", "empty", "fstab"]
    assert at(volume, "FSTAB").facts.note == "1 alternate data streams are not taken"
    assert content(at(volume, "BIG")) == BIG


def test_what_is_no_file_system_we_read_is_a_usage_error():
    for name in ("LVM", "swap", ""):
        with pytest.raises(UsageError, match="no file system that phd reads"):
            load(name)


def test_a_broken_file_system_is_bad_data(image: Callable[[str], Path], tmp_path: Path):
    (tmp_path / "cut").write_bytes(image("ext4").read_bytes()[:4096])
    with pytest.raises(BadData, match="beyond the end"):
        opened(tmp_path / "cut").root.find("etc")


def test_debugfs_reads_the_same(image: Callable[[str], Path]):
    need("e2fsprogs", "debugfs")
    path = image("ext4 bigalloc")
    told = subprocess.run(["/usr/sbin/debugfs", "-R", "cat /etc/sparse", path], capture_output=True, check=True).stdout
    assert content(at(opened(path), "etc/sparse")) == told
