"""What a crash or an error leaves of a change in place, and what the next attempt, or a person, makes of it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from restore_core import durable
from restore_core.errors import BlockMismatch, DestinationError, DestinationExists, Diverged, PhdError, TryAgainLater
from restore_core.restore import existing, publish, receipt, redo, redo_file
from restore_core.restore.extras import recover_disk
from restore_core.restore.redo_file import Side
from restore_core.restore.request import OURS, Provision
from restore_core.targets.base import ArchiveRef
from tests.lab import BLOCK, Lab, go_on
from tests.restore_core.restore.crashes import dies, every_call, fails_once
from tests.restore_core.restore.test_neighbours import NAMES, WORK, flat_of, write_and_close
from tests.restore_core.restore.test_refresh import SIZE, Replica, disk_bytes, two_days

SIDES = pytest.mark.parametrize("side", [Side.NEW, Side.OLD, None], ids=["forward", "back", "as it is"])
APPLYING = ".phd-applying"


def half_way(replica: Replica, delta: ArchiveRef, number: int = 2) -> None:
    """A refresh in place whose process dies before so many writes into the hidden disk."""
    assert dies(lambda: replica.restore(delta), (durable, "write_all_at"), number=number, of=APPLYING)


def hidden(replica: Replica) -> Path:
    return flat_of(replica).with_name(flat_of(replica).name + APPLYING)


@NAMES
def test_a_person_finishes_it_or_takes_it_back_and_it_stays_ours(lab: Lab, name: str) -> None:
    replica = Replica(lab, name)
    old, monday, new, tuesday = two_days(lab, [3, 9, 11])
    for side, found in ((Side.NEW, new), (Side.OLD, old)):
        replica.restore(monday)
        half_way(replica, tuesday)
        assert not replica.path.exists()
        recover_disk(replica.path, side, replica.records, go_on)
        assert flat_of(replica).read_bytes() == found
        assert [each for each in lab.leftovers() if "redo" in each or APPLYING in each] == []
        replica.restore(tuesday, overwrite=OURS)
        assert flat_of(replica).read_bytes() == new


@NAMES
def test_as_it_is_is_nobodys(lab: Lab, name: str) -> None:
    replica = Replica(lab, name)
    old, monday, new, tuesday = two_days(lab, [3, 9, 11])
    replica.restore(monday)
    half_way(replica, tuesday)
    recover_disk(replica.path, None, replica.records, go_on)
    assert replica.path.exists()
    assert flat_of(replica).read_bytes() not in (old, new)
    with pytest.raises(Diverged):
        replica.restore(tuesday, overwrite=OURS)
    replica.restore(tuesday)
    assert flat_of(replica).read_bytes() == new


@NAMES
@SIDES
def test_a_disk_in_its_place_is_never_written_by_a_recovery(lab: Lab, name: str, side: Side | None) -> None:
    """The redo file was sealed, nothing hidden: a VM used the disk since, and `phd recover` wrote the new blocks into its work."""
    replica = Replica(lab, name)
    old, monday, _, tuesday = two_days(lab, [3, 9, 11])
    replica.restore(monday)
    assert dies(lambda: replica.restore(tuesday), (redo, "hide"))
    write_and_close(flat_of(replica))
    notes = recover_disk(replica.path, side, replica.records, go_on)
    assert "deleted the redo file" in notes[0]
    assert flat_of(replica).read_bytes() == WORK + old[len(WORK) :]
    assert replica.path.exists()


@SIDES
def test_the_hidden_disk_is_gone(lab: Lab, side: Side | None) -> None:
    """`phd recover` ended with a traceback."""
    replica = Replica(lab)
    _, monday, _, tuesday = two_days(lab, [3, 9, 11])
    replica.restore(monday)
    half_way(replica, tuesday)
    hidden(replica).unlink()
    assert "not there any more" in recover_disk(replica.path, side, replica.records, go_on)[0]


@NAMES
def test_a_copy_of_the_hidden_disk_can_still_be_finished(lab: Lab, name: str) -> None:
    """The folder was copied to another datastore: the redo file, the only way out, was thrown away."""
    replica = Replica(lab, name)
    old, monday, _, tuesday = two_days(lab, [3, 9, 11])
    replica.restore(monday)
    half_way(replica, tuesday)
    copy = hidden(replica).with_name("copy")
    copy.write_bytes(hidden(replica).read_bytes())
    copy.replace(hidden(replica))
    with pytest.raises(Diverged, match="another file"):
        replica.restore(tuesday)
    recover_disk(replica.path, Side.OLD, replica.records, go_on)
    assert flat_of(replica).read_bytes() == old
    assert replica.path.exists()


@NAMES
def test_another_disk_takes_the_name_of_the_hidden_one(lab: Lab, name: str) -> None:
    """Of a raw image the hidden disk, perhaps with somebody's work, was deleted."""
    replica = Replica(lab, name)
    _, monday, _, tuesday = two_days(lab, [3, 9, 11])
    replica.restore(monday)
    half_way(replica, tuesday)
    half = hidden(replica).read_bytes()
    flat_of(replica).write_bytes(b"a third")
    with pytest.raises(DestinationError, match="third file"):
        replica.restore(tuesday)
    assert flat_of(replica).read_bytes() == b"a third"
    assert hidden(replica).read_bytes() == half


