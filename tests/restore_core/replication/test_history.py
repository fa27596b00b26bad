"""A replica never goes back by itself, whatever becomes of the backups, the days of its rule, the clock and the ledger."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restore_core.replication.history import Times, history_of
from restore_core.replication.ledger import Ledger, LedgerLine
from restore_core.replication.selection import DiskState, JobPhase, PassPolicy, QueuedJob, Verdict, World, select
from restore_core.targets.base import ArchiveRef
from tests.restore_core.replication.facts import HOME, NOW, OTHER, decide, delta, holding, ledger, rule

SUN, MON, TUE = delta("2026-03-08 03:00"), delta("2026-03-09 03:00"), delta("2026-03-10 03:00")
YEARS = dt.timedelta(days=2000)


def dated(found: Ledger, by: dt.timedelta) -> Ledger:
    """The same ledger, written by a clock that was ahead."""
    return replace(found, lines=tuple(replace(line, time=line.time + by) for line in found.lines))


@pytest.mark.parametrize("there", [holding(TUE), DiskState(exists=True, ours=True)])
def test_a_newest_backup_that_vanished_changes_nothing(there: DiskState) -> None:
    """The replica went back to the backup before. With a receipt that says what it is of, and with one of an earlier version."""
    gone = decide([SUN, MON], entered=ledger(TUE), there=there)
    assert (gone.verdict, gone.lag) == (Verdict.OLDER, dt.timedelta())
    assert "2026-03-09 03:00 UTC is the newest on the targets, that of 2026-03-10 03:00 UTC is here (OLDER)" in gone.reason
    assert decide([SUN, MON, TUE], entered=ledger(TUE), there=there).verdict is Verdict.CURRENT
    none = decide([], entered=ledger(TUE), there=there)
    assert (none.verdict, none.reason.endswith("that of 2026-03-10 03:00 UTC is here")) == (Verdict.NO_BACKUP, True)


def test_something_newer_than_the_mark_goes_on() -> None:
    wed = delta("2026-03-10 09:00")
    assert decide([SUN, MON, wed], entered=ledger(TUE), there=holding(TUE)).entry == wed
    by_hand = decide([SUN, MON, TUE, wed], entered=ledger(TUE), there=holding(SUN))
    assert (by_hand.verdict, by_hand.entry, by_hand.lag) == (Verdict.RESTORE, wed, wed.time - SUN.time)


def test_an_older_one_that_a_person_restored_is_kept_and_never_called_up_to_date() -> None:
    found = decide([SUN, MON, TUE], entered=ledger(TUE), there=holding(SUN))
    assert (found.verdict, found.lag) == (Verdict.OLDER, TUE.time - SUN.time)
    assert "2026-03-08 03:00 UTC is here (OLDER than the backup of 2026-03-10 03:00 UTC, which was restored before)" in found.reason
    assert "until one newer than 2026-03-10 03:00 UTC comes" in found.reason
    assert decide([SUN], entered=ledger(TUE), there=holding(SUN)).verdict is Verdict.CURRENT  # the rule asks for no other


def test_a_newer_one_that_a_person_restored_is_kept() -> None:
    found = decide([SUN, MON, TUE], rules=[rule(1)], entered=ledger(SUN), there=holding(TUE))
    assert found.verdict is Verdict.AHEAD
    assert decide([SUN, MON], entered=ledger(SUN), there=holding(TUE)).verdict is Verdict.OLDER
    # The same backup again goes nowhere, and gets its line.
    assert decide([SUN, TUE], entered=ledger(SUN), there=holding(TUE)).entry == TUE


def test_more_days_than_before_leave_the_replica_ahead_until_it_is_old_enough() -> None:
    found = decide([SUN, MON, TUE], rules=[rule(2)], entered=ledger(TUE), there=holding(TUE))
    assert found.verdict is Verdict.AHEAD
    assert "backup of 2026-03-08 03:00 UTC, and that of 2026-03-10 03:00 UTC is here (OLDER)" in found.reason
    assert "ahead of its rule until 2026-03-12 03:00 UTC" in found.reason
    none = decide([SUN, MON, TUE], rules=[rule(400)], entered=ledger(TUE), there=holding(TUE))
    assert (none.verdict, none.wanted) == (Verdict.AHEAD, None)
    assert "(it asks for an OLDER one): ahead of its rule until 2027-04-14 03:00 UTC" in none.reason
    then = dt.datetime(2026, 3, 12, 3, 0, tzinfo=dt.UTC)
    assert decide([SUN, MON, TUE], rules=[rule(2)], entered=ledger(TUE), there=holding(TUE), now=then).verdict is Verdict.CURRENT
    older = decide([SUN, MON], rules=[rule(2)], entered=ledger(TUE), there=holding(TUE), now=then)
    assert (older.verdict, "on the targets that are 2 days old" in older.reason) == (Verdict.OLDER, True)
    fewer = decide([SUN, MON, TUE], rules=[rule(0)], entered=ledger(SUN), there=holding(SUN))
    assert (fewer.verdict, fewer.entry) == (Verdict.RESTORE, TUE)


@given(
    st.lists(
        st.tuples(st.datetimes(dt.datetime(2026, 3, 1), dt.datetime(2026, 3, 2, 6)), st.sampled_from(["far", "near"])),  # noqa: DTZ001
        min_size=1,
        max_size=4,
    ),
    st.sampled_from(["", "0001.01.01-0000", "0999.12.31-2359"]),
)
def test_the_mark_is_the_newest_in_whatever_zone(stamps: list[tuple[dt.datetime, str]], odd: str) -> None:
    """Of the lines of years only the newest by name are looked at more closely; stamps of two targets may be 26 hours apart."""
    zones = {"far": ZoneInfo("Pacific/Kiritimati"), "near": ZoneInfo("Etc/GMT+12")}
    made = [delta(f"{stamp:%Y-%m-%d %H:%M}", target=target, zone=zones[target].key) for stamp, target in stamps]
    lines = [*ledger(*made).lines]
    if odd:
        lines.append(replace(lines[0], archive=replace(lines[0].archive, path=f"x/00-x.vmdk.delta-{odd}-260101-0300.phd")))
    later = NOW + dt.timedelta(days=30)
    found = history_of(tuple(lines), DiskState(exists=False), Times([], zones), later)
    assert found.mark == max(entry.time for entry in made)


def test_two_rules_for_one_disk_have_each_their_own_mark() -> None:
    late = HOME.with_name("late.vmdk")
    lines = (*ledger(TUE).lines, *ledger(SUN, to=late).lines)
    world = World(
        entries=[SUN, MON],
        ledger=Ledger(lines=lines, bad=()),
        jobs=[],
        destinations={HOME: holding(TUE), late: holding(SUN)},
        now=NOW,
    )
    first, second = select([rule(), rule(1, to=late)], world, PassPolicy())
    assert (first.verdict, second.verdict, second.entry) == (Verdict.OLDER, Verdict.RESTORE, MON)


def test_deleted_lines_make_their_restores_eligible() -> None:
    assert decide([SUN, MON], entered=ledger(), there=holding(TUE)).entry == MON  # all of them: everything, as in 2007
    assert decide([MON, TUE], entered=ledger(SUN, MON), there=holding(TUE)).entry == TUE  # the last: that restore again
    first = decide([SUN, MON, TUE], entered=ledger(MON, TUE), there=holding(TUE))
    assert first.verdict is Verdict.CURRENT


def test_lines_of_a_clock_that_was_ahead_set_no_mark() -> None:
    ahead = dated(ledger(TUE), YEARS)
    wrong = delta("2031-01-01 03:00")
    both = Ledger(lines=(*ledger(MON).lines, *dated(ledger(wrong), YEARS).lines), bad=())
    newer = decide([MON, TUE], entered=both)
    assert (newer.verdict, newer.entry) == (Verdict.RESTORE, TUE)
    # Nor does a receipt of a backup from the future.
    kept = decide([MON, TUE], entered=both, there=holding(wrong))
    assert (kept.verdict, kept.entry) == (Verdict.RESTORE, TUE)
    # But what has a line is not restored again, and a clock set back by minutes takes no replica back.
    assert decide([MON, TUE], entered=ahead, there=holding(TUE)).verdict is Verdict.CURRENT
    early = TUE.time - dt.timedelta(minutes=9)
    back = decide([MON, TUE], entered=dated(ledger(TUE), dt.timedelta(minutes=1)), there=holding(TUE), now=early)
    assert (back.verdict, "is here (OLDER)" in back.reason) == (Verdict.AHEAD, True)


def test_a_stamp_that_means_two_hours_takes_no_replica_back() -> None:
    """02:10 came twice that night. The second was restored, and has vanished; 02:50, between the two, is older."""
    first = delta("2026-10-25 02:50", zone="Europe/Vienna")
    second = delta("2026-10-25 02:10", zone="Europe/Vienna")
    taken = dt.datetime(2026, 10, 25, 1, 10, tzinfo=dt.UTC)
    now = dt.datetime(2026, 10, 26, tzinfo=dt.UTC)
    entered = ledger(second)
    there = replace(holding(second), taken=taken)
    found = decide([first], entered=entered, there=there, now=now, zone="Europe/Vienna")
    assert (found.verdict, "2026-10-25 01:10 UTC is here (OLDER)" in found.reason) == (Verdict.OLDER, True)
    assert decide([first], entered=entered, now=now, zone="Europe/Vienna").verdict is Verdict.OLDER


def test_a_target_that_has_another_name_now_is_no_new_backup() -> None:
    renamed = delta("2026-03-10 03:00", target="vmfs")
    assert decide([renamed], entered=ledger(TUE), there=holding(TUE)).verdict is Verdict.CURRENT
    lost = replace(TUE, ref=replace(TUE.ref, target="old-name"))
    assert decide([MON], entered=ledger(lost), there=holding(lost)).verdict is Verdict.OLDER


@pytest.mark.parametrize(
    ("path", "verdict"),
    [
        (f"/usb/{MON.ref.path}", Verdict.CURRENT),
        (f"/tmp/{MON.ref.name}", Verdict.CURRENT),
        (f"/usb/2026.03.09-Mail.{OTHER}/{MON.ref.name}", Verdict.OLDER),
        ("/tmp/copy.phd", Verdict.OLDER),
    ],
)
def test_what_a_person_restored_from_this_machine(path: str, verdict: Verdict) -> None:
    there = DiskState(exists=True, ours=True, archive=ArchiveRef(target="", path=path), taken=MON.time)
    assert decide([SUN, MON], entered=ledger(MON), there=there).verdict is verdict


def test_a_rule_that_names_another_disk_now_does_not_call_the_old_one_up_to_date() -> None:
    """Both VMs are backed up at the same minute."""
    mail = delta("2026-03-10 03:00", vm="Mail", uuid=OTHER)
    found = decide([TUE], entered=ledger(mail), there=holding(mail))
    assert found.verdict is Verdict.OLDER
    assert f"a backup of another disk is there, nas1:2026.03.10-Mail.{OTHER}/" in found.reason
    newer = delta("2026-03-10 09:00")
    assert decide([TUE, newer], entered=ledger(mail), there=holding(mail)).entry == newer


def test_up_to_date_needs_the_disk_and_its_descriptor() -> None:
    for there, verdict in (
        (DiskState(exists=False), Verdict.GONE),
        (DiskState(exists=True), Verdict.DIVERGED),
        (replace(holding(TUE), startable=False), Verdict.DIVERGED),
        (holding(TUE), Verdict.CURRENT),
    ):
        assert decide([MON, TUE], entered=ledger(TUE), there=there).verdict is verdict


def test_a_job_that_writes_there_now_is_not_up_to_date() -> None:
    running = QueuedJob(name="by-hand", state="running", phase=JobPhase.ACTIVE, archive=str(MON.ref), destination=HOME)
    found = decide([MON, TUE], entered=ledger(TUE), there=DiskState(exists=True), jobs=[running])
    assert (found.verdict, "with another backup" in found.reason) == (Verdict.QUEUED, True)


def test_a_path_that_is_spelled_in_another_way_has_the_same_history() -> None:
    other = Path("/vmfs/volumes/4a2f/ronzo/CRM.vmdk")
    lines = ledger(TUE, to=other)
    seen: list[Path] = []

    def key(path: Path) -> tuple[str, str]:
        seen.append(path)
        return path.parent.name, path.name

    unrelated = LedgerLine(time=TUE.time, archive=TUE.ref, destination=Path("/dead/nfs/Mail.vmdk"), job="auto-y")
    job = QueuedJob(name="a", state="waiting", phase=JobPhase.ACTIVE, archive=str(TUE.ref), destination=other)
    world = World(
        entries=[SUN, MON],
        ledger=Ledger(lines=(*lines.lines, unrelated), bad=()),
        jobs=[],
        destinations={HOME: holding(TUE)},
        now=NOW,
        key=key,
    )
    assert select([rule()], world, PassPolicy())[0].verdict is Verdict.OLDER
    assert select([rule()], replace(world, jobs=[job], ledger=Ledger(lines=(), bad=())), PassPolicy())[0].verdict is Verdict.QUEUED
    assert unrelated.destination not in seen  # it may lie where nothing answers
