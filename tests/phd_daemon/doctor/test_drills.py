"""What `phd doctor` and `phd status` say of drills: nothing where there was none."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path

import pytest

from phd_daemon.doctor.drills import examine
from phd_daemon.drill.kept_drills import DrillFolder
from phd_daemon.drill.verdict import Drill, DrillOutcome, DrillStep, still_failed
from phd_daemon.operations.status import document, overview
from phd_daemon.show.overview import status_lines
from phd_daemon.show.times import minute
from tests.phd_daemon.drill.a_drill import DRILL

DAY = dt.timedelta(days=1)
MONTH = 35 * 86400.0


def drilled(outcome: DrillOutcome, days: int, vm: str = "CRM") -> Drill:
    step = DrillStep(name="boot", outcome=outcome, reason="its kernel panics")
    return replace(DRILL, vm=vm, began=DRILL.began + days * DAY, steps=(step,))


def keep(state: Path, *found: Drill) -> None:
    folder = DrillFolder(state)
    with folder.work():
        for one in found:
            folder.keep(one, picture=None, serial=b"")


def checks(state: Path, days: int) -> list[str]:
    return [one.check for one in examine(state, warn_after=MONTH, now=DRILL.began + days * DAY).findings]


def test_without_drills_there_is_nothing_to_say(tmp_path: Path) -> None:
    assert checks(tmp_path, 9999) == []


def test_a_vm_whose_last_drill_failed_is_named_until_it_passes(tmp_path: Path) -> None:
    keep(tmp_path, drilled(DrillOutcome.FAILED, 1), drilled(DrillOutcome.PASSED, 2, "ERP"), drilled(DrillOutcome.NOT_PROVEN, 3))
    report = examine(tmp_path, warn_after=MONTH, now=DRILL.began + 4 * DAY)
    assert [(one.check, one.where) for one in report.findings] == [("drill-failed", "CRM")]
    assert "its kernel panics" in report.findings[0].what
    keep(tmp_path, drilled(DrillOutcome.PASSED, 4))
    assert checks(tmp_path, 5) == []


def test_drills_that_stopped_are_missed(tmp_path: Path) -> None:
    keep(tmp_path, drilled(DrillOutcome.PASSED, 0))
    assert checks(tmp_path, 35) == []
    assert checks(tmp_path, 36) == ["drill-late"]


def test_two_vms_of_one_name_are_two() -> None:
    other = replace(drilled(DrillOutcome.PASSED, 2), uuid="other")
    assert still_failed([drilled(DrillOutcome.FAILED, 1), other]) == [drilled(DrillOutcome.FAILED, 1)]


@pytest.mark.parametrize("outcome", [DrillOutcome.FAILED, DrillOutcome.PASSED])
def test_status_shows_the_last_drill_and_a_failed_one_needs_a_person(tmp_path: Path, outcome: DrillOutcome) -> None:
    config = tmp_path / "phd.toml"
    config.write_text(f'state_dir = "{tmp_path / "state"}"\n[queue]\nspool = "{tmp_path}"\n')
    keep(tmp_path / "state", drilled(outcome, 1))
    shown = document(overview(config))
    assert (shown["last_drill"]["vm"], shown["last_drill"]["verdict"]) == ("CRM", outcome.value)
    assert f"last: CRM, {minute((DRILL.began + DAY).timestamp())}: {outcome.value}" in "\n".join(status_lines(shown, 0))
    needs = [one["type"] for one in shown["needs"] if "drill" in one["what"]]
    assert needs == (["phd drill --list"] if outcome is DrillOutcome.FAILED else [])
