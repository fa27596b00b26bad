"""Restore through the console, question by question: what is shown, what is refused, what comes of it."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from phd_daemon.console import restore_flow, stub_flow, vmx_flow
from phd_daemon.console.menus import NO_DAEMON
from phd_daemon.spool.control_file import ControlFile, parse_control_file
from restore_core.errors import ConfigurationError, PhdError, Stopped
from restore_core.restore.request import VmxChoice
from tests.phd_daemon.console.conftest import Place
from tests.phd_daemon.console.scripted import BACK, ENTER, Answer, Scripted
from tests.phd_daemon.small_backup import UUID, VMX
from tests.rights import of_no_more_than_a_user

T = TypeVar("T")
Script = list[tuple[str, Answer]]
TO_BACKUP: Script = [("Virtual Machines", ENTER), ("a date or All Dates", ENTER)]
TO_PLACE: Script = [*TO_BACKUP, ("Backups of CRM", ENTER), ("Restore this backup?", ENTER), ("The Full", ENTER)]
ELSEWHERE: Script = [("Where to restore", ENTER), ("Datastore", ENTER), ("Folder on", ENTER), ("Name of the VMDK", ENTER)]
HERE: Script = [("Start this restore?", ENTER), ("Submit this restore job", "n")]
BACK_FROM_THE_NAME: Script = [
    ("Folder on", BACK),
    ("Datastore", BACK),
    ("Where to restore", BACK),
    ("The Full", BACK),
    ("Restore this backup?", BACK),
]
OUT: Script = [("Backups of CRM", BACK), ("a date or All Dates", BACK), ("Virtual Machines", BACK)]


def control_of(place: Place, name: str) -> ControlFile:
    return parse_control_file((place.spool / f"{name}.job").read_bytes())


def test_enter_alone_restores_the_newest_delta_to_the_default_datastore(place: Place) -> None:
    face = Scripted(*TO_PLACE, *ELSEWHERE, ("Start", ENTER), ("Submit", ENTER), ("Restore the VMX file also?", ENTER), *OUT)
    restore_flow.by_vm(face, place.session)
    assert place.restored() == place.backup.content
    assert not place.disk.with_suffix(".vmx").exists()
    assert NO_DAEMON in face.seen
    assert "* nas1" in face.text()
    assert f"Full path       : {place.backup.delta_path}" in face.seen


def test_the_vmx_afterwards(place: Place) -> None:
    face = Scripted(*TO_PLACE, *ELSEWHERE, *HERE, ("Restore the VMX file also?", "y"), *OUT)
    restore_flow.by_vm(face, place.session)
    assert (place.disk.parent / "CRM.vmx").read_bytes() == VMX


def test_into_the_queue_and_at_once_the_next_one(place: Place) -> None:
    submit: Script = [("Start", ENTER), ("Submit", "y"), ("Restore the VMX file also, unedited?", "y")]
    again: Script = [("Backups of CRM", ENTER), ("Restore this backup?", ENTER), ("The Full", ENTER)]
    face = Scripted(*TO_PLACE, *ELSEWHERE, *submit, *again, *ELSEWHERE, *submit, *OUT)
    restore_flow.by_vm(face, place.session)
    for name in ("CRM", "CRM-2"):
        control = control_of(place, name)
        assert (control.delta, control.restore_to, control.options.vmx) == (place.backup.delta, place.disk, VmxChoice.AS_IS)
        assert (control.options.overwrite, control.full) == (False, None)
    assert not place.disk.parent.exists()


def test_esc_goes_back_exactly_one_step_from_the_last_question_to_the_menu(place: Place) -> None:
    there: Script = [*TO_PLACE, *ELSEWHERE, ("Start", ENTER), ("Submit", "y")]
    back: Script = [("Restore the VMX", BACK), ("Submit", BACK), ("Start", BACK), ("Name of the VMDK", BACK), *BACK_FROM_THE_NAME]
    face = Scripted(*there, *back, *OUT)
    restore_flow.by_vm(face, place.session)
    assert not face.answers
    assert not list(place.spool.iterdir())
    assert not place.disk.parent.exists()


def test_esc_goes_back_one_step_from_a_disk_that_lies_there_and_from_folders_that_are_typed(place: Place) -> None:
    (place.datastore / "old").mkdir()
    (place.datastore / "old" / "CRM-flat.vmdk").write_bytes(bytes(512))
    over: Script = [("Where to restore", "old"), ("Write over", "y"), ("Start", BACK), ("Write over", BACK)]
    typed: Script = [("Where", ENTER), ("Datastore", ENTER), ("Folder on", "n"), ("Folder on", "new"), ("Name", BACK)]
    typed += [("Folder on", BACK), ("Folder on", BACK)]
    other: Script = [("Datastore", "o"), ("Another", str(place.folder)), ("Name", BACK), ("Another", BACK), ("Datastore", BACK)]
    face = Scripted(*TO_PLACE, *over, *typed, *other, *BACK_FROM_THE_NAME[2:], *OUT)
    restore_flow.by_vm(face, place.session)
    assert not face.answers


def test_esc_goes_back_one_step_on_the_way_to_a_vmx(place: Place) -> None:
    there: Script = [*TO_BACKUP, ("Backups of CRM", ENTER), ("Restore the VMX file of this", ENTER), ("Datastore", ENTER)]
    back: Script = [("Folder", BACK), ("Datastore", BACK), ("Restore the VMX file of this", BACK)]
    face = Scripted(*there, *back, *OUT)
    vmx_flow.vmx_only(face, place.session)
    assert not face.answers


def test_a_name_without_a_known_suffix_is_asked_about(place: Place) -> None:
    names: Script = [("Name of", "CRM.vmdky"), ("Make a raw image?", ENTER), ("Name of", "CRM.vmdky"), ("Make a raw image?", "y")]
    face = Scripted(*TO_PLACE, *ELSEWHERE[:-1], *names, *HERE, ("Restore the VMX", ENTER), *OUT)
    restore_flow.by_vm(face, place.session)
    assert "this makes a raw image" in face.text()
    assert (place.disk.parent / "CRM.vmdky").read_bytes() == place.backup.content


def test_a_second_machine_of_one_name_gets_a_folder_of_its_own(place: Place) -> None:
    place.disk.parent.mkdir()
    place.disk.with_name("CRM-flat.vmdk").write_bytes(bytes(512))
    face = Scripted(*TO_PLACE, *ELSEWHERE, *HERE, ("Restore the VMX", ENTER), *OUT)
    restore_flow.by_vm(face, place.session)
    own = place.datastore / f"CRM-{UUID[:8]}" / "CRM-flat.vmdk"
    assert own.read_bytes() == place.backup.content
    assert place.disk.with_name("CRM-flat.vmdk").read_bytes() == bytes(512)


class Impatient(Scripted):
    """Does not wait for what is named, once."""

    def __init__(self, message: str, *answers: tuple[str, Answer]) -> None:
        super().__init__(*answers)
        self._message = message

    def wait(self, message: str, work: Callable[[], T]) -> T:
        if self._message and self._message in message:
            self._message = ""
            raise KeyboardInterrupt
        return super().wait(message, work)


@pytest.mark.parametrize("message", ["checking the header", "Looking for the Full"])
def test_who_does_not_wait_is_back_at_the_question_before(place: Place, message: str) -> None:
    summary: Script = [("Restore this backup?", ENTER), ("Restore this backup?", BACK)]
    face = Impatient(message, *TO_BACKUP, ("Backups of CRM", ENTER), *summary, *OUT)
    restore_flow.by_vm(face, place.session)
    assert not face.answers


def test_who_does_not_wait_for_the_datastores_is_back_at_the_full(place: Place) -> None:
    face = Impatient("Looking at the datastores", *TO_PLACE, *BACK_FROM_THE_NAME[3:], *OUT)
    restore_flow.by_vm(face, place.session)
    assert not face.answers


def test_by_the_name_of_the_vmdk(place: Place) -> None:
    shutil.copytree(place.backup.full_path.parent, place.folder / "nas" / "esx7")
    face = Scripted(
        ("VMDK Names", "CRM.vmdk"), ("a date", "a"), ("Backups of CRM.vmdk", BACK), ("a date", BACK), ("VMDK Names", BACK)
    )
    restore_flow.by_vmdk(face, place.session)
    assert any(f"CRM.vmdk CRM ({UUID})" in line for line in face.seen)
    assert any("CRM.vmdk esx7 (version 2, by host)" in line for line in face.seen)


def test_machines_of_one_name_stand_apart_and_version_2_under_its_host(place: Place) -> None:
    folder = place.backup.full_path.parent
    other = UUID.replace("564d", "99ff")
    shutil.copytree(folder, folder.with_name(folder.name.replace(UUID, other)))
    shutil.copytree(folder, place.folder / "nas" / "esx7")
    face = Scripted(
        ("Virtual Machines", other), (other, "a"), (f"Backups of CRM ({other})", BACK), (other, BACK), ("Virtual", BACK)
    )
    restore_flow.by_vm(face, place.session)
    assert any(line.startswith(f"CRM {UUID} 1 2 ") for line in face.seen)
    assert any(line.startswith(f"CRM {other} 1 2 ") for line in face.seen)
    assert any(line.startswith("esx7 version 2, by host 1 2 ") for line in face.seen)


def test_a_full_is_restored_in_the_foreground_and_its_name_is_a_guess(place: Place) -> None:
    face = Scripted(
        *TO_BACKUP,
        ("Backups of CRM", "Full"),
        ("Restore this backup?", ENTER),
        *ELSEWHERE,
        ("Start", ENTER),
        ("Restore it now, in the foreground?", ENTER),
        *OUT,
    )
    restore_flow.by_vm(face, place.session)
    assert place.restored() == place.backup.content
    assert "A Full cannot be queued" in face.text()
    assert "a guess, from the name of the backup" in face.text()


def test_a_disk_in_use_says_by_whom_and_one_that_is_not_is_replaced_only_when_said_so(place: Place) -> None:
    for name in ("held", "free"):
        (place.datastore / name).mkdir()
        shutil.copy(place.folder / "nas" / place.backup.full.path, place.datastore / name / "CRM-flat.vmdk")
    (place.datastore / "held" / "CRM.vmdk.lck").write_text("esx1")
    face = Scripted(
        *TO_PLACE,
        ("Where to restore", "free"),
        ("Write over this disk?", ENTER),
        ("Where to restore", "free"),
        ("Write over this disk?", "y"),
        *HERE,
        ("Restore the VMX", ENTER),
        *OUT,
    )
    restore_flow.by_vm(face, place.session)
    held = next(line for line in face.seen if line.startswith(str(place.datastore / "held" / "CRM.vmdk")))
    assert "  in use: CRM.vmdk.lck (a lock file of " in held
    assert "it says: esx1" in held
    assert (place.datastore / "free" / "CRM-flat.vmdk").read_bytes() == place.backup.content
    assert (place.datastore / "held" / "CRM-flat.vmdk").read_bytes() == place.backup.full_path.read_bytes()


def test_names_that_cannot_be_are_refused_with_the_reason(place: Place) -> None:
    names = [
        "a/b.vmdk",
        "bad|name.vmdk",
        "CRM-flat.vmdk",
        'a"b.vmdk',
        ".vmdk",
        "x" * 250 + ".vmdk",
        "%0A.vmdk",
        "CRM.vmdk.phd-new",
        BACK,
    ]
    asked: Script = [("Name of the VMDK", name) for name in names]
    face = Scripted(*TO_PLACE, *ELSEWHERE[:-1], *asked, *BACK_FROM_THE_NAME, *OUT)
    restore_flow.by_vm(face, place.session)
    reasons = (
        "a '/' cannot stand in a name",
        "a '|' cannot stand in a name",
        "data file of a VMDK",
        "cannot carry this name",
        "needs a name",
        "bytes too long",
    )
    for reason in (*reasons, "not a name for a disk", "kept for unfinished files"):
        assert reason in face.text()


def test_a_name_that_the_file_system_does_not_take_is_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    really = os.open

    def like_vfat(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if ":" in str(path):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
        return really(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", like_vfat)
    folders: Script = [("Folder on", "n"), ("Folder on", "a:b"), ("Folder on", "ab")]
    names: Script = [("Name of the VMDK", "c:d.vmdk"), ("Name of the VMDK", "cd.vmdk")]
    face = Scripted(*TO_PLACE, *ELSEWHERE[:2], *folders, *names, *HERE, ("Restore the VMX", ENTER), *OUT)
    restore_flow.by_vm(face, place.session)
    assert face.text().count("cannot be made there: Invalid argument") == 2
    assert (place.datastore / "ab" / "cd-flat.vmdk").read_bytes() == place.backup.content
    assert not list(place.folder.rglob("*.phd-try"))


def test_outside_of_the_datastores_it_cannot_be_queued(place: Place) -> None:
    face = Scripted(
        *TO_PLACE,
        ("Where to restore", ENTER),
        ("Datastore", "o"),
        ("Another folder", "relative"),
        ("Another folder", str(place.folder / "own")),
        ("Name of the VMDK", "disk.img"),
        ("Start", ENTER),
        ("Restore it now, in the foreground?", ENTER),
        ("Restore the VMX", ENTER),
        *OUT,
    )
    restore_flow.by_vm(face, place.session)
    assert (place.folder / "own" / "disk.img").read_bytes() == place.backup.content
    assert "Write the whole path" in face.text()


def test_stopped_it_leaves_nothing_and_the_list_stands_there_again(place: Place) -> None:
    face = Scripted(*TO_PLACE, *ELSEWHERE, *HERE, *OUT)
    face.stop_at_once = True
    restore_flow.by_vm(face, place.session)
    assert "stopped: nothing was left behind" in face.text()
    assert not place.disk.parent.exists()


def test_a_process_that_has_to_end_stops_its_restore_and_asks_nothing_more(place: Place) -> None:
    face = Scripted(*TO_PLACE, *ELSEWHERE, *HERE)
    place.session.leaving.set()
    with pytest.raises(Stopped):
        restore_flow.by_vm(face, place.session)
    assert not place.disk.parent.exists()
    assert not place.session.busy


def test_an_error_is_shown_and_the_next_backup_can_be_chosen(place: Place) -> None:
    place.backup.delta_path.write_bytes(b"#!/bin/sh\n" + bytes(70_000))
    os.utime(place.backup.delta_path, (0, 0))
    face = Scripted(*TO_BACKUP, ("Backups of CRM", ENTER), ("Restore this backup?", ENTER), *OUT)
    restore_flow.by_vm(face, place.session)
    assert "not a Delta" in face.text() or "no Delta" in face.text(), face.text()


def test_a_flipped_bit_ends_the_restore_and_says_so(place: Place) -> None:
    data = bytearray(place.backup.full_path.read_bytes())
    data[len(data) // 2] ^= 1
    place.backup.full_path.write_bytes(data)
    face = Scripted(
        *TO_BACKUP, ("Backups of CRM", ENTER), ("Restore this backup?", ENTER), ("The Full", ENTER), *ELSEWHERE, *HERE, *OUT
    )
    restore_flow.by_vm(face, place.session)
    assert not place.disk.parent.exists()
    assert "block" in face.text()


def test_another_full_of_the_disk_is_listed_and_cannot_be_chosen(place: Place) -> None:
    older = place.backup.full_path.with_name("00-CRM.vmdk.gz-070919-1601.phd")
    older.write_bytes(b"\x1f\x8b of another day")
    face = Scripted(*TO_PLACE[:-1], ("The Full", BACK), ("Restore this backup?", BACK), *OUT)
    restore_flow.by_vm(face, place.session)
    listed = next(line for line in face.seen if older.name in line)
    assert listed.endswith(f"  another backup: 17 bytes, needed {place.backup.full_path.stat().st_size}")
    with pytest.raises(AssertionError, match="cannot be chosen: another backup"):
        restore_flow.by_vm(Scripted(*TO_PLACE[:-1], ("The Full", older.name)), place.session)


def test_both_of_two_copies_are_proven_and_the_second_can_be_named(place: Place) -> None:
    shutil.copytree(place.folder / "nas", place.folder / "vault")
    config = place.folder / "phd.toml"
    config.write_text(f'{config.read_text()}[targets.vault]\nurl = "file://{place.folder}/vault"\n')
    place.session.read_again()
    face = Scripted(
        *TO_BACKUP,
        ("Backups of CRM", "nas1"),
        ("Restore this backup?", ENTER),
        ("The Full", "vault"),
        *ELSEWHERE,
        ("Start", ENTER),
        ("Submit", "y"),
        ("Restore the VMX", ENTER),
        *OUT,
    )
    restore_flow.by_vm(face, place.session)
    assert control_of(place, "CRM").full == replace(place.backup.full, target="vault")
    assert sum(line.startswith("* ") for line in face.seen) == 2
    assert f" FULL: vault:{place.backup.full.path}" in face.seen


def test_without_a_full_a_job_can_wait_for_it(place: Place) -> None:
    place.backup.full_path.rename(place.folder / "away")
    face = Scripted(
        *TO_BACKUP,
        ("Backups of CRM", ENTER),
        ("Restore this backup?", ENTER),
        *ELSEWHERE,
        ("Start", ENTER),
        ("Submit", "y"),
        ("Restore the VMX", "n"),
        *OUT,
    )
    restore_flow.by_vm(face, place.session)
    assert control_of(place, "CRM").full is None


def test_no_target_and_no_backup_say_what_to_do(place: Place) -> None:
    shutil.rmtree(place.folder / "nas")
    (place.folder / "nas").mkdir()
    with pytest.raises(PhdError, match="no backups were found"):
        restore_flow.by_vm(Scripted(), place.session)
    config = place.folder / "phd.toml"
    config.write_text(config.read_text().partition("[targets")[0])
    place.session.read_again()
    with pytest.raises(ConfigurationError, match="no backup target"):
        restore_flow.by_vm(Scripted(), place.session)


def test_new_backups_are_seen_when_asked_for(place: Place) -> None:
    away = place.folder / "away"
    place.backup.full_path.parent.rename(away)
    shutil.copytree(away, place.folder / "nas" / "esx7")
    look_again = ("Virtual Machines", "i")
    face = Scripted(look_again, ("Virtual Machines", BACK))
    restore_flow.by_vm(face, place.session)
    assert face.seen.count("Looking at the backup targets") == 2
    assert any(line.startswith("nas1: 2 archives as of 20") for line in face.seen)


def test_a_target_that_does_not_answer_says_so_above_the_list(place: Place) -> None:
    restore_flow.by_vm(Scripted(("Virtual Machines", BACK)), place.session)
    (place.folder / "nas").rename(place.folder / "gone")
    face = Scripted(("Virtual Machines", BACK))
    restore_flow.by_vm(face, place.session)
    assert any("nas1" in line and "; shown as of 20" in line for line in face.seen)
    assert any(line.startswith("CRM ") for line in face.seen)


def test_a_target_that_answers_in_part_says_so_above_the_list(place: Place) -> None:
    """Its backups were gone from the menus without a word."""
    restore_flow.by_vm(Scripted(("Virtual Machines", BACK)), place.session)
    folder = place.backup.full_path.parent
    folder.chmod(0)
    face = Scripted(*TO_BACKUP, ("Backups of CRM", BACK), ("CRM", BACK), ("Virtual Machines", BACK))
    with of_no_more_than_a_user():
        restore_flow.by_vm(face, place.session)
    folder.chmod(0o755)
    assert any(f"nas1: its listing is partial: {folder.name}: Permission denied; shown as of 20" in line for line in face.seen)
    assert any("empty Delta, not seen" in line for line in face.seen)


def test_vmx_only(place: Place) -> None:
    face = Scripted(
        *TO_BACKUP,
        ("Backups of CRM", ENTER),
        ("Restore the VMX file of this", ENTER),
        ("Datastore", ENTER),
        ("Folder", ENTER),
        *OUT,
    )
    vmx_flow.vmx_only(face, place.session)
    assert (place.datastore / "CRM" / "CRM.vmx").read_bytes() == VMX
    assert not any(" Full " in line for line in face.seen if line.startswith("nas1"))


def test_stub(place: Place) -> None:
    flat = place.datastore / "CRM" / "CRM-flat.vmdk"
    flat.parent.mkdir()
    flat.write_bytes(bytes(1 << 20))
    (flat.parent / "whole-flat.vmdk").write_bytes(bytes(512))
    (flat.parent / "whole.vmdk").write_text("there")
    face = Scripted(("Flat files without a STUB", str(flat)))
    stub_flow.stub(face, place.session)
    assert 'RW 2048 VMFS "CRM-flat.vmdk"' in (flat.parent / "CRM.vmdk").read_text()
    assert "whole" not in face.text()


def test_a_stub_of_any_flat_file(place: Place, tmp_path: Path) -> None:
    (tmp_path / "a-flat.vmdk").write_bytes(bytes(512))
    face = Scripted(("Flat files", "o"), ("Create a STUB", "a-flat.vmdk"), ("Create a STUB", str(tmp_path / "a-flat.vmdk")))
    stub_flow.stub(face, place.session)
    assert (tmp_path / "a.vmdk").exists()
