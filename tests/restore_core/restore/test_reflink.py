"""A refresh where the file system shares blocks: a clone is patched and renamed, on a real XFS on a loop device."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from restore_core.errors import BadArchive
from restore_core.restore import run
from restore_core.restore.request import RestoreOutcome
from restore_core.targets.base import ArchiveRef
from tests.lab import BLOCK, Lab, Witness, go_on, request_for

XFS_BYTES = 320 << 20
"""The smallest that mkfs.xfs makes is 300 MiB; as a sparse file it takes almost nothing."""


@pytest.fixture
def xfs(tmp_path: Path) -> Iterator[Path]:
    mkfs = shutil.which("mkfs.xfs", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if mkfs is None or os.geteuid() != 0:
        pytest.skip("needs mkfs.xfs, and root to mount it")
    image, folder = tmp_path / "xfs.img", tmp_path / "xfs"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(XFS_BYTES)
    subprocess.run([mkfs, "-q", "-m", "reflink=1", str(image)], check=True)
    mounted = subprocess.run(["mount", "-o", "loop", str(image), str(folder)], capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"this machine cannot mount an XFS on a loop device: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


class Replica:
    def __init__(self, lab: Lab, datastore: Path) -> None:
        self.lab, self.disk = lab, datastore / "CRM.img"
        (lab.folder / "records").mkdir()

    def restore(self, delta: ArchiveRef, **asked: object) -> RestoreOutcome:
        fields = {"overwrite": True, "records": self.lab.folder / "records", **asked}
        request = request_for(delta=delta, destination=self.disk, **fields)
        return run.restore_delta(request, self.lab.targets, reporter=Witness(), stop=go_on)


def two_days(lab: Lab) -> tuple[ArchiveRef, ArchiveRef, bytes, bytes]:
    old = os.urandom(BLOCK) + bytes(BLOCK) + b"".join(os.urandom(4096) * (BLOCK // 4096) for _ in range(38))
    new = old[: 7 * BLOCK] + os.urandom(BLOCK) + old[8 * BLOCK :]
    return lab.backup(old).delta, lab.backup(new).delta, old, new


def test_a_clone_is_patched_and_renamed(lab: Lab, xfs: Path) -> None:
    monday, tuesday, old, new = two_days(lab)
    replica = Replica(lab, xfs)
    replica.restore(monday)
    inode, taken = replica.disk.stat().st_ino, shutil.disk_usage(xfs).used
    outcome = replica.restore(tuesday)
    assert replica.disk.read_bytes() == new
    assert outcome.way.startswith("refresh of a clone, then renamed: 1 of 40 blocks")
    assert replica.disk.stat().st_ino != inode
    assert shutil.disk_usage(xfs).used - taken < 4 * BLOCK
    assert sorted(path.name for path in xfs.iterdir()) == ["CRM.img"]
    replica.restore(monday)
    assert replica.disk.read_bytes() == old


def test_a_bad_archive_leaves_the_old_disk_and_no_clone(lab: Lab, xfs: Path) -> None:
    monday, tuesday, old, _ = two_days(lab)
    replica = Replica(lab, xfs)
    replica.restore(monday)
    inode = replica.disk.stat().st_ino
    path = lab.path(tuesday)
    damaged = bytearray(path.read_bytes())
    frames = lab.reader(tuesday).header.section("frames")
    assert frames is not None
    damaged[frames.offset + frames.length // 2] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(BadArchive):
        replica.restore(tuesday)
    assert (replica.disk.read_bytes(), replica.disk.stat().st_ino) == (old, inode)
    assert sorted(path.name for path in xfs.iterdir()) == ["CRM.img"]
