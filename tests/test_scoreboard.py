"""A short part of the scoreboard, and that its planted bugs are caught: the whole of it is `make proof`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.proof.scoreboard import ROOT, Row, all_rows, in_child

SEED = 20261122
SHORT = [row for row in all_rows() if row.short is not None]


@pytest.mark.parametrize("row", SHORT, ids=lambda row: row.id)
def test_a_short_part_of_each_row_is_green(row: Row) -> None:
    result = in_child(row, seed=SEED, share=row.short or 1.0)
    if result.not_run:
        pytest.skip(result.not_run)
    assert result.green, result


def test_a_planted_bug_turns_a_row_red() -> None:
    row = next(row for row in all_rows() if row.id == "R10")
    assert not in_child(row, seed=SEED, share=0.02, mutant="bits:verify_skips_the_blocks").green


def test_every_row_has_a_planted_bug_and_a_number_of_its_own() -> None:
    rows = all_rows()
    assert [row.id for row in rows if not row.mutants] == []
    assert len({row.id for row in rows}) == len(rows)


def test_the_program_knows_no_planted_bug() -> None:
    words = re.compile("PHD_PROOF|sitecustomize|mutant")
    found = [
        str(path)
        for top in ("restore_core", "phd_daemon")
        for path in Path(ROOT, top).rglob("*.py")
        if words.search(path.read_text())
    ]
    assert found == []
