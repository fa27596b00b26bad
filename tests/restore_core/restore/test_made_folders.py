"""Folders that a restore makes for a disk: gone after a failure, all levels of them, and never one that was there before."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from restore_core import durable
from restore_core.errors import BadArchive, DestinationError, PhdError, Stopped
from restore_core.restore.extras import recover_disk, restore_vmx
from restore_core.restore.full import restore_full
from restore_core.restore.request import RestoreRequest
from restore_core.restore.run import restore_delta
from restore_core.targets import TargetSet
from restore_core.targets.base import LOCAL, ArchiveRef, TargetSpec
from tests.lab import BLOCK, Lab, Witness, go_on, request_for
from tests.restore_core.archive.stub_shell import full_path, sh, small_case, two_backups
from tests.restore_core.restore.crashes import dies

Begin = Callable[[str], RestoreRequest]


def stop_at_once() -> None:
    raise Stopped("^C")


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    made = Lab(tmp_path)
    (tmp_path / "there").mkdir()
    return made


def names_in(lab: Lab) -> list[str]:
    return sorted(str(path.relative_to(lab.folder)) for path in (lab.folder / "there").rglob("*"))


def test_a_restore_that_is_stopped_leaves_none_of_the_folders_that_it_made(lab: Lab) -> None:
    made = lab.backup(b"x" * BLOCK * 3)
    request = request_for(delta=made.delta, destination=lab.folder / "there/a/b/c/d.img")
    with pytest.raises(Stopped):
        restore_delta(request, lab.targets, reporter=Witness(), stop=stop_at_once)
    assert names_in(lab) == []
    assert (lab.folder / "there").is_dir()


def test_a_full_that_is_damaged_leaves_none_of_the_folders_that_its_restore_made(lab: Lab) -> None:
    full = full_path(lab, lab.backup(os.urandom(BLOCK * 3)))
    data = bytearray(full.read_bytes())
    data[len(data) // 2] ^= 1
    full.write_bytes(data)
    request = request_for(delta=ArchiveRef(target=LOCAL, path=str(full)), destination=lab.folder / "there/a/b/d.img")
    with pytest.raises(BadArchive):
        restore_full(request, lab.targets, reporter=Witness(), stop=go_on)
    assert names_in(lab) == []


def test_a_part_that_is_kept_keeps_its_folder(lab: Lab) -> None:
    made = lab.backup(os.urandom(BLOCK * 40))
    request = request_for(delta=made.delta, destination=lab.folder / "there/a/d.img")

    def stop_later() -> None:
        for part in (lab.folder / "there").rglob("*.phd-new"):
            if part.stat().st_blocks:
                raise Stopped("later")

    with pytest.raises(Stopped):
        restore_delta(request, lab.targets, reporter=Witness(), stop=stop_later, keep_part=lambda _error: True)
    assert names_in(lab) == ["there/a", "there/a/.phd-made", "there/a/d.img.phd-hold", "there/a/d.img.phd-new"]


@pytest.fixture
def begun(lab: Lab) -> Begin:
    """Restores to a disk below `there/a`, until its part file has something, and is stopped with the part file kept."""
    delta = lab.backup(os.urandom(BLOCK * 40)).delta

    def begin(name: str) -> RestoreRequest:
        request = request_for(delta=delta, destination=lab.folder / "there/a" / name)
        part = request.destination.with_name(request.destination.name + ".phd-new")

        def stop_later() -> None:
            if part.exists() and part.stat().st_blocks:
                raise Stopped("later")

        with pytest.raises(Stopped):
            restore_delta(request, lab.targets, reporter=Witness(), stop=stop_later, keep_part=lambda _error: True)
        return request

    return begin


def cancelled(request: RestoreRequest, lab: Lab) -> None:
    with pytest.raises(Stopped):
        restore_delta(request, lab.targets, reporter=Witness(), stop=stop_at_once)


def test_the_last_attempt_takes_away_the_folder_that_an_earlier_one_made(lab: Lab, begun: Begin) -> None:
    """The second attempt found the folder there, and took it for somebody else's."""
    cancelled(begun("b/d.img"), lab)
    assert names_in(lab) == []


def test_the_last_of_several_disks_takes_away_the_folder_that_the_first_one_made(lab: Lab, begun: Begin) -> None:
    """The one that had made it could not remove it, and the other one had not made it."""
    one, other = begun("d.img"), begun("e.img")
    cancelled(one, lab)
    assert names_in(lab) == ["there/a", "there/a/.phd-made", "there/a/e.img.phd-hold", "there/a/e.img.phd-new"]
    cancelled(other, lab)
    assert names_in(lab) == []


