"""What a crash or an error leaves of a disk that is replaced as a whole, and what the next attempt makes of it."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path

import pytest

from restore_core import durable
from restore_core.disk import alone
from restore_core.errors import DestinationInUse, Diverged, PhdError, TryAgainLater
from restore_core.restore import replace, writer
from restore_core.restore.part import held_destination
from restore_core.restore.replace import Replacement
from restore_core.restore.request import OURS
from tests.lab import BLOCK, Lab
from tests.restore_core.restore.crashes import dies, every_call, fails_once
from tests.restore_core.restore.test_neighbours import NAMES, WORK, flat_of, write_and_close
from tests.restore_core.restore.test_refresh import Replica, disk_bytes
from tests.starved import no_file_more


@pytest.fixture(params=["exchange", "no exchange", "no lease"])
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A kernel and a file system that can all of it, or not."""
    if request.param == "no exchange":

        def cannot(*_: object, **__: object) -> None:
            raise OSError(errno.EINVAL, "Invalid argument")

        monkeypatch.setattr(durable, "exchange", cannot)
    if request.param == "no lease":
        monkeypatch.setattr(alone, "_ask", lambda _fd: alone.Alone.UNKNOWN)
    return str(request.param)


def private_of(replica: Replica) -> Path:
    (found,) = replica.path.parent.glob(".phd-*")
    return found


def all_differs(lab: Lab, *, blocks: int = 6) -> tuple[bytes, bytes]:
    del lab
    return disk_bytes(1, 4 * BLOCK), os.urandom(blocks * BLOCK)


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("blocks", [4, 6])
def test_every_step(lab: Lab, blocks: int) -> None:
    """A crash at every call of `durable` while a VMDK is replaced, by one of another size, too; then "ours".

    The record was emptied before it was written anew: no record, an old disk that was not proved became the part file.
    """
    replica = Replica(lab, "r.vmdk")
    old, new = all_differs(lab, blocks=blocks)
    monday, tuesday = lab.backup(old).delta, lab.backup(new).delta
    number = 0
    while True:
        number += 1
        replica.restore(monday)
        if not dies(lambda: replica.restore(tuesday), *every_call(), number=number):
            break
        if replica.path.exists() and flat_of(replica).exists():
            there = flat_of(replica).read_bytes()
            assert there in (old, new), number
            assert f"RW {len(there) // 512} " in replica.path.read_text(), number
        replica.restore(tuesday, overwrite=OURS, again=True)
        assert flat_of(replica).read_bytes() == new, number
        assert f"RW {len(new) // 512} " in replica.path.read_text(), number
        assert lab.leftovers() == ["r-flat.vmdk", "r.vmdk"], number
    assert number > 40


@NAMES
@pytest.mark.usefixtures("machine")
def test_the_old_disk_is_read_after_the_proof(lab: Lab, name: str) -> None:
    """All but the end was done, receipt and descriptor were those of the new disk; a backup program reads the folder. The old disk
    got its name back, with the descriptor and the receipt of the new one: nobody's any more."""
    replica = Replica(lab, name)
    old, new = all_differs(lab)
    monday, tuesday = lab.backup(old).delta, lab.backup(new).delta
    replica.restore(monday)
    assert dies(lambda: replica.restore(tuesday), (writer, "remove_old_disk"))
    reader = os.open(private_of(replica), os.O_RDONLY)
    try:
        replica.restore(tuesday, overwrite=OURS)
    finally:
        os.close(reader)
    assert flat_of(replica).read_bytes() == new
    assert lab.leftovers() == sorted({flat_of(replica).name, replica.path.name})


@NAMES
def test_somebody_writes_the_old_disk_after_the_proof(lab: Lab, name: str) -> None:
    replica = Replica(lab, name)
    old, new = all_differs(lab)
    monday, tuesday = lab.backup(old).delta, lab.backup(new).delta
    replica.restore(monday)
    assert dies(lambda: replica.restore(tuesday), (writer, "remove_old_disk"))
    private = private_of(replica)
    write_and_close(private)
    with pytest.raises(Diverged, match=r"\.phd-"):
        replica.restore(tuesday, overwrite=OURS)
    assert private.read_bytes()[: len(WORK)] == WORK
    assert flat_of(replica).read_bytes() == new


