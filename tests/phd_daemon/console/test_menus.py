"""The walk through the tree: letters and paths of 2007, errors shown and survived, faces chosen for their terminals."""

from __future__ import annotations

import signal
import sys
import types
from collections.abc import Iterator

import pytest

from phd_daemon.console import menus as walk
from phd_daemon.console.face import Face
from phd_daemon.console.menus import MAIN, Menu, MenuEntry
from phd_daemon.console.opening import needs_plain
from phd_daemon.console.session import Session
from restore_core.errors import BadArchive, Stopped
from tests.phd_daemon.console.conftest import Place
from tests.phd_daemon.console.scripted import BACK, ENTER, Scripted

PATHS = {
    "b": "Backup Restore Status",
    "cc": "Replication / Restore Options",
    "ecv": "Select by Virtual Machine name",
    "ecf": "Select by VMDK name",
    "ecx": "Restore a VMX file only",
    "es": "Create a STUB file",
    "erb": "Manage the Backup Restore Queue",
    "ere": "Edit vmdks.auto",
    "erf": "Preload vmdks.auto with all known VMDKs",
}


def menus(menu: Menu = MAIN) -> Iterator[Menu]:
    yield menu
    for entry in menu.entries:
        if isinstance(entry.leads_to, Menu):
            yield from menus(entry.leads_to)


def leaf(path: str) -> MenuEntry:
    menu: Menu | str = MAIN
    entry = None
    for letter in path:
        assert isinstance(menu, Menu)
        entry = next(entry for entry in menu.entries if entry.key == letter)
        menu = entry.leads_to
    assert entry is not None
    return entry


@pytest.mark.parametrize(("path", "label"), PATHS.items())
def test_the_letters_of_2007(path: str, label: str) -> None:
    assert leaf(path).label == label


@pytest.mark.parametrize("menu", list(menus()), ids=lambda menu: menu.title)
def test_every_menu_fits_a_screen_explains_itself_and_leads_somewhere(menu: Menu) -> None:
    assert menu.help
    assert all(len(line) <= 132 for line in menu.help.splitlines())
    keys = [entry.key for entry in menu.entries]
    assert len(set(keys)) == len(keys)
    for entry in menu.entries:
        assert len(entry.label) <= 70
        assert isinstance(entry.leads_to, Menu) or callable(walk.flow(entry.leads_to))


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """The status flow raises these, one a call."""
    errors: list[BaseException] = []

    def status(_face: Face, _session: Session) -> None:
        if errors:
            raise errors.pop(0)

    module = types.ModuleType("phd_daemon.console.planted_flow")
    module.status = status  # type: ignore[attr-defined]  # made here
    monkeypatch.setitem(sys.modules, "phd_daemon.console.planted_flow", module)
    monkeypatch.setattr(
        walk,
        "MAIN",
        Menu(title="Main Menu", help="h", entries=(MenuEntry(key="b", label="Status", leads_to="planted_flow:status"),)),
    )
    return errors


def test_errors_are_shown_and_the_menu_stands_there_again(place: Place, planted: list[BaseException]) -> None:
    planted += [
        BadArchive("bad bits", remedy="Use another."),
        PermissionError(13, "Permission denied", "/spool"),
        KeyboardInterrupt(),
    ]
    face = Scripted(*[("Main Menu", "b")] * 4, ("Main Menu", BACK))
    walk.console(face, place.session)
    for text in ("bad bits", "  Use another.", "/spool: cannot be used: Permission denied"):
        assert text in face.seen


def test_a_process_that_has_to_end_is_not_kept(place: Place, planted: list[BaseException]) -> None:
    planted.append(Stopped("ended"))
    place.session.leaving.set()
    with pytest.raises(Stopped):
        walk.console(Scripted(("Main Menu", "b")), place.session)


def test_a_bug_is_not_taken_for_an_error(place: Place, planted: list[BaseException]) -> None:
    planted.append(ZeroDivisionError("planted"))
    with pytest.raises(ZeroDivisionError):
        walk.console(Scripted(("Main Menu", "b")), place.session)


def test_the_main_menu_proposes_the_way_to_a_restore(place: Place) -> None:
    face = Scripted(("Main Menu", ENTER), ("Restore Menu", BACK), ("Main Menu", BACK))
    walk.console(face, place.session)
    assert not face.answers


def test_the_main_menu_says_that_the_queue_stands_still(place: Place) -> None:
    face = Scripted(("Main Menu", BACK))
    walk.console(face, place.session)
    assert walk.NO_DAEMON in face.seen
    config = place.folder / "phd.toml"
    config.write_text(config.read_text().replace("[queue]\n", "[queue]\nenabled = false\n"))
    place.session.read_again()
    face = Scripted(("Main Menu", BACK))
    walk.console(face, place.session)
    assert walk.QUEUE_OFF in face.seen


@pytest.mark.parametrize(
    ("term", "terminal", "plain"),
    [
        ("xterm-256color", "/dev/pts/3", False),
        ("linux", "/dev/tty1", False),
        ("vt100", "", False),
        ("dumb", "/dev/pts/3", True),
        ("", "/dev/pts/3", True),
        ("vt220", "/dev/ttyS0", True),
        ("vt220", "/dev/hvc0", True),
        ("xterm", None, True),
    ],
)
def test_which_terminals_get_numbered_lines(term: str, terminal: str | None, plain: bool) -> None:
    assert needs_plain(term, terminal) is plain


def test_menus_stand_in_one_module() -> None:
    assert {id(menu) for menu in menus()} == {id(value) for value in vars(walk).values() if isinstance(value, Menu)}


def test_signals_are_put_back(place: Place) -> None:
    from phd_daemon.console.opening import ended_by_signals

    before = signal.getsignal(signal.SIGTERM)
    with ended_by_signals(place.session):
        with place.session.working():
            signal.raise_signal(signal.SIGTERM)
        assert place.session.leaving.is_set()
        with pytest.raises(Stopped):
            signal.raise_signal(signal.SIGHUP)
    assert signal.getsignal(signal.SIGTERM) is before
