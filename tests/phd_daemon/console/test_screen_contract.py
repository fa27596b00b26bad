"""The contract of a face, kept by both: numbered lines on standard input, and keys pressed on a Textual screen."""

from __future__ import annotations

import enum
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from phd_daemon.console.face import Choice, Face, Page, Question, Row, WorkControl
from phd_daemon.console.numbered_face import NumberedFace
from tests.phd_daemon.console.screen_hands import ScreenHands, at_the_screen


class Do(enum.Enum):
    """What a person does that is no text."""

    ENTER = "enter"
    BACK = "back"
    INTERRUPT = "interrupt"
    HELP = "help"


@dataclass(frozen=True)
class Take:
    """The row with that number, from 0."""

    number: int


@dataclass(frozen=True)
class Letter:
    letter: str


@dataclass(frozen=True)
class Filter:
    words: str


@dataclass(frozen=True)
class Write:
    """This instead of the suggestion."""

    text: str


Move = Do | Take | Letter | Filter | Write
Hands = Callable[[Callable[[Face], None], Sequence[Move]], str]


class Typed:
    """Standard input of a person at numbered lines."""

    def __init__(self, moves: Sequence[Move]) -> None:
        self._moves = list(moves)

    def readline(self) -> str:
        move = self._moves.pop(0)
        if move is Do.INTERRUPT:
            raise KeyboardInterrupt
        return f"{self._line(move)}\n"

    def _line(self, move: Move) -> str:
        match move:
            case Take(number):
                return str(number + 1)
            case Letter(letter):
                return letter
            case Filter(words):
                return f"/{words}"
            case Write(text):
                return text
            case _:
                return {Do.ENTER: "", Do.BACK: "\x1b", Do.HELP: "?"}[move]


async def pressed(hands: ScreenHands, move: Move) -> None:
    """The same at a screen. Each move waits for an open question, so that nothing is pressed too early."""
    await hands.expect("")
    match move:
        case Take(number):
            await hands.press("home", *["down"] * number, "enter")
        case Letter(letter):
            await hands.press(letter)
        case Filter(words):
            await hands.press("slash", *words, "enter")
        case Write(text):
            await hands.press("ctrl+u")
            await hands.type(text)
            await hands.press("enter")
        case Do.HELP:
            await hands.press("f1")
            await hands.expect("Help")
        case Do.INTERRUPT:
            await hands.press("ctrl+c")
        case _:
            await hands.press({Do.ENTER: "enter", Do.BACK: "escape"}[move])


