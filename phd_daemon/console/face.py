"""What a flow may ask of whoever draws it. Two faces pass the same tests: numbered lines, and Textual.

The contract, for both:

* Every question can be left: Esc gives None, and the flow goes back one step. So does an empty answer where nothing is
  proposed; where something is (`start`, `suggestion`, `default`), Enter takes it. On numbered lines `0` leaves a list, and `q`
  one that is not long.
* `?` shows the help of what is being asked, and asks again. A flow never sees it.
* Texts come in already safe to print; a face adds no meaning, only place.
* ^C in `watch` asks for a stop and waits until the work has ended; in `follow` it leaves the viewer; elsewhere the question.
* `numbered_face` and `screen.terminal` both offer `open_face(talk: Callable[[Face], None]) -> None`: it opens the face, calls
  `talk` with it, and closes it when `talk` has returned or raised.
* Errors of a flow (`restore_core.errors.PhdError`) are shown by the one who runs the menu, not by the face.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
WAITED_FOR = "waited for"
"""The name of a thread with work of `Face.wait` that may be left before it has ended; it only looks, and changes nothing."""


class NoScreen(Exception):
    """The screen could not be opened. Nothing has been asked yet, so numbered lines can be used instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row(Generic[T_co]):
    """One line of a list: its cells, and what choosing it gives. `refused` says why it cannot be chosen (empty: it can)."""

    cells: tuple[str, ...]
    value: T_co
    refused: str = ""
    key: str = ""  # a letter that chooses it at once; a face numbers the others


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice(Generic[T_co]):
    """A list to choose from. Long ones can be filtered (`/`), and jumped through: `b` or `q` to the bottom, `1` to the top.

    A letter that is the `key` of a row chooses that row and does nothing else.
    """

    title: str
    rows: Sequence[Row[T_co]]
    columns: tuple[str, ...] = ()
    intro: tuple[str, ...] = ()
    help: str = ""
    start: int | None = None  # the row that is proposed: a screen stands on it, numbered lines take it for Enter
    anew: "Callable[[], Choice[T_co]] | None" = None  # the same as it is by now; a screen asks every second, in any thread


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One line of text asked for. Enter alone takes `suggestion`; `check` says what is wrong with an answer (None: nothing)."""

    title: str
    prompt: str
    suggestion: str = ""
    intro: tuple[str, ...] = ()
    help: str = ""
    check: Callable[[str], str | None] = field(default=lambda _: None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A text to read: as many lines as there are, scrolled or paged."""

    title: str
    lines: Sequence[str]
    help: str = ""


class Stop(Protocol):
    """What `watch` gives to its work: where to report, and whether the person asked for an end. May be called from any thread."""

    def note(self, line: str) -> None:
        """Show this line above the progress; it stays."""

    def report(self, line: str) -> None:
        """Show this line in the place of the last one."""

    @property
    def asked(self) -> bool:
        """True once the person asked for a stop and meant it."""


class Face(Protocol):
    """Whoever draws. Every method returns when the person has answered."""

    def choose(self, choice: Choice[T]) -> T | None:
        """The value of the row that was chosen; None to go back."""

    def ask(self, question: Question) -> str | None:
        """The answer, checked; None to go back."""

    def confirm(self, title: str, lines: Sequence[str], *, default: bool) -> bool | None:
        """Yes or no, Enter taking `default`; None to go back."""

    def show(self, page: Page) -> None:
        """A text, until it is left."""

    def wait(self, message: str, work: Callable[[], T]) -> T:
        """Run `work` while the message stands on the screen. Raises what the work raises."""

    def follow(self, title: str, lines: Iterator[str]) -> None:
        """Lines as they come, until they end or the person leaves. Leaving stops the viewer and nothing else."""

    def watch(self, title: str, work: Callable[[Stop], T]) -> T:
        """Run `work` with live progress; ^C asks whether to stop. Raises what the work raises."""

    def lend(self, work: Callable[[], T]) -> T:
        """Run `work` with the terminal given back to it (an editor, a pager)."""
