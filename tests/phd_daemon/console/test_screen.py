"""What only the screen does: long lists, other sizes, what is drawn while work goes on, and its end."""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from textual.events import Key, Paste

from phd_daemon.console.face import Choice, Face, Page, Question, Row, WorkControl
from phd_daemon.console.screen import screen_face
from phd_daemon.console.screen.app import ConsoleApp
from phd_daemon.console.screen.choose import ChoiceScreen
from phd_daemon.console.screen.row_list import RowList, Table
from tests.phd_daemon.console.screen_hands import ScreenHands, at_the_screen

LONG = Choice(
    title="Backups",
    columns=("TARGET", "SIZE", "NAME"),
    rows=[Row(cells=(f"nas{number % 3}", f"{number} MB", f"vm{number:05}.vmdk"), value=number) for number in range(10_000)],
)
SHORT = Choice(title="Menu", rows=[Row(cells=(word,), value=word, key=word[0]) for word in ("backups", "queue", "1st")])


def chosen(choice: Choice[Any], *keys: str, size: tuple[int, int] = (80, 24)) -> tuple[Any, str]:
    """The value, and what was drawn before the last key."""
    got: list[Any] = []
    drawn: list[str] = []

    async def do(hands: ScreenHands) -> None:
        await hands.expect(choice.title)
        await hands.press(*keys[:-1])
        drawn.append(hands.text())
        await hands.press(keys[-1])
        await hands.until(lambda: bool(got), "an answer")

    at_the_screen(lambda face: got.append(face.choose(choice)), do, size=size)
    return got[0], drawn[0]


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (["b"], 9999),
        (["q"], 9999),
        (["end"], 9999),
        (["b", "1"], 0),
        (["q", "home", "down"], 1),
        (["pagedown"], 20),
        (["pagedown", "pagedown", "pageup"], 20),
        (["up"], 0),
        (["slash", *"VM0123", "enter", "down"], 1231),
        (["slash", *"nas2", "space", *"98", "enter", "b"], 9998),
        (["slash", *"zzz", "ctrl+u", "down", "enter"], 1),
        (["slash", *"99999", *["backspace"] * 5, "enter"], 9999),
        (["slash", *"777", "escape"], 777),
    ],
)
def test_moving_in_ten_thousand_rows(keys: list[str], value: int) -> None:
    assert chosen(LONG, *keys, "enter")[0] == value


def test_a_filter_says_how_many_rows_it_leaves() -> None:
    _, drawn = chosen(LONG, "slash", *"vm0123", "enter", "enter")
    assert "Filter: vm0123   10 of 10000" in drawn
    assert "vm01239.vmdk" in drawn
    assert "vm00000" not in drawn


def test_only_what_is_seen_is_drawn() -> None:
    drawn: set[int] = set()

    class Seen(list[str]):
        def __getitem__(self, index: Any) -> Any:
            drawn.add(index)
            return super().__getitem__(index)

    async def do(hands: ScreenHands) -> None:
        await hands.expect("Backups")
        screen = hands.app.screen
        assert isinstance(screen, ChoiceScreen)
        screen.list.table.lines = Seen(screen.list.table.lines)
        await hands.press("b", "1", "pagedown", "slash", "9", "escape", "escape")

    at_the_screen(lambda face: face.choose(LONG), do)
    assert 0 < len(drawn) < 200


@pytest.mark.parametrize("letter", ["b", "q", "1"])
def test_in_a_menu_the_letters_of_its_rows_win(letter: str) -> None:
    assert chosen(SHORT, letter)[0][0] == letter


def test_b_does_nothing_in_a_short_list_without_such_a_key() -> None:
    choice = Choice(title="Few", rows=[Row(cells=("a",), value=1), Row(cells=("c",), value=2)])
    assert chosen(choice, "b", "enter")[0] == 1


def test_an_empty_list_says_so_and_enter_goes_back() -> None:
    value, drawn = chosen(Choice(title="None at all", rows=[]), "down", "enter")
    assert value is None
    assert "Nothing to choose from." in drawn


