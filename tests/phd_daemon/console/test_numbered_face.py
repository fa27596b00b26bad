"""The plain face: every question of the contract, answered on standard input, left with Esc, 0, ^C and the end of the input."""

from __future__ import annotations

import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest

from phd_daemon.console import numbered_face
from phd_daemon.console.face import Choice, Page, Question, Row
from phd_daemon.console.numbered_face import NumberedFace as Numbered
from phd_daemon.show import output
from tests.phd_daemon.console.keys import typed
from tests.phd_daemon.console.terminal import Terminal

Said = pytest.CaptureFixture[str]
LIST = Choice(title="Disks", rows=[Row(cells=(f"disk{n}",), value=n) for n in range(1, 101)], help="What these disks are.", start=2)


@pytest.fixture
def face() -> Numbered:
    return Numbered()


@pytest.mark.parametrize(
    ("lines", "value"),
    [
        (("5",), 5),
        (("",), 3),
        (("0",), None),
        (("\x1b",), None),
        (("^C",), None),
        ((), None),
        (("b", "100"), 100),
        (("/disk7", "2"), 70),
        (("/disk7", "", "70"), 70),
        (("n", "n", "t", "1"), 1),
        (("x", "?", "7"), 7),
    ],
)
def test_choose(face: Numbered, monkeypatch: pytest.MonkeyPatch, lines: tuple[str, ...], value: int | None) -> None:
    typed(monkeypatch, *lines)
    assert face.choose(LIST) == value


def test_help_is_shown_and_the_question_asked_again(face: Numbered, monkeypatch: pytest.MonkeyPatch, capsys: Said) -> None:
    typed(monkeypatch, "?", "4")
    assert face.choose(LIST) == 4
    said = capsys.readouterr().out
    assert "What these disks are." in said
    assert "Your choice [3], 0 back, ? help: " in said


QUESTION = Question(title="Name", prompt="Name", suggestion="a.vmdk", check=lambda text: None if "." in text else "no suffix")


@pytest.mark.parametrize(
    ("lines", "answer"),
    [(("",), "a.vmdk"), (("b", "c.vmdk"), "c.vmdk"), (("?", "d.vmdk"), "d.vmdk"), (("^C",), None), (("\x1b",), None), ((), None)],
)
def test_ask(face: Numbered, monkeypatch: pytest.MonkeyPatch, lines: tuple[str, ...], answer: str | None) -> None:
    typed(monkeypatch, *lines)
    assert face.ask(QUESTION) == answer


def test_a_question_without_a_suggestion_is_left_with_enter(face: Numbered, monkeypatch: pytest.MonkeyPatch) -> None:
    typed(monkeypatch, "")
    assert face.ask(Question(title="Name", prompt="Name")) is None


@pytest.mark.parametrize(
    ("lines", "default", "answer"),
    [
        (("y",), False, True),
        (("NO",), True, False),
        (("",), True, True),
        (("",), False, False),
        (("perhaps", "yes"), False, True),
        (("0",), True, None),
        (("q",), True, None),
        (("^C",), True, None),
        ((), True, None),
    ],
)
def test_confirm(
    face: Numbered, monkeypatch: pytest.MonkeyPatch, lines: tuple[str, ...], default: bool, answer: bool | None
) -> None:
    typed(monkeypatch, *lines)
    assert face.confirm("Sure?", ["a line"], default=default) is answer


def test_a_long_page_stops_at_every_screen(face: Numbered, monkeypatch: pytest.MonkeyPatch, capsys: Said) -> None:
    typed(monkeypatch, "", "q")
    face.show(Page(title="Log", lines=[f"line {n}" for n in range(100)]))
    said = capsys.readouterr().out
    assert "line 41\n" in said
    assert "line 42" not in said
    assert "-- 21 of 100 lines" in said


def test_names_cannot_steer_the_terminal(face: Numbered, monkeypatch: pytest.MonkeyPatch, capsys: Said) -> None:
    typed(monkeypatch, "0")
    face.choose(Choice(title="t", rows=[Row(cells=("a\x1b[2J\nb",), value=1)]))
    assert "\x1b" not in capsys.readouterr().out


def test_leaving_the_viewer_leaves_what_is_viewed(face: Numbered, capsys: Said) -> None:
    def lines() -> Iterator[str]:
        yield "first"
        raise KeyboardInterrupt

    face.follow("Log", lines())
    assert "first" in capsys.readouterr().out


def test_what_the_work_raises_comes_out_of_watch(face: Numbered) -> None:
    def work(stop: object) -> None:
        del stop
        raise ZeroDivisionError("planted")

    with pytest.raises(ZeroDivisionError, match="planted"):
        face.watch("t", work)


WATCHER = """
import time
from phd_daemon.console.numbered_face import NumberedFace as Numbered
def work(stop):
    stop.note('working')
    while not stop.asked:
        stop.report(f'at {time.monotonic()}')
        time.sleep(0.01)
    stop.note('cleaned up')
    return 42
print('came back with', Numbered().watch('A restore', work))
"""


