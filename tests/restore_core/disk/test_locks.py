from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from restore_core.disk.locks import holder_of, refuse_if_in_use
from restore_core.disk.vmdk import render_descriptor
from restore_core.errors import DestinationInUse


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    with (tmp_path / "CRM-flat.vmdk").open("wb") as flat:
        flat.truncate(1 << 20)
    descriptor = tmp_path / "CRM.vmdk"
    descriptor.write_text(render_descriptor(flat_name="CRM-flat.vmdk", size=1 << 20, thin=False, original=None))
    return descriptor


@contextlib.contextmanager
def qemu_holds(image: Path, form: str) -> Iterator[int]:
    if shutil.which("qemu-io") is None:
        pytest.skip("qemu-io is not installed, so no real qemu lock can be tried")
    command = ["qemu-io", "-f", form, str(image)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as qemu:
        assert qemu.stdin is not None
        assert qemu.stdout is not None
        qemu.stdin.write(b"length\n")
        qemu.stdin.flush()
        # Its answer says that the image is open and locked.
        assert b"MiB" in qemu.stdout.readline()
        yield qemu.pid
        qemu.stdin.close()


def test_a_disk_nobody_uses_is_free(disk: Path):
    assert holder_of(disk) is None
    assert holder_of(disk.with_name("CRM-flat.vmdk")) is None
    refuse_if_in_use(disk)


@pytest.mark.parametrize("asked", ["CRM.vmdk", "CRM-flat.vmdk"])
def test_a_real_qemu_is_seen_named_and_gone_afterwards(disk: Path, asked: str):
    asked_path = disk.with_name(asked)
    with qemu_holds(disk, "vmdk") as pid:
        found = holder_of(asked_path)
        assert found is not None
        assert f"qemu-io (process {pid})" in found
        with pytest.raises(DestinationInUse, match="Power off the VM"):
            refuse_if_in_use(asked_path)
        # The trap: flock() would have said that the disk is free.
        with disk.with_name("CRM-flat.vmdk").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert holder_of(asked_path) is None


def test_qemu_on_a_raw_disk_is_seen_through_an_open_folder(tmp_path: Path):
    image = tmp_path / "x.img"
    image.write_bytes(bytes(1 << 20))
    folder_fd = os.open(tmp_path, os.O_RDONLY)
    try:
        with qemu_holds(image, "raw"):
            assert holder_of("/some/where/x.img", dir_fd=folder_fd) is not None
        assert holder_of("/some/where/x.img", dir_fd=folder_fd) is None
    finally:
        os.close(folder_fd)


def test_a_link_to_a_held_disk_is_held(disk: Path, tmp_path: Path):
    link = tmp_path / "elsewhere.vmdk"
    link.symlink_to(disk)
    with qemu_holds(disk, "vmdk"):
        assert holder_of(link) is not None


def test_flock_is_not_what_is_looked_at(disk: Path):
    with disk.with_name("CRM-flat.vmdk").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert holder_of(disk) is None


def test_a_posix_lock_names_its_process(disk: Path):
    script = "import fcntl,sys; f=open(sys.argv[1],'r+b'); fcntl.lockf(f, fcntl.LOCK_EX); print(flush=True); input()"
    command = ["python3", "-c", script, str(disk.with_name("CRM-flat.vmdk"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdout.readline()
        assert "(process " in (holder_of(disk) or "")
        other.stdin.write(b"\n")
        other.stdin.close()


@pytest.mark.parametrize("name", ["CRM.vmdk.lck", "CRM-flat.vmdk.lck"])
def test_a_lock_file_is_reported_with_age_owner_and_words(disk: Path, name: str):
    lock = disk.with_name(name)
    lock.write_bytes(b"\x01\x00\x1b[2Jesx07.example\x00\xff")
    os.utime(lock, (time.time() - 3 * 86400 - 60,) * 2)
    found = holder_of(disk) or ""
    assert name in found
    assert "3 days ago" in found
    assert "esx07.example" in found
    assert found.isprintable()
    assert lock.owner() in found


def test_a_lock_folder_is_reported_with_what_lies_in_it(disk: Path):
    folder = disk.with_name("CRM.vmdk.lck")
    folder.mkdir()
    assert "a lock folder" in (holder_of(disk) or "")
    (folder / "M12345.lck").write_text("M12345.lck 4026-1190390400(VMware) host=gsx1")
    assert "host=gsx1" in (holder_of(disk) or "")


def test_a_lock_file_counts_when_the_disk_is_gone(disk: Path):
    disk.with_name("CRM.vmdk.lck").touch()
    disk.unlink()
    disk.with_name("CRM-flat.vmdk").unlink()
    assert holder_of(disk) is not None


def test_a_lock_that_is_a_fifo_or_a_link_blocks_nobody(disk: Path):
    os.mkfifo(disk.with_name("CRM.vmdk.lck"))
    assert "CRM.vmdk.lck" in (holder_of(disk) or "")
    disk.with_name("CRM.vmdk.lck").unlink()
    disk.with_name("CRM.vmdk.lck").symlink_to("/etc/passwd")
    found = holder_of(disk) or ""
    assert "CRM.vmdk.lck" in found
    assert "root:" not in found


def nfs_lock(disk: Path, inode: int) -> Path:
    lock = disk.with_name(f".lck-{inode.to_bytes(8, 'little').hex()}")
    lock.write_bytes(b"\0\0esx01\0")
    return lock


def test_an_nfs_lock_counts_for_its_own_disk_only(disk: Path):
    other = disk.with_name("other-flat.vmdk")
    other.touch()
    lock = nfs_lock(disk, other.stat().st_ino)
    assert holder_of(disk) is None
    assert "esx01" in (holder_of(other) or "")
    lock.unlink()
    lock = nfs_lock(disk, disk.with_name("CRM-flat.vmdk").stat().st_ino)
    assert lock.name in (holder_of(disk) or "")
    assert holder_of(other) is None


def test_an_nfs_lock_of_no_file_here_is_taken_seriously_unless_there_is_no_disk_yet(disk: Path):
    nfs_lock(disk, 2**60)
    assert "esx01" in (holder_of(disk) or "")
    assert holder_of(disk.with_name("new.vmdk")) is None


def test_a_missing_folder_holds_nothing(tmp_path: Path):
    assert holder_of(tmp_path / "no" / "CRM.vmdk") is None


def test_the_search_for_the_holder_asks_no_file_system_about_open_files_without_a_lock(disk: Path, monkeypatch: pytest.MonkeyPatch):
    """A file system that does not answer (NFS, FUSE) hangs whoever asks it about any of its files, also a restore elsewhere."""
    asked: list[str] = []
    without: list[str] = []
    real = os.stat

    def stat(path: str | int, **options: object) -> os.stat_result:
        if str(path).startswith("/proc/"):
            asked.append(str(path))
            with contextlib.suppress(OSError):  # closed by its process meanwhile; a moment later it always may be
                without.extend([str(path)] if "lock:" not in Path(str(path).replace("/fd/", "/fdinfo/")).read_text() else [])
        return real(path, **options)  # type: ignore[arg-type]  # passed on as they came

    with disk.with_name("CRM-flat.vmdk").open("rb"), qemu_holds(disk, "vmdk") as pid:
        monkeypatch.setattr(os, "stat", stat)
        assert f"process {pid}" in str(holder_of(disk))
    assert asked
    assert without == []
