"""File systems that were made to hurt: trees and chains in circles, files larger than the disk, folders without end."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from restore_core.errors import BadData
from restore_core.serve.file_systems import open_volume
from restore_core.serve.file_systems.guest_file import GuestFile
from restore_core.serve.magic_bytes import detect
from tests.guest_disk import MIB, DiskReader, FileDisk, ext, fat, need, run, source


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return source(tmp_path_factory.mktemp("guest"))


@pytest.fixture
def ext4(files: Path, tmp_path: Path) -> Path:
    return ext(tmp_path / "image", files, "-t", "ext4", "-O", "^metadata_csum,^64bit", size=16 * MIB)


@pytest.fixture
def ext3(files: Path, tmp_path: Path) -> Path:
    return ext(tmp_path / "image", files, "-t", "ext3", "-b", "1024", size=16 * MIB)


def debugfs(path: Path, *commands: str) -> None:
    need("e2fsprogs", "debugfs")
    for command in commands:
        run("debugfs", "-w", "-R", command, path)


def opened(path: Path) -> GuestFile:
    disk = FileDisk(path)
    return open_volume(detect(disk, 0, disk.size), DiskReader(disk)).root


def at(root: GuestFile, *names: str) -> GuestFile:
    for name in names:
        found = root.find(name)
        assert found is not None
        root = found
    return root


def swallow(pieces: Iterator[bytes | int]) -> int:
    return sum(piece if isinstance(piece, int) else len(piece) for piece in pieces)


def patch(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def inode_at(path: Path, name: str) -> int:
    """Where the inode of a file lies: its number is in its facts, the table of the first group in the first descriptor."""
    number = at(opened(path), "etc", name).facts.identity
    raw = path.read_bytes()[: 64 * 1024]
    block = 1024 << struct.unpack_from("<I", raw, 1024 + 24)[0]
    table = struct.unpack_from("<I", raw, (2048 if block == 1024 else block) + 8)[0]
    return int(table * block + (number - 1) * struct.unpack_from("<H", raw, 1024 + 88)[0])


def test_a_leaf_of_extents_that_says_the_same_again_is_bad_data(ext4: Path):
    at_inode = inode_at(ext4, "big")
    block = 5000
    index = struct.pack("<HHHHI", 0xF30A, 1, 4, 1, 0) + struct.pack("<IIHH", 0, block, 0, 0)
    patch(ext4, at_inode + 40, index)
    patch(ext4, block * 1024, struct.pack("<HHHHI", 0xF30A, 84, 84, 0, 0) + struct.pack("<IHHI", 0, 8, 0, 100) * 84)
    with pytest.raises(BadData, match="its extents overlap"):
        swallow(at(opened(ext4), "etc", "big").data())


def test_extents_with_the_same_blocks_again_and_again_end_where_the_file_system_does(ext4: Path):
    at_inode = inode_at(ext4, "big")
    patch(ext4, at_inode + 40, struct.pack("<HHHHI", 0xF30A, 4, 4, 0, 0))
    patch(ext4, at_inode + 52, b"".join(struct.pack("<IHHI", n * 0x8000, 0x3000, 0, 100) for n in range(4)))
    patch(ext4, at_inode + 4, b"\xff\xff\xff\x7f")
    with pytest.raises(BadData, match="more blocks than the file system"):
        swallow(at(opened(ext4), "etc", "big").data())


def test_a_list_of_blocks_that_lists_itself_ends_where_the_file_system_does(ext3: Path):
    at_inode = inode_at(ext3, "big")
    patch(ext3, at_inode + 40, struct.pack("<15I", *[3000] * 15))
    patch(ext3, 3000 * 1024, struct.pack("<256I", *[3000] * 256))
    patch(ext3, at_inode + 4, b"\xff\xff\xff\x7f")
    with pytest.raises(BadData, match="more blocks than the file system"):
        swallow(at(opened(ext3), "etc", "big").data())


def test_a_size_of_exabytes_without_blocks_is_one_hole(ext4: Path):
    at_inode = inode_at(ext4, "empty")
    patch(ext4, at_inode + 108, b"\xff\xff\xff\x7f")
    file = at(opened(ext4), "etc", "empty")
    assert [piece for piece in file.data() if isinstance(piece, bytes)] == []
    assert file.facts.stored == 0


@pytest.mark.parametrize("length", [0, 4, 7, 13, 0xFFFF, 5000])
def test_an_entry_of_a_folder_with_an_impossible_length_is_bad_data(ext4: Path, length: int):
    raw = ext4.read_bytes()
    place = raw.index(b"fstab.second") - 8
    patch(ext4, place + 4, struct.pack("<H", length))
    with pytest.raises(BadData, match="entries is broken"):
        list(at(opened(ext4), "etc").children())


@pytest.mark.parametrize("field", [(4, 0), (24, 60), (32, 0), (40, 0), (88, 0), (0, 0), (4, 5), (96, 0xFFFFFFF7)])
def test_a_superblock_that_cannot_be_is_bad_data(ext4: Path, field: tuple[int, int]):
    patch(ext4, 1024 + field[0], struct.pack("<I", field[1])[: 2 if field[0] == 88 else 4])
    with pytest.raises(BadData):
        at(opened(ext4), "etc", "big")


def test_a_link_that_is_longer_than_links_are_is_left_out(ext4: Path):
    at_inode = inode_at(ext4, "abs")
    patch(ext4, at_inode + 4, struct.pack("<I", 1 << 30))
    facts = {child.facts.name: child.facts for child in at(opened(ext4), "etc").children()}
    assert facts["abs"].problem == "a link that is longer than links are"


def test_a_chain_of_fat_in_a_circle_is_bad_data(files: Path, tmp_path: Path):
    path = fat(tmp_path / "image", files)
    raw = path.read_bytes()
    reserved, per_cluster = struct.unpack_from("<H", raw, 14)[0], raw[13]
    place = raw.index(b"BIG     ") if b"BIG     " in raw else raw.index(b"big     ")
    cluster, size = struct.unpack_from("<H", raw, place + 26)[0], struct.unpack_from("<I", raw, place + 28)[0]
    patch(path, reserved * 512 + cluster * 2, struct.pack("<H", cluster))
    assert swallow(at(opened(path), "fstab").data()) > 0
    count = 24 * MIB // (512 * per_cluster)
    if size > count * 512 * per_cluster:
        pytest.fail("the file is larger than its file system")
    patch(path, place + 28, b"\xff\xff\xff\xff")
    with pytest.raises(BadData, match="longer than the file system"):
        swallow(at(opened(path), "big").data())


def test_a_folder_of_fat_whose_chain_is_a_circle_is_bad_data(files: Path, tmp_path: Path):
    path = fat(tmp_path / "image", files)
    raw = path.read_bytes()
    reserved = struct.unpack_from("<H", raw, 14)[0]
    cluster = at(opened(path), "deep").facts.identity
    patch(path, reserved * 512 + cluster * 2, struct.pack("<H", cluster))
    start = raw.index(b".          \x10")
    size = raw[13] * 512
    patch(path, start, (b"X" * 11 + b"\x20" + bytes(20)) * (size // 32))
    with pytest.raises(BadData, match="leads astray"):
        list(at(opened(path), "deep").children())
