"""docs/faults.md: each fault stands there once, and what it names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.proof.scoreboard import ROOT, all_rows

FAULTS = 98


def problems(page: str, tests: set[str], rows: set[str], files: set[str]) -> list[str]:
    """What the page gets wrong."""
    lines = [cells for line in page.splitlines() if re.match(r"\| F\d+ \|", line) and (cells := line.strip("|").split(" | "))]
    numbers = [cells[0].strip() for cells in lines]
    found = [f"{number} is missing" for n in range(1, FAULTS + 1) if (number := f"F{n}") not in numbers]
    found += [f"{number} stands there twice" for number in set(numbers) if numbers.count(number) > 1]
    for cells in lines:
        number, where, proof = cells[0].strip(), cells[-2], cells[-1]
        named = re.findall(r"`(test_\w+)`|\b(R\d+)\b", proof)
        found += [] if named else [f"{number}: no proof"]
        found += [f"{number}: no {test or row}" for test, row in named if test not in tests and row not in rows]
        found += [f"{number}: no file {path}" for path in re.findall(r"`([\w/.]+)`", where) if not is_there(path, files)]
    return found


def is_there(path: str, files: set[str]) -> bool:
    return any(name.endswith(f"/{path}") or (f"/{path}" in name and path.endswith("/")) for name in files)


def facts() -> tuple[set[str], set[str], set[str]]:
    """Names of all tests, of all rows, of all files of the program."""
    tests = {name for path in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text())}
    files = {f"/{path.relative_to(ROOT)}" for top in ("restore_core", "phd_daemon") for path in (ROOT / top).rglob("*.*")}
    return tests, {row.id for row in all_rows()}, files


def test_every_fault_stands_there_and_what_it_names_exists() -> None:
    assert problems((ROOT / "docs" / "faults.md").read_text(), *facts()) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("| F9 |", "| F10 |", ["F9 is missing", "F10 stands there twice"]),
        ("`test_every_flip_is_seen`", "`test_nothing_at_all`", ["F54: no test_nothing_at_all"]),
        ("| R10 |", "| R99 |", ["F33: no R99"]),
        ("`daemon/systemd.py`", "`nowhere.py`", ["F65: no file nowhere.py"]),
    ],
)
def test_a_wrong_page_is_seen(old: str, new: str, said: list[str]) -> None:
    page = Path(ROOT / "docs" / "faults.md").read_text()
    assert old in page
    assert problems(page.replace(old, new), *facts()) == said
