"""Who else has a file open: leases and QEMU's image locks, asked of a real kernel."""

from __future__ import annotations

import fcntl
import mmap
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from restore_core.disk.alone import FLOCK, Alone, alone, image_is_locked, leased, lock_image, unlock_image
from restore_core.errors import DestinationInUse


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "d.img"
    path.write_bytes(bytes(1 << 20))
    return path


@pytest.fixture
def fd(disk: Path) -> Iterator[int]:
    fd = os.open(disk, os.O_RDWR)
    yield fd
    os.close(fd)


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_WRONLY, os.O_RDWR])
def test_whoever_has_it_open_is_seen(disk: Path, fd: int, flags: int) -> None:
    assert alone(fd) is Alone.YES
    other = os.open(disk, flags)
    assert alone(fd) is Alone.NO
    os.close(other)
    assert alone(fd) is Alone.YES


def test_a_mapping_is_seen_when_its_descriptor_is_closed(disk: Path, fd: int) -> None:
    other = os.open(disk, os.O_RDWR)
    mapped = mmap.mmap(other, 4096)
    os.close(other)
    assert alone(fd) is Alone.NO
    mapped.close()
    assert alone(fd) is Alone.YES


def test_the_lease_is_given_back(fd: int) -> None:
    with leased(fd) as lone:
        assert lone is Alone.YES
        assert fcntl.fcntl(fd, fcntl.F_GETLEASE) == fcntl.F_WRLCK
    assert fcntl.fcntl(fd, fcntl.F_GETLEASE) == fcntl.F_UNLCK


def test_another_owner_without_the_privilege_is_unknown(disk: Path) -> None:
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs root, and setpriv, to become another user")
    disk.chmod(0o666)
    for parent in disk.parents:
        if parent.stat().st_uid == 0 and not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)
    pid = os.fork()
    if pid == 0:
        code = 9
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            code = 0 if alone(os.open(disk, os.O_RDWR)) is Alone.UNKNOWN else 1
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_our_own_locks_are_nobody_elses(disk: Path, fd: int) -> None:
    lock_image(fd, "d")
    assert not image_is_locked(fd)
    assert alone(fd) is Alone.YES
    other = os.open(disk, os.O_RDONLY)
    assert image_is_locked(other)
    unlock_image(fd)
    assert not image_is_locked(other)
    os.close(other)


@pytest.mark.parametrize("kind", [fcntl.F_RDLCK, fcntl.F_WRLCK])
@pytest.mark.parametrize("byte", [100, 101, 201, 203])
def test_a_lock_of_somebody_else_refuses_and_leaves_none_of_ours(disk: Path, fd: int, kind: int, byte: int) -> None:
    other = os.open(disk, os.O_RDWR)
    fcntl.fcntl(other, fcntl.F_OFD_SETLK, FLOCK.pack(kind, os.SEEK_SET, byte, 1, 0))
    with pytest.raises(DestinationInUse):
        lock_image(fd, "d")
    fcntl.fcntl(other, fcntl.F_OFD_SETLK, FLOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, 0, 0, 0))
    assert not image_is_locked(other), "a VM that was first must not be kept from its own next step"
    os.close(other)


def test_a_real_qemu_cannot_write_what_we_have_locked(disk: Path, fd: int) -> None:
    if shutil.which("qemu-io") is None:
        pytest.skip("qemu-io is not installed, so no real QEMU can be started")
    lock_image(fd, "d")
    write = ["qemu-io", "-f", "raw", "-c", "write -P 1 0 4k", os.fspath(disk)]
    refused = subprocess.run(write, capture_output=True, text=True, check=False)
    assert "another process using the image" in refused.stderr + refused.stdout
    unlock_image(fd)
    assert subprocess.run(write, capture_output=True, check=False).returncode == 0
    assert disk.read_bytes()[:4096] == b"\1" * 4096
