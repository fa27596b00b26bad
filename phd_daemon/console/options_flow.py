"""Replication / Restore Options: the settings that a person may change while the daemon runs, one at a time.

The list, an option, its new value; the value is checked, written into phd.toml and read again, then the list is shown again.
Everything here is what `phd options` does.
"""

from __future__ import annotations

import os
from functools import partial

from phd_daemon.config.edit import MANY_WORKERS, Option, Setting, SettingsFile, ValueKind
from phd_daemon.console.face import Choice, Face, Page, Question, Row
from phd_daemon.console.menus import call
from phd_daemon.console.session import Session
from phd_daemon.console.steps import Went, on_if, take
from phd_daemon.operations.settings import options_file, set_option
from restore_core.naming import printable

TITLE = "Replication / Restore Options"
_COLUMNS = ("OPTION", "MEANING", "VALUE")
_HELP = """\
The value you choose is written into phd.toml at once; its comments and all other values stay. A daemon that runs takes it up
within half a minute. Everything else is set in that file with an editor. The same from a shell: phd options KEY VALUE."""


def options(face: Face, session: Session) -> None:
    """The list, again and again until it is left."""
    flow = _Options(face, session)
    take([flow.choose_option, flow.change])


class _Options:
    """The steps, and the option that was chosen last."""

    file: SettingsFile
    setting: Setting | None = None

    def __init__(self, face: Face, session: Session) -> None:
        self._face, self._session = face, session

    def choose_option(self) -> Went:
        """One of the options, with their values as they are now."""
        self.file = file = options_file(self._session.config)
        settings, last = file.settings(), self.setting
        start = next((at for at, one in enumerate(settings) if last is not None and one.option is last.option), 0)
        rows = [Row(cells=(one.option.name, one.option.meaning, one.value), value=one) for one in settings]
        intro = (f"in {printable(os.fspath(file.path))}",)
        chosen = self._face.choose(Choice(title=TITLE, rows=rows, columns=_COLUMNS, intro=intro, help=_HELP, start=start))
        self.setting = chosen or last
        return on_if(chosen)

    def change(self) -> Went:
        """Its new value; then the list is asked again."""
        if self.setting is not None:
            call(TITLE, partial(_change, file=self.file, setting=self.setting), self._face, self._session)
        return Went.BACK


def _change(face: Face, session: Session, *, file: SettingsFile, setting: Setting) -> None:
    """Asks for a value and writes it. `file` is as it was when the list was shown: a change made since then is not overwritten."""
    option = setting.option
    answer = _switch(face, setting) if option.kind is ValueKind.SWITCH else _text(face, file, setting)
    if answer is None or answer == setting.value or not _meant(face, option, answer):
        return
    warnings = set_option(file, option, answer).warnings
    session.read_again()
    if warnings and warnings != (MANY_WORKERS,):
        face.show(Page(title=option.name, lines=warnings))


def _switch(face: Face, setting: Setting) -> str | None:
    rows = [Row(cells=(word,), value=word) for word in ("on", "off")]
    start = 0 if setting.value == "on" else 1
    title = f"{setting.option.name}: {setting.option.meaning}"
    return face.choose(Choice(title=title, rows=rows, help=_HELP, start=start))


def _text(face: Face, file: SettingsFile, setting: Setting) -> str | None:
    option = setting.option
    question = Question(
        title=f"{option.name}: {option.meaning}",
        prompt=f"New value, {option.kind.value}",
        suggestion=setting.value,
        help=_HELP,
        check=lambda text: file.refusal(option, text),
    )
    return face.ask(question)


def _meant(face: Face, option: Option, answer: str) -> bool:
    if option.name != "queue.workers" or int(answer) <= 2:
        return True
    return bool(face.confirm(f"Run {int(answer)} restores at once?", [MANY_WORKERS], default=False))
