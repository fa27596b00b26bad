"""`sh DELTA` and who else is at work on its disk: a second script, phd. One of them at a time."""

from __future__ import annotations

import fcntl
import shutil
import signal

import pytest

from tests.lab import Lab
from tests.restore_core.archive.stub_place import BUSY, NEW, Place, held, is_held, make_place
from tests.restore_core.archive.stub_shell import SHELLS, sh
from tests.restore_core.archive.test_stub_faults import wait_for
from tests.restore_core.archive.test_stub_menu import Terminal


@pytest.fixture
def place(lab: Lab) -> Place:
    return make_place(lab)


@pytest.mark.parametrize("shell", SHELLS)
def test_a_second_script_is_refused_and_the_first_is_exact(place: Place, shell: str) -> None:
    """Broken before: with the part file removed, the second began, and the first published the second's half by name."""
    with place.slow("x.vmdk", shell=shell) as first:
        assert place.names()[:2] == ["x-flat.vmdk.phd-hold", "x-flat.vmdk.phd-part"]
        assert (place.out / "x-flat.vmdk.phd-hold").stat().st_mode & 0o7777 == 0o600
        second = place.restore("x.vmdk", "--overwrite", shell=shell)
        assert (second.returncode, BUSY in second.stderr) == (75, True)
        assert place.restore("another.vmdk", shell=shell).returncode == 0
        assert place.finish(first) == (0, "")
    assert (place.out / "x-flat.vmdk").read_bytes() == NEW
    assert place.names() == ["another-flat.vmdk", "another.vmdk", "x-flat.vmdk", "x.vmdk"]


@pytest.mark.parametrize("shell", SHELLS)
def test_what_phd_holds_is_left_alone(place: Place, shell: str) -> None:
    """By the file of the disk, or by the folder when a full file system has no room for that one. Broken before: nobody asked."""
    (place.out / "x.img").write_bytes(b"old")
    with held(place.out / "x.img.phd-hold"):
        ran = place.restore("x.img", "--overwrite", shell=shell)
        assert (ran.returncode, BUSY in ran.stderr) == (75, True)
        assert (place.out / "x.img.phd-hold").exists()
    with held(place.out):
        ran = place.restore("x.img", "--overwrite", shell=shell)
        assert (ran.returncode, BUSY in ran.stderr) == (75, True)
    assert (place.out / "x.img").read_bytes() == b"old"
    with held(place.out, fcntl.LOCK_SH):  # as one who works on another disk in this folder
        assert place.restore("x.img", "--overwrite", shell=shell).returncode == 0
    assert place.names() == ["x.img"]
    assert not is_held(place.out)


@pytest.mark.parametrize("shell", SHELLS)
def test_a_killed_script_holds_until_its_children_have_ended(place: Place, shell: str) -> None:
    """What moves bytes goes on for a while when `sh` is killed: until it ends, nobody else may begin."""
    hold = place.out / "x.img.phd-hold"
    with place.slow("x.img", shell=shell) as process:
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=20)
        assert is_held(hold)
        ran = place.restore("x.img", shell=shell)
        assert (ran.returncode, BUSY in ran.stderr) == (75, True)
        place.go()
        wait_for(lambda: not is_held(hold))
    ran = place.restore("x.img", shell=shell)
    assert (ran.returncode, "one was cut short" in ran.stderr) == (73, True)
    (place.out / "x.img.phd-part").unlink()
    assert place.restore("x.img", shell=shell).returncode == 0
    assert (place.out / "x.img").read_bytes() == NEW


@pytest.mark.parametrize("name", ["x.img", "x.vmdk"])
def test_without_flock_nothing_is_replaced(place: Place, name: str) -> None:
    """As with Debian's busybox. Broken before: replaced without knowing who else is at work."""
    (place.bin / "flock").unlink()
    assert place.restore(name).returncode == 0
    before = {found: (place.out / found).stat().st_ino for found in place.names()}
    ran = place.restore(name, "--overwrite")
    assert (ran.returncode, "no flock" in ran.stderr) == (73, True)
    assert {found: (place.out / found).stat().st_ino for found in place.names()} == before


@pytest.mark.parametrize("shell", SHELLS)
def test_the_menu_lets_go_after_each_entry(place: Place, shell: str) -> None:
    if shutil.which(SHELLS[shell][0]) is None:
        pytest.skip(f"{SHELLS[shell][0]} is not installed")
    menu = Terminal(*SHELLS[shell], str(place.delta), cwd=place.out)
    for _ in range(2):
        menu.answer("Choose", "5")
        menu.answer("Stub", "x.vmdk")
        menu.expect("x.vmdk")
        menu.expect("Choose")
        assert not is_held(place.out)
        assert place.names() == ["x.vmdk"]
        menu.text = f"Choose{menu.text}"
    menu.answer("Choose", "q")
    assert menu.end() == 0


@pytest.mark.parametrize("left", ["x-flat.vmdk.phd-new", "x-flat.vmdk.phd-redo", "x.vmdk.phd-applying"])
def test_what_phd_has_begun_phd_ends(place: Place, left: str) -> None:
    """Broken before: a disk was put over one that phd had half written, and phd's redo file over that."""
    (place.out / left).write_bytes(b"phd's")
    for options in ((), ("--overwrite",)):
        ran = place.restore("x.vmdk", *options)
        assert (ran.returncode, "phd has not finished this disk" in ran.stderr) == (75, True)
    assert place.names() == [left]


def test_descriptors_and_vmx_are_held_too(place: Place) -> None:
    with held(place.out / "x-flat.vmdk.phd-hold"):
        ran = sh(place.delta, "stub", "--to", place.out / "x.vmdk")
        assert (ran.returncode, BUSY in ran.stderr) == (75, True)
    assert sh(place.delta, "stub", "--to", place.out / "x.vmdk").returncode == 0
    assert place.names() == ["x.vmdk"]


def test_a_replacement_that_phd_was_interrupted_in_is_phds(place: Place) -> None:
    """The record in the lock file says which file is which; a script that goes on would put a third one there."""
    (place.out / "x-flat.vmdk.phd-hold").write_bytes(b"a record")
    for options in ((), ("--overwrite",)):
        ran = place.restore("x.vmdk", *options)
        assert (ran.returncode, "phd was replacing this disk" in ran.stderr) == (75, True)
    assert (place.out / "x-flat.vmdk.phd-hold").read_bytes() == b"a record"
    assert place.names() == ["x-flat.vmdk.phd-hold"]
