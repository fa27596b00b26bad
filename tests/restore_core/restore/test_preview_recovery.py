"""`phd plan` foresees what a restore meets where a crash interrupted an earlier one, and leaves it as it lies."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from restore_core import durable
from restore_core.errors import ExitCode
from restore_core.restore.request import RestoreOptions, RestoreRequest
from restore_core.restore.run import restore_delta
from restore_core.targets.base import ArchiveRef
from tests.lab import BLOCK, Lab, Witness, go_on
from tests.restore_core.restore.crashes import dies, every_call
from tests.restore_core.restore.test_preview import planned, restored, state

OLD = os.urandom(8 * BLOCK)
REFRESHED = OLD[: 3 * BLOCK] + os.urandom(2 * BLOCK) + OLD[5 * BLOCK :]
REPLACED = os.urandom(8 * BLOCK)


class Interrupted:
    """A VMDK whose restore from Monday to Tuesday dies at a step."""

    def __init__(self, lab: Lab, new: bytes, records: str = "receipts") -> None:
        self.lab, self.out = lab, lab.folder / "out"
        self.path, self.flat = self.out / "r.vmdk", self.out / "r-flat.vmdk"
        self.records = lab.folder / records
        self.records.mkdir()
        self.monday, self.tuesday = lab.backup(OLD).delta, lab.backup(new).delta
        self.restore(self.monday)

    def request(self, delta: ArchiveRef, *, overwrite: bool = True) -> RestoreRequest:
        options = RestoreOptions(overwrite=overwrite)
        return RestoreRequest(delta=delta, destination=self.path, options=options, records=self.records)

    def restore(self, delta: ArchiveRef) -> None:
        restore_delta(self.request(delta), self.lab.targets, reporter=Witness(), stop=go_on)

    def plan_is_restore(self, *, overwrite: bool) -> tuple[int, str, str] | None:
        """Returns what both are refused for."""
        request, before = self.request(self.tuesday, overwrite=overwrite), state(self.out)
        said = planned(request, self.lab)
        assert state(self.out) == before, "a plan changes nothing"
        assert said == restored(request, self.lab)
        return said


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


@pytest.mark.parametrize("new", [REFRESHED, REPLACED], ids=["refreshed", "replaced"])
@pytest.mark.parametrize("overwrite", [True, False])
def test_after_a_crash_at_every_step_a_plan_says_what_the_restore_is_refused_for(lab: Lab, new: bytes, overwrite: bool) -> None:
    """A disk that was hidden at that moment was none for the plan: 0 without --overwrite, and the restore ended with 73."""
    one, number = Interrupted(lab, new), 1
    while dies(lambda: one.restore(one.tuesday), *every_call(), number=number):
        said = one.plan_is_restore(overwrite=overwrite)
        assert (said is None) is overwrite
        one.restore(one.monday)
        number += 7
    assert number > 28


def half(lab: Lab) -> Interrupted:
    one = Interrupted(lab, REFRESHED)
    assert dies(lambda: one.restore(one.tuesday), (durable, "write_all_at"), number=2, of=".phd-applying")
    return one


def write(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def damage_the_redo(one: Interrupted) -> None:
    write(one.out / "r-flat.vmdk.phd-redo", BLOCK + 700, b"damaged")


def forget_the_redo(one: Interrupted) -> None:
    (one.out / "r-flat.vmdk.phd-redo").write_bytes(b"of another version" * 1000)


def another_name(one: Interrupted) -> None:
    os.link(one.out / "r-flat.vmdk.phd-applying", one.out / "copy")


def a_copy(one: Interrupted) -> None:
    hidden = one.out / "r-flat.vmdk.phd-applying"
    data = hidden.read_bytes()
    hidden.rename(one.lab.folder / "moved")
    hidden.write_bytes(data)


def a_third(one: Interrupted) -> None:
    one.flat.write_bytes(b"a third one")


FAULTS: dict[str, tuple[Callable[[Interrupted], object], ExitCode | None]] = {
    "nothing": (lambda _: None, None),
    "a changed block was written": (
        lambda one: write(one.out / "r-flat.vmdk.phd-applying", 3 * BLOCK, b"somebody's"),
        ExitCode.DESTINATION,
    ),
    "another block was written": (lambda one: write(one.out / "r-flat.vmdk.phd-applying", 0, b"somebody's"), ExitCode.DESTINATION),
    "the redo file is damaged": (damage_the_redo, ExitCode.TRY_AGAIN),
    "the redo file is of another version": (forget_the_redo, ExitCode.TRY_AGAIN),
    "the hidden disk has another name": (another_name, ExitCode.DESTINATION),
    "the hidden disk is a copy": (a_copy, ExitCode.DESTINATION),
    "another file took the name": (a_third, ExitCode.DESTINATION),
    "the hidden disk is gone": (lambda one: (one.out / "r-flat.vmdk.phd-applying").unlink(), None),
    "the redo file is gone": (lambda one: (one.out / "r-flat.vmdk.phd-redo").unlink(), None),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_plan_foresees_a_redo_file_that_does_not_match(lab: Lab, name: str) -> None:
    """It was not looked at: the plan ended with 0, and the restore was refused for good."""
    fault, code = FAULTS[name]
    one = half(lab)
    fault(one)
    said = one.plan_is_restore(overwrite=True)
    assert (said[0] if said else None) == code


def test_a_plan_foresees_a_replacement_of_which_both_disks_were_used(lab: Lab) -> None:
    one = Interrupted(lab, REPLACED)
    number = 1
    while dies(lambda: one.restore(one.tuesday), (durable, "exchange"), (durable, "write_all_at"), number=number):
        if one.flat.exists() and one.flat.read_bytes() == REPLACED and list(one.out.glob(".phd-*")):
            break
        one.restore(one.monday)
        number += 1
    else:
        pytest.fail("no crash lay between the exchange and the proof")
    (old,) = one.out.glob(".phd-*")
    for path in (one.flat, old):
        write(path, 0, b"used by a VM")
    said = one.plan_is_restore(overwrite=True)
    assert said is not None
    assert "both disks may have been used" in said[1]
