"""A stamp that means two times is settled by the header; without one, by the later reading."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from restore_core import naming
from restore_core.backup.run import BackupOptions, BackupResult
from restore_core.backup.subject import Asked
from restore_core.catalog.entry import CatalogEntry, entries, entry_of
from restore_core.catalog.exact import exact
from restore_core.targets.base import ArchiveRef, FileStat
from tests.lab import UUID, Lab

VIENNA = ZoneInfo("Europe/Vienna")
NOW = dt.datetime(2027, 1, 1, tzinfo=dt.UTC)


def entry(path: str) -> CatalogEntry:
    found = entry_of(ArchiveRef(target="t", path=path), FileStat(size=1, mtime=1.0), VIENNA)
    assert found is not None
    return found


@pytest.mark.parametrize(("utc", "hour"), [("2026-10-25T00:30", 2), ("2026-10-25T01:30", 2), ("2026-10-25T02:30", 3)])
def test_the_header_knows(tmp_path: Path, utc: str, hour: int) -> None:
    lab = Lab(tmp_path)
    at = dt.datetime.fromisoformat(utc).replace(tzinfo=dt.UTC)
    asked = Asked(vm="CRM", uuid=UUID)
    made = lab.backup(b"x" * 5000, options=BackupOptions(asked=asked, full=True, at=at, scratch=tmp_path))
    # The lab's target is in UTC; the same archive as a target in Vienna would name it.
    name = f"00-CRM.img.delta-2026.10.25-{hour:02d}30-261025-0{hour}30.phd"
    path = lab.path(made.delta)
    path.rename(path.with_name(name))
    found = entry(f"{made.delta.folder}/{name}")
    assert exact(found, VIENNA, lab.targets, now=NOW).time == at


def test_without_a_header_the_later_reading(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    found = entry(f"2026.10.25-CRM.{UUID}/00-CRM.img.delta-2026.10.25-0230-261025-0230.phd")
    assert exact(found, VIENNA, lab.targets, now=NOW).time == dt.datetime(2026, 10, 25, 1, 30, tzinfo=dt.UTC)
    plain = entry(f"2026.10.25-CRM.{UUID}/00-CRM.img.delta-2026.10.25-0430-261025-0230.phd")
    assert exact(plain, VIENNA, lab.targets, now=NOW) is plain
    full = entry(f"2026.10.25-CRM.{UUID}/00-CRM.img.gz-261025-0230.phd")
    assert exact(full, VIENNA, lab.targets, now=NOW) is full


def old_backup(lab: Lab, data: bytes, at: dt.datetime, *, minute: int) -> BackupResult:
    """A Full of `at`, named as a version before named the backup that came `minute` others after the first of its minute."""
    asked = Asked(vm="CRM", uuid=UUID)
    options = BackupOptions(asked=asked, full=True, at=at + dt.timedelta(seconds=minute), scratch=lab.folder)
    made = lab.backup(data * 5000, options=options)
    stamp = at.replace(tzinfo=None, second=0) + dt.timedelta(minutes=minute)
    named = made.delta.beside(naming.delta_name(scsi="00", disk="disk.img", stamp=stamp, base=stamp))
    lab.path(made.delta).rename(lab.path(named))
    return replace(made, delta=named)


def test_a_stamp_that_took_the_next_free_minute(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    at = dt.datetime(2026, 3, 1, 12, 0, 30, tzinfo=dt.UTC)
    first, second = (old_backup(lab, data, at, minute=minute) for minute, data in enumerate((b"x", b"y")))
    found = {entry.ref: entry for entry in entries(lab.targets["t"])}
    utc = ZoneInfo("UTC")
    ahead = found[second.delta]
    assert ahead.time == dt.datetime(2026, 3, 1, 12, 1, tzinfo=dt.UTC)
    assert exact(ahead, utc, lab.targets, now=at).time == at + dt.timedelta(seconds=1)
    third = old_backup(lab, b"z", at, minute=2)
    thirds = entry_of(third.delta, ahead.stat, utc)
    assert thirds is not None
    assert ahead.time > exact(thirds, utc, lab.targets, now=at).time > at
    assert exact(ahead, utc, lab.targets, now=ahead.time) is ahead
    assert exact(found[first.delta], utc, lab.targets, now=at) is found[first.delta]
    lab.path(second.delta).write_bytes(b"")
    assert exact(ahead, utc, lab.targets, now=at).time == ahead.time
    assert exact(ahead, utc, lab.targets, now=at - dt.timedelta(days=2)) is ahead
