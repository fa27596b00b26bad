"""The verdict on the steps of a drill: passed is only said of what was seen to work."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from phd_daemon.drill.verdict import Drill, DrillOutcome, DrillStep, verdict_of
from tests.phd_daemon.drill.a_drill import DRILL as A_DRILL

PASSED, FAILED, NOT_PROVEN, SKIPPED = DrillOutcome


def steps(**outcomes: DrillOutcome) -> list[DrillStep]:
    return [DrillStep(name=name, outcome=outcome, reason=f"why {name}") for name, outcome in outcomes.items()]


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        ({"p1": PASSED, "read": PASSED, "boot": PASSED}, PASSED),
        ({"p1": NOT_PROVEN, "read": PASSED, "boot": PASSED}, PASSED),
        ({"p1": SKIPPED, "read": PASSED, "boot": PASSED}, PASSED),
        ({"p1": PASSED, "read": PASSED, "boot": NOT_PROVEN}, NOT_PROVEN),
        ({"p1": PASSED, "read": PASSED, "boot": SKIPPED}, NOT_PROVEN),
        ({"p1": PASSED, "read": PASSED}, NOT_PROVEN),
        ({}, NOT_PROVEN),
        ({"p1": FAILED, "read": PASSED, "boot": PASSED}, FAILED),
        ({"p1": PASSED, "read": FAILED, "boot": PASSED}, FAILED),
        ({"p1": PASSED, "boot": FAILED}, FAILED),
    ],
)
def test_with_a_boot_only_the_guests_own_word_passes(found: dict[str, DrillOutcome], verdict: DrillOutcome) -> None:
    assert verdict_of(steps(**found), boot=True) is verdict


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        ({"p1": PASSED, "read": PASSED}, PASSED),
        ({"p1": PASSED, "p2": SKIPPED, "read": PASSED}, PASSED),
        ({"verify": PASSED, "p1": SKIPPED, "read": PASSED}, PASSED),
        ({"p1": PASSED, "p2": NOT_PROVEN, "read": PASSED}, NOT_PROVEN),
        ({"p1": SKIPPED, "read": PASSED}, NOT_PROVEN),
        ({"read": PASSED}, NOT_PROVEN),
        ({}, NOT_PROVEN),
        ({"p1": PASSED, "p2": FAILED}, FAILED),
    ],
)
def test_without_a_boot_something_must_have_been_checked(found: dict[str, DrillOutcome], verdict: DrillOutcome) -> None:
    assert verdict_of(steps(**found), boot=False) is verdict


DRILL = replace(A_DRILL, steps=tuple(steps(p1=PASSED, read=PASSED, boot=PASSED)), picture="20261129T030000Z.png")


def test_what_is_kept_is_read_as_it_was() -> None:
    document = json.loads(json.dumps(DRILL.document()))
    assert document["verdict"] == "passed"
    assert Drill.read(document) == DRILL


def test_the_reason_is_what_decided() -> None:
    assert DRILL.reason == "boot: why boot"
    assert replace(DRILL, steps=tuple(steps(p1=FAILED, p2=PASSED, boot=PASSED))).reason == "p1: why p1"
    assert replace(DRILL, steps=()).reason == "nothing was tried"


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"began": "2026-11-29T03:00:00"},
        {"picture": "../../etc/passwd"},
        {"serial": ".hidden"},
        {"steps": [{"name": "x", "outcome": "good", "reason": "", "seconds": 0}]},
        {"steps": None},
        {"archives": None},
    ],
)
def test_what_is_no_record_is_not_believed(change: dict[str, object]) -> None:
    with pytest.raises((ValueError, LookupError, TypeError)):
        Drill.read({**DRILL.document(), **change})
