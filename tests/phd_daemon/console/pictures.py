"""The pictures of the README, drawn from the console's own screens with made-up names: `make pictures` writes them."""

from __future__ import annotations

import html
import re
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from phd_daemon.console.choose_backup import BACKUP_COLUMNS
from phd_daemon.console.face import Choice, Face, Row, WorkControl
from phd_daemon.console.screen.work import WatchScreen
from phd_daemon.show.progress import delta_line
from restore_core.restore.request import Phase, PlanSummary, Progress
from tests.phd_daemon.console.screen_hands import ScreenHands, at_the_screen

FOLDER = Path(__file__).resolve().parents[3] / "docs" / "pictures"
_MB = 1 << 20
_NEVER = 3600.0  # seconds between two looks: a picture does not move
_UUID = "564d122a-0ed7-3b92-2f46-aee9456b2074"
_TITLE = "Restoring DELTA Backup from NET SFTP Target"
_BACKUPS = [
    ("nas1", "41.3 MB", "Delta", "2007-09-24 03:00", "0:0", "CRM.vmdk"),
    ("nas1", "212.8 MB", "Delta", "2007-09-24 03:00", "0:1", "CRM_1.vmdk"),
    ("nas1", "38.0 MB", "Delta", "2007-09-23 03:00", "0:0", "CRM.vmdk"),
    ("nas1", "187.5 MB", "Delta", "2007-09-23 03:00", "0:1", "CRM_1.vmdk"),
    ("nas1", "64.8 KB", "empty Delta", "2007-09-20 16:01", "0:0", "CRM.vmdk"),
    ("nas1", "1.7 GB", "Full", "2007-09-20 16:01", "0:0", "CRM.vmdk"),
    ("vault", "1.7 GB", "Full", "2007-09-20 16:01", "0:0", "CRM.vmdk"),
    ("nas1", "9.6 GB", "Full", "2007-09-20 16:01", "0:1", "CRM_1.vmdk"),
]


def _choose(face: Face) -> None:
    rows = [Row(cells=cells, value=None) for cells in _BACKUPS]
    face.choose(Choice(title=f"Backups of CRM ({_UUID})", rows=rows, columns=BACKUP_COLUMNS, start=0))


def _restore(face: Face) -> None:
    done = 1300 * _MB
    progress = Progress(
        phase=Phase.RESTORE,
        done=done,
        disk_size=4096 * _MB,
        moved=1210 * _MB,
        delta_done=105 * _MB,
        delta_total=157 * _MB,
        full_done=1105 * _MB,
        full_total=3251 * _MB,
        started=0.0,
    )

    plan = PlanSummary(block_size=_MB, disk_size=4096 * _MB, zero_blocks=688, full_blocks=3251, delta_blocks=157)

    def work(stop: WorkControl) -> None:
        stop.note("Full: nas1:2007.09.20-CRM." + _UUID + "/00-CRM.vmdk.gz-070920-1601.phd, proven by its content")
        stop.note(f"Planned: {plan.describe()}")
        stop.report(delta_line(progress, 110.0))
        while not stop.asked:
            time.sleep(0.01)

    face.watch(_TITLE, work)


async def _see_the_list(hands: ScreenHands) -> None:
    await hands.expect("CRM_1.vmdk", "Enter choose")


async def _see_the_progress(hands: ScreenHands) -> None:
    await hands.expect(_TITLE)
    screen = hands.app.screen
    assert isinstance(screen, WatchScreen)
    await hands.until(lambda: bool(screen.work.line), "the report")
    screen.look()
    await hands.expect("Remain: ", "^C stop")


PICTURES: dict[str, tuple[Callable[[Face], None], Callable[[ScreenHands], Awaitable[None]]]] = {
    "backups": (_choose, _see_the_list),
    "restore": (_restore, _see_the_progress),
}
"""Name -> what is asked, and the wait until all of it stands on the screen."""


def draw(name: str) -> tuple[str, str]:
    """The picture as SVG, and the same screen as text."""
    talk, see = PICTURES[name]
    drawn: list[tuple[str, str]] = []

    async def do(hands: ScreenHands) -> None:
        await see(hands)
        await hands.pilot.pause()
        svg = hands.app.export_screenshot(title="phd", simplify=True)
        drawn.append((_named(svg, name), hands.text()))

    at_the_screen(talk, do, pulse=_NEVER)
    return drawn[0]


def _named(svg: str, name: str) -> str:
    """Its parts have a random number in their names: the picture's name instead. Letters from the network: the reader's own."""
    found = re.search(r"terminal-\d+", svg)
    assert found is not None
    without_fonts = re.sub(r"@font-face\s*\{.*?\}\s*", "", svg, flags=re.DOTALL)
    lines = (line.rstrip() for line in without_fonts.replace(found[0], f"phd-{name}").split("\n"))
    return "\n".join(lines).rstrip() + "\n"


def words(svg: str) -> list[str]:
    """What can be read in a picture, word by word."""
    texts = re.findall(r"<text[^>]*>(.*?)</text>", svg, flags=re.DOTALL)
    return " ".join(html.unescape(text).replace("\xa0", " ") for text in texts).split()


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for picture in PICTURES:
        (FOLDER / f"{picture}.svg").write_text(draw(picture)[0])
        sys.stdout.write(f"docs/pictures/{picture}.svg\n")
