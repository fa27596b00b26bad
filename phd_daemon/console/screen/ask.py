"""A question for a line of text. What is wrong with an answer is shown below it, and the answer can be corrected."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

from textual.events import Key
from textual.geometry import Size
from textual.widget import Widget
from textual.widgets import Input

from phd_daemon.console.face import Question
from phd_daemon.console.lines import one_line
from phd_daemon.console.screen.question_screen import PADDING, Bar, QuestionScreen, Reply
from phd_daemon.console.screen.text_view import TextView

_BARS = 6  # the title, free lines above and below the prompt, the prompt, the answer, the keys
_REFUSAL = 3


class AnswerField(Input):
    """The field for the answer. `?` asks for help while the suggestion is unchanged; after that it is part of the answer."""

    def __init__(self, suggestion: str) -> None:
        super().__init__(value=suggestion, select_on_focus=False, compact=True)
        self.cursor_blink = False
        self.suggestion = suggestion

    def on_key(self, event: Key) -> None:
        """Sees a key before the field does."""
        screen = self.screen
        if not isinstance(screen, QuestionScreen) or not event.is_printable:
            return
        wants_help = event.character == "?" and self.value in {"", self.suggestion}
        if wants_help or not screen.open:
            event.prevent_default()
            event.stop()
        if wants_help and screen.open:
            screen.explain()


class AskScreen(QuestionScreen):
    """One question, with the suggestion in the field."""

    AUTO_FOCUS: ClassVar[str | None] = "Input"

    def __init__(self, question: Question, reply: Reply) -> None:
        super().__init__(question.title, reply, help_text=question.help)
        self.text = TextView(question.intro)
        self.prompt = Bar(question.prompt, "prompt")
        self.line = AnswerField(one_line(question.suggestion))
        self.refusal = TextView(())

    def body(self) -> list[Widget]:
        """The text, the prompt, the field, and what is wrong with the answer."""
        self.refusal.styles.height = _REFUSAL
        return [self.text, self.prompt, self.line, self.refusal]

    def lay_out(self, size: Size) -> None:
        """The text gets the lines it needs, if there are so many; a very low screen has no free lines."""
        width, height = size
        needed = self.text.lines_needed(width - PADDING)
        self.text.styles.height = text = min(needed, max(0, height - _BARS - _REFUSAL))
        self.set_class(height < _BARS + _REFUSAL, "low")
        more = "PageUp/PageDown the text above  " if needed > text else ""
        self.hint.say(f"Enter take  Esc back  ^U clear  {more}? help")

    def keys(self) -> Mapping[str, Callable[[], None]]:
        """Keys that the field does not use."""
        text = self.text
        return {
            "escape": self.leave,
            "f1": self.explain,
            "pageup": lambda: text.scroll(-text.page),
            "pagedown": lambda: text.scroll(text.page),
        }

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter: takes the answer. An empty field goes back; a `?` alone asks for help."""
        event.stop()
        answer = event.value.strip()
        if answer == "?":
            self.line.value = self.line.suggestion
            self.explain()
        elif self.open:
            self.refusal.show(())
            self.answer(answer or None)

    def refused(self, reason: str, reply: Reply) -> None:
        """Shows what is wrong, and takes another answer."""
        self.refusal.show([reason])
        self.ask_again(reply)