def test_a_filter_that_leaves_nothing_chooses_nothing() -> None:
    value, drawn = chosen(LONG, "slash", *"zzz", "enter", "enter", "escape", "escape")
    assert value is None
    assert "vm0" in drawn


def test_a_row_wider_than_the_screen_is_shown_whole_below_and_can_be_slid() -> None:
    wide = Choice(title="Wide", rows=[Row(cells=("a" * 70, "b" * 40 + "END"), value=1), Row(cells=("c", "d"), value=2)])
    _, drawn = chosen(wide, "down", "enter")
    assert "bEND" not in drawn
    _, drawn = chosen(wide, "home", "enter")
    assert "bEND" in drawn
    _, drawn = chosen(wide, *["right"] * 9, "down", "enter")
    assert "bEND" in drawn.split("\n")[1]


@pytest.mark.parametrize("size", [(80, 24), (80, 25), (60, 20), (132, 50)])
@pytest.mark.parametrize("name", ["\u4eee\u60f3" * 40, "Bu\u0308ro-" * 40, "x" * 240], ids=["wide", "NFD", "long"])
def test_the_row_with_the_mark_is_whole_on_the_screen_with_its_reason(size: tuple[int, int], name: str) -> None:
    row = Row(cells=("nas1", f"/vmfs/volumes/ISCSI02/{name}/{name}.vmdk"), value=1, refused="in use: CRM.vmdk.lck, a lock folder")
    choice = Choice(title="t", columns=("TARGET", "PATH"), rows=[row, Row(cells=("b", "c"), value=2)], start=0)
    drawn = seen_first(choice, size)
    assert "".join(f"PATH{row.cells[1]}[cannot be chosen: {row.refused}]".split()) in "".join(drawn.split())


def seen_first(choice: Choice[Any], size: tuple[int, int]) -> str:
    drawn: list[str] = []

    async def do(hands: ScreenHands) -> None:
        await hands.expect("a lock folder]")
        drawn.append(hands.text())

    at_the_screen(lambda face: face.choose(choice), do, size=size)
    return drawn[0]


def test_names_are_drawn_as_they_are_written() -> None:
    nasty = "[red]x[/red] \x1b[31m {0} \\[b] :smile:"
    shown = []

    def talk(face: Face) -> None:
        face.choose(
            Choice(title=nasty, intro=(nasty,), columns=(nasty,), rows=[Row(cells=(nasty,), value=1, refused=nasty)], help=nasty)
        )
        face.ask(Question(title=nasty, prompt=nasty, suggestion=nasty, intro=(nasty,), check=lambda _: nasty))
        face.show(Page(title=nasty, lines=[nasty]))

    async def do(hands: ScreenHands) -> None:
        safe = "[red]x[/red] %1B[31m {0} \\[b] :smile:"
        await hands.until(lambda: hands.text().count(safe) == 5, "the title, the text, the column, the row, and the row as a whole")
        await hands.press("enter")
        await hands.expect(f"This one cannot be chosen: {safe}")
        await hands.press("question_mark")
        await hands.answer("Help", "escape")
        await hands.press("escape")
        shown.append((await hands.expect("Enter take")).count(safe))
        await hands.press("enter")
        await hands.until(lambda: hands.text().count(safe) == 5, "the refusal")
        await hands.press("escape")
        shown.append((await hands.expect("Enter or Esc back")).count(safe))
        await hands.press("escape")

    at_the_screen(talk, do)
    assert shown == [4, 2]


@pytest.mark.parametrize("size", [(80, 24), (40, 10), (20, 6), (200, 60)])
def test_every_screen_at_every_size(size: tuple[int, int]) -> None:
    intro = tuple(f"line {number} of what there is to say about it" for number in range(30))
    go_on = threading.Event()

    def talk(face: Face) -> None:
        face.choose(Choice(title=LONG.title, columns=LONG.columns, rows=LONG.rows, intro=intro))
        face.confirm("Start?", intro, default=True)
        face.ask(Question(title="Name", prompt="Name", suggestion="x" * 300, intro=intro))
        face.show(Page(title="Text", lines=intro))
        face.wait("Waiting for it", go_on.wait)

    async def do(hands: ScreenHands) -> None:
        lines = (await hands.expect("Backups")).split("\n")
        assert len(lines) == size[1]
        assert any(line.lstrip().startswith(">") for line in lines)
        await hands.press("b", "enter")
        assert ">" in await hands.expect("Start?")
        await hands.press("enter")
        assert "xxx" in await hands.expect("Name")
        await hands.press("enter")
        await hands.answer("Text", "b", "q")
        await hands.expect("Waiting for it")
        go_on.set()
        await hands.until(lambda: not hands.app._flow.is_alive(), "the end")

    at_the_screen(talk, do, size=size)


