"""`phd plan` says what a restore would be refused for, in its words and with its exit code, and changes nothing."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from restore_core.capabilities import Capabilities, of_open_folder
from restore_core.errors import PhdError
from restore_core.restore import refusals
from restore_core.restore.preview import plan_delta
from restore_core.restore.request import RestoreRequest, VmxChoice
from restore_core.restore.run import restore_delta
from restore_core.targets.base import ArchiveRef
from tests.lab import BLOCK, Lab, Witness, go_on, request_for
from tests.restore_core.archive.stub_shell import full_path, two_backups
from tests.rights import of_no_more_than_a_user

OLD = os.urandom(BLOCK * 2) + bytes(BLOCK)
NEW = OLD[:BLOCK] + b"new".ljust(BLOCK, b"n") + OLD[2 * BLOCK :]
Setting = Callable[[Path], object]


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    (tmp_path / "out").mkdir()
    return Lab(tmp_path)


def refused_by(step: Callable[[], object]) -> tuple[int, str, str] | None:
    try:
        step()
    except PhdError as error:
        return int(error.exit_code), error.message, error.remedy
    return None


def planned(request: RestoreRequest, lab: Lab) -> tuple[int, str, str] | None:
    """The first refusal of a plan, or the error with which it ends."""
    found: list[PhdError] = []
    ended = refused_by(lambda: found.extend(plan_delta(request, lab.targets, reporter=Witness(), stop=go_on).refusals))
    return ended or next(((int(one.exit_code), one.message, one.remedy) for one in found), None)


def restored(request: RestoreRequest, lab: Lab) -> tuple[int, str, str] | None:
    return refused_by(lambda: restore_delta(request, lab.targets, reporter=Witness(), stop=go_on))


def state(folder: Path) -> list[tuple[str, int, int]]:
    found = [(str(path), path.lstat().st_size, path.lstat().st_mtime_ns) for path in folder.rglob("*") if not path.is_dir()]
    return sorted(found)


def text(name: str, data: bytes = b"x" * 1024) -> Setting:
    return lambda out: (out / name).write_bytes(data)


def folder(name: str) -> Setting:
    return lambda out: (out / name).mkdir()


def link(name: str, to: str) -> Setting:
    return lambda out: (out / name).symlink_to(to)


def fifo(name: str) -> Setting:
    return lambda out: os.mkfifo(out / name)


def descriptor(name: str, data: str) -> Setting:
    lines = f'# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType="vmfs"\nRW 1 VMFS "{data}"\n'
    return lambda out: (out / name).write_text(lines)


def settings(*several: Setting) -> Setting:
    return lambda out: [each(out) for each in several]


SETTINGS: dict[str, tuple[str, Setting, bool]] = {
    "a raw disk is there": ("d.img", text("d.img"), False),
    "a descriptor is there": ("d.vmdk", text("d.vmdk", b"# Disk DescriptorFile\n"), False),
    "a pair is there": ("d.vmdk", settings(descriptor("d.vmdk", "d-flat.vmdk"), text("d-flat.vmdk")), False),
    "only a flat file is there": ("d.vmdk", text("d-flat.vmdk"), False),
    "a disk with its data elsewhere": ("d.vmdk", descriptor("d.vmdk", "other-flat.vmdk"), True),
    "a sparse disk": ("d.vmdk", text("d.vmdk", b"KDMV" + bytes(70_000)), True),
    "a link": ("d.img", link("d.img", "other"), True),
    "a fifo": ("d.img", fifo("d.img"), True),
    "a folder of that name": ("d.img", folder("d.img"), True),
    "a lock of ESX": ("d.vmdk", settings(descriptor("d.vmdk", "d-flat.vmdk"), text("d-flat.vmdk"), folder("d.vmdk.lck")), True),
    "a lock of ESX on the flat file": ("d.vmdk", settings(text("d-flat.vmdk"), folder("d-flat.vmdk.lck")), True),
    "a lock of ESX and no disk": ("d.vmdk", folder("d-flat.vmdk.lck"), True),
    "a script writes it": ("d.img", text("d.img.phd-part"), True),
    "a script was cut short": ("d.img", text("d.img.phd-replaced"), True),
    "a script left a descriptor": ("d.vmdk", text("d.vmdk.phd-replaced"), True),
    "a part of a script that is a link": ("d.img", link("d.img.phd-part", "x"), True),
    "the hold is a link": ("d.img", link("d.img.phd-hold", "x"), True),
    "the hold is a fifo": ("d.img", fifo("d.img.phd-hold"), True),
    "the hold is a folder": ("d.img", folder("d.img.phd-hold"), True),
    "a redo file that is garbage": ("d.img", settings(text("d.img"), text("d.img.phd-redo")), True),
    "a redo file that is a folder": ("d.img", settings(text("d.img"), folder("d.img.phd-redo")), True),
    "a hidden disk without a redo file": ("d.img", text("d.img.phd-applying"), True),
    "a hidden disk and a disk": ("d.img", settings(text("d.img"), text("d.img.phd-applying")), True),
    "the part is a folder": ("d.img", folder("d.img.phd-new"), True),
    "the part of a descriptor is a folder": ("d.vmdk", folder("d.vmdk.phd-new"), True),
    "staged data is a folder": ("d.img", folder("d.img.phd-redo-part"), True),
    "the part is a link": ("d.img", link("d.img.phd-new", "x"), True),
    "a name of a flat file": ("d-flat.vmdk", lambda _: None, True),
    "a name of an unfinished file": ("d.img.phd-new", lambda _: None, True),
    "a name that is too long": ("n" * 250, lambda _: None, True),
    "a name beside which no session could lie": ("n" * 235 + ".img", lambda _: None, True),
    "a name with a control character": ("a\nb.img", lambda _: None, True),
    "no name before the suffix": (".vmdk", lambda _: None, True),
    "a quote in the name of a VMDK": ('a"b.vmdk', lambda _: None, True),
    "two points in the path": ("x/../d.img", lambda _: None, True),
    "a file where the folder should be": ("f/d.img", text("f"), True),
    "a file where a folder above should be": ("f/g/h/d.img", text("f"), True),
    "a link that leads nowhere": ("l/d.img", link("l", "nowhere"), True),
    "a folder name that is too long": ("n" * 256 + "/d.img", lambda _: None, True),
    "nothing is in the way": ("d.img", lambda _: None, True),
    "a folder is missing": ("new/er/d.vmdk", lambda _: None, True),
    "an old part of phd": ("d.img", text("d.img.phd-new"), True),
}


def part_of_us(out: Path) -> None:
    """What a restore that was killed has written of the new disk."""
    (out / "d.img.phd-new").write_bytes(NEW)


def linked(out: Path) -> None:
    (out / "d.img").write_bytes(NEW[: 2 * BLOCK] + b"x" * BLOCK)
    os.link(out / "d.img", out / "copy")


SETTINGS |= {
    "a hidden disk that nobody said may be replaced": ("d.img", text("d.img.phd-applying"), False),
    "a hidden VMDK": ("d.vmdk", settings(text("d-flat.vmdk.phd-applying"), text("d.vmdk.phd-applying")), False),
    "a part of ours": ("d.img", part_of_us, False),
    "a disk with another name": ("d.img", linked, True),
    "an instant session": ("d.img", settings(text("d.img"), text("d.img.phd-session"), text("d.img.phd-overlay.qcow2")), True),
    "a VMX lies there": ("d.vmdk", text("d.vmx"), False),
    "a VMDK and a lock of ESX": ("d.vmdk", settings(descriptor("d.vmdk", "d-flat.vmdk"), folder("d-flat.vmdk.lck")), False),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_plan_says_what_a_restore_is_refused_for(name: str, lab: Lab) -> None:
    where, setting, overwrite = SETTINGS[name]
    out = lab.folder / "out"
    _, delta = two_backups(lab, OLD, NEW)
    setting(out)
    request = request_for(delta=ArchiveRef(target="", path=str(delta)), destination=out / where, overwrite=overwrite)
    before = state(out)
    said = planned(request, lab)
    assert state(out) == before, "a plan changes nothing"
    assert said == restored(request, lab)


@contextmanager
def flock_of(path: Path, how: int) -> Iterator[None]:
    fd = os.open(path, os.O_RDWR | os.O_CREAT if not path.is_dir() else os.O_RDONLY)
    fcntl.flock(fd, how)
    try:
        yield
    finally:
        os.close(fd)


@contextmanager
def qemu_lock(path: Path) -> Iterator[None]:
    """QEMU has it open for writing: a lock of another process on byte 201."""
    path.write_bytes(b"x" * BLOCK)
    lock = "fcntl.fcntl(f,37,struct.pack('hhqqi4x',0,0,201,1,0))"
    code = f"import fcntl,os,sys,struct;f=os.open(sys.argv[1],os.O_RDWR);{lock};print('x',flush=True);sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        yield
        assert other.stdin is not None
        other.stdin.close()


@contextmanager
def opened(path: Path) -> Iterator[None]:
    path.write_bytes(b"x" * BLOCK)
    with path.open("r+b"):
        yield


@contextmanager
def read_only(path: Path) -> Iterator[None]:
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", path], capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a file system here")
    try:
        yield
    finally:
        subprocess.run(["umount", path], check=True)


@contextmanager
def tmpfs(path: Path, size: int) -> Iterator[None]:
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", path], capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a file system here")
    try:
        yield
    finally:
        subprocess.run(["umount", path], check=True)


def small(path: Path) -> contextlib.AbstractContextManager[None]:
    return tmpfs(path, 256 << 10)


@contextmanager
def vfat(_path: Path) -> Iterator[None]:
    """A file system whose files are smaller than this disk, as those of vfat are limited to 4 GiB."""

    def limited(fd: int) -> Capabilities:
        return replace(of_open_folder(fd), file_system="vfat", largest_file=BLOCK)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(refusals, "tried", limited)
        yield


@contextmanager
def somebody_elses(path: Path, mode: int = 0) -> Iterator[None]:
    path.write_bytes(b"x")
    path.chmod(mode)
    with of_no_more_than_a_user():
        yield


HOLDERS: dict[str, Callable[[Path], contextlib.AbstractContextManager[None]]] = {
    "another restore holds the disk": lambda out: flock_of(out / "d.img.phd-hold", fcntl.LOCK_EX),
    "another restore holds the folder": lambda out: flock_of(out, fcntl.LOCK_EX),
    "QEMU has it": lambda out: qemu_lock(out / "d.img"),
    "a program has it open": lambda out: opened(out / "d.img"),
    "another user left its lock file": lambda out: somebody_elses(out / "d.img.phd-hold"),
    "another user's lock file may be read": lambda out: somebody_elses(out / "d.img.phd-hold", 0o444),
    "another user left its part": lambda out: somebody_elses(out / "d.img.phd-new"),
    "another user's part may be read": lambda out: somebody_elses(out / "d.img.phd-new", 0o444),
    "the file system is read-only": read_only,
    "the file system is too small": small,
    "the file system takes no file of this size": vfat,
}


@pytest.mark.parametrize("name", HOLDERS)
def test_a_plan_says_who_has_it(name: str, lab: Lab) -> None:
    out = lab.folder / "out"
    _, delta = two_backups(lab, OLD, NEW)
    request = request_for(delta=ArchiveRef(target="", path=str(delta)), destination=out / "d.img", overwrite=True)
    with HOLDERS[name](out):
        said = planned(request, lab)
        assert said is not None
        assert said == restored(request, lab)


def test_a_plan_says_what_the_archives_lack(lab: Lab) -> None:
    made, delta = two_backups(lab, OLD, NEW)
    out = lab.folder / "out"
    for options in ({"vmx": VmxChoice.AS_IS}, {"reserved": 1 << 60}):
        request = request_for(delta=ArchiveRef(target="", path=str(delta)), destination=out / "d.img", **options)
        said = planned(request, lab)
        assert said is not None
        assert said == restored(request, lab)
    full_path(lab, made).unlink()
    (out / "there.img").write_bytes(b"somebody's")
    for name in ("d.img", "there.img"):
        request = request_for(delta=ArchiveRef(target="", path=str(delta)), destination=out / name)
        said = planned(request, lab)
        assert said is not None
        assert said == restored(request, lab)


def test_a_plan_takes_into_account_the_room_that_a_part_of_ours_has_already(lab: Lab) -> None:
    """It asked for the whole disk once more: a restore that had room to go on was called impossible."""
    _, delta = two_backups(lab, OLD, NEW)
    out = lab.folder / "out"
    with tmpfs(out, 5 * BLOCK + (64 << 10)):
        part_of_us(out)
        (out / "other").write_bytes(b"x" * BLOCK)
        request = request_for(delta=ArchiveRef(target="", path=str(delta)), destination=out / "d.img")
        assert planned(request, lab) is None
        assert restored(request, lab) is None


def test_a_plan_asks_for_the_whole_disk_where_it_cannot_be_written_in_place(lab: Lab) -> None:
    """A disk with a second name is replaced as a whole; the plan asked for the room of what differs."""
    _, delta = two_backups(lab, OLD, NEW)
    out = lab.folder / "out"
    with tmpfs(out, 5 * BLOCK):
        linked(out)
        request = request_for(delta=ArchiveRef(target="", path=str(delta)), destination=out / "d.img", overwrite=True)
        said = planned(request, lab)
        assert said is not None
        assert said == restored(request, lab)
