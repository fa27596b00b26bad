"""Every verdict with its reason, and properties of the choice over any catalog, clock and time zone."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restore_core.naming import full_name
from restore_core.replication.selection import DiskState, JobPhase, PassPolicy, QueuedJob, Verdict, World, select
from restore_core.targets.base import ArchiveRef
from tests.restore_core.replication.facts import HOME, NOW, OTHER, UUID, decide, delta, ledger, rule

MON, TUE = delta("2026-03-09 03:00"), delta("2026-03-10 03:00")
HERE = DiskState(exists=True, ours=True)
FOREIGN = DiskState(exists=True)


def job(
    entry: object, phase: JobPhase, *, ago: float = 0.5, code: int | None = 73, name: str = "auto-x", to: object = HOME
) -> QueuedJob:
    finished = None if phase is JobPhase.ACTIVE else NOW - dt.timedelta(hours=ago)
    return QueuedJob(
        name=name,
        state=phase.value,
        phase=phase,
        archive=str(getattr(entry, "ref", entry)),
        destination=to,  # type: ignore[arg-type]  # a path
        finished=finished,
        exit_code=code,
    )


def test_the_newest_backup_is_restored() -> None:
    found = decide([MON, TUE])
    assert (found.verdict, found.entry, found.held) == (Verdict.RESTORE, TUE, False)
    assert "2026-03-10 03:00 UTC" in found.reason
    assert found.lag is None


def test_n_days_are_n_times_24_hours() -> None:
    exactly = delta("2026-03-09 12:00")
    assert decide([exactly, TUE], rules=[rule(1)]).entry == exactly
    minute_younger = delta("2026-03-09 12:01")
    found = decide([minute_younger, TUE], rules=[rule(1)])
    assert found.verdict is Verdict.TOO_NEW
    assert "no backup of this disk is 1 day old yet" in found.reason


def test_no_backup_and_only_fulls() -> None:
    assert decide([]).verdict is Verdict.NO_BACKUP
    assert decide([delta("2026-03-09 03:00", vm="CRM2")]).verdict is Verdict.NO_BACKUP
    assert decide([delta("2026-03-09 03:00", uuid=OTHER)]).verdict is Verdict.NO_BACKUP
    name = full_name(scsi="00", disk="CRM.vmdk", stamp=MON.name.stamp)
    full = replace(MON, name=replace(MON.name, type=type(MON.name.type).FULL), ref=ArchiveRef(target="nas1", path=f"x/{name}"))
    assert "phd adopt" in decide([full]).reason


def test_a_rule_that_fits_two_disks_names_them() -> None:
    wild = rule(uuid="*", scsi="*")
    found = decide([MON, delta("2026-03-09 03:00", uuid=OTHER, scsi="010")], rules=[wild])
    assert found.verdict is Verdict.AMBIGUOUS
    assert f"{UUID} at 0:0; {OTHER} at 0:10" in found.reason
    assert decide([MON, delta("2026-03-08 03:00", scsi="01")], rules=[rule(scsi="*")]).verdict is Verdict.AMBIGUOUS
    assert decide([MON, TUE], rules=[wild]).entry == TUE


def test_a_version_2_backup_is_known_by_its_host() -> None:
    old = delta("2026-03-09 03:00", uuid=None)
    assert decide([old]).verdict is Verdict.NO_BACKUP
    assert decide([old], rules=[rule(uuid="%")]).entry == old
    assert decide([old, TUE], rules=[rule(uuid="%")]).verdict is Verdict.AMBIGUOUS


def test_the_future_is_skipped_with_a_warning() -> None:
    found = decide([MON, delta("2026-03-10 12:01"), delta("2031-01-01 00:00")])
    assert found.entry == MON
    assert "2 backups are dated in the future, up to 2031-01-01 00:00 UTC" in found.warnings[0]
    only = decide([delta("2031-01-01 00:00")])
    assert (only.verdict, len(only.warnings)) == (Verdict.TOO_NEW, 1)


def test_what_is_still_being_uploaded_is_not_offered() -> None:
    found = decide([MON, replace(TUE, settled=False)])
    assert found.entry == MON
    assert "on their way" in found.warnings[0]


def test_up_to_date_and_the_lag() -> None:
    current = decide([MON, TUE], entered=ledger(MON, TUE))
    assert (current.verdict, current.lag) == (Verdict.CURRENT, dt.timedelta())
    behind = decide([MON, TUE], entered=ledger(MON))
    assert (behind.verdict, behind.entry) == (Verdict.RESTORE, TUE)
    assert behind.lag == dt.timedelta(days=1)


def test_a_deleted_line_makes_its_restore_eligible() -> None:
    assert decide([TUE], entered=ledger(), there=HERE).verdict is Verdict.RESTORE
    assert decide([MON, TUE], entered=ledger(MON), there=HERE).verdict is Verdict.RESTORE


def test_a_disk_that_we_did_not_write_last_is_left_alone() -> None:
    never = decide([TUE], there=FOREIGN)
    assert (never.verdict, "no restore of ours is recorded" in never.reason) == (Verdict.DIVERGED, True)
    since = decide([MON, TUE], entered=ledger(MON), there=FOREIGN)
    assert (since.verdict, "somebody has written" in since.reason) == (Verdict.DIVERGED, True)
    # It was "up to date" with a warning; but what lies there is not that backup any more.
    current = decide([TUE], entered=ledger(TUE), there=FOREIGN)
    assert (current.verdict, "somebody has written" in current.reason) == (Verdict.DIVERGED, True)
    unseen = decide([TUE], entered=ledger(TUE), there=DiskState(exists=True, unseen="may be read by root alone"))
    assert (unseen.verdict, "may be read by root alone" in unseen.reason) == (Verdict.DIVERGED, True)


def test_a_destination_that_is_gone_is_not_made_anew() -> None:
    for entered in (ledger(MON), ledger(TUE)):
        found = decide([MON, TUE], entered=entered, there=DiskState(exists=False))
        assert found.verdict is Verdict.GONE
        assert "delete its lines" in found.reason


@pytest.mark.parametrize("archive", [TUE, MON])
def test_a_job_on_its_way_to_the_destination_is_waited_for(archive: object) -> None:
    found = decide([MON, TUE], jobs=[job(archive, JobPhase.ACTIVE)])
    assert found.verdict is Verdict.QUEUED
    assert ("with another backup" in found.reason) is (archive is MON)
    elsewhere = job(TUE, JobPhase.ACTIVE, to=HOME.with_name("other.vmdk"))
    assert decide([MON, TUE], jobs=[elsewhere]).verdict is Verdict.RESTORE


def test_a_failure_is_tried_again_later_and_later() -> None:
    assert decide([TUE], jobs=[job(TUE, JobPhase.FAILED, ago=0.9)]).verdict is Verdict.FAILED
    assert decide([TUE], jobs=[job(TUE, JobPhase.FAILED, ago=1)]).verdict is Verdict.RESTORE
    twice = [job(TUE, JobPhase.FAILED, ago=5, name="a"), job(TUE, JobPhase.FAILED, ago=1.9, name="b")]
    found = decide([TUE], jobs=twice)
    assert found.verdict is Verdict.FAILED
    assert "job b failed (2 times): not again before 2026-03-10 12:06 UTC" in found.reason
    many = [job(TUE, JobPhase.FAILED, ago=23, name=str(number)) for number in range(40)]
    assert decide([TUE], jobs=many).verdict is Verdict.FAILED
    assert decide([TUE], jobs=[replace(one, finished=NOW - dt.timedelta(hours=24)) for one in many]).verdict is Verdict.RESTORE


def test_a_clock_set_back_makes_nobody_wait_for_years() -> None:
    assert decide([TUE], jobs=[job(TUE, JobPhase.FAILED, ago=-9999)]).verdict is Verdict.RESTORE


def test_what_a_person_cancelled_stays_cancelled() -> None:
    found = decide([TUE], jobs=[job(TUE, JobPhase.CANCELLED, ago=999)])
    assert found.verdict is Verdict.FAILED
    assert "a person cancelled" in found.reason


def test_a_done_job_whose_line_was_deleted_stands_in_nobodys_way() -> None:
    assert decide([TUE], jobs=[job(TUE, JobPhase.DONE, code=0)]).verdict is Verdict.RESTORE


FALL_BACK = PassPolicy(fall_back_to_older=True)


def test_a_checksum_failure_falls_back_only_when_asked_and_says_so() -> None:
    bad = [job(TUE, JobPhase.FAILED, code=65)]
    assert decide([MON, TUE], jobs=bad).verdict is Verdict.FAILED
    found = decide([MON, TUE], jobs=bad, policy=FALL_BACK)
    assert (found.verdict, found.entry) == (Verdict.RESTORE, MON)
    assert "the backup of 2026-03-10 03:00 UTC failed its check, so the next older one is taken" in found.reason
    other_fault = [job(TUE, JobPhase.FAILED, code=73)]
    assert decide([MON, TUE], jobs=other_fault, policy=FALL_BACK).verdict is Verdict.FAILED


def test_a_fall_back_never_makes_a_replica_older() -> None:
    wed = delta("2026-03-10 09:00")
    bad = [job(wed, JobPhase.FAILED, code=65)]
    kept = decide([MON, TUE, wed], entered=ledger(TUE), jobs=bad, policy=FALL_BACK)
    assert (kept.verdict, kept.entry) == (Verdict.FAILED, TUE)
    gone = decide([MON, wed], entered=ledger(TUE), jobs=bad, policy=FALL_BACK)
    assert (gone.verdict, gone.reason.endswith("older than the replica")) == (Verdict.FAILED, True)
    assert "there is no older one" in decide([wed], jobs=bad, policy=FALL_BACK).reason


def test_a_damaged_archive_that_was_replaced_is_tried_again() -> None:
    bad = [job(TUE, JobPhase.FAILED, code=65, ago=0.5)]
    replaced = replace(TUE, stat=replace(TUE.stat, mtime=NOW.timestamp() - 60))
    for policy in (PassPolicy(), FALL_BACK):
        assert decide([MON, replaced], jobs=bad, policy=policy).entry == replaced
    from_the_future = replace(TUE, stat=replace(TUE.stat, mtime=NOW.timestamp() + 9999))
    assert decide([from_the_future], jobs=bad).verdict is Verdict.FAILED


def test_copies_of_one_backup() -> None:
    copy = delta("2026-03-10 03:00", target="vmfs")
    assert decide([copy, TUE]).entry == TUE
    assert decide([TUE, copy], entered=ledger(copy)).verdict is Verdict.CURRENT
    assert decide([TUE, copy], silent={"nas1": "refused"}).entry == copy
    assert decide([TUE, copy], jobs=[job(TUE, JobPhase.FAILED, code=65)]).entry == copy


def test_a_target_that_does_not_answer_is_waited_for() -> None:
    found = decide([MON, TUE], silent={"nas1": "connection refused"})
    assert found.verdict is Verdict.SILENT
    assert "connection refused" in found.reason
    assert decide([MON, TUE], entered=ledger(TUE), silent={"nas1": "x"}).verdict is Verdict.CURRENT


def test_a_storm_is_held_as_a_whole() -> None:
    paths = [HOME.with_name(f"{number}.vmdk") for number in range(4)]
    world = World(entries=[TUE], ledger=ledger(TUE, to=paths[3]), jobs=[], destinations={paths[3]: HERE}, now=NOW)
    rules = [rule(to=path) for path in paths]
    assert [one.held for one in select(rules, world, PassPolicy(storm_limit=3))] == [False] * 4
    assert [one.held for one in select(rules, world, PassPolicy(storm_limit=2))] == [True, True, True, False]


ZONES = ["UTC", "Europe/Vienna", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia"]
STAMPS = st.datetimes(dt.datetime(2025, 10, 1), dt.datetime(2026, 5, 1)).map(lambda time: f"{time:%Y-%m-%d %H:%M}")  # noqa: DTZ001
NOWS = st.datetimes(dt.datetime(2025, 9, 1), dt.datetime(2026, 6, 1), timezones=st.just(dt.UTC))  # noqa: DTZ001 - made aware
# Stamps round about a change of summer time, and a clock close to one.
CHANGES = st.sampled_from(["2025-10-26 01:30", "2025-10-26 02:30", "2025-10-26 03:30", "2026-03-29 01:59", "2026-03-29 03:00"])


@settings(max_examples=500)
@given(
    stamps=st.lists(st.one_of(STAMPS, CHANGES), max_size=12, unique=True),
    zone=st.sampled_from(ZONES),
    now=NOWS,
    days=st.integers(0, 60),
)
def test_never_newer_than_asked_and_never_older_than_need_be(stamps: list[str], zone: str, now: dt.datetime, days: int) -> None:
    entries = [delta(stamp, zone=zone) for stamp in stamps]
    found = decide(entries, rules=[rule(days)], now=now)
    # What the wall in that zone showed, counted by hand.
    times = sorted(dt.datetime.fromisoformat(stamp).replace(tzinfo=ZoneInfo(zone)).timestamp() for stamp in stamps)
    fitting = [time for time in times if time <= now.timestamp() - days * 86400]
    if not fitting:
        assert found.verdict is (Verdict.TOO_NEW if entries else Verdict.NO_BACKUP)
        return
    assert found.verdict is Verdict.RESTORE
    assert found.entry is not None
    assert found.entry.time.timestamp() == fitting[-1]


@settings(max_examples=200)
@given(
    stamps=st.lists(STAMPS, min_size=1, max_size=8, unique=True),
    nows=st.lists(NOWS, min_size=1, max_size=12),
    days=st.integers(0, 9),
)
def test_whatever_the_clock_does_one_backup_is_restored_once(stamps: list[str], nows: list[dt.datetime], days: int) -> None:
    """Passes under a clock that jumps to and fro: the ledger grows by at most one line a backup, and never by a wrong one."""
    entries = [delta(stamp) for stamp in stamps]
    restored: list[object] = []
    entered = ledger()
    for now in nows:
        found = decide(entries, rules=[rule(days)], now=now, entered=entered, there=DiskState(exists=bool(restored), ours=True))
        if found.verdict is Verdict.RESTORE:
            assert found.entry is not None
            assert found.entry.time <= now - dt.timedelta(days=days)
            restored.append(found.entry)
            entered = ledger(*restored)  # type: ignore[arg-type]  # entries, as the assertion above says
    assert len(restored) == len(set(restored))


@given(st.permutations([delta(f"2026-03-0{day} 03:00") for day in range(1, 9)]))
def test_the_order_of_the_listing_does_not_matter(entries: list[object]) -> None:
    assert decide(entries).entry == delta("2026-03-08 03:00")  # type: ignore[arg-type]  # entries