def test_resized_while_it_stands_there() -> None:
    async def do(hands: ScreenHands) -> None:
        await hands.expect("Backups")
        await hands.press("b")
        for columns, lines in ((40, 8), (120, 50), (80, 24)):
            await hands.pilot.resize_terminal(columns, lines)
            await hands.until(lambda: hands.text().count("\n") == lines - 1, "the new size")  # noqa: B023  called in this round
            await hands.expect("vm09999")
        await hands.press("escape")

    at_the_screen(lambda face: face.choose(LONG), do)


def test_a_text_above_a_list_that_does_not_fit_is_read_with_tab() -> None:
    choice = Choice(title="Much", rows=LONG.rows, intro=tuple(f"line {number}" for number in range(50)))
    value, drawn = chosen(choice, "tab", "end", "tab", "down", "enter")
    assert value == 1
    assert "line 49" in drawn


def test_a_name_that_was_copied_goes_into_the_filter_and_into_an_answer() -> None:
    got: list[object] = []

    def talk(face: Face) -> None:
        got.append(face.choose(LONG))
        got.append(face.ask(Question(title="Name", prompt="Name")))

    async def do(hands: ScreenHands) -> None:
        await hands.answer("Backups", "slash")
        hands.app.post_message(Paste("vm07777\n"))
        await hands.answer("1 of 10000", "enter", "enter")
        await hands.expect("Enter take")
        hands.app.post_message(Paste("pasted.vmdk"))
        await hands.answer("pasted.vmdk", "enter")

    at_the_screen(talk, do)
    assert got == [7777, "pasted.vmdk"]


def test_what_is_pressed_before_a_question_stands_there_answers_nothing() -> None:
    got: list[object] = []
    second = threading.Event()

    def talk(face: Face) -> None:
        got.append(face.choose(SHORT))
        second.wait()
        got.append(face.choose(LONG))

    async def do(hands: ScreenHands) -> None:
        await hands.answer("Menu", "b")
        await hands.press("enter", "q", "escape", "enter")
        second.set()
        await hands.answer("Backups", "down", "enter")

    at_the_screen(talk, do)
    assert got == ["backups", 1]


def asked_while_busy(do: Callable[[ScreenHands], Awaitable[None]], ask: Callable[[Face], object]) -> list[object]:
    got: list[object] = []

    async def to_the_end(hands: ScreenHands) -> None:
        await do(hands)
        await hands.until(lambda: bool(got), "an answer")

    at_the_screen(lambda face: got.append(ask(face)), to_the_end)
    return got


def test_a_key_typed_before_a_question_is_drawn_answers_it_as_little_as_a_paste() -> None:
    early = [Key("y", "y"), Key("enter", "\r"), Key("ctrl+c", "\x03"), Paste("y\n")]

    async def do(hands: ScreenHands) -> None:
        await hands.expect("Write over this disk?")
        for event in early:
            hands.app.post_message(event)
        await hands.answer("Write over this disk?", "n")

    assert asked_while_busy(do, lambda face: face.confirm("Write over this disk?", [], default=True)) == [False]


def test_the_rest_of_a_paste_answers_as_little_as_its_beginning_did() -> None:
    def at(time: float) -> Key:
        key = Key("y", "y")
        key.time = time
        return key

    app = ConsoleApp(lambda _: None)
    app._refused_at = 100.0
    assert app._goes_on(at(100.03))
    assert not app._goes_on(at(100.2))


