"""`sh DELTA` and neighbours who know of no hold: they remove files, write or open the disk, take its name, at any moment."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.lab import Lab
from tests.restore_core.archive.stub_place import NEW, OLD, Place, make_place
from tests.restore_core.archive.stub_shell import SHELLS, path_of


@pytest.fixture
def place(lab: Lab) -> Place:
    return make_place(lab)


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("put", [None, b"half of another restore"], ids=["removed", "replaced"])
def test_a_part_file_that_is_another_one_is_not_published(place: Place, shell: str, put: bytes | None) -> None:
    """Broken before: whatever had the name of the part file was published."""
    part = place.out / "x-flat.vmdk.phd-part"
    with place.slow("x.vmdk", shell=shell) as process:
        part.unlink()
        if put is not None:
            part.write_bytes(put)
        code, said = place.finish(process)
    assert (code, "was removed or replaced" in said) == (75, True)
    assert place.names() == ([] if put is None else [part.name])
    assert put is None or part.read_bytes() == put


def test_a_part_file_and_a_hold_that_were_removed(place: Place) -> None:
    """`rm *.phd-*` while a restore runs, and another one begins: the first publishes nothing, the second's disk is exact."""
    with place.slow("x.img") as first:
        for name in place.names():
            (place.out / name).unlink()
        with place.slow("x.img") as second:
            assert place.finish(first)[0] == 75
            assert place.finish(second) == (0, "")
    assert (place.out / "x.img").read_bytes() == NEW
    assert place.names() == ["x.img"]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_disk_that_was_written_meanwhile_is_not_replaced(place: Place, shell: str) -> None:
    """Broken before: the writes of a VM that started during the restore went with the old file."""
    assert place.restore("x.vmdk").returncode == 0
    descriptor = (place.out / "x.vmdk").read_bytes()
    with place.slow("x.vmdk", "--overwrite", shell=shell) as process:
        with (place.out / "x-flat.vmdk").open("r+b") as disk:
            disk.write(b"a guest's")
        code, said = place.finish(process)
    assert (code, "opened by somebody" in said) == (75, True)
    assert (place.out / "x-flat.vmdk").read_bytes() == b"a guest's" + NEW[9:]
    assert (place.out / "x.vmdk").read_bytes() == descriptor
    assert place.names() == ["x-flat.vmdk", "x.vmdk"]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_disk_that_a_program_has_open_is_not_replaced(place: Place, shell: str) -> None:
    """At the start, and when it was opened later. Broken before: renamed over."""
    (place.out / "x.img").write_bytes(b"old")
    with (place.out / "x.img").open("r+b"):
        ran = place.restore("x.img", "--overwrite", shell=shell)
        assert (ran.returncode, "has it open" in ran.stderr) == (75, True)
    with place.slow("x.img", "--overwrite", shell=shell) as process, (place.out / "x.img").open("r+b"):
        assert place.finish(process)[0] == 75
    assert (place.out / "x.img").read_bytes() == b"old"
    assert place.restore("x.img", "--overwrite", shell=shell).returncode == 0
    assert place.names() == ["x.img"]


def test_a_disk_behind_a_loop_device_is_not_replaced(place: Place) -> None:
    """No program has it open then, the kernel has. Broken before: replaced under it."""
    (place.out / "x.img").write_bytes(OLD)
    path_of(place.bin, "losetup")
    made = subprocess.run(["losetup", "--show", "-f", place.out / "x.img"], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"no loop devices here: {made.stderr.strip()[:100]}")
    try:
        ran = place.restore("x.img", "--overwrite")
    finally:
        subprocess.run(["losetup", "-d", made.stdout.strip()], check=True)
    assert (ran.returncode, "has it open" in ran.stderr) == (75, True)
    assert (place.out / "x.img").read_bytes() == OLD


@pytest.mark.parametrize("made", ["x-flat.vmdk", "x.vmdk"])
@pytest.mark.parametrize("option", [(), ("--overwrite",)])
def test_a_name_that_somebody_took_meanwhile(place: Place, made: str, option: tuple[str, ...]) -> None:
    """With `--overwrite`, too: what was not there at the start was never offered for replacement."""
    with place.slow("x.vmdk", *option) as process:
        (place.out / made).write_bytes(b"theirs")
        assert place.finish(process)[0] in (73, 75)
    assert (place.out / made).read_bytes() == b"theirs"
    assert place.names() == [made]


