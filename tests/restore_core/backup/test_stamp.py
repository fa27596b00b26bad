"""Stamps: never in the future, never twice, and a time that a person gives is taken as it is or refused."""

from __future__ import annotations

import datetime as dt

import pytest

from restore_core import catalog, naming
from restore_core.backup import stamp as stamps
from restore_core.backup.run import BackupOptions, BackupReporter, BackupResult, backup
from restore_core.backup.subject import Asked
from restore_core.errors import SourceRefused, TargetUnavailable, TryAgainLater, UsageError
from restore_core.targets.local import LocalTarget
from tests.lab import NIGHT, UUID, Lab

ASKED = Asked(vm="CRM", uuid=UUID)


class Clock:
    """Stands still but for the waits, which it counts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.waits = NIGHT + dt.timedelta(seconds=45, milliseconds=200), 0
        monkeypatch.setattr(stamps, "_now", lambda: self.now)
        monkeypatch.setattr(stamps, "_wait_for_the_next_second", self._wait)

    def _wait(self, now: dt.datetime) -> None:
        self.now, self.waits = now.replace(microsecond=0) + dt.timedelta(seconds=1), self.waits + 1


class Notes(BackupReporter):
    """Keeps the notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def made(lab: Lab, at: dt.datetime | None = None, *, full: bool = False, notes: BackupReporter | None = None) -> BackupResult:
    lab.disk.write_bytes(b"x" * 5000)
    options = BackupOptions(asked=ASKED, at=at, full=full, scratch=lab.folder)
    return backup(lab.disk, lab.targets["t"], options, notes or BackupReporter())[0]


def times(lab: Lab) -> list[dt.datetime]:
    return sorted(entry.time for entry in catalog.entries(lab.targets["t"]) if entry.name.type is naming.ArchiveType.DELTA)


def test_three_backups_within_a_minute_have_their_own_times_and_none_lies_in_the_future(lab: Lab, clock: Clock) -> None:
    assert made(lab).delta.name == "00-disk.img.delta-2026.03.01-0300-260301-0300.phd"
    assert made(lab).delta.name == "00-disk.img.delta-2026.03.01-030045-260301-0300.phd"
    full = made(lab, full=True)
    assert full.full is not None
    assert full.full.name == "00-disk.img.gz-260301-030046.phd"
    assert full.delta.name == "00-disk.img.delta-2026.03.01-030046-260301-030046.phd"
    assert clock.waits == 1
    assert made(lab).delta.name == "00-disk.img.delta-2026.03.01-030047-260301-030046.phd"
    assert times(lab) == [NIGHT, *(NIGHT + dt.timedelta(seconds=second) for second in (45, 46, 47))]
    assert max(times(lab)) <= clock.now


@pytest.mark.usefixtures("clock")
def test_the_longest_name_of_a_delta_is_written_and_seconds_beyond_it_are_refused_before_a_byte_is_read(lab: Lab) -> None:
    lab.disk = lab.folder / f"{'d' * (255 - len('00-.delta-2026.03.01-0300-260301-0300.phd'))}"
    first = made(lab)
    assert len(first.delta.name) == 255
    assert lab.restored(first.delta) == b"x" * 5000
    with pytest.raises(SourceRefused, match="2 bytes too long") as refused:
        made(lab)
    assert "wait for a minute" in (refused.value.remedy or "")
    assert len(list(lab.store.glob("*/*"))) == 2


@pytest.mark.usefixtures("clock")
def test_a_delta_against_another_full_takes_the_minute_too(lab: Lab) -> None:
    made(lab, NIGHT - dt.timedelta(hours=1))
    assert made(lab).delta.name.endswith("-0300-260301-0200.phd")
    full = made(lab, full=True).full
    assert full is not None
    assert full.name.endswith("-030045.phd")


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("held", ["full", "delta"])
def test_a_time_that_is_taken_is_refused_with_what_has_it(lab: Lab, held: str, full: bool) -> None:
    if held == "delta":
        made(lab, NIGHT - dt.timedelta(hours=1))
    first = made(lab, NIGHT)
    before = sorted(lab.store.rglob("*"))
    with pytest.raises(UsageError, match=r"2026-03-01 03:00 \(UTC\) is taken: t:2026\.03\.01-CRM") as caught:
        made(lab, NIGHT, full=full)
    assert str(first.delta) in caught.value.message or str(first.full) in caught.value.message
    assert "--at" in caught.value.remedy
    assert sorted(lab.store.rglob("*")) == before


def test_a_given_time_has_its_seconds_in_the_name(lab: Lab) -> None:
    made(lab, NIGHT)
    one = made(lab, NIGHT + dt.timedelta(seconds=7))
    assert one.delta.name.endswith(".delta-2026.03.01-030007-260301-0300.phd")
    assert one.header.time == int(NIGHT.timestamp()) + 7
    with pytest.raises(UsageError, match=r"03:00:07 .* is taken"):
        made(lab, NIGHT + dt.timedelta(seconds=7))