@pytest.mark.parametrize("term", ["dumb", "vt100"])
@pytest.mark.parametrize("second", ["y\n", "\x03"])
def test_ctrl_c_asks_and_goes_on_or_stops(term: str, second: str, tmp_path: Path) -> None:
    program = tmp_path / "watcher.py"
    program.write_text(f"import sys; sys.path.insert(0, {str(Path(__file__).parents[3])!r})\n{WATCHER}")
    with Terminal([sys.executable, program], term=term) as terminal:
        terminal.expect("working")
        terminal.keys("\x03")
        terminal.answer("Stop it?", "")
        terminal.expect("It goes on.")
        terminal.keys("\x03")
        terminal.expect("Stop it?")
        terminal.prompted()
        terminal.keys(second)
        terminal.expect("cleaned up")
        terminal.expect("came back with 42")
        assert terminal.ends() == 0


AHEAD = """
import time
from phd_daemon.console.face import Choice, Question, Row
from phd_daemon.console.numbered_face import NumberedFace
face = NumberedFace()
def typed_ahead():
    print('type now')
    while not face_sees():
        time.sleep(0.01)
def face_sees():
    import select, sys
    return select.select([sys.stdin], [], [], 0)[0]
choice = Choice(title='Disks', rows=[Row(cells=(f'd{n}',), value=n) for n in range(3)])
ask = {
    'confirm': lambda: face.confirm('Write over this disk?', ['It is lost.'], default=False),
    'choose': lambda: face.choose(choice),
    'ask': lambda: face.ask(Question(title='Name', prompt='Name')),
}
import sys
{'open': typed_ahead, 'wait': lambda: face.wait('Looking', typed_ahead), 'lend': lambda: face.lend(typed_ahead),
 'watch': lambda: face.watch('Restoring', lambda _: typed_ahead())}[sys.argv[1]]()
print('came back with', ask[sys.argv[2]]())
"""


@pytest.mark.parametrize("work", ["open", "wait", "lend", "watch"])
@pytest.mark.parametrize("answers", [("confirm", "y", "n", "False"), ("choose", "1", "2", "1"), ("ask", "a", "b", "b")])
def test_what_is_typed_before_a_prompt_answers_nothing(work: str, answers: tuple[str, str, str, str], tmp_path: Path) -> None:
    kind, ahead, now, got = answers
    program = tmp_path / "ahead.py"
    program.write_text(f"import sys; sys.path.insert(0, {str(Path(__file__).parents[3])!r})\n{AHEAD}")
    with Terminal([sys.executable, program, work, kind]) as terminal:
        terminal.expect("type now")
        terminal.keys(f"{ahead}\n{ahead}\n{ahead}")
        terminal.prompted()
        terminal.keys(f"{now}\n")
        terminal.expect(f"came back with {got}")
        assert terminal.ends() == 0


def test_the_rest_of_a_paste_is_waited_for_before_a_question_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    pasted, thrown = [True, True, True, False], []
    mine, his = pty.openpty()
    with open(mine, "rb", buffering=0), open(his, encoding="utf-8") as keyboard:
        monkeypatch.setattr(sys, "stdin", keyboard)
        monkeypatch.setattr("select.select", lambda keys, *_: (keys if pasted.pop(0) else [], [], []))
        monkeypatch.setattr("termios.tcflush", lambda *_: thrown.append(len(pasted)))
        numbered_face._forget_the_rest_of_a_paste()
    assert thrown == [4, 3, 2, 1]


def test_ctrl_c_while_a_question_is_printed_does_not_leave_it(face: Numbered, monkeypatch: pytest.MonkeyPatch) -> None:
    say = output.say

    def interrupted(text: str = "", *, end: str = "\n") -> None:
        say(text, end=end)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(output, "say", interrupted)
    typed(monkeypatch, "y")
    assert face.confirm("Sure?", ["a line"], default=False) is True


def test_the_lines_of_a_pipe_are_its_answers(tmp_path: Path) -> None:
    program = tmp_path / "ahead.py"
    program.write_text(f"import sys; sys.path.insert(0, {str(Path(__file__).parents[3])!r})\n{AHEAD}")
    done = subprocess.run([sys.executable, program, "wait", "confirm"], input="y\n", capture_output=True, text=True, check=True)
    assert "came back with True" in done.stdout


def test_help_is_broken_between_words(face: Numbered, monkeypatch: pytest.MonkeyPatch, capsys: Said) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    typed(monkeypatch, "?", "0")
    face.choose(Choice(title="t", rows=[Row(cells=("a",), value=1)], help="one two three\nfour five " * 8))
    said = capsys.readouterr().out.replace("? help: ", "\n").splitlines()
    assert all(len(line) < 50 for line in said)
    assert "three four" in " ".join(said)
    assert {word for line in said for word in line.split()} >= {"one", "two", "three", "four", "five"}


def test_ctrl_c_as_soon_as_the_question_is_there_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes between the last character of the question and the first look at the keys."""
    face, presses, watched = Numbered(), numbered_face._Presses(), Mock(asked=False)
    monkeypatch.setattr(face, "_prompt", lambda _text: presses.on_interrupt(2, None))
    monkeypatch.setattr(face, "_line", lambda: pytest.fail("it waits for a key"))
    face._ask_to_stop(watched, presses)
    watched.ask.assert_called_once()
