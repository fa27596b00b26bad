"""A backup that does not come about leaves no folder behind that was made for it, and keeps all others; on every kind of target."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import time
from pathlib import Path

import pytest

from restore_core.errors import PhdError
from restore_core.targets.base import Target, TargetSpec
from restore_core.targets.kinds import make_target, removal_of
from restore_core.targets.remote.target import RemoteTarget
from tests.restore_core.targets.conftest import QUICK
from tests.servers import PASSWORD

FOLDER = "2026.03.01-A b%.c"
FULL = f"{FOLDER}/00-C.vmdk.gz-260301-0300.phd"
DELTA = f"{FOLDER}/00-C.vmdk.delta-2026.03.01-0300-260301-0300.phd"
PART = ".phd-0123456789abcdef.phd-part"
Place = tuple[TargetSpec, Path]


@pytest.fixture
def target(place: Place) -> Target:
    return make_target(place[0], QUICK)


@pytest.mark.parametrize("written", [0, 3_000_000])
@pytest.mark.parametrize("path", [FULL, DELTA])
def test_a_backup_that_is_given_up_leaves_no_folder(place: Place, target: Target, path: str, written: int) -> None:
    new = target.create(path)
    new.write(b"x" * written)
    new.discard()
    target.close()
    assert list(place[1].iterdir()) == []


@pytest.mark.parametrize("path", [FULL, DELTA])
def test_a_folder_that_was_there_stays(place: Place, target: Target, path: str) -> None:
    (place[1] / FOLDER).mkdir()
    new = target.create(path)
    new.write(b"x")
    new.discard()
    target.close()
    assert list((place[1] / FOLDER).iterdir()) == []


@pytest.mark.parametrize("path", [FULL, DELTA])
def test_a_folder_into_which_something_came_stays(place: Place, target: Target, path: str) -> None:
    new = target.create(path)
    (place[1] / FOLDER / "other").write_bytes(b"1")
    new.write(b"x")
    new.discard()
    target.close()
    assert [each.name for each in (place[1] / FOLDER).iterdir()] == ["other"]


@pytest.mark.parametrize("path", [FULL, DELTA])
def test_a_name_that_is_taken_meanwhile_leaves_nothing_else(place: Place, target: Target, path: str) -> None:
    new = target.create(path)
    new.write(b"x")
    (place[1] / path).write_bytes(b"of another")
    with pytest.raises(FileExistsError):
        new.publish()
    new.discard()
    target.close()
    assert [each.read_bytes() for each in (place[1] / FOLDER).iterdir()] == [b"of another"]


def test_a_delta_that_cannot_be_held_here_leaves_no_folder_there(place: Place, tmp_path: Path) -> None:
    """The folder was made first, and stayed."""
    target = make_target(dataclasses.replace(place[0], staging_dir=str(tmp_path / "none")), QUICK)
    if not isinstance(target, RemoteTarget):
        return
    with pytest.raises(PhdError, match=r"backup\.staging_dir"):
        target.create(DELTA)
    target.close()
    assert list(place[1].iterdir()) == []


def test_part_files_are_found_on_every_server_and_a_person_can_remove_them(place: Place, target: Target) -> None:
    """A backup that was killed left them, no listing shows them, and nobody told."""
    old = time.time() - 3 * 86400
    (place[1] / FOLDER).mkdir()
    for path, size in ((f"{FOLDER}/{PART}", 30_000), (PART, 5)):
        (place[1] / path).write_bytes(b"x" * size)
        os.utime(place[1] / path, (old, old))
    (place[1] / FULL).write_bytes(b"whole")
    if isinstance(target, RemoteTarget):
        unseen: list[str] = []
        found = list(target.unfinished(unseen))
        assert [(one.path, one.stat.size) for one in found] == [(PART, 5), (f"{FOLDER}/{PART}", 30_000)]
        assert all(abs(one.stat.mtime - old) < 86400 for one in found)
        for one in found:
            _removed_by_hand(place, one.path)
        assert (list(target.unfinished(unseen)), unseen) == ([], [])
    assert [each.path for each in target.listing()] == [FULL]
    target.close()


def _removed_by_hand(place: Place, path: str) -> None:
    """Runs what a person is told to type, on this machine; where that asks for a password, it is given."""
    command = removal_of(place[0], path)
    if place[0].password_file:
        if place[0].url.startswith("sftp"):
            (place[1] / path).unlink()
            return
        command = command.replace("-u phd", f"-u 'phd:{PASSWORD}'")
    ran = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert not (place[1] / path).exists(), (command, ran)