def test_a_disk_that_is_restored_keeps_the_folder_whoever_made_it(lab: Lab, begun: Begin) -> None:
    one, other = begun("d.img"), begun("e.img")
    restore_delta(other, lab.targets, reporter=Witness(), stop=go_on)
    cancelled(one, lab)
    assert names_in(lab) == ["there/a", "there/a/e.img"]
    (lab.folder / "there/a/e.img").unlink()
    cancelled(one, lab)
    assert names_in(lab) == ["there/a"], "it was a folder with a disk: it is somebody's"


@pytest.mark.parametrize("point", ["take_part", "sync_folder"])
def test_a_process_that_was_killed_leaves_a_folder_that_goes_with_the_next(lab: Lab, point: str) -> None:
    made = lab.backup(b"x" * BLOCK * 3)
    request = request_for(delta=made.delta, destination=lab.folder / "there/a/d.img")
    assert dies(lambda: restore_delta(request, lab.targets, reporter=Witness(), stop=go_on), (durable, point))
    assert "there/a/.phd-made" in names_in(lab)
    cancelled(request, lab)
    assert names_in(lab) == []


def test_recover_takes_away_a_folder_in_which_nothing_is_left(lab: Lab) -> None:
    made = lab.backup(b"x" * BLOCK * 3)
    request = request_for(delta=made.delta, destination=lab.folder / "there/a/b/d.img")
    assert dies(lambda: restore_delta(request, lab.targets, reporter=Witness(), stop=go_on), (durable, "take_part"))
    with pytest.raises(DestinationError, match="no change was interrupted"):
        recover_disk(request.destination, None, None, go_on)
    assert names_in(lab) == []


def test_a_vmx_that_is_not_there_makes_no_folder(lab: Lab) -> None:
    made = lab.backup(b"x" * BLOCK)
    with pytest.raises(BadArchive):
        restore_vmx(made.delta, lab.targets, lab.folder / "there/a/b")
    assert names_in(lab) == []


def test_a_folder_that_cannot_be_made_takes_away_those_above_it(lab: Lab) -> None:
    made = lab.backup(b"x" * BLOCK)
    long = "n" * 256
    request = request_for(delta=made.delta, destination=lab.folder / f"there/a/{long}/d.img")
    with pytest.raises(PhdError):
        restore_delta(request, lab.targets, reporter=Witness(), stop=go_on)
    assert names_in(lab) == []


def test_a_backup_that_fails_leaves_no_folder_on_a_file_target(lab: Lab) -> None:
    target = TargetSet((TargetSpec(name="t", url=f"file://{lab.folder}/there"),))["t"]
    out = target.create("2026.03.01-CRM.x/00-a.gz-260301-0300.phd")
    out.write(b"some")
    assert names_in(lab) != []
    out.discard()
    assert names_in(lab) == []
    out = target.create("kept/a")
    out.publish()
    other = target.create("kept/b")
    other.discard()
    assert names_in(lab) == ["there/kept", "there/kept/a"]


@pytest.mark.parametrize("shell", [("dash",)])
def test_sh_makes_the_folders_and_takes_them_away_after_a_failure(lab: Lab, shell: tuple[str, ...]) -> None:
    made, delta = two_backups(lab, *small_case())
    ran = sh(delta, "restore", "--to", lab.folder / "there/a//b/x.vmdk", shell=shell)
    assert ran.returncode == 0, ran.stderr
    assert names_in(lab) == ["there/a", "there/a/b", "there/a/b/x-flat.vmdk", "there/a/b/x.vmdk"]
    full_path(lab, made).unlink()
    for words in (["restore", "--to", "there/c//d/x.vmdk"], ["restore", "--to", "there/a/e/x.img"], ["vmx", "--to", "there/f/g"]):
        assert sh(delta, *words, cwd=lab.folder, shell=shell).returncode in {65, 69}
        assert names_in(lab) == ["there/a", "there/a/b", "there/a/b/x-flat.vmdk", "there/a/b/x.vmdk"]
    ran = sh(delta, "stub", "--to", "there/h/i/x.vmdk", cwd=lab.folder, shell=shell)
    assert ran.returncode == 0, ran.stderr
    assert "there/h/i/x.vmdk" in names_in(lab)


def test_a_refusal_makes_no_folder(lab: Lab) -> None:
    made = lab.backup(b"x" * BLOCK)
    request = request_for(delta=made.delta, destination=lab.folder / "there/a/x-flat.vmdk")
    with pytest.raises(DestinationError):
        restore_delta(request, lab.targets, reporter=Witness(), stop=go_on)
    assert names_in(lab) == []
