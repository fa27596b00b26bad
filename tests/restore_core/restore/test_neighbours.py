"""What others do to a disk while it is restored: a VM that opens it, a copy by hard links, a second restore, a full datastore.

Each test is a break that was seen on the version before: the disk was not exact, or somebody's work was lost, and the restore
said done.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from restore_core.errors import (
    DestinationError,
    DestinationExists,
    DestinationInUse,
    Diverged,
    NoSpace,
    PhdError,
    TryAgainLater,
)
from restore_core.restore import run
from restore_core.restore.full import restore_full
from restore_core.restore.preview import plan_delta
from restore_core.restore.request import OURS, Provision, RestoreOptions, RestoreRequest
from restore_core.targets.base import ArchiveRef
from tests import rights
from tests.lab import BLOCK, Lab, Witness, go_on, request_for
from tests.restore_core.restore.test_refresh import SIZE, Replica, changed, disk_bytes, two_days

WORK = os.urandom(65536)
NAMES = pytest.mark.parametrize("name", ["r.img", "r.vmdk"])


class Neighbour:
    """A stop sign that does something once, after the restore has looked at the disk and before it ends."""

    def __init__(self, act: Callable[[], None], witness: Witness) -> None:
        self._act, self._witness, self.acted = act, witness, False

    def __call__(self) -> None:
        if self.acted or self._witness.plan is None:
            return
        self.acted = True
        self._act()


def restore(replica: Replica, delta: ArchiveRef, act: Callable[[], None], **asked: object) -> None:
    """A restore during which the neighbour acts once: when the plan is known, and bytes are being fetched."""
    fields = {"overwrite": True, "records": replica.records, **asked}
    request = request_for(delta=delta, destination=replica.path, **fields)
    witness = replica.lab.witness = Witness()
    neighbour = Neighbour(act, witness)
    try:
        run.restore_delta(request, replica.lab.targets, reporter=witness, stop=neighbour, keep_part=lambda _error: True)
    finally:
        assert neighbour.acted


def flat_of(replica: Replica) -> Path:
    return replica.path.with_name(replica.path.name.replace(".vmdk", "-flat.vmdk"))


def write_and_close(path: Path, offset: int = 0) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(WORK)


@NAMES
@pytest.mark.parametrize("ways", [[3, 11], list(range(20))], ids=["in place", "as a whole"])
def test_a_vm_that_writes_and_goes_off_meanwhile(lab: Lab, name: str, ways: list[int]) -> None:
    """ "verified and durable" was said of a disk that was not exact, and nothing would ever have found it."""
    replica = Replica(lab, name)
    _, monday, new, tuesday = two_days(lab, ways)
    replica.restore(monday)
    restore(replica, tuesday, lambda: write_and_close(flat_of(replica), 5 * BLOCK))
    assert flat_of(replica).read_bytes() == new
    assert any("surveyed again" in note for note in lab.witness.notes)


@NAMES
@pytest.mark.parametrize("ways", [[3, 11], list(range(20))], ids=["in place", "as a whole"])
def test_its_work_is_kept_when_only_ours_may_be_touched(lab: Lab, name: str, ways: list[int]) -> None:
    """The VM's writes were overwritten, or left in a file that was deleted."""
    replica = Replica(lab, name)
    _, monday, _, tuesday = two_days(lab, ways)
    replica.restore(monday)
    with pytest.raises(Diverged):
        restore(replica, tuesday, lambda: write_and_close(flat_of(replica)), overwrite=OURS)
    assert flat_of(replica).read_bytes()[: len(WORK)] == WORK
    assert replica.path.exists()
    with pytest.raises(Diverged):
        replica.restore(tuesday, overwrite=OURS)


@NAMES
@pytest.mark.parametrize("ours", [False, True])
@pytest.mark.parametrize("ways", [[3, 11], list(range(20))], ids=["in place", "as a whole"])
def test_a_vm_that_starts_wins(lab: Lab, name: str, ours: bool, ways: list[int]) -> None:
    """Without a lock that we know: it has the disk open, goes on writing, and lost its descriptor, or the file under it."""
    replica = Replica(lab, name)
    old, monday, new, tuesday = two_days(lab, ways)
    replica.restore(monday)
    opened = []
    with pytest.raises(DestinationInUse) as caught:
        restore(replica, tuesday, lambda: opened.append(os.open(flat_of(replica), os.O_RDWR)), overwrite=OURS if ours else True)
    assert caught.value.try_again
    assert replica.path.exists()
    assert os.path.samestat(os.fstat(opened[0]), flat_of(replica).stat()), "the VM has the file that bears the name"
    assert flat_of(replica).read_bytes() == old
    os.pwrite(opened[0], WORK, 0)
    os.close(opened[0])
    if ours:
        with pytest.raises(Diverged):
            replica.restore(tuesday, overwrite=OURS)
        assert flat_of(replica).read_bytes() == WORK + old[len(WORK) :]
    replica.restore(tuesday)
    assert flat_of(replica).read_bytes() == new


