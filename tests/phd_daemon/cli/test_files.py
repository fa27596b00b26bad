"""`phd ls`, `phd get` and `phd mount`, on a real backup of a disk with ext4, FAT, XFS, NTFS, and LVM with an ext4 in it."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from phd_daemon.cli.main import run
from phd_daemon.operations.files import WantedFiles, get_files, parse_where
from restore_core.errors import Stopped
from tests.guest_disk import BIG, TIME, FileDisk, disk_of, ext, fat, lvm, need, need_library, ntfs, source, xfs

Say = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a backup: `nas` with its archives, `phd.toml`, `disk.img`, and the files in `guest`."""
    need_library("pyfsxfs", "pyfsntfs")
    folder = tmp_path_factory.mktemp("made")
    guest = source(folder / "guest")
    inner = ext(folder / "inner", guest, "-t", "ext4", size=16 << 20)
    systems = [ext(folder / "ext4", guest, "-t", "ext4"), fat(folder / "fat", guest), xfs(folder / "xfs", guest)]
    systems += [ntfs(folder / "ntfs", guest), lvm(folder / "lvm", inner)]
    disk = disk_of(folder / "disk.img", *systems)
    (folder / "nas").mkdir()
    config = folder / "phd.toml"
    config.write_text(
        f'state_dir = "{folder}/state"\n[queue]\nspool = "{folder}/spool"\n'
        f'[targets.nas1]\nurl = "file://{folder}/nas"\n[backup]\nstaging_dir = "{folder}"\n'
    )
    assert run(["backup", str(disk), "--target", "nas1", "--vm", "GUEST", "--fast", "--quiet", "--config", str(config)]) == 0
    return folder


