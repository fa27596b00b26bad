"""The contract between a flow and a face. Two faces pass the same tests: numbered lines, and Textual.

The contract, for both:

* Every question can be left: Esc gives None, and the flow goes back one step. So does an empty answer where nothing is
  proposed; where something is (`start`, `suggestion`, `default`), Enter takes it. On numbered lines `0` leaves a list, and `q`
  one that is not long.
* `?` shows the help of what is being asked, and asks again. A flow never sees it.
* The texts of a flow are already safe to print. A face decides where they are shown, and adds none of its own.
* What is typed before a question is shown answers nothing: it is thrown away, by both faces, at every question. The lines of a
  pipe are its answers.
* ^C in `watch` asks for a stop and waits until the work has ended; in `follow` it leaves the viewer; elsewhere the question.
* `numbered_face` and `screen.terminal` both offer `open_face(talk: Callable[[Face], None]) -> None`: it opens the face, calls
  `talk` with it, and closes it when `talk` has returned or raised.
* Errors of a flow (`restore_core.errors.PhdError`) are shown by `menus`, not by the face.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
WAITED_FOR = "waited for"
"""The name of a thread that does the work of `Face.wait`. The work only reads, so the process may end before it has ended."""


class NoScreen(Exception):
    """The screen could not be opened. Nothing has been asked yet, so numbered lines can be used instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row(Generic[T_co]):
    """One line of a list: its cells, and the value that choosing it returns. `refused`: why it cannot be chosen, or empty."""

    cells: tuple[str, ...]
    value: T_co
    refused: str = ""
    key: str = ""  # a letter that chooses it at once; a face numbers the others


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice(Generic[T_co]):
    """A list to choose from.

    Long ones can be filtered (`/`), and jumped through: `b` or `q` to the bottom, `1` to the top (on numbered lines `t`).
    A letter that is the `key` of a row chooses that row and does nothing else.
    """

    title: str
    rows: Sequence[Row[T_co]]
    columns: tuple[str, ...] = ()
    intro: tuple[str, ...] = ()
    help: str = ""
    start: int | None = None  # the row that is proposed: Enter takes it
    anew: "Callable[[], Choice[T_co]] | None" = None  # returns the list as it is now; a screen calls it every second, in any thread


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question for one line of text. Enter alone takes `suggestion`; `check` returns what is wrong with an answer, or None."""

    title: str
    prompt: str
    suggestion: str = ""
    intro: tuple[str, ...] = ()
    help: str = ""
    check: Callable[[str], str | None] = field(default=lambda _: None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A text to read, of any length: a face scrolls or pages it."""

    title: str
    lines: Sequence[str]
    help: str = ""


class WorkControl(Protocol):
    """What `watch` gives to its work, to report and to see whether the person wants to stop. For any thread."""

    def note(self, line: str) -> None:
        """Shows this line above the progress; it stays."""

    def report(self, line: str) -> None:
        """Shows this line in the place of the last one."""

    @property
    def asked(self) -> bool:
        """True once the person has asked to stop and confirmed it."""


class Face(Protocol):
    """What flows talk to. Every method returns when the person has answered."""

    def choose(self, choice: Choice[T]) -> T | None:
        """Returns the value of the row that was chosen; None to go back."""

    def ask(self, question: Question) -> str | None:
        """Returns the answer, checked; None to go back."""

    def confirm(self, title: str, lines: Sequence[str], *, default: bool) -> bool | None:
        """Returns yes or no; Enter takes `default`. None to go back."""

    def show(self, page: Page) -> None:
        """Shows a text until it is left."""

    def wait(self, message: str, work: Callable[[], T]) -> T:
        """Runs `work` while the message is shown. Raises what the work raises, and `KeyboardInterrupt` when the person leaves."""

    def follow(self, title: str, lines: Iterator[str]) -> None:
        """Shows lines as they come, until they end or the person leaves. Leaving stops the viewer and nothing else."""

    def watch(self, title: str, work: Callable[[WorkControl], T]) -> T:
        """Runs `work` and shows its progress; ^C asks whether to stop. Raises what the work raises."""

    def lend(self, work: Callable[[], T]) -> T:
        """Runs `work`, an editor for example, while the face does not use the terminal."""
