"""What a person does not expect: names that steer terminals, folders that vanish, lists of 5,000, an input that ends."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

import pytest

from phd_daemon.console import menus, numbered_face
from phd_daemon.console.face import Choice, Page, Row
from phd_daemon.console.numbered_face import NumberedFace
from phd_daemon.console.restore_flow import _full_row
from restore_core.restore.fulls.candidates import Candidate
from restore_core.targets.base import ArchiveRef
from tests.phd_daemon.console.conftest import Place
from tests.phd_daemon.console.keys import typed
from tests.phd_daemon.small_backup import UUID

Said = pytest.CaptureFixture[str]
NAMES = [b"a\x1b[2Jb\nc\x07", b"\xff\xfe bad", "\u202e rtl".encode(), "\u6f22\u5b57".encode() * 20, b"\x9b31m", b"x" * 150]


def talk(place: Place, monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    typed(monkeypatch, *lines)
    numbered_face.open_face(lambda face: menus.console(face, place.session))


def test_no_name_of_a_vm_steers_the_terminal_and_each_can_be_chosen(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    folder = next((place.folder / "nas").iterdir())
    for name in NAMES:
        shutil.copytree(folder, place.folder / "nas" / os.fsdecode(b"2007.09.20-" + name + b"." + UUID.encode()))
    for number in range(len(NAMES) + 1):
        talk(place, monkeypatch, "e", "c", "v", str(number + 1), "", "", "", "")
        said = capsys.readouterr().out
        assert said.count("Where to restore CRM.vmdk") == 1
        assert all(letter.isprintable() or letter == "\n" for letter in said)
        assert "a%1B[2Jb%0Ac%07" in said
        assert "%E2%80%AE rtl" in said
        assert "%9B31m" in said


def vanished_spool(place: Place) -> None:
    shutil.rmtree(place.spool)


def vanished_settings(place: Place) -> None:
    (place.folder / "phd.toml").unlink()


def state_that_is_a_file(place: Place) -> None:
    (place.folder / "state").write_text("")


def vanished_target(place: Place) -> None:
    shutil.rmtree(place.folder / "nas")


def vanished_datastores(place: Place) -> None:
    shutil.rmtree(place.folder / "volumes")


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (vanished_spool, "there is no such folder"),
        (vanished_settings, "phd.toml: there is no such file"),
        (state_that_is_a_file, "How this installation stands"),
        (vanished_target, "nas1"),
        (vanished_datastores, "How this installation stands"),
    ],
)
def test_what_vanishes_is_named_and_the_console_goes_on(
    harm: Callable[[Place], None], words: str, place: Place, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    harm(place)
    jobs, options, vms, whole = ["b", "l", "0"], ["c", "c", "1", "2", "0", "0"], ["e", "c", "v", *[""] * 7, *["0"] * 9], ["s", "0"]
    for way in (jobs, options, vms, whole):
        talk(place, monkeypatch, *way)
        said = capsys.readouterr().out
        assert said.rstrip().endswith("0 back, ? help:")
        assert "Main Menu" in said
        if words in said:
            break
    else:
        raise AssertionError(words)


def test_five_thousand_vms_are_paged_and_one_is_found(monkeypatch: pytest.MonkeyPatch, capsys: Said) -> None:
    rows = [Row(cells=(f"vm{number:05}", UUID, "1", "2", "2007-09-20 16:01"), value=number) for number in range(5000)]
    typed(monkeypatch, "n", "b", "/vm04711", "1")
    choice = Choice(title="Virtual Machines", rows=rows, columns=("VM", "UUID", "DISKS", "BACKUPS", "NEWEST (UTC)"))
    assert NumberedFace().choose(choice) == 4711
    assert "rows 4985 to 5000 of 5000" in capsys.readouterr().out


def test_fulls_of_one_name_are_told_apart_by_their_folders() -> None:
    names = [f"2007.09.20-{vm}.{UUID}/00-CRM.vmdk.gz-070920-1601.phd" for vm in ("CRM", "CRM-copy")]
    refs = [ArchiveRef(target="nas1", path=name) for name in names]
    found = [_full_row(Candidate(ref=ref, size=1, time=None, proven=True, why="its id"), first=False) for ref in refs]
    assert len({row.cells for row in found}) == 2


@pytest.mark.parametrize("title", ["\u6f22\u5b57" * 10, "x" * 300, "a\x1b[2J"])
def test_the_line_below_a_title_is_as_wide_as_the_title_and_no_wider_than_the_terminal(
    title: str, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    NumberedFace().show(Page(title=title, lines=["text"]))
    assert len(capsys.readouterr().out.splitlines()[2]) == {"\u6f22": 40, "x": 80, "a": 7}[title[0]]
