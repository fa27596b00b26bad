"""Every table of the console at every size, on both faces: each cell of the row with the mark can be read, whole."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from phd_daemon.console import options_flow, rules_flow, status_flow, stub_flow
from phd_daemon.console.choose_backup import BACKUP_COLUMNS
from phd_daemon.console.face import Choice, Row
from phd_daemon.console.numbered_list import View, lines_on_screen, numbered, page
from phd_daemon.console.restore_flow import _FULL_COLUMNS, _full_row
from phd_daemon.console.screen.choose import ChoiceScreen
from phd_daemon.show.table import width_of
from restore_core.restore.fulls.candidates import Candidate
from restore_core.targets.base import ArchiveRef
from tests.phd_daemon.console.screen_hands import ScreenHands, at_the_screen
from tests.phd_daemon.console.scripted import Scripted
from tests.phd_daemon.console.test_flows import Site, outcome

T = TypeVar("T")
SIZES = [(80, 24), (100, 30), (40, 12)]
LONG, WIDE = f"/vmfs/volumes/{'long-name/' * 17}CRM-{'x' * 7}.vmdk", f"/vmfs/volumes/{'仮想機械/' * 10}漢字.vmdk"


class Taken(Scripted):
    """Takes the first list that a flow asks, and goes back."""

    def __init__(self) -> None:
        super().__init__()
        self.choices: list[Choice[Any]] = []

    def choose(self, choice: Choice[T]) -> T | None:
        self.choices.append(choice)
        return None


def status(site: Site) -> None:
    site.job("crm.running", started_at=1, restore_to=LONG)
    site.job(f"{'漢字' * 20}.job", restore_to=WIDE, note="by phone")
    site.job(f"{'old-' * 40}.failed", restore_to=LONG, outcome=outcome(f"{LONG}: there is a disk already\nWrite overwrite = yes."))


def options(site: Site) -> None:
    text = site.toml.read_text().replace(f'default_datastore = "{site.root}/volumes/A"', f'default_datastore = "{LONG}"')
    site.toml.write_text(text)
    site.session.read_again()


def stubs(site: Site) -> None:
    folder = site.root / "volumes" / "A" / ("漢字" * 30)
    folder.mkdir(parents=True)
    (folder / f"{'long-' * 40}-flat.vmdk").write_bytes(b"")


def preview(site: Site) -> None:
    site.rules.write_text(f"RESTORE:CRM|*|00|CRM.vmdk|{site.root}/volumes/A/{'仮想' * 30}/CRM.vmdk\nRESTORE:nonsense\n")


FLOWS: dict[str, tuple[Callable[[Site], None], Any]] = {
    "status": (status, status_flow.status),
    "options": (options, options_flow.options),
    "stubs": (stubs, stub_flow.stub),
    "preview": (preview, rules_flow.preview),
}


def fulls(_: Site) -> Choice[Any]:
    def one(target: str, name: str, *, proven: bool, why: str) -> Candidate:
        ref = ArchiveRef(target=target, path=f"2026.01.02-CRM/{name}")
        return Candidate(ref=ref, size=1 << 30, time=dt.datetime(2026, 1, 2, 3, tzinfo=dt.UTC), proven=proven, why=why)

    found = [
        one("nas1", "00-CRM.vmdk.gz-260102-0300.phd", proven=True, why="48 of its blocks are those of the map"),
        one("vault", f"00-{'漢字' * 20}.vmdk.gz-260102-0300.phd", proven=False, why="block 17 differs from the map of the Delta"),
    ]
    rows = [_full_row(candidate, first=at == 0) for at, candidate in enumerate(found)]
    return Choice(title="The Full for this Delta", rows=rows, columns=_FULL_COLUMNS, start=0)


def places(_: Site) -> Choice[Any]:
    rows = [
        Row(cells=(LONG, "1.7 GB", "12.0 GB", "not in use"), value=1),
        Row(cells=(WIDE, "1.7 GB", "12.0 GB", ""), value=2, refused="in use: CRM.vmdk.lck (a lock folder of ESX)"),
        Row(cells=("Elsewhere: choose datastore, folder and name",), value=3, key="e"),
    ]
    return Choice(title="Where to restore CRM.vmdk", rows=rows, columns=("IT LIES AT", "SIZE", "FREE THERE", ""), start=0)


def backups(_: Site) -> Choice[Any]:
    row = Row(cells=("nas1", "41.3 MB", "empty Delta", "2026-01-02 03:00", "0:0", f"{'漢字' * 40}.vmdk"), value=1)
    return Choice(title="Backups of CRM", rows=[row, row], columns=BACKUP_COLUMNS, start=0)


def table(name: str, site: Site) -> Choice[Any]:
    if name not in FLOWS:
        made: Choice[Any] = {"fulls": fulls, "places": places, "backups": backups}[name](site)
        return made
    make, flow = FLOWS[name]
    make(site)
    face = Taken()
    flow(face, site.session)
    return face.choices[0]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


TABLES = [*FLOWS, "fulls", "places", "backups"]
squeezed = str.maketrans("", "", " \n")


def whole(row: Row[Any], text: str) -> bool:
    parts = [*row.cells, *([f"[cannot be chosen: {row.refused}]"] if row.refused else [])]
    return all(part.translate(squeezed) in text.translate(squeezed) for part in parts)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", TABLES)
def test_on_the_screen_every_cell_of_the_current_row_is_read_whole(name: str, size: tuple[int, int], site: Site) -> None:
    choice = table(name, site)
    read: list[tuple[Row[Any], str]] = []

    async def do(hands: ScreenHands) -> None:
        await hands.expect(choice.title[:20])
        screen = hands.app.screen
        assert isinstance(screen, ChoiceScreen)
        await hands.press("home")
        for row in choice.rows:
            await hands.pilot.pause()
            drawn = hands.text()
            assert all(width_of(line) <= size[0] for line in drawn.split("\n"))
            assert any(line.lstrip().startswith(">") for line in drawn.split("\n"))
            texts = [drawn]
            while screen.detail.long:
                assert "Tab " in drawn
                await hands.press("tab")
                if screen._reading is screen.detail:
                    break
            while screen._reading is screen.detail and screen.detail.top < screen.detail._last_top:
                await hands.press("down")
                texts.append(hands.text())
            texts.append("\n".join(screen.detail._folded))  # its lines in one piece
            assert [line for line in screen.detail._folded if line not in "\n".join(texts[:-1])] == [], texts
            read.append((row, "\n".join((texts[0], texts[-1]))))
            while screen._reading is not None:
                await hands.press("tab")
            await hands.press("down")
        await hands.press("escape")

    at_the_screen(lambda face: face.choose(choice), do, size=size)
    assert [row.cells for row, text in read if not whole(row, text)] == []


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", TABLES)
def test_on_numbered_lines_every_cell_stands_whole_on_a_page_that_the_terminal_shows(
    name: str, size: tuple[int, int], site: Site
) -> None:
    choice, (width, height) = table(name, site), size
    view, seen = View(), []
    shown = numbered(choice, view, height - 7, width)
    while True:
        lines = page(shown, view)
        seen += lines
        here = range(view.top, shown.page_from(view.top))
        assert len(here) == 1 or lines_on_screen(lines, width) <= height - 5
        if here.stop == len(choice.rows):
            break
        view = View(top=here.stop)
    assert all(any(cell in line for line in seen) for row in choice.rows for cell in row.cells)
    assert all(any(row.refused in line for line in seen) for row in choice.rows)
    long = [line for line in seen if width_of(line) > width and not line.startswith("rows ")]
    assert all(any(line.endswith((cell, f"{cell}]")) for cell in cells(choice)) for line in long)


def cells(choice: Choice[Any]) -> list[str]:
    """What may be longer than a line, and begins a line of its own then."""
    return [cell for row in choice.rows for cell in (*row.cells, row.refused) if cell]
