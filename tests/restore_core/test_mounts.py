"""Which mount points are named, and which of those are not mounted: from files as they are written, and for real."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from restore_core.mounts import is_mounted, mounted, named_mount_points, unmounted_mount_point
from tests.starved import no_file_more

MOUNTINFO = """\
24 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
25 24 0:22 / /proc rw - proc proc rw
30 24 8:17 / /mnt/big rw - ext4 /dev/sdb1 rw
31 24 8:33 / /mnt/with\\040space rw - xfs /dev/sdc1 rw
32 24 0:50 / /mnt/auto rw - autofs systemd-1 rw,fd=40,direct
33 24 8:1 /srv/data /mnt/bind rw,relatime - ext4 /dev/sda1 rw
36 24 8:1 /rw /rw rw - ext4 /dev/sda1 rw
37 30 8:17 / /mnt/big rw - ext4 /dev/sdb1 rw
34 24 0:60 / /over rw - tmpfs none rw
35 24 0:61 / /over/inner rw - tmpfs none rw
"""


class Machine:
    """A machine's files, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.fstab, self.units, self.mountinfo = folder / "fstab", folder / "units", folder / "mountinfo"
        self.units.mkdir()
        self.mountinfo.write_text(MOUNTINFO)

    def unmounted(self, path: str | Path) -> str | None:
        return unmounted_mount_point(Path(path), fstab=self.fstab, units=[self.units], mountinfo=self.mountinfo)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize(
    ("line", "path", "expected"),
    [
        ("UUID=1 /mnt/nas nfs defaults 0 0", "/mnt/nas/a/b.vmdk", "/mnt/nas"),
        ("UUID=1 /mnt/nas nfs defaults 0 0", "/mnt/nas", "/mnt/nas"),
        ("UUID=1 /mnt/nas/ nfs noauto", "/mnt/nas/a", "/mnt/nas"),
        ("UUID=1\t/mnt/nas\t\tnfs", "/mnt/nas/a", "/mnt/nas"),
        ("/srv/x /mnt/nas none bind 0 0", "/mnt/nas/a", "/mnt/nas"),
        ("UUID=1 /mnt/my\\040nas nfs defaults", "/mnt/my nas/a", "/mnt/my nas"),
        ("UUID=1 /mnt/caf\\303\\251 nfs defaults", "/mnt/café/a", "/mnt/café"),
        ("UUID=1 /mnt/nas nfs defaults 0 0", "/mnt/nasty/a", None),
        ("UUID=1 /mnt/nas nfs defaults 0 0", "/mnt/a", None),
        ("#UUID=1 /mnt/nas nfs defaults 0 0", "/mnt/nas/a", None),
        ("UUID=1 none swap sw 0 0", "/none", None),
        ("UUID=1 /mnt/nas swap sw 0 0", "/mnt/nas/a", None),
        ("UUID=1 / ext4 defaults 0 1", "/mnt/nas/a", None),
        ("UUID=1 /mnt/big ext4 defaults 0 1", "/mnt/big/a", None),
        ("UUID=1 /mnt/with\\040space ext4 defaults 0 1", "/mnt/with space/a", None),
        ("UUID=1 /mnt/auto nfs x-systemd.automount", "/mnt/auto/a", None),
        ("/srv/data /mnt/bind none bind", "/mnt/bind/a", None),
        ("nonsense", "/mnt/nas/a", None),
        ("/srv/x /srv/x none bind,shared", "/srv/x/a", None),
        ("UUID=1 /rw ext4 defaults", "/rw/a", "/rw"),
        ("UUID=1 /mnt/big ext4 defaults", "/mnt/big/inner", None),
        ("UUID=1 /mnt nfs\nUUID=2 /mnt/nas nfs", "/mnt/nas/a", "/mnt"),
        ("UUID=1 /mnt/big/inner ext4 defaults", "/mnt/big/inner/a", "/mnt/big/inner"),
    ],
)
def test_lines_of_fstab(machine: Machine, line: str, path: str, expected: str | None) -> None:
    machine.fstab.write_text(f"# a comment\n\n{line}\n")
    assert machine.unmounted(path) == expected


def test_mount_units(machine: Machine) -> None:
    (machine.units / "mnt-nas.mount").write_text("[Unit]\nWhere=/wrong\n[Mount]\nWhat=nas:/x\nWhere = /mnt/nas\n")
    (machine.units / "mnt-other.service").write_text("[Mount]\nWhere=/mnt/other\n")
    (machine.units / "mnt-masked.mount").symlink_to("/dev/null")
    assert machine.unmounted("/mnt/nas/a") == "/mnt/nas"
    assert machine.unmounted("/mnt/other/a") is None
    assert machine.unmounted("/wrong/a") is None
    assert named_mount_points(fstab=machine.fstab, units=[machine.units]) == {"/mnt/nas": machine.units / "mnt-nas.mount"}