@pytest.fixture(params=["plain", "screen"])
def hands(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Hands:
    """Talks with one of the two faces while the moves are made; everything that was shown."""

    def plain(talk: Callable[[Face], None], moves: Sequence[Move]) -> str:
        monkeypatch.setattr(sys, "stdin", Typed(moves))
        talk(NumberedFace())
        return capsys.readouterr().out

    def screen(talk: Callable[[Face], None], moves: Sequence[Move]) -> str:
        shown = []

        async def do(at: ScreenHands) -> None:
            for move in moves:
                await pressed(at, move)
                if move is Do.HELP:
                    shown.append(at.text())
                    await at.press("escape")
                shown.append(at.text())
            await at.until(lambda: not at.app._flow.is_alive(), "the end")

        at_the_screen(talk, do)
        return "\n".join(shown)

    return plain if request.param == "plain" else screen


DISKS = Choice(
    title="Disks",
    columns=("NAME", "WHERE"),
    rows=[
        Row(cells=("CRM.vmdk", "nas1"), value=1),
        Row(cells=("mail[red].vmdk", "nas2"), value=2),
        Row(cells=("in use", "nas1"), value=3, refused="a running VM holds it"),
        Row(cells=("All of them",), value=4, key="a"),
    ],
    help="What these disks are.",
)
PROPOSED = Choice(title=DISKS.title, rows=DISKS.rows, start=1)


@pytest.mark.parametrize(
    ("choice", "moves", "value"),
    [
        (DISKS, [Take(1)], 2),
        (DISKS, [Letter("a")], 4),
        (DISKS, [Letter("A")], 4),
        (PROPOSED, [Do.ENTER], 2),
        (DISKS, [Do.BACK], None),
        (DISKS, [Do.INTERRUPT], None),
        (DISKS, [Letter("q")], None),
        (DISKS, [Take(2), Take(0)], 1),
        (DISKS, [Do.HELP, Take(0)], 1),
        (DISKS, [Filter("nas2"), Take(0)], 2),
        (DISKS, [Filter("NAS1 crm"), Take(0)], 1),
    ],
)
def test_choose(hands: Hands, choice: Choice[int], moves: list[Move], value: int | None) -> None:
    got: list[int | None] = []
    shown = hands(lambda face: got.append(face.choose(choice)), moves)
    assert got == [value]
    if Take(2) in moves:
        assert "cannot be chosen: a running VM holds it" in shown
    if Do.HELP in moves:
        assert "What these disks are." in shown
        assert "mail[red].vmdk" in shown


def ends_well(answer: str) -> str | None:
    return None if answer.endswith(".vmdk") else f"{answer}: a disk ends in .vmdk"


NAME = Question(title="Name of the VMDK", prompt="Name", suggestion="CRM.vmdk", help="Any name.", check=ends_well)
EMPTY = Question(title="Folder", prompt="Folder")


@pytest.mark.parametrize(
    ("question", "moves", "value"),
    [
        (NAME, [Do.ENTER], "CRM.vmdk"),
        (NAME, [Write("old.vmdk")], "old.vmdk"),
        (NAME, [Write("old"), Write("new.vmdk")], "new.vmdk"),
        (NAME, [Do.HELP, Do.ENTER], "CRM.vmdk"),
        (NAME, [Do.BACK], None),
        (NAME, [Do.INTERRUPT], None),
        (EMPTY, [Do.ENTER], None),
        (EMPTY, [Write("q")], "q"),
    ],
)
def test_ask(hands: Hands, question: Question, moves: list[Move], value: str | None) -> None:
    got: list[str | None] = []
    shown = hands(lambda face: got.append(face.ask(question)), moves)
    assert got == [value]
    if Do.HELP in moves:
        assert "Any name." in shown


@pytest.mark.parametrize(
    ("default", "moves", "value"),
    [
        (True, [Do.ENTER], True),
        (False, [Do.ENTER], False),
        (True, [Letter("n")], False),
        (False, [Letter("y")], True),
        (True, [Do.BACK], None),
        (True, [Letter("q")], None),
        (False, [Do.INTERRUPT], None),
    ],
)
def test_confirm(hands: Hands, default: bool, moves: list[Move], value: bool | None) -> None:
    got: list[bool | None] = []
    hands(lambda face: got.append(face.confirm("Start?", ["A disk of 4 GB", "to /vmfs"], default=default)), moves)
    assert got == [value]


@pytest.mark.parametrize("move", [Letter("q"), Do.BACK, Do.INTERRUPT])
def test_show(hands: Hands, move: Move) -> None:
    got: list[int | None] = []

    def talk(face: Face) -> None:
        face.show(Page(title="A long text", lines=[f"line {number} [bold]" for number in range(100)]))
        got.append(face.choose(DISKS))

    hands(talk, [move, Take(0)])
    assert got == [1]


def test_wait_gives_what_the_work_gives_and_raises_what_it_raises(hands: Hands) -> None:
    got: list[object] = []

    def broken() -> int:
        raise FileNotFoundError("gone")

    def talk(face: Face) -> None:
        got.append(face.wait("Looking", lambda: 7))
        try:
            face.wait("Looking", broken)
        except FileNotFoundError as error:
            got.append(str(error))

    hands(talk, [])
    assert got == [7, "gone"]


def test_watch_gives_what_the_work_gives_and_raises_what_it_raises(hands: Hands) -> None:
    got: list[object] = []

    def broken(stop: WorkControl) -> int:
        stop.note("Planned: nothing")
        raise ValueError("flipped")

    def work(stop: WorkControl) -> bool:
        stop.report("100%")
        return stop.asked

    def talk(face: Face) -> None:
        got.append(face.watch("Restoring", work))
        with pytest.raises(ValueError, match="flipped"):
            face.watch("Restoring", broken)

    hands(talk, [])
    assert got == [False]


def test_lend_gives_what_the_work_gives_and_raises_what_it_raises(hands: Hands) -> None:
    got: list[object] = []

    def broken() -> int:
        raise FileNotFoundError("vi")

    def talk(face: Face) -> None:
        got.append(face.lend(lambda: "edited"))
        with pytest.raises(FileNotFoundError):
            face.lend(broken)

    hands(talk, [])
    assert got == ["edited"]


def test_an_iterator_that_breaks_raises_in_the_flow(hands: Hands) -> None:
    def talk(face: Face) -> None:
        def lines():
            yield "one"
            raise PermissionError("log")

        with pytest.raises(PermissionError):
            face.follow("Log", lines())

    hands(talk, [])


@pytest.mark.parametrize(("word", "stopped"), [("n", False), ("y", True)])
@pytest.mark.parametrize("face", ["plain", "screen"])
def test_interrupt_in_watch_asks_and_only_a_yes_stops(
    face: str, word: str, stopped: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    running, answered = threading.Event(), threading.Event()
    got: list[str] = []

    def work(stop: WorkControl) -> str:
        if face == "plain":
            os.kill(os.getpid(), signal.SIGINT)
        running.set()
        while not (stop.asked or answered.wait(0.01)):
            stop.report("Delta: 67%")
        return "stopped" if stop.asked else "done"

    def talk(at: Face) -> None:
        got.append(at.watch("Restoring", work))

    if face == "plain":

        class Input:
            def readline(self) -> str:
                if not stopped:
                    answered.set()
                return f"{word}\n"

        monkeypatch.setattr(sys, "stdin", Input())
        talk(NumberedFace())
        assert "Stop it?" in capsys.readouterr().out
    else:

        async def do(at: ScreenHands) -> None:
            await at.answer("Delta: 67%", "ctrl+c")
            await at.answer("Stop this?", word)
            if not stopped:
                await at.until(lambda: "Stop this?" not in at.text(), "going on")
                answered.set()
            await at.until(lambda: not at.app._flow.is_alive(), "the end")

        at_the_screen(talk, do)
    assert got == ["stopped" if stopped else "done"]