def test_a_key_typed_while_the_help_is_left_does_not_answer_the_question_below_it() -> None:
    async def do(hands: ScreenHands) -> None:
        await hands.answer("Sure?", "question_mark")
        await hands.expect("this help")
        for key in (Key("escape", "\x1b"), Key("enter", "\r")):
            hands.app.post_message(key)
        await hands.answer("Sure?", "y")

    assert asked_while_busy(do, lambda face: face.confirm("Sure?", [], default=False)) == [True]


def test_what_is_typed_while_an_answer_is_checked_does_not_change_it() -> None:
    checking, go_on = threading.Event(), threading.Event()

    def check(text: str) -> str | None:
        checking.set()
        go_on.wait()
        return "not this" if text == "abc" else None

    async def do(hands: ScreenHands) -> None:
        await hands.answer("Enter take", *"abc", "enter")
        await hands.until(checking.is_set, "the check")
        await hands.press("backspace", "x", "enter", "ctrl+u")
        go_on.set()
        await hands.answer("not this", "d", "enter")

    assert asked_while_busy(do, lambda face: face.ask(Question(title="Name", prompt="Name", check=check))) == ["abcd"]


@pytest.mark.parametrize("first", [Key("ctrl+c", "\x03"), Key("escape", "\x1b")], ids=["^C", "Esc"])
def test_a_yes_typed_before_the_question_whether_to_stop_stops_nothing(first: Key) -> None:
    ended = threading.Event()

    def work(stop: WorkControl) -> bool:
        ended.wait()
        return stop.asked

    async def do(hands: ScreenHands) -> None:
        await hands.expect("A restore", "^C stop")
        hands.app.post_message(Key(first.key, first.character))
        hands.app.post_message(Key("y", "y"))
        await hands.answer("Stop this?", "n")
        ended.set()

    assert asked_while_busy(do, lambda face: face.watch("A restore", work)) == [False]


def test_enter_takes_no_row_that_has_slipped_under_the_mark() -> None:
    """The job that was marked is gone; the next one stands in its place, and was not seen yet."""

    def jobs(*names: str) -> Choice[str]:
        return Choice(title="Jobs", rows=[Row(cells=(name,), value=name) for name in names], start=0)

    table = RowList(Table(jobs("a", "b")), 0)
    assert table.take_over(Table(jobs("x", "a")), "") is True
    assert table.take_over(Table(jobs("x", "b")), "") is False


def test_a_log_is_followed_to_its_end_and_stays_where_somebody_reads() -> None:
    more = [threading.Event() for _ in range(3)]

    def lines() -> Iterator[str]:
        for part, event in enumerate(more):
            yield from (f"part {part} line {number}" for number in range(40))
            event.wait()
        yield "the last\nof all"

    async def do(hands: ScreenHands) -> None:
        assert "Live." in await hands.expect("part 0 line 39")
        await hands.press("up")
        await hands.expect("part 0 line 38")
        more[0].set()
        await hands.until(lambda: len(hands.app.screen.text._folded) == 80, "the next part")  # type: ignore[attr-defined]  # a FollowScreen
        assert "part 1" not in hands.text()
        await hands.press("b")
        await hands.expect("part 1 line 39")
        more[1].set()
        await hands.expect("part 2 line 39")
        more[2].set()
        assert "of all" in await hands.expect("The log ended.")
        await hands.press("1")
        await hands.answer("part 0 line 0", "q")

    at_the_screen(lambda face: face.follow("Log", lines()), do)


@pytest.mark.parametrize("key", ["q", "escape", "ctrl+c"])
def test_a_viewer_is_left_while_the_log_says_nothing(key: str) -> None:
    silent, closed = threading.Event(), threading.Event()

    def lines() -> Iterator[str]:
        try:
            yield "one"
            silent.wait()
            yield "two"
            yield "three"
        finally:
            closed.set()

    got = []

    def talk(face: Face) -> None:
        face.follow("Log", lines())
        got.append(not silent.is_set())

    async def do(hands: ScreenHands) -> None:
        await hands.answer("one", key)
        await hands.until(lambda: bool(got), "the end of the viewer")

    at_the_screen(talk, do)
    assert got == [True]
    silent.set()
    assert closed.wait(60)


