from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from restore_core.disk import allocation
from restore_core.disk.allocation import free_bytes, open_part, refuse_if_no_space, size_part, zero_range
from restore_core.disk.destination import Destination, open_destination
from restore_core.errors import DestinationError, NoSpace, size_text


def create_part(destination: Destination, *, size: int, thick: bool, mode: int) -> tuple[int, str | None]:
    """A fresh part file, as a restore makes it; its caller removes it when it cannot be sized."""
    fd = open_part(destination, mode=mode)
    try:
        return fd, size_part(destination, fd, size=size, thick=thick)
    except BaseException:
        os.close(fd)
        (destination.path.parent / destination.part_name).unlink()
        raise


@pytest.fixture
def destination(tmp_path: Path) -> Iterator[Destination]:
    with open_destination(tmp_path / "vm" / "CRM.vmdk", roots=None, make_folders=True) as found:
        yield found


@contextlib.contextmanager
def mounted(folder: Path, *options: str) -> Iterator[Path]:
    """A real file system of its own, or a skip that says why not."""
    folder.mkdir()
    done = subprocess.run(["mount", *options, folder], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.fixture
def ext3(tmp_path: Path) -> Iterator[Path]:
    """ext3 cannot preallocate: fallocate says EOPNOTSUPP."""
    image = tmp_path / "ext3.img"
    with image.open("wb") as file:
        file.truncate(16 << 20)
    subprocess.run(["mkfs.ext3", "-q", "-F", image], check=True)
    with mounted(tmp_path / "ext3", "-o", "loop", str(image)) as folder:
        yield folder


@pytest.mark.parametrize("size", [0, 1, 511, 4096, (3 << 20) + 7])
@pytest.mark.parametrize("thick", [True, False])
def test_a_part_has_its_size_mode_and_blocks(destination: Destination, size: int, thick: bool):
    fd, note = create_part(destination, size=size, thick=thick, mode=0o640)
    try:
        facts = os.fstat(fd)
        assert (facts.st_size, facts.st_mode & 0o777, note) == (size, 0o640, None)
        assert facts.st_blocks * 512 >= size if thick else facts.st_blocks == 0
        assert os.pread(fd, size + 1, 0) == bytes(size)
        assert destination.path.with_name("CRM-flat.vmdk.phd-new").exists()
        assert destination.stat_disk() is None
    finally:
        os.close(fd)


def test_a_leftover_part_is_replaced_by_a_fresh_file(destination: Destination):
    old = destination.path.with_name(destination.part_name)
    old.write_bytes(b"old" * 1000)
    fd, _note = create_part(destination, size=5000, thick=True, mode=0o600)
    assert os.pread(fd, 5000, 0) == bytes(5000)
    os.close(fd)


def test_a_planted_link_is_replaced_not_followed(destination: Destination, tmp_path: Path):
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    destination.path.with_name(destination.part_name).symlink_to(victim)
    fd, _note = create_part(destination, size=4096, thick=True, mode=0o600)
    os.close(fd)
    assert victim.read_bytes() == b"precious"


def test_a_folder_in_the_place_of_the_part_is_an_error(destination: Destination):
    destination.path.with_name(destination.part_name).mkdir()
    with pytest.raises(DestinationError, match="making the part file"):
        create_part(destination, size=4096, thick=True, mode=0o600)


def test_a_file_system_that_cannot_preallocate_gets_zeros_and_a_note(ext3: Path):
    with open_destination(ext3 / "x.img", roots=None, make_folders=False) as destination:
        size = (2 << 20) + 513
        fd, note = create_part(destination, size=size, thick=True, mode=0o600)
        assert "cannot preallocate" in (note or "")
        assert os.fstat(fd).st_blocks * 512 >= size
        assert os.fstat(fd).st_size == size
        os.close(fd)
        with pytest.raises(NoSpace):
            create_part(destination, size=64 << 20, thick=True, mode=0o600)
        assert not (ext3 / "x.img.phd-new").exists()


def test_zeroing_works_where_the_file_system_does_not_know_how(ext3: Path):
    for thick in (True, False):
        check_zeroing(ext3 / "disk", thick=thick)


def test_no_space_while_allocating_leaves_nothing(tmp_path: Path):
    with (
        mounted(tmp_path / "small", "-t", "tmpfs", "-o", "size=2m", "none") as folder,
        open_destination(folder / "x.img", roots=None, make_folders=False) as destination,
    ):
        free = free_bytes(destination.folder_fd)
        with pytest.raises(NoSpace) as caught:
            create_part(destination, size=3 << 20, thick=True, mode=0o600)
        assert (caught.value.needed, caught.value.free) == (3 << 20, free)
        assert free_bytes(destination.folder_fd) == free
        fd, _note = create_part(destination, size=1 << 20, thick=True, mode=0o600)
        os.close(fd)


def test_a_size_the_file_system_cannot_have_is_final_and_leaves_nothing(destination: Destination):
    with pytest.raises(DestinationError, match="allocating"):
        create_part(destination, size=1 << 62, thick=False, mode=0o600)
    assert not destination.path.with_name(destination.part_name).exists()


def test_any_other_end_of_allocating_leaves_nothing_either(destination: Destination, monkeypatch: pytest.MonkeyPatch):
    def interrupted(_fd: int, _size: int, *, keep: bool) -> None:
        del keep
        raise KeyboardInterrupt

    monkeypatch.setattr(allocation, "_allocate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        create_part(destination, size=4096, thick=True, mode=0o600)
    assert not destination.path.with_name(destination.part_name).exists()


def test_space_counts_what_others_have_reserved_and_what_can_be_reused(destination: Destination):
    free = free_bytes(destination.folder_fd)
    margin = 1 << 30
    refuse_if_no_space(destination, needed=0, reserved=0)
    refuse_if_no_space(destination, needed=free, reserved=0, reusable=margin)
    refuse_if_no_space(destination, needed=free, reserved=free, reusable=free + margin)
    for needed, reserved, reusable in ((free + margin, 0, 0), (2 * margin, free, margin), (1, free + margin, 0)):
        with pytest.raises(NoSpace, match=f"{size_text(needed)} needed, .* free") as caught:
            refuse_if_no_space(destination, needed=needed, reserved=reserved, reusable=reusable)
        assert caught.value.needed == needed
        assert 0 <= caught.value.free < needed


def test_room_that_is_only_promised_to_others_is_worth_another_try(destination: Destination):
    free = free_bytes(destination.folder_fd)
    with pytest.raises(NoSpace) as promised:
        refuse_if_no_space(destination, needed=4096, reserved=2 * free)
    assert promised.value.try_again
    with pytest.raises(NoSpace) as too_much:
        refuse_if_no_space(destination, needed=2 * free, reserved=0, thin=True)
    assert not too_much.value.try_again
    assert "thin" in promised.value.remedy
    assert "thin" not in too_much.value.remedy


def check_zeroing(path: Path, *, thick: bool) -> int:
    data = bytes(range(1, 256)) * 20_000
    path.write_bytes(data)
    fd = os.open(path, os.O_RDWR)
    try:
        for offset, length in ((0, 0), (5, 1), (4096, 1 << 20), (1_500_001, (2 << 20) + 77), (len(data) - 3, 3)):
            zero_range(fd, offset, length, thick=thick)
            data = data[:offset] + bytes(length) + data[offset + length :]
            assert path.read_bytes() == data
        return os.fstat(fd).st_blocks * 512
    finally:
        os.close(fd)


def test_zeroed_ranges_stay_allocated_when_thick_and_go_when_thin(tmp_path: Path):
    size = 255 * 20_000
    assert check_zeroing(tmp_path / "thick", thick=True) >= size
    assert check_zeroing(tmp_path / "thin", thick=False) < size - (2 << 20)


def test_errors_of_zeroing_are_not_hidden(tmp_path: Path):
    (tmp_path / "x").write_bytes(bytes(8192))
    fd = os.open(tmp_path / "x", os.O_RDONLY)
    try:
        with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
            zero_range(fd, 0, 4096, thick=True)
    finally:
        os.close(fd)


class _SaysNot:
    """A C library whose fallocate always fails with one error."""

    def __init__(self, code: int) -> None:
        self._code = code

    def fallocate(self, *_: object) -> int:
        ctypes.set_errno(self._code)
        return -1


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM])
def test_a_file_system_that_cannot_preallocate_gets_zeros_whatever_it_says(
    destination: Destination, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(allocation, "_libc", _SaysNot(code))
    fd, note = create_part(destination, size=(1 << 20) + 5, thick=True, mode=0o600)
    try:
        assert note == "this file system cannot preallocate, so the disk was filled with zeros first"
        assert os.pread(fd, 2 << 20, 0) == bytes((1 << 20) + 5)
    finally:
        os.close(fd)


@pytest.mark.parametrize("thick", [True, False])
def test_a_file_that_cannot_be_made_longer_is_filled_with_zeros(
    destination: Destination, monkeypatch: pytest.MonkeyPatch, thick: bool
) -> None:
    shorter = os.ftruncate

    def never_longer(fd: int, size: int) -> None:
        if size and size >= os.fstat(fd).st_size:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        shorter(fd, size)

    monkeypatch.setattr(os, "ftruncate", never_longer)
    fd, _ = create_part(destination, size=(1 << 20) + 5, thick=thick, mode=0o600)
    try:
        assert os.pread(fd, 2 << 20, 0) == bytes((1 << 20) + 5)
    finally:
        os.close(fd)