@pytest.fixture
def delta(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("PHD_CONFIG", str(made / "phd.toml"))
    monkeypatch.chdir(tmp_path)
    return str(next((made / "nas").glob("*/*.delta-*")))


def test_ls_shows_the_partitions(delta: str, capsys: Say) -> None:
    assert run(["ls", delta]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [(line[0], line[-1]) for line in lines] == [
        ("PART", "HOLDS"),
        ("p1", "ext4"),
        ("p2", "FAT16"),
        ("p3", "XFS"),
        ("p4", "NTFS"),
        ("p5", "LVM"),
        ("p5-root", "ext4"),
    ]
    assert run(["ls", delta, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["table"], data["partitions"][0]["start"]) == ("GPT", 1 << 20)
    assert data["marks"] == ["p5: the logical volume vg0/gone is not read: its segments lie outside of the disk, or in no order"]


def test_ls_lists_a_folder_with_odd_names_made_harmless(delta: str, capsys: Say) -> None:
    assert run(["ls", delta, "p1:/etc"]) == 0
    out = capsys.readouterr().out
    assert "-rwsr-xr-x" in next(line for line in out.splitlines() if line.endswith("  fstab"))
    assert "abs -> /etc/passwd" in out
    assert "fifo  (is a FIFO)" in out
    assert "new%0Aline" in out
    assert "lat%E9n" in out
    assert run(["ls", delta, "p1:/etc/big", "--json"]) == 0
    (file,) = json.loads(capsys.readouterr().out)["files"]
    assert (file["name"], file["size"], file["mtime_ns"]) == ("big", len(BIG), TIME * 10**9)


@pytest.mark.parametrize("part", ["p1:/etc/", "p2:/", "p3:/etc/", "p4:/", "p5-root:/etc/"])
def test_get_takes_a_file_byte_for_byte_out_of_each_file_system(
    delta: str, made: Path, tmp_path: Path, part: str, capsys: Say
) -> None:
    assert run(["get", delta, f"{part}big", f"{part}fstab", "--to", "out"]) == 0, capsys.readouterr().err
    assert (tmp_path / "out/big").read_bytes() == BIG
    assert (tmp_path / "out/fstab").read_bytes() == (made / "guest/etc/fstab").read_bytes()
    assert not (tmp_path / "out/fstab").stat().st_mode & stat.S_ISUID
    assert sorted(os.listdir(tmp_path / "out")) == ["big", "fstab"]
    assert "2 files taken into out" in capsys.readouterr().out


def test_get_takes_a_whole_folder_and_says_what_was_left_out(delta: str, made: Path, tmp_path: Path, capsys: Say) -> None:
    assert run(["get", delta, "p1:/etc", "--to", "out", "--json"]) == 1
    data = json.loads(capsys.readouterr().out)
    left = {one["path"]: one["why"] for one in data["left_out"]}
    assert set(left) == {"p1:/etc/abs", "p1:/etc/out", "p1:/etc/back", "p1:/etc/fifo"}
    kept = {name for name in os.listdir(made / "guest/etc") if name not in ("abs", "out", "back", "fifo")}
    assert set(os.listdir(tmp_path / "out/etc")) == kept
    for path in (made / "guest/etc").iterdir():
        there = tmp_path / "out/etc" / path.name
        if path.is_file() and not path.is_symlink():
            assert there.read_bytes() == path.read_bytes()
            assert there.stat().st_mtime == TIME
    assert os.readlink(tmp_path / "out/etc/in") == "deep/er"
    assert (tmp_path / "out/etc/deep/up").read_bytes() == b"UUID=1 / ext4\n"
    assert (tmp_path / "out/etc/fstab").stat().st_nlink == 2
    assert (tmp_path / "out/etc/sparse").stat().st_blocks * 512 < 1 << 20


def test_get_of_a_whole_partition_gets_its_name(delta: str, tmp_path: Path) -> None:
    assert run(["get", delta, "p4:"]) == 0
    assert sorted(os.listdir(tmp_path / "p4")) == ["big", "empty", "fstab"]


def test_a_name_can_be_written_as_ls_shows_it(delta: str, tmp_path: Path) -> None:
    assert run(["get", delta, "p1:/etc/lat%E9n", "p1:/etc/new%0Aline", "p2:/FSTAB"]) == 0
    assert set(os.listdir(os.fsencode(tmp_path))) == {b"lat\xe9n", b"new\nline", b"fstab"}


def test_get_leaves_what_is_there_and_replaces_it_when_told(delta: str, tmp_path: Path, capsys: Say) -> None:
    (tmp_path / "fstab").write_text("mine")
    assert run(["get", delta, "p1:/etc/fstab"]) == 1
    assert (tmp_path / "fstab").read_text() == "mine"
    assert "p1:/etc/fstab: left out: is there already" in capsys.readouterr().err
    assert run(["get", delta, "p1:/etc/fstab", "--overwrite"]) == 0
    assert (tmp_path / "fstab").read_text().startswith("UUID")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("p9:/etc", "there is no partition p9; there are: p1, p2, p3, p4, p5, p5-root"),
        ("p1:/nope", "there is no /nope"),
        ("p1:/../etc", "is no path in a partition"),
        ("/etc", "is no path in a partition"),
    ],
)
def test_what_is_not_there_ends_with_2(delta: str, path: str, text: str, capsys: Say, tmp_path: Path) -> None:
    assert run(["get", delta, path, "--to", "new/folder"]) == 2
    assert run(["ls", delta, path]) == 2
    assert text in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


def test_one_of_several_that_is_not_there_is_left_out(delta: str, tmp_path: Path, capsys: Say) -> None:
    assert run(["get", delta, "p1:/etc/fstab", "p1:/nope"]) == 1
    assert os.listdir(tmp_path) == ["fstab"]
    assert "p1:/nope: left out" in capsys.readouterr().err


def test_a_damaged_archive_is_told_by_its_block_and_nothing_half_is_left(
    delta: str, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Say
) -> None:
    """The Full is cut in the middle of the file's blocks: what lies before is read, that file is not."""
    from restore_core.serve.disk import ServedDisk

    read, at = ServedDisk.read, (made / "disk.img").read_bytes().index(BIG[:4096]) + (1 << 20)

    def damaged(self: ServedDisk, offset: int, length: int) -> bytes:
        from restore_core.errors import BlockMismatch

        if offset <= at < offset + length:
            raise BlockMismatch(block=7, offset=at, where="the Full", expected="a", found="b")
        return read(self, offset, length)

    monkeypatch.setattr(ServedDisk, "read", damaged)
    assert run(["get", delta, "p1:/etc/big", "p1:/etc/fstab"]) == 65
    assert os.listdir(tmp_path) == ["fstab"]
    assert "block 7" in capsys.readouterr().err


def test_ctrl_c_ends_it_and_leaves_complete_files_alone(made: Path, tmp_path: Path) -> None:
    seen = 0

    def stop() -> None:
        nonlocal seen
        seen += 1
        if (tmp_path / "to" / "p1" / "etc" / "fstab").exists() and seen > 40:
            raise Stopped("interrupted")

    wanted = WantedFiles(where=(parse_where("p1:"), parse_where("p3:")), to=tmp_path / "to")
    with pytest.raises(Stopped, match=r"files are complete in .*, the unfinished one is removed"):
        get_files(FileDisk(made / "disk.img"), wanted, stop, lambda _: None)
    written = [path for path in (tmp_path / "to").rglob("*") if path.is_file() and not path.is_symlink()]
    assert written
    for path in written:
        assert path.read_bytes() == (made / "guest" / path.relative_to(tmp_path / "to/p1")).read_bytes()
    assert not (tmp_path / "to/p3").exists()


def test_owners_are_for_root(delta: str, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        assert run(["get", delta, "p3:/etc/fstab", "--owners"]) == 2
        return
    assert run(["get", delta, "p3:/etc/fstab", "--owners"]) == 0
    found = (tmp_path / "fstab").stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (11, 12, 0o4755)


def test_mount_shows_the_disk_and_its_partitions(delta: str, made: Path, tmp_path: Path) -> None:
    need_library("mfusepy")
    need("fuse3", "fusermount3")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("/dev/fuse is not there for this user: nothing can be mounted")
    (tmp_path / "mnt").mkdir()
    mounting = subprocess.Popen(
        [sys.executable, "-m", "phd_daemon.cli.main", "mount", delta, "mnt"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert mounting.stdout is not None
    try:
        first = mounting.stdout.readline()
        if not first:
            pytest.skip(f"FUSE mounts nothing here: {mounting.communicate()[1]}")
        assert "mounted on" in first
        assert sorted(os.listdir(tmp_path / "mnt")) == ["disk.raw", "p1", "p2", "p3", "p4", "p5", "p5-root"]
        assert (tmp_path / "mnt/p2").read_bytes() == (made / "fat").read_bytes()
        assert (tmp_path / "mnt/p5-root").read_bytes() == (made / "inner").read_bytes()
        assert (tmp_path / "mnt/disk.raw").stat().st_size == (made / "disk.img").stat().st_size
        with pytest.raises(OSError, match=r"Read-only|Permission"):
            (tmp_path / "mnt/p1").open("r+b")
    finally:
        subprocess.run(["fusermount3", "-u", "mnt"], check=False, capture_output=True)
    out = mounting.stdout.read()
    mounting.communicate(timeout=20)
    assert mounting.returncode == 0
    assert f"fuse2fs -o ro {tmp_path}/mnt/p1 MNT" in out
    assert "mount -o ro,noload,nosuid,nodev,noexec,loop" in out


def test_mount_refuses_a_folder_that_is_not_empty_or_not_there(delta: str, tmp_path: Path, capsys: Say) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").touch()
    assert run(["mount", delta, "full"]) == 2
    assert run(["mount", delta, "nowhere"]) == 2
    assert "not empty" in (said := capsys.readouterr().err)
    assert "there is no such folder" in said
