"""Tables at any width: columns where they fit, the rest below its row; nothing cut, nothing folded, nothing lost."""

from __future__ import annotations

import sys

import pytest

from phd_daemon.show import output
from phd_daemon.show.table import layout

Say = pytest.CaptureFixture[str]
TITLES = ("JOB", "STATE", "TO", "WHAT")
ROWS = (
    ("crm", "running", "/vmfs/volumes/ISCSI02/ronzo/CRM.vmdk", "Delta: 67% Full: 32%, 1300 mb of 4096 mb, at 11 meg/sec"),
    ("mail", "held", "/v/m.vmdk", ""),
)


def test_where_it_fits_it_is_columns() -> None:
    assert layout(TITLES, ROWS, 200) == [
        "JOB   STATE    TO                                    WHAT",
        "crm   running  /vmfs/volumes/ISCSI02/ronzo/CRM.vmdk  Delta: 67% Full: 32%, 1300 mb of 4096 mb, at 11 meg/sec",
        "mail  held     /v/m.vmdk",
    ]


def test_the_longest_cells_go_below_until_the_rest_fits() -> None:
    assert layout(TITLES, ROWS, 80) == [
        "JOB   STATE    TO",
        "crm   running  /vmfs/volumes/ISCSI02/ronzo/CRM.vmdk",
        "  WHAT  Delta: 67% Full: 32%, 1300 mb of 4096 mb, at 11 meg/sec",
        "mail  held     /v/m.vmdk",
    ]
    assert layout(TITLES, ROWS, 40) == [
        "JOB   STATE    TO",
        "crm   running",
        "  TO    /vmfs/volumes/ISCSI02/ronzo/CRM.vmdk",
        "  WHAT  Delta: 67% Full: 32%, 1300 mb of 4096 mb, at 11 meg/sec",
        "mail  held     /v/m.vmdk",
    ]
    assert layout(TITLES, ROWS, 16) == [
        "JOB   STATE",
        "crm   running",
        "  TO    /vmfs/volumes/ISCSI02/ronzo/CRM.vmdk",
        "  WHAT  Delta: 67% Full: 32%, 1300 mb of 4096 mb, at 11 meg/sec",
        "mail  held",
        "  TO    /v/m.vmdk",
    ]


@pytest.mark.parametrize("width", range(1, 130))
def test_at_every_width_every_cell_stands_there_whole(width: int) -> None:
    text = "\n".join(layout(TITLES, ROWS, width))
    assert all(cell in text for row in (TITLES, *ROWS) for cell in row)


def test_exactly_as_wide_as_the_terminal_fits() -> None:
    full = max(map(len, layout(TITLES, ROWS, 1000)))
    assert len(layout(TITLES, ROWS, full)) == 3
    assert len(layout(TITLES, ROWS, full - 1)) == 4


@pytest.mark.parametrize("width", range(13, 130))
def test_what_stands_side_by_side_is_no_wider_than_the_terminal(width: int) -> None:
    assert all(len(line) <= width for line in layout(TITLES, ROWS, width) if not line.startswith("  "))


def test_characters_that_take_two_columns() -> None:
    assert layout(("A", "B"), [("日本", "x"), ("ab", "y")], 80) == ["A     B", "日本  x", "ab    y"]


def test_titles_without_rows() -> None:
    assert layout(TITLES, (), 80) == ["JOB  STATE  TO  WHAT"]


def test_on_a_terminal_titles_are_bold_and_the_width_is_its_own(monkeypatch: pytest.MonkeyPatch, capsys: Say) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")
    output.table(TITLES, ROWS)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "\x1b[1mJOB   STATE    TO\x1b[0m"
    monkeypatch.setenv("TERM", "dumb")
    output.table(TITLES, ROWS)
    assert capsys.readouterr().out.splitlines() == ["JOB   STATE    TO", *said[1:]]
    assert said[2] == "  TO    /vmfs/volumes/ISCSI02/ronzo/CRM.vmdk"


def test_one_long_cell_costs_its_own_row_alone() -> None:
    rows = [("enabled", "run the queue", "on"), ("datastore", "where to", "/vmfs/volumes/ISCSI02")]
    assert layout(("OPTION", "MEANING", "VALUE"), rows, 32) == [
        "OPTION     MEANING        VALUE",
        "enabled    run the queue  on",
        "datastore  where to",
        "  VALUE  /vmfs/volumes/ISCSI02",
    ]