@pytest.mark.parametrize("key", ["escape", "ctrl+c"])
def test_a_wait_moves_and_is_left_at_once(key: str) -> None:
    never = threading.Event()
    got = []

    def talk(face: Face) -> None:
        try:
            face.wait("Looking at the targets", never.wait)
        except KeyboardInterrupt:
            got.append("left")

    async def do(hands: ScreenHands) -> None:
        await hands.expect("Looking at the targets", "\n / ")
        await hands.expect("Looking at the targets", "\n | ")
        await hands.press(key)
        await hands.until(lambda: bool(got), "the way back")

    at_the_screen(talk, do)
    assert got == ["left"]
    never.set()


def test_notes_stay_above_the_progress() -> None:
    on = threading.Event()

    def talk(face: Face) -> None:
        def work(stop: Any) -> None:
            for number in range(100):
                stop.note(f"decided {number}")
            stop.report("Delta: 10%")
            stop.report("Delta: 67% " + "x" * 80)
            on.wait()

        face.watch("Restoring [1/2]", work)

    async def do(hands: ScreenHands) -> None:
        lines = (await hands.expect("decided 99", "Delta: 67%", "^C stop")).split("\n")
        progress = next(number for number, line in enumerate(lines) if "Delta" in line)
        assert lines[progress - 2] == " decided 99"
        assert "Delta: 10%" not in "\n".join(lines)
        assert lines[progress + 1].startswith(" xx")
        assert lines[0] == " Restoring [1/2]"
        on.set()

    at_the_screen(talk, do)


def test_the_end_from_outside_leaves_every_question_and_stops_the_work() -> None:
    got: list[object] = []

    def talk(face: Face) -> None:
        def work(stop: Any) -> str:
            stop.report("running")
            while not stop.asked:
                threading.Event().wait(0.01)
            return "stopped"

        got.append(face.watch("Restoring", work))
        got.append(face.choose(LONG))
        got.append(face.ask(Question(title="Name", prompt="Name", suggestion="x")))
        got.append(face.confirm("Start?", [], default=True))
        face.show(Page(title="Text", lines=["a"]))
        with pytest.raises(KeyboardInterrupt):
            face.lend(lambda: 1)

    async def do(hands: ScreenHands) -> None:
        await hands.expect("running")
        hands.app.release()
        await hands.until(lambda: not hands.app._flow.is_alive(), "the end")

    at_the_screen(talk, do)
    assert got == ["stopped", None, None, None]


def test_what_the_flow_raises_comes_out() -> None:
    def talk(face: Face) -> None:
        del face
        raise LookupError("a bug")

    async def do(hands: ScreenHands) -> None:
        await hands.until(lambda: not hands.app._flow.is_alive(), "the end")

    with pytest.raises(LookupError, match="a bug"):
        at_the_screen(talk, do)


def test_a_filter_stands_on_the_first_row_it_finds_and_says_when_there_is_none() -> None:
    rows = [Row(cells=(name,), value=at) for at, name in enumerate(("vm1", "vm2"))]
    again = Choice(title="Again", rows=[*rows, Row(cells=("Look again",), value=9, key="i")], start=0)
    value, drawn = chosen(again, "end", "slash", "v", "m", "2", "enter", "enter")
    assert value == 1
    assert "1 of 2" in drawn
    _, drawn = chosen(again, "slash", "x", "x", "enter", "i")
    assert "no row has all of these words" in drawn


@pytest.mark.parametrize(("seconds", "pause"), [(0.01, 1.0), (0.7, 5.6)])
def test_a_list_that_is_long_to_make_is_made_less_often(seconds: float, pause: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """5,000 jobs took half a processor for as long as the list was open."""
    clock = itertools.count(step=seconds)
    monkeypatch.setattr(time, "thread_time", lambda: next(clock))
    pauses: list[float] = []

    class Answered(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            pauses.append(timeout or 0)
            return len(pauses) == 3

    newest: deque[Choice[Any]] = deque(maxlen=1)
    screen_face._renew(lambda: SHORT, newest, Answered())
    assert list(newest) == [SHORT]
    assert pauses == pytest.approx([1.0, pause, pause])
