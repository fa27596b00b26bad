"""Whole drills: real archives, the real server, real checkers, and guests of 512 bytes under a real QEMU (TCG)."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from phd_daemon.drill import boot, disk_check, partition_file, qemu
from phd_daemon.drill.boot import BootWanted
from phd_daemon.drill.hardware import DiskBus
from phd_daemon.drill.kept_drills import DrillFolder
from phd_daemon.drill.one_drill import DrillWanted
from phd_daemon.drill.verdict import DrillOutcome
from phd_daemon.operations.drill import drills
from restore_core.errors import ArchiveAbsent
from restore_core.targets.base import ArchiveRef
from tests.host import PHD
from tests.lab import go_on
from tests.phd_daemon.drill.workshop import LOGIN, DrillLab, boot_sector, bootable, ext4, need, need_fuse

PASSED, FAILED, NOT_PROVEN, SKIPPED = DrillOutcome
SHORT = BootWanted(seconds=60, memory=32)


@pytest.fixture(autouse=True)
def without_kvm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where KVM does not boot, looking for that takes seconds."""
    monkeypatch.setattr(qemu, "works", lambda *_args, **_more: False)


@pytest.fixture
def lab(tmp_path: Path) -> DrillLab:
    need("qemu-img")
    return DrillLab(tmp_path)


def backed_up(lab: DrillLab, disk: bytes) -> ArchiveRef:
    return lab.backup(disk, full=True).delta


def all_files(folder: Path) -> dict[Path, tuple[int, int]]:
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


def test_a_vm_that_says_it_is_up_has_passed_and_nothing_but_the_record_stays(lab: DrillLab) -> None:
    need("qemu-system-x86_64", "qemu-storage-daemon", "e2fsck")
    need_fuse(lab.folder)
    delta = backed_up(lab, bootable(boot_sector(LOGIN), (0x83, ext4(lab.folder)), (0x82, bytes(1 << 20))))
    before = all_files(lab.store)
    done = lab.drill(None, DrillWanted(boot=SHORT, full=True))  # by chance: there is one VM
    assert (done.verdict, done.vm, done.archives) == (PASSED, "CRM", (str(delta),))
    assert done.reason == "boot: its serial line says: crm login: (tcg)"
    assert (lab.step("p1").outcome, lab.step("p1").reason) == (PASSED, "ext4: clean")
    assert lab.step("p2").outcome is SKIPPED
    assert [lab.step(name).outcome for name in ("read", "boot", "verify disk.img")] == [PASSED] * 3
    assert all_files(lab.store) == before
    assert [one.document() for one in drills(lab.settings)] == [done.document()]
    kept = DrillFolder(lab.settings.state_dir).path
    assert (kept / done.picture).read_bytes().startswith(b"\x89PNG")
    assert b"crm login: " in (kept / done.serial).read_bytes()
    assert not (kept / "work").exists()


def test_a_guest_that_says_nothing_we_wait_for_is_not_proven_and_its_own_text_proves_it(lab: DrillLab) -> None:
    need("qemu-system-x86_64")
    delta = backed_up(lab, bootable(boot_sector(b"\r\nall systems go\r\n")))
    done = lab.drill(delta, DrillWanted(boot=BootWanted(seconds=3, memory=32)))
    assert done.verdict is NOT_PROVEN
    assert "console=ttyS0" in lab.step("boot").reason
    assert done.picture
    text = re.compile(rb"systems go")
    assert lab.drill(delta, DrillWanted(boot=BootWanted(seconds=60, memory=32, text=text))).verdict is PASSED


def test_a_disk_that_does_not_boot_has_failed(lab: DrillLab) -> None:
    need("qemu-system-x86_64")
    delta = backed_up(lab, bytes(1 << 20) + b"data" * 1000)
    done = lab.drill(delta, DrillWanted(boot=SHORT))
    assert done.verdict is FAILED
    assert "No bootable device" in lab.step("boot").reason


def test_it_boots_from_another_controller(lab: DrillLab) -> None:
    need("qemu-system-x86_64")
    delta = backed_up(lab, bootable(boot_sector(LOGIN)))
    assert lab.drill(delta, DrillWanted(boot=SHORT, bus=DiskBus.PVSCSI)).verdict is PASSED


def test_a_block_that_is_bad_in_the_backup_is_a_failure_whatever_the_guest_says(lab: DrillLab) -> None:
    need("qemu-system-x86_64", "qemu-storage-daemon", "e2fsck")
    need_fuse(lab.folder)
    result = lab.backup(bootable(boot_sector(LOGIN), (0x83, ext4(lab.folder))), full=True)
    assert result.full is not None
    path = lab.path(result.full)
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 0x10
    path.write_bytes(bytes(data))
    done = lab.drill(result.delta, DrillWanted(boot=SHORT))
    assert done.verdict is FAILED
    assert [step.name for step in done.steps if step.outcome is FAILED] == ["read"]
    assert "cannot be served" in lab.step("read").reason


