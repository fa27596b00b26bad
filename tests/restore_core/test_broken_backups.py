"""Backups of oddly named disks, and at times that a name cannot tell."""

from __future__ import annotations

import datetime as dt
import os
import uuid

import pytest

from restore_core.backup.run import BackupOptions, BackupReporter, backup
from restore_core.backup.subject import Asked
from restore_core.errors import UsageError
from tests.lab import NIGHT, UUID, Lab


@pytest.mark.parametrize("name", [b"caf\xe9.img", b"\xff.img", b"a%41\x1b.img"])
def test_a_raw_disk_whose_name_is_not_utf_8_is_backed_up_and_restored(lab: Lab, name: bytes) -> None:
    disk = lab.folder / os.fsdecode(name)
    disk.write_bytes(b"x" * 5000)
    (result,) = backup(disk, lab.targets["t"], BackupOptions(at=NIGHT, scratch=lab.folder), BackupReporter())
    assert result.header.disk == disk.name
    assert lab.restored(result.delta) == disk.read_bytes()


def test_the_uuid_of_a_raw_disk_stays_what_it_always_was(lab: Lab) -> None:
    lab.disk.write_bytes(b"x")
    (result,) = backup(
        lab.disk, lab.targets["t"], BackupOptions(asked=Asked(vm="CRM"), at=NIGHT, scratch=lab.folder), BackupReporter()
    )
    assert result.header.uuid == str(uuid.uuid5(uuid.UUID("8c6f1d0e-5a43-5c1b-9a55-7068642d7068"), "CRM/disk.img"))


@pytest.mark.parametrize("year", [1970, 1999, 2100, 2150])
def test_a_year_that_no_name_can_hold_is_refused(lab: Lab, year: int) -> None:
    """A clock that starts in 1970 would make the newest Full of all: its name says 2070."""
    lab.disk.write_bytes(b"x")
    at = dt.datetime(year, 6, 1, tzinfo=dt.UTC)
    with pytest.raises(UsageError, match=f"{year}.*2000 to 2099"):
        backup(
            lab.disk,
            lab.targets["t"],
            BackupOptions(asked=Asked(vm="CRM", uuid=UUID), at=at, scratch=lab.folder),
            BackupReporter(),
        )
    assert list(lab.store.iterdir()) == []