@NAMES
def test_a_vm_opens_the_disk_in_the_moment_of_the_crash(lab: Lab, name: str) -> None:
    """Exchanged, not proved: the VM has the old file, and gets its name back."""
    replica = Replica(lab, name)
    old, new = all_differs(lab)
    monday, tuesday = lab.backup(old).delta, lab.backup(new).delta
    replica.restore(monday)
    assert dies(lambda: replica.restore(tuesday), (replace, "_refuse_unless_ours"))
    vm = os.open(private_of(replica), os.O_RDWR)
    with pytest.raises(PhdError) as caught:
        replica.restore(tuesday)
    assert caught.value.try_again
    assert os.path.samestat(os.fstat(vm), flat_of(replica).stat())
    assert replica.path.exists()
    os.close(vm)
    assert flat_of(replica).read_bytes() == old
    replica.restore(tuesday, overwrite=OURS)
    assert flat_of(replica).read_bytes() == new


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_an_error_at_every_step(lab: Lab, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old disk lies in its place with its descriptor, or the new one; the next attempt completes it, and it stays ours."""
    replica = Replica(lab, "r.vmdk")
    old, new = all_differs(lab)
    monday, tuesday = lab.backup(old).delta, lab.backup(new).delta
    for name in ("move", "exchange", "sync_file", "write_new", "remove"):
        for number in range(1, 20):
            replica.restore(monday)
            with monkeypatch.context() as patch:
                fails_once(patch, durable, name, OSError(code, os.strerror(code)), number=number)
                try:
                    replica.restore(tuesday)
                except (PhdError, OSError):
                    there = flat_of(replica).read_bytes()
                    assert there in (old, new), (name, number)
                else:
                    break
            replica.restore(tuesday, overwrite=OURS, again=True)
            assert flat_of(replica).read_bytes() == new
            assert lab.leftovers() == ["r-flat.vmdk", "r.vmdk"], (name, number)


def test_an_error_while_a_new_disk_gets_its_name_leaves_nothing(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of the disk's size stayed under its private name, and nothing of a job that has failed looks for it."""
    replica = Replica(lab)
    made = lab.backup(disk_bytes(1)).delta
    with monkeypatch.context() as patch:
        fails_once(patch, durable, "move", OSError(errno.ENOSPC, "No space left on device"), number=3)
        with pytest.raises(PhdError):
            replica.restore(made, keep=False)
    assert lab.leftovers() == []


def test_a_record_that_leads_out_of_the_folder_is_not_believed(lab: Lab) -> None:
    """Who may write in the folder could have any file of its file system moved or removed by root."""
    replica = Replica(lab)
    monday = lab.backup(disk_bytes(1)).delta
    replica.restore(monday)
    victim = lab.folder / "victim"
    victim.write_bytes(b"root's")
    facts = victim.stat()
    old = {"inode": facts.st_ino, "generation": 0, "size": facts.st_size, "mtime_ns": facts.st_mtime_ns}
    here = replica.path.stat()
    new = {"inode": here.st_ino, "generation": 0, "size": here.st_size, "mtime_ns": here.st_mtime_ns}
    record = {"doing": "replacing", "private": "../victim", "aside": "../victim", "new": new, "old": old}
    text = json.dumps({**record, "descriptor": None, "boot": "", "proven": True}).encode()
    digest = hashlib.sha256(text).hexdigest().encode()
    replica.path.with_name("r.img.phd-hold").write_bytes(digest + b" " + text + b"\n")
    replica.restore(monday)
    assert victim.read_bytes() == b"root's"


def test_a_part_file_that_somebody_has_open_is_not_published(lab: Lab) -> None:
    replica = Replica(lab)
    old, new = all_differs(lab)
    monday, tuesday = lab.backup(old).delta, lab.backup(new).delta
    replica.restore(monday)
    opened: list[int] = []

    def stop() -> None:
        part = replica.path.with_name("r.img.phd-new")
        if not opened and part.exists() and part.stat().st_size:
            opened.append(os.open(part, os.O_RDWR))

    with pytest.raises(DestinationInUse):
        replica.restore(tuesday, stop)
    assert replica.bytes == old
    os.close(opened[0])


def test_an_old_disk_that_cannot_be_opened_now_is_not_one_that_is_gone(lab: Lab) -> None:
    """With no descriptor left the old disk was not found, and the new one was shown without asking whether the old one was used."""
    replica = Replica(lab, "r.vmdk")
    old, new = all_differs(lab)
    monday, tuesday = lab.backup(old).delta, lab.backup(new).delta
    replica.restore(monday)
    number = 1
    while True:  # to a crash that leaves a record of both files
        assert dies(lambda: replica.restore(tuesday), *every_call(), number=number)
        with held_destination(replica.path, roots=None, make_folders=False) as (destination, hold):
            if (record := Replacement.from_record(hold.record(), destination)) is not None:
                with pytest.raises(OSError, match="Too many open files"), no_file_more(spare=1), record.opened(destination):
                    pass
                with record.opened(destination) as files:
                    assert set(files) == {"new", "old"}
                break
        number += 1
        replica.restore(monday)


@pytest.mark.usefixtures("machine")
def test_an_old_disk_that_cannot_get_its_name_back_is_for_the_next_attempt(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """No room for a name after the exchange, neither here nor when the next attempt begins: the job ended."""
    replica = Replica(lab, "r.vmdk")
    old, new = all_differs(lab)
    monday, tuesday = lab.backup(old).delta, lab.backup(new).delta
    replica.restore(monday)

    def no_room(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:

        def no_more_names(*_: object) -> None:
            patch.setattr(durable, "move", no_room)
            patch.setattr(durable, "exchange", no_room)
            no_room()

        patch.setattr(replace, "_refuse_unless_ours", no_more_names)
        for _attempt in range(2):
            with pytest.raises(TryAgainLater, match="phd recover"):
                replica.restore(tuesday)
    replica.restore(tuesday)
    assert flat_of(replica).read_bytes() == new
    assert lab.leftovers() == ["r-flat.vmdk", "r.vmdk"]