def test_links_are_followed_on_both_sides(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "datastore").symlink_to(tmp_path / "real")
    machine.fstab.write_text(f"UUID=1 {tmp_path}/real ext4 defaults\n")
    assert machine.unmounted(tmp_path / "datastore" / "a.vmdk") == f"{tmp_path}/real"
    machine.fstab.write_text(f"UUID=1 {tmp_path}/datastore ext4 defaults\n")
    assert machine.unmounted(tmp_path / "real" / "a.vmdk") == f"{tmp_path}/real"


def test_a_link_that_lies_on_an_unmounted_mount_point(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "store").symlink_to("/var")
    machine.fstab.write_text(f"UUID=1 {tmp_path}/empty ext4 defaults\n")
    assert machine.unmounted(tmp_path / "empty" / "store" / "a.vmdk") == f"{tmp_path}/empty"


def test_nothing_to_read(tmp_path: Path) -> None:
    assert unmounted_mount_point(tmp_path, fstab=tmp_path / "none", units=[tmp_path / "none"], mountinfo=tmp_path / "none") is None


def test_a_mount_that_a_later_one_hides(machine: Machine) -> None:
    """/over was mounted after /over/inner: the inner one is still in the list, but no path leads to it."""
    machine.mountinfo.write_text(MOUNTINFO)
    now = mounted(machine.mountinfo)
    assert is_mounted("/over", now)
    assert not is_mounted("/over/inner", now)


def test_a_folder_that_systemd_mounted_on_itself_is_no_mount(machine: Machine) -> None:
    """ReadWritePaths=/rw makes a mount of /rw, which shows what lies there without it: an empty mount point, perhaps."""
    now = mounted(machine.mountinfo)
    assert not is_mounted("/rw", now)
    assert is_mounted("/mnt/big", now)  # mounted, and then on itself
    assert is_mounted("/mnt/bind", now)  # another folder of the same file system


def test_without_a_root_in_the_list(machine: Machine) -> None:
    """In a chroot on a plain folder the root is no mount."""
    machine.mountinfo.write_text("30 24 8:17 / /mnt/big rw - ext4 /dev/sdb1 rw\n31 30 8:18 / /mnt/big/in rw - ext4 /dev/sdb2 rw\n")
    now = mounted(machine.mountinfo)
    assert [is_mounted(path, now) for path in ("/", "/mnt", "/mnt/big", "/mnt/big/in")] == [False, False, True, True]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
@pytest.mark.parametrize("options", [["-t", "tmpfs", "none"], ["--bind", "/usr"]])
def test_real_mounts(machine: Machine, tmp_path: Path, options: list[str]) -> None:
    place = tmp_path / "a place\twith spaces"
    place.mkdir()
    escaped = str(place).replace(" ", "\\040").replace("\t", "\\011")
    machine.fstab.write_text(f"x {escaped} auto defaults\n")

    def unmounted() -> str | None:
        return unmounted_mount_point(place / "a.vmdk", fstab=machine.fstab, units=())

    assert unmounted() == str(place)
    if subprocess.run(["mount", "--bind", str(place), str(place)], capture_output=True, check=False).returncode == 0:
        on_itself = unmounted()
        subprocess.run(["umount", str(place)], check=True)
        assert on_itself == str(place)  # as systemd does for ReadWritePaths=
    ran = subprocess.run(["mount", *options, str(place)], capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        pytest.skip(f"this machine does not mount: {ran.stderr.strip()}")
    try:
        assert unmounted() is None
    finally:
        subprocess.run(["umount", str(place)], check=True)
    assert unmounted() == str(place)


def test_with_no_descriptor_left_a_mount_point_is_not_taken_for_a_plain_folder(machine: Machine) -> None:
    machine.fstab.write_text("UUID=1 /mnt/nas nfs defaults 0 0\n")
    assert machine.unmounted("/mnt/nas/a.vmdk") == "/mnt/nas"
    with no_file_more(), pytest.raises(OSError, match="Too many open files"):
        unmounted_mount_point(Path("/mnt/nas/a.vmdk"), fstab=machine.fstab, units=[], mountinfo=machine.mountinfo)
    assert machine.unmounted("/mnt/nas/a.vmdk") == "/mnt/nas"
