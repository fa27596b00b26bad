"""Replication / Restore Options: the settings that a person may change while the daemon runs, one at a time.

the list > an option > its new value > checked, written into phd.toml, read again > the list

Everything here is what `phd options` does.
"""

from __future__ import annotations

import os
from functools import partial

from phd_daemon.config.edit import MANY_WORKERS, Kind, Option, Setting, SettingsFile
from phd_daemon.console.face import Choice, Face, Page, Question, Row
from phd_daemon.console.menus import call
from phd_daemon.console.session import Session
from restore_core.naming import printable

TITLE = "Replication / Restore Options"
_COLUMNS = ("OPTION", "MEANING", "VALUE")
_HELP = """\
The value you choose is written into phd.toml at once; its comments and all other values stay. A daemon that runs takes it up
within half a minute. Everything else is set in that file with an editor. The same from a shell: phd options KEY VALUE."""


def options(face: Face, session: Session) -> None:
    """The list, again and again until it is left."""
    chosen: Setting | None = None
    while not session.leaving.is_set():
        file = SettingsFile(session.config)
        settings = file.settings()
        start = next((at for at, one in enumerate(settings) if chosen is not None and one.option is chosen.option), 0)
        rows = [Row(cells=(one.option.name, one.option.meaning, one.value), value=one) for one in settings]
        intro = (f"in {printable(os.fspath(file.path))}",)
        chosen = face.choose(Choice(title=TITLE, rows=rows, columns=_COLUMNS, intro=intro, help=_HELP, start=start))
        if chosen is None:
            return
        call(TITLE, partial(_change, file=file, setting=chosen), face, session)


def _change(face: Face, session: Session, *, file: SettingsFile, setting: Setting) -> None:
    """Ask for a value and write it. `file` is as it was when the list was shown: what came in between is not written over."""
    option = setting.option
    answer = _switch(face, setting) if option.kind is Kind.SWITCH else _text(face, file, setting)
    if answer is None or answer == setting.value or not _meant(face, option, answer):
        return
    warnings = file.change(option, answer)
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