def test_a_given_time_in_the_future_is_refused(lab: Lab, clock: Clock) -> None:
    with pytest.raises(UsageError, match="lies in the future"):
        made(lab, clock.now + dt.timedelta(seconds=1))
    made(lab, clock.now)


def test_a_clock_that_was_set_back_gives_the_time_that_it_shows_and_a_note(lab: Lab, clock: Clock) -> None:
    made(lab)
    clock.now -= dt.timedelta(minutes=10)
    notes = Notes()
    assert made(lab, notes=notes).delta.name.endswith(".delta-2026.03.01-0250-260301-0300.phd")
    assert [note for note in notes.notes if "2026-03-01 03:00 (UTC)" in note and "clock" in note]
    again = Notes()
    clock.now += dt.timedelta(minutes=11)
    made(lab, notes=again)
    assert not any("clock" in note for note in again.notes)


def test_a_clock_that_stands_is_not_waited_for_without_end(lab: Lab, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    made(lab)
    made(lab)
    monkeypatch.setattr(stamps, "_wait_for_the_next_second", lambda _: None)
    with pytest.raises(TryAgainLater, match="every second"):
        made(lab)
    assert clock.waits == 0


def test_another_disk_and_another_machine_do_not_take_a_minute(lab: Lab, clock: Clock) -> None:
    made(lab)
    other = BackupOptions(asked=Asked(vm="CRM", uuid=UUID, scsi="01"), scratch=lab.folder)
    assert "-0300-" in backup(lab.disk, lab.targets["t"], other, BackupReporter())[0].delta.name
    named = BackupOptions(asked=Asked(vm="CRM", uuid=UUID[:-1] + "5"), scratch=lab.folder)
    assert "-0300-" in backup(lab.disk, lab.targets["t"], named, BackupReporter())[0].delta.name
    assert clock.waits == 0


def test_a_full_is_made_although_the_listing_ends_in_an_error(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    made(lab, NIGHT)
    honest = LocalTarget.listing

    def broken(self: LocalTarget, gaps: object = None) -> object:
        yield from honest(self, gaps)  # type: ignore[arg-type]  # handed through
        raise TargetUnavailable("gone")

    monkeypatch.setattr(LocalTarget, "listing", broken)
    assert made(lab, NIGHT + dt.timedelta(minutes=1), full=True).full is not None
    with pytest.raises(TargetUnavailable, match="gone"):
        made(lab, NIGHT + dt.timedelta(minutes=2))


def test_a_backup_with_seconds_in_its_name_is_restored_and_verified(lab: Lab) -> None:
    at = NIGHT + dt.timedelta(seconds=30)
    first, second = made(lab, at), made(lab, at + dt.timedelta(seconds=1))
    assert lab.restored(second.delta) == b"x" * 5000
    lab.verify(first.delta)
    assert first.full is not None
    lab.verify(first.full)


def test_a_time_before_that_of_the_full_is_refused_and_an_older_full_is_taken_where_there_is_one(lab: Lab) -> None:
    """A Delta of an earlier time was made against a later Full: whoever removed what came after that time lost it, too."""
    late = made(lab, NIGHT)
    before = sorted(lab.store.rglob("*"))
    with pytest.raises(UsageError, match="is before that of its Full, t:2026") as caught:
        made(lab, NIGHT - dt.timedelta(days=2))
    assert (str(late.full) in caught.value.message, "--full" in caught.value.remedy) == (True, True)
    assert sorted(lab.store.rglob("*")) == before
    old = made(lab, NIGHT - dt.timedelta(days=2), full=True)
    between = made(lab, NIGHT - dt.timedelta(days=1))
    assert (between.full, between.header.full_id) == (None, old.header.full_id)
    assert made(lab, NIGHT + dt.timedelta(minutes=1)).header.full_id == late.header.full_id


def test_a_delta_that_is_older_than_its_full_since_a_clock_was_set_back_is_restored_and_verified(lab: Lab, clock: Clock) -> None:
    same = b"s" * 600_000
    lab.disk.write_bytes(b"a" * 5000 + same)
    options = BackupOptions(asked=ASKED, scratch=lab.folder)
    backup(lab.disk, lab.targets["t"], options, BackupReporter())
    clock.now -= dt.timedelta(days=1)
    lab.disk.write_bytes(b"b" * 5000 + same)
    (delta,) = backup(lab.disk, lab.targets["t"], options, BackupReporter())
    assert delta.full is None
    assert delta.delta.name.endswith(".delta-2026.02.28-0300-260301-0300.phd")
    assert lab.restored(delta.delta) == b"b" * 5000 + same
    assert lab.verify(delta.delta).full is not None