def neighbour(place: Place, tool: str, word: str, script: str) -> None:
    """Somebody acts just before the script runs this tool on something that is called like this."""
    real = os.path.realpath(place.bin / tool)
    (place.bin / tool).unlink()
    (place.bin / tool).write_text(f'#!/bin/sh\ncase "$*" in *{word}*) {script} ;; esac\nexec {real} "$@"\n')
    (place.bin / tool).chmod(0o755)


MOMENTS = {
    "a write before the old disk is set aside": (
        "mv",
        "x-flat.vmdk.phd-replaced",
        "printf guest | dd of={disk} conv=notrunc status=none",
    ),
    "a disk in place of the one that was set aside": ("ln", "new.tmp*x-flat.vmdk", "printf guest >{disk}"),
    "a disk in place of the one that is to be set aside": (
        "mv",
        "x-flat.vmdk.phd-replaced",
        "mv {disk} {disk}.mine; printf guest >{disk}",
    ),
    "another part file when ours gets its private name": (
        "mv",
        "phd-part*new.tmp",
        "rm {disk}.phd-part; printf half >{disk}.phd-part",
    ),
}


@pytest.mark.parametrize("shell", ["dash", "busybox sh", "ksh93"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_at_the_last_moment(place: Place, moment: str, shell: str) -> None:
    """Between two programs that the script runs: what others made is never lost, nor published as ours."""
    assert place.restore("x.vmdk").returncode == 0
    descriptor, disk = (place.out / "x.vmdk").read_bytes(), place.out / "x-flat.vmdk"
    tool, word, script = MOMENTS[moment]
    neighbour(place, tool, word, script.format(disk=disk))
    ran = place.restore("x.vmdk", "--overwrite", shell=shell)
    assert ran.returncode == 75, ran.stderr
    assert disk.read_bytes()[:5] == (NEW[:5] if "part file" in moment else b"guest")
    assert (place.out / "x.vmdk").read_bytes() == descriptor
    kept = {"x-flat.vmdk.phd-part", "x-flat.vmdk.mine", "x-flat.vmdk.phd-replaced"} & set(place.names())
    assert place.names() == sorted({"x.vmdk", "x-flat.vmdk"} | kept)
    assert kept == set() or len(kept) == 1


def test_a_file_system_without_hard_links(place: Place) -> None:
    """New names are then given by `mv -n`."""
    (place.bin / "ln").unlink()
    (place.bin / "ln").symlink_to("/bin/false")
    for options in ((), ("--overwrite",)):
        assert place.restore("x.vmdk", *options).returncode == 0
        assert (place.out / "x-flat.vmdk").read_bytes() == NEW
        assert place.names() == ["x-flat.vmdk", "x.vmdk"]
    neighbour(place, "mv", "-n*new.tmp*x-flat.vmdk", f"printf guest >{place.out}/x-flat.vmdk")
    assert place.restore("x.vmdk", "--overwrite").returncode == 75
    assert (place.out / "x-flat.vmdk").read_bytes() == b"guest"


def test_what_was_cut_short_while_it_was_replaced(place: Place) -> None:
    """A crash between two renames: the old disk is never taken for rubbish by the next run."""
    (place.out / "x-flat.vmdk.phd-replaced").write_bytes(b"old")
    for options in ((), ("--overwrite",)):
        ran = place.restore("x.vmdk", *options)
        assert (ran.returncode, "else rename it back" in ran.stderr) == (73, True)
    assert place.names() == ["x-flat.vmdk.phd-replaced"]


def test_a_rescue_system_without_proc(place: Place) -> None:
    """What is open cannot be seen there: nothing is replaced, a new disk is made. Broken before: 65, the Full is damaged."""
    inside = 'mount -t tmpfs none /proc && exec "$@"'
    for options, code in (((), 0), (("--overwrite",), 73)):
        command = ["unshare", "--mount", "sh", "-c", inside, "sh", *place.command("x.vmdk", *options)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if "unshare" in ran.stderr or "mount:" in ran.stderr:
            pytest.skip(f"no mount namespaces here: {ran.stderr.strip()[:100]}")
        assert (ran.returncode, "/proc" in ran.stderr) == (code, True)
    assert (place.out / "x-flat.vmdk").read_bytes() == NEW
    assert place.names() == ["x-flat.vmdk", "x.vmdk"]