def test_a_real_qemu_that_starts_wins(lab: Lab) -> None:
    if shutil.which("qemu-io") is None:
        pytest.skip("qemu-io is not installed, so no real QEMU can be started")
    replica = Replica(lab, "r.vmdk")
    old, monday, new, tuesday = two_days(lab, [3, 11])
    replica.restore(monday)
    started: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        qemu = subprocess.Popen(["qemu-io", "-f", "vmdk", replica.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert qemu.stdin is not None
        assert qemu.stdout is not None
        qemu.stdin.write(b"write -P 0x5a 0 64k\n")
        qemu.stdin.flush()
        assert b"wrote 65536/65536" in qemu.stdout.readline(), "it is open, and has written"
        started.append(qemu)

    with pytest.raises(DestinationInUse):
        restore(replica, tuesday, start, overwrite=OURS)
    started[0].communicate(b"read -P 0x5a 0 64k\n")
    assert flat_of(replica).read_bytes() == b"\x5a" * 65536 + old[65536:]
    check = subprocess.run(["qemu-img", "info", replica.path], capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stderr
    replica.restore(tuesday)
    assert flat_of(replica).read_bytes() == new


@pytest.mark.parametrize("blocks", [[3, 11], list(range(20))], ids=["in place", "as a whole"])
def test_a_copy_by_hard_links_stays_what_it_is(lab: Lab, blocks: list[int]) -> None:
    """`cp -al A A.yesterday`, then a refresh of A: yesterday's copy was changed, too."""
    replica = Replica(lab)
    old, monday, new, tuesday = two_days(lab, blocks)
    replica.restore(monday)
    yesterday = replica.path.with_name("yesterday.img")
    os.link(replica.path, yesterday)
    replica.restore(tuesday, overwrite=OURS)
    assert replica.bytes == new
    assert yesterday.read_bytes() == old


def test_a_hard_link_that_is_made_meanwhile(lab: Lab) -> None:
    replica = Replica(lab)
    old, monday, new, tuesday = two_days(lab, [3, 11])
    replica.restore(monday)
    yesterday = replica.path.with_name("yesterday.img")
    restore(replica, tuesday, lambda: os.link(replica.path, yesterday), overwrite=OURS)
    assert replica.bytes == new
    assert yesterday.read_bytes() == old


def test_the_folder_is_moved_while_a_new_disk_is_written(lab: Lab) -> None:
    """The ledger named a disk that was not there, for good."""
    replica = Replica(lab)
    made = lab.backup(disk_bytes(1))
    away = replica.path.parent.with_name("away")
    with pytest.raises(TryAgainLater, match="moved"):
        restore(replica, made.delta, lambda: os.rename(replica.path.parent, away))
    assert not replica.path.exists()
    assert sorted(os.listdir(away)) == [], "nothing is left where nobody will look for it"
    assert not list(replica.records.glob("*[0-9a-f].json")) or not replica.path.exists()


@pytest.mark.parametrize("blocks", [[3, 11], list(range(20))], ids=["in place", "as a whole"])
def test_the_folder_of_a_replica_is_moved_meanwhile(lab: Lab, blocks: list[int]) -> None:
    replica = Replica(lab)
    old, monday, _, tuesday = two_days(lab, blocks)
    replica.restore(monday)
    away = replica.path.parent.with_name("away")
    with pytest.raises(TryAgainLater, match="moved"):
        restore(replica, tuesday, lambda: os.rename(replica.path.parent, away))
    assert (away / "r.img").read_bytes() == old


def test_the_part_file_is_removed_and_a_second_restore_begins(lab: Lab) -> None:
    """The first published, by its name, what the second had half written."""
    replica = Replica(lab)
    made = lab.backup(os.urandom(SIZE))
    shown: list[bytes] = []

    def act() -> None:
        for part in replica.path.parent.glob("*.phd-new"):
            part.unlink()
        (replica.path.parent / "r.img.phd-new").write_bytes(b"half of another")
        (replica.path.parent / "r.img.phd-part").write_bytes(b"half of another")
        os.utime(replica.path.parent / "r.img.phd-part", (1, 1))

    with pytest.raises(PhdError) as caught:
        restore(replica, made.delta, act)
    assert caught.value.try_again
    assert not replica.path.exists(), shown
    assert (replica.path.parent / "r.img.phd-new").read_bytes() == b"half of another"


def test_a_second_restore_waits_and_uses_up_no_try(lab: Lab) -> None:
    """Between the flat file and the descriptor of the one the other used to refresh in place."""
    replica = Replica(lab)
    made = lab.backup(os.urandom(SIZE))
    caught: list[PhdError] = []

    def act() -> None:
        with pytest.raises(DestinationInUse, match="at work on this disk") as refused:
            Replica(lab).restore(made.delta)
        caught.append(refused.value)

    restore(replica, made.delta, act)
    assert not caught[0].counts_as_try
    assert replica.path.exists()


@pytest.mark.parametrize("opened", [True, False])
def test_a_script_that_writes_the_same_disk(lab: Lab, opened: bool) -> None:
    """phd took over the part file of `sh DELTA`, published it, and the script went on writing into the published disk."""
    replica = Replica(lab)
    made = lab.backup(os.urandom(SIZE))
    replica.path.parent.mkdir()
    part = replica.path.with_name("r.img.phd-part")
    part.write_bytes(b"half of it")
    script = os.open(part, os.O_WRONLY) if opened else -1
    if opened:
        os.utime(part, (1, 1))
    with pytest.raises(DestinationInUse, match="script"):
        replica.restore(made.delta)
    assert part.read_bytes() == b"half of it"
    assert not replica.path.exists()
    if opened:
        os.close(script)
    os.utime(part, (1, 1))
    replica.restore(made.delta)
    assert part.read_bytes() == b"half of it", "it is the script's, and is never removed"


def test_a_foreign_full_of_no_whole_sectors_is_refused_before_the_old_disk_goes(lab: Lab) -> None:
    """It was refused after the old disk was gone: a descriptor cannot carry the size."""
    full = lab.store / "foreign.gz"
    full.write_bytes(gzip.compress(os.urandom(1000)))
    replica = Replica(lab, "r.vmdk")
    old, monday, _, _ = two_days(lab, [3])
    replica.restore(monday)
    request = RestoreRequest(
        delta=ArchiveRef(target="t", path="foreign.gz"), destination=replica.path, options=RestoreOptions(overwrite=True)
    )
    with pytest.raises(DestinationError, match="whole sectors"):
        restore_full(request, lab.targets, reporter=Witness(), stop=go_on)
    assert flat_of(replica).read_bytes() == old
    assert lab.leftovers() == ["r-flat.vmdk", "r.vmdk"]


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """An ext4 of 64 MiB."""
    mkfs = shutil.which("mkfs.ext4", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if mkfs is None or os.geteuid() != 0:
        pytest.skip("needs mkfs.ext4, and root to mount it")
    image, folder = tmp_path / "small.img", tmp_path / "small"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run([mkfs, "-q", "-F", "-m", "0", str(image)], check=True)
    mounted = subprocess.run(["mount", "-o", "loop", str(image), str(folder)], capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"this machine cannot mount an ext4 on a loop device: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_thin_replica_has_room_for_the_holes_before_it_is_touched(lab: Lab, small: Path) -> None:
    """The redo file fitted, filling the holes did not: neither old nor new, with no room to go on, for ever."""
    size = 160 * BLOCK
    old = os.urandom(20 * BLOCK) + bytes(size - 20 * BLOCK)
    new = old[: 20 * BLOCK] + os.urandom(60 * BLOCK) + bytes(size - 80 * BLOCK)
    monday, tuesday = lab.backup(old), lab.backup(new)
    replica = Replica(lab)
    replica.path = small / "r.img"
    replica.restore(monday.delta, provision=Provision.THIN)
    fill(small, leave=20 << 20)
    with pytest.raises(NoSpace):
        replica.restore(tuesday.delta, overwrite=OURS, provision=Provision.THIN)
    assert replica.path.read_bytes() == old
    assert sorted(path.name for path in small.iterdir() if "phd" in path.name) == []
    (small / "filler").unlink()
    replica.restore(tuesday.delta, overwrite=OURS, provision=Provision.THIN)
    assert replica.path.read_bytes() == new


def fill(folder: Path, *, leave: int) -> None:
    """Leave so many bytes free."""
    facts = os.statvfs(folder)
    with (folder / "filler").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, facts.f_bavail * facts.f_frsize - leave)


def test_no_room_in_the_middle_puts_the_old_disk_back(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thin volume says so only when it is written: the old blocks are in the redo file and are written back."""
    from restore_core import durable

    replica = Replica(lab, "r.vmdk")
    old, monday, new, tuesday = two_days(lab, [3, 9, 11])
    replica.restore(monday)
    honest, written = durable.write_all_at, []

    def full(fd: int, data: bytes, offset: int) -> None:
        if os.readlink(f"/proc/self/fd/{fd}").endswith("r-flat.vmdk.phd-applying"):
            written.append(offset)
            if len(written) == 2:
                raise OSError(28, "No space left on device")
        honest(fd, data, offset)

    with monkeypatch.context() as patch:
        patch.setattr(durable, "write_all_at", full)
        with pytest.raises(DestinationError, match="put back as it was"):
            replica.restore(tuesday)
    assert written
    assert flat_of(replica).read_bytes() == old
    assert lab.leftovers() == ["r-flat.vmdk", "r.vmdk"]
    replica.restore(tuesday)
    assert flat_of(replica).read_bytes() == new


@pytest.mark.parametrize("ours", [False, True])
def test_a_write_whose_times_were_lost_with_the_power(lab: Lab, ours: bool) -> None:
    """A guest's write that was flushed outlives a power cut that takes its mtime and ctime away (seen on ext4 and XFS).

    "nothing differs, verified" was said of it. Here the times are put back, and the record is that of another boot.
    """
    replica = Replica(lab)
    data, monday, _, _ = two_days(lab, [3])
    replica.restore(monday)
    before = replica.path.stat()
    write_and_close(replica.path, 7 * BLOCK)
    os.utime(replica.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    (record,) = replica.records.glob("*.json")
    facts = json.loads(record.read_text())
    facts["ctime_ns"] = replica.path.stat().st_ctime_ns
    if "boot" in facts:
        facts["boot"] = "the boot before"
    record.write_text(json.dumps(facts))
    if ours:
        with pytest.raises(Diverged):
            replica.restore(monday, overwrite=OURS)
        assert replica.bytes[7 * BLOCK :][: len(WORK)] == WORK
    else:
        replica.restore(monday)
        assert replica.bytes == data


def test_after_a_boot_a_disk_of_ours_is_still_ours(lab: Lab) -> None:
    replica = Replica(lab)
    _, monday, new, tuesday = two_days(lab, [3])
    replica.restore(monday)
    (record,) = replica.records.glob("*.json")
    facts = json.loads(record.read_text())
    record.write_text(json.dumps({**facts, "boot": "the boot before"}))
    replica.restore(tuesday, overwrite=OURS)
    assert replica.bytes == new


def test_a_time_that_was_put_back_does_not_make_it_ours(lab: Lab) -> None:
    """`touch -r`, `rsync -t --inplace`: the mtime is the old one, the ctime tells."""
    replica = Replica(lab)
    _, monday, _, tuesday = two_days(lab, [3])
    replica.restore(monday)
    before = replica.path.stat()
    write_and_close(replica.path)
    os.utime(replica.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(Diverged):
        replica.restore(tuesday, overwrite=OURS)


def test_another_owner_or_mode_does_not_give_a_replica_up(lab: Lab) -> None:
    replica = Replica(lab)
    _, monday, new, tuesday = two_days(lab, [3])
    replica.restore(monday)
    replica.path.chmod(0o640)
    replica.restore(tuesday, overwrite=OURS)
    assert replica.bytes == new


def put(path: Path) -> None:
    path.write_bytes(b"somebody's")


def test_a_disk_appears_while_a_new_one_is_written(lab: Lab) -> None:
    replica = Replica(lab)
    made = lab.backup(disk_bytes(1))
    with pytest.raises(DestinationExists):
        restore(replica, made.delta, lambda: put(replica.path), overwrite=False)
    assert replica.bytes == b"somebody's"


def test_a_disk_of_another_owner_is_refused_before_anything_is_fetched(lab: Lab) -> None:
    """It failed when the new disk was to get its owner; `phd plan` said nothing of it."""
    if os.geteuid() != 0:
        pytest.skip("only root can give a file to somebody else first")
    replica = Replica(lab)
    old, monday, _, tuesday = two_days(lab, list(range(20)))
    replica.restore(monday)
    os.chown(replica.path, 12345, 12345)
    request = RestoreRequest(delta=tuesday, destination=replica.path, options=RestoreOptions(overwrite=True))
    with rights.that_give_nothing_away():
        with pytest.raises(DestinationError, match="belongs to user 12345"):
            replica.restore(tuesday)
        found = plan_delta(request, lab.targets, reporter=Witness()).refusals
    assert lab.witness.last is None, "nothing was fetched"
    assert [error.exit_code for error in found] == [73]
    assert replica.bytes == old
    assert lab.leftovers() == ["r.img"]


def test_two_threads_onto_one_disk_show_one_exact_disk(lab: Lab) -> None:
    replica = Replica(lab)
    data = changed(disk_bytes(2), [1])
    made = lab.backup(data)
    ends: list[object] = []

    def one() -> None:
        try:
            Replica(lab).restore(made.delta)
            ends.append("done")
        except DestinationInUse:
            ends.append("held")

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert "done" in ends
    assert replica.bytes == data
    assert lab.leftovers() == ["r.img"]