def test_a_file_system_with_errors_is_a_failure(lab: DrillLab) -> None:
    need("qemu-storage-daemon", "e2fsck")
    need_fuse(lab.folder)
    broken = bytearray(ext4(lab.folder))
    inodes = int.from_bytes(broken[2048 + 8 : 2048 + 12], "little") * 1024  # of the first group's descriptor
    broken[inodes + 256 : inodes + 512] = os.urandom(256)  # the root folder
    delta = backed_up(lab, bytes(broken))
    done = lab.drill(delta, DrillWanted(boot=None))
    assert done.verdict is FAILED
    assert "e2fsck finds errors" in done.reason


def test_a_guest_that_writes_without_end_is_stopped_with_a_verdict(lab: DrillLab) -> None:
    need("qemu-system-x86_64")
    delta = backed_up(lab, bootable(writing_sector()).ljust(32 << 20, b"\0"))
    done = lab.drill(delta, DrillWanted(boot=BootWanted(seconds=120, memory=32, scratch=2 << 20)))
    assert done.verdict is NOT_PROVEN
    assert re.search(r"written more than 2\.0 MB|can no longer be kept", lab.step("boot").reason)


def writing_sector() -> bytes:
    """A boot sector that writes 32 KiB after 32 KiB to its disk, through the BIOS."""
    code = bytes.fromhex(
        "31c08ed8"  # xor ax, ax; mov ds, ax
        "be407c"  # next: mov si, packet
        "b80043"  # mov ax, 0x4300: extended write
        "b280"  # mov dl, 0x80
        "cd13"  # int 0x13
        "8306487c40"  # add word [packet + 8], 64 sectors
        "ebef"  # jmp next
    )
    packet = bytes([16, 0, 64, 0, 0, 0x80, 0, 0]) + (64).to_bytes(8, "little")
    return (code.ljust(0x40, b"\x90") + packet).ljust(510, b"\0") + b"\x55\xaa"


def test_without_qemu_it_says_so_and_does_the_rest(lab: DrillLab, monkeypatch: pytest.MonkeyPatch) -> None:
    delta = backed_up(lab, bootable(boot_sector(LOGIN), (0x83, ext4(lab.folder))))
    for module in (boot, disk_check, partition_file):
        monkeypatch.setattr(module, "find_program", lambda _name: None)
    done = lab.drill(delta, DrillWanted(boot=SHORT, full=True))
    assert done.verdict is NOT_PROVEN
    assert (lab.step("boot").outcome, lab.step("verify disk.img").outcome) == (SKIPPED, PASSED)
    assert "qemu-system-x86" in lab.step("boot").reason
    assert (lab.step("p1").outcome, "e2fsck is missing" in lab.step("p1").reason) == (SKIPPED, True)


def test_archives_that_are_wrong_are_a_failure(lab: DrillLab) -> None:
    result = lab.backup(b"x" * (1 << 20), full=True)
    assert result.full is not None
    lab.path(result.full).write_bytes(b"no Full at all")
    done = lab.drill(result.delta, DrillWanted(boot=SHORT))
    assert done.verdict is FAILED
    assert done.steps[0].name.startswith("serve ")


def test_with_no_backup_there_is_nothing_to_drill(lab: DrillLab) -> None:
    with pytest.raises(ArchiveAbsent, match="no Delta of any VM"):
        lab.drill(None, DrillWanted())
    assert drills(lab.settings) == []


def test_a_tiny_guest_shows_whether_an_accelerator_works(lab: DrillLab, monkeypatch: pytest.MonkeyPatch) -> None:
    need("qemu-system-x86_64")
    monkeypatch.undo()
    assert qemu.works("tcg", folder=lab.folder / "probe", stop=go_on)
    assert not qemu.works("nonsense", folder=lab.folder / "probe", stop=go_on)
    assert not (lab.folder / "probe").exists()


def processes(folder: Path) -> Iterator[int]:
    """The processes that have this folder in their command line."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(folder).encode() in path.read_bytes():
                yield int(path.parent.name)
        except OSError:
            continue


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_everything_dies_with_the_drill_and_the_next_one_removes_its_folder(lab: DrillLab, number: signal.Signals) -> None:
    need("qemu-system-x86_64")
    delta = backed_up(lab, bootable(boot_sector(b"nothing")))
    work = lab.settings.state_dir / "drills" / "work"
    command = [str(PHD), "drill", "--config", str(lab.config), str(delta), "--timeout", "300", "--memory", "32"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as running:
        while not list(processes(work / "boot")):  # QEMU, which looks whether KVM boots here, or boots the guest
            assert running.poll() is None, running.stderr and running.stderr.read()
            time.sleep(0.05)
        running.send_signal(number)
        code = running.wait(60)
    deadline = time.monotonic() + 20
    while list(processes(work)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list(processes(work)) == []
    assert (code, work.exists()) == ((-9, True) if number is signal.SIGKILL else (130, False))
    assert drills(lab.settings) == []
    assert lab.drill(delta, DrillWanted(boot=None)).verdict is NOT_PROVEN
    assert not work.exists()