@pytest.mark.parametrize("tail", [b"grown!!!" * (BLOCK // 8), bytes(2 * BLOCK)], ids=["data", "zeros"])
def test_a_disk_that_began_to_grow(lab: Lab, tail: bytes) -> None:
    """It had its new size and all old blocks: it got its name back so, with a descriptor of another size, and was nobody's."""
    replica = Replica(lab, "r.vmdk")
    old = disk_bytes(1)
    monday, tuesday = lab.backup(old).delta, lab.backup(old + tail).delta
    for follow in ("the next restore", "forward", "back"):
        replica.restore(monday)
        assert dies(lambda: replica.restore(tuesday), (redo, "_written"))
        assert hidden(replica).stat().st_size > SIZE
        if follow != "the next restore":
            recover_disk(replica.path, Side.NEW if follow == "forward" else Side.OLD, replica.records, go_on)
            size = flat_of(replica).stat().st_size
            assert f"RW {size // 512} " in replica.path.read_text()
        replica.restore(tuesday, overwrite=OURS)
        assert flat_of(replica).read_bytes() == old + tail
        assert f"RW {(SIZE + len(tail)) // 512} " in replica.path.read_text()


@NAMES
def test_what_was_put_back_after_an_error_is_still_ours(lab: Lab, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old blocks were written back, which changes the times: the replica was given up as somebody else's."""
    replica = Replica(lab, name)
    old, monday, new, tuesday = two_days(lab, [3, 9, 11])
    replica.restore(monday)
    with monkeypatch.context() as patch:
        fails_once(patch, durable, "write_all_at", OSError(5, "Input/output error"), number=2, of=APPLYING)
        with pytest.raises(TryAgainLater, match="put back as it was"):
            replica.restore(tuesday, overwrite=OURS)
    assert flat_of(replica).read_bytes() == old
    outcome = replica.restore(tuesday, overwrite=OURS)
    assert "whose digests are known" in outcome.way
    assert flat_of(replica).read_bytes() == new


def test_what_a_crash_left_while_it_was_put_back_is_still_ours(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    replica = Replica(lab, "r.vmdk")
    _, monday, new, tuesday = two_days(lab, [3, 9, 11])
    replica.restore(monday)
    with monkeypatch.context() as patch:
        fails_once(patch, durable, "write_all_at", OSError(5, "Input/output error"), number=2, of=APPLYING)
        assert dies(lambda: replica.restore(tuesday), (redo, "unhide"))
    replica.restore(tuesday, overwrite=OURS)
    assert flat_of(replica).read_bytes() == new


@pytest.mark.parametrize("refused", [False, True], ids=["hiding", "proof after hiding"])
def test_a_name_that_cannot_be_given_back_is_for_the_next_attempt(lab: Lab, refused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """No room for a name, neither to hide the disk nor to show its descriptor again: the job ended, with the descriptor hidden."""
    replica = Replica(lab, "r.vmdk")
    _, monday, new, tuesday = two_days(lab, [3, 9, 11])
    replica.restore(monday)
    move, left = durable.move, [2 if refused else 1]

    def no_room(name: str | Path, to: str | Path, **asked: Any) -> None:
        left[0] -= APPLYING in str(to)
        if left[0] < 0 or (APPLYING in str(name)):
            raise OSError(28, "No space left on device")
        move(name, to, **asked)

    with monkeypatch.context() as patch:
        patch.setattr(durable, "move", no_room)
        if refused:
            patch.setattr(existing.ExistingDisk, "prove_again", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
        with pytest.raises(TryAgainLater, match="phd recover"):
            replica.restore(tuesday)
    assert [each for each in lab.leftovers() if APPLYING in each]
    replica.restore(tuesday, overwrite=OURS)
    assert flat_of(replica).read_bytes() == new
    assert lab.leftovers() == ["r-flat.vmdk", "r.vmdk"]


@NAMES
def test_what_does_not_read_back_is_taken_back(lab: Lab, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk stayed hidden, and the error did not say so."""
    replica = Replica(lab, name)
    old, monday, _, tuesday = two_days(lab, [3, 9, 11])
    replica.restore(monday)
    wrong = BlockMismatch(block=3, offset=3 * BLOCK, where="r", expected="a", found="b")
    with monkeypatch.context() as patch:
        fails_once(patch, publish, "read_back", wrong)
        with pytest.raises(BlockMismatch):
            replica.restore(tuesday, readback=True)
    assert flat_of(replica).read_bytes() == old
    assert lab.leftovers() == sorted({flat_of(replica).name, replica.path.name})


def test_our_own_allocation_proves_nothing_that_was_not_proved_before(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write whose times a power cut took away; then a refresh that takes room for holes, and ends with an error.

    It had put the new times on record as those of a disk that it knows: the next one trusted digests that nobody had read.
    """
    replica = Replica(lab)
    old = disk_bytes(1, 20 * BLOCK) + bytes(4 * BLOCK)
    new = old[: 21 * BLOCK] + os.urandom(BLOCK) + old[22 * BLOCK :]
    monday, tuesday = lab.backup(old).delta, lab.backup(new).delta
    replica.restore(monday, provision=Provision.THIN)
    before = replica.path.stat()
    write_and_close(replica.path, 7 * BLOCK)
    os.utime(replica.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    (record,) = replica.records.glob("*.json")
    facts = {**json.loads(record.read_text()), "ctime_ns": replica.path.stat().st_ctime_ns, "boot": "the boot before"}
    record.write_text(json.dumps(facts))
    with monkeypatch.context() as patch:
        fails_once(patch, redo_file, "complete", OSError(5, "Input/output error"))
        with pytest.raises(TryAgainLater):
            replica.restore(tuesday, provision=Provision.THIN)
    with pytest.raises(Diverged):
        replica.restore(monday, overwrite=OURS, provision=Provision.THIN)
    assert replica.bytes[7 * BLOCK :][: len(WORK)] == WORK


@pytest.mark.parametrize("made", ["fifo", "link", "folder"])
def test_a_thing_in_the_place_of_the_redo_file_stops_nobody(lab: Lab, made: str) -> None:
    """A FIFO: the restore stood still for ever."""
    replica = Replica(lab)
    _, monday, _, _ = two_days(lab, [3])
    replica.path.parent.mkdir()
    thing = replica.path.with_name("r.img.phd-redo")
    {"fifo": lambda: os.mkfifo(thing), "link": lambda: thing.symlink_to("/dev/zero"), "folder": thing.mkdir}[made]()

    def late(*_: object) -> None:
        raise AssertionError("it stands still")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(20)
    try:
        with pytest.raises((PhdError, OSError)):
            replica.restore(monday)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_a_hidden_descriptor_comes_back_when_nothing_else_is_left(lab: Lab) -> None:
    """Giving it its name back failed, and the redo file was thrown away: it stayed hidden beside a whole disk."""
    replica = Replica(lab, "r.vmdk")
    old, monday, _, tuesday = two_days(lab, [3, 9])
    replica.restore(monday)
    os.rename(replica.path, replica.path.with_name("r.vmdk.phd-applying"))
    with pytest.raises(DestinationExists):
        replica.restore(tuesday, overwrite=False)
    assert replica.path.exists()
    assert flat_of(replica).read_bytes() == old
    assert lab.leftovers() == ["r-flat.vmdk", "r.vmdk"]


def test_a_receipt_that_was_not_settled_outlives_the_next_refresh(lab: Lab) -> None:
    """The records could not be written at that moment; then came a refresh that crashed: the disk was nobody's."""
    replica = Replica(lab)
    old, monday, _, tuesday = two_days(lab, [3, 9])
    replica.restore(monday)
    for record in replica.records.glob("*[0-9a-f].json"):
        record.rename(record.with_name(record.name.replace(".json", ".next.json")))
    for digests in replica.records.glob("*[0-9a-f].digests"):
        digests.rename(digests.with_name(digests.name.replace(".digests", ".next.digests")))
    assert dies(lambda: replica.restore(tuesday), (redo, "apply"))
    replica.restore(monday, overwrite=OURS)
    assert replica.bytes == old


@pytest.mark.parametrize("again", ["monday", "tuesday"])
def test_a_crash_while_room_is_taken_leaves_no_record_behind(lab: Lab, again: str) -> None:
    """The next attempt had nothing to do, or no room to take: record and lock file stayed for ever."""
    replica = Replica(lab)
    old = disk_bytes(1)
    monday, tuesday = lab.backup(old).delta, lab.backup(old + b"grown!!!" * (BLOCK // 8)).delta
    replica.restore(monday)
    assert dies(lambda: replica.restore(tuesday), (existing, "_allocate"))
    assert lab.leftovers()
    replica.restore(monday if again == "monday" else tuesday, overwrite=OURS)
    assert lab.leftovers() == ["r.img"]


def test_a_crash_and_then_an_error_while_room_is_taken(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second attempt emptied the record of the first, which alone said that the new times were ours: the disk was nobody's."""
    replica = Replica(lab)
    old = disk_bytes(1)
    new = old + b"grown!!!" * (BLOCK // 8)
    monday, tuesday = lab.backup(old).delta, lab.backup(new).delta
    replica.restore(monday)
    assert dies(lambda: replica.restore(tuesday), (receipt.Receipts, "stamp"))
    with monkeypatch.context() as patch:
        fails_once(patch, redo_file, "complete", OSError(28, "No space left on device"))
        with pytest.raises(PhdError):
            replica.restore(tuesday, overwrite=OURS)
    replica.restore(tuesday, overwrite=OURS)
    assert replica.bytes == new
    assert lab.leftovers() == ["r.img"]


@NAMES
def test_a_disk_that_could_not_be_put_on_record_is_still_ours(lab: Lab, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of the records was full or broken at that moment: the job was tried again, and found somebody else's disk."""
    replica = Replica(lab, name)
    _, monday, new, tuesday = two_days(lab, [3, 9])
    replica.restore(monday)
    with monkeypatch.context() as patch:
        fails_once(patch, receipt.Receipts, "_write", OSError(5, "Input/output error"), number=2)
        with pytest.raises(TryAgainLater, match="record of the finished disk"):
            replica.restore(tuesday, overwrite=OURS)
    assert flat_of(replica).read_bytes() == new
    replica.restore(tuesday, overwrite=OURS, again=True)
    assert flat_of(replica).read_bytes() == new
    assert lab.leftovers() == sorted({flat_of(replica).name, replica.path.name})


@pytest.mark.parametrize("number", range(1, 8))
def test_an_error_while_the_disk_gets_its_names_back(lab: Lab, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The redo file, which has the new descriptor, was thrown away: the old descriptor was left, hidden, beside the new disk."""
    replica = Replica(lab, "r.vmdk")
    old = disk_bytes(1)
    new = old + b"grown!!!" * (BLOCK // 8)
    monday, tuesday = lab.backup(old).delta, lab.backup(new).delta
    replica.restore(monday)
    with monkeypatch.context() as patch:
        show = redo.show

        def broken(*args: Any) -> None:
            fails_once(patch, durable, "sync_folder", OSError(5, "Input/output error"), number=number)
            show(*args)

        patch.setattr(redo, "show", broken)
        with contextlib.suppress(PhdError, OSError):
            replica.restore(tuesday)
    replica.restore(tuesday, overwrite=OURS, again=True)
    assert flat_of(replica).read_bytes() == new
    assert f"RW {len(new) // 512} " in replica.path.read_text()
    assert lab.leftovers() == ["r-flat.vmdk", "r.vmdk"]


@pytest.mark.parametrize("name", ["r.vmdk"])
def test_every_step_of_a_thin_disk_that_grows(lab: Lab, name: str) -> None:
    """Holes are allocated, the disk grows, the descriptor changes: a crash at every call of `durable`, then "ours"."""
    replica = Replica(lab, name)
    old = disk_bytes(1, 6 * BLOCK) + bytes(2 * BLOCK)
    new = old[: 6 * BLOCK] + os.urandom(BLOCK) + bytes(BLOCK) + os.urandom(BLOCK)
    monday, tuesday = lab.backup(old).delta, lab.backup(new).delta
    number = 0
    while True:
        number += 1
        replica.restore(monday, provision=Provision.THIN)
        if not dies(lambda: replica.restore(tuesday, provision=Provision.THIN), *every_call(), number=number):
            break
        if replica.path.exists() and flat_of(replica).exists():
            there = flat_of(replica).read_bytes()
            assert there in (old, new), number
            assert f"RW {len(there) // 512} " in replica.path.read_text(), number
        replica.restore(tuesday, overwrite=OURS, again=True, provision=Provision.THIN)
        assert flat_of(replica).read_bytes() == new, number
        assert lab.leftovers() == ["r-flat.vmdk", "r.vmdk"], number
    assert number > 40


def test_the_redo_file_carries_a_long_descriptor(lab: Lab) -> None:
    """The footer had 64 KiB; an archive may give a descriptor of 4 MiB."""
    replica = Replica(lab, "r.vmdk")
    _, monday, _, tuesday = two_days(lab, [3, 9, 11])
    replica.restore(monday)
    long = replica.path.read_text() + "".join(f'ddb.note{number} = "{"x" * 90}"\n' for number in range(1000))
    redo_fd = os.open(lab.folder / "redo", os.O_RDWR | os.O_CREAT)
    disk = os.open(flat_of(replica), os.O_RDONLY)
    try:
        _complete(lab, tuesday, redo_fd, disk, long)
        file = redo_file.RedoFile.opened(redo_fd)
        assert file is not None
        assert file.footer.descriptor == long
    finally:
        os.close(redo_fd)
        os.close(disk)


def _complete(lab: Lab, delta: ArchiveRef, redo_fd: int, disk: int, descriptor: str) -> None:
    from restore_core.disk.identity import stamps_of
    from restore_core.restore.survey import survey_disk

    reader = lab.reader(delta)
    survey = survey_disk(reader, disk, SIZE, go_on)
    redo_file.complete(redo_fd, disk, reader, survey, before=stamps_of(disk), thick=True, descriptor=descriptor)
