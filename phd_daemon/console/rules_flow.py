"""Replication Action: edit vmdks.auto, preload it, see what each rule would restore, and run a pass now or dry.

Everything here is what `phd rules edit`, `load` and `check` and `phd replicate` do.
"""

from __future__ import annotations

from collections.abc import Sequence

from phd_daemon.console.face import Choice, Face, Page, Row
from phd_daemon.console.menus import queue_state
from phd_daemon.console.session import Session
from phd_daemon.operations.rules import edit_file, troubles
from phd_daemon.replication import one_pass
from phd_daemon.replication.pass_record import Pass
from phd_daemon.replication.rules_edit import CheckedRules, CopyAnswer, preload_rules
from phd_daemon.replication.rules_edit import edit as edit_rules
from phd_daemon.show.output import counted
from phd_daemon.show.rules import LINE_TITLES, edited, line_rows, no_rules
from restore_core.naming import printable

_MOST_PROBLEMS = 8
_COLUMNS = ("LINE", "DISK", "WHAT", "LAG", "TO")  # where a line is not valid, the last one says why
_HELP = """\
One row for each line of vmdks.auto: what a pass does with it, and how far its replica lags behind the backup that the rule asks
for. Choose a row for all its details. A wrong line is not followed, and the others are."""


def edit(face: Face, session: Session) -> None:
    """Opens a copy of the rules in the person's editor; the copy replaces the file once it was checked."""

    def decide(checked: CheckedRules) -> CopyAnswer:
        return _decide(face, checked)

    done = edit_rules(session.config, editor=lambda copy: face.lend(lambda: edit_file(copy)), decide=decide)
    checked = done.checked
    line = edited(session.config.replication.rules, checked.rules, len(checked.problems), installed=done.installed)
    face.show(Page(title="Edit vmdks.auto", lines=[line]))


def _decide(face: Face, checked: CheckedRules) -> CopyAnswer:
    """Asks what is done with rules that are not all right. Esc once throws nothing away; Esc twice, or no more input, does."""
    rows = [Row(cells=(answer.value,), value=answer, key=answer.value[0]) for answer in checked.answers]
    shown = checked.problems[:_MOST_PROBLEMS]
    more = len(checked.problems) - len(shown)
    intro = (*shown, *([f"and {more} more"] if more else []))
    help_ = "A pass follows the rules that are right. A wrong line is not followed."
    chosen = face.choose(Choice(title="Not all lines of vmdks.auto are right", rows=rows, intro=intro, help=help_, start=0))
    if chosen is None:
        kept = face.confirm("Throw your changes away?", [], default=False)
        return CopyAnswer.AGAIN if kept is False else CopyAnswer.THROW_AWAY
    return chosen


def preload(face: Face, session: Session) -> None:
    """Appends a line for every VMDK on the targets that has none."""
    rows = [
        Row(cells=("Commented out: remove the # of those you want",), value=False),
        Row(cells=("Live: the next pass restores them all",), value=True),
    ]
    datastore = printable(str(session.config.replication.default_datastore))
    intro = (f"Every VMDK on the backup targets that no line names gets one, to be restored to {datastore}.",)
    active = face.choose(Choice(title="Preload vmdks.auto", rows=rows, intro=intro, start=0))
    if active is None:
        return
    done = face.wait("Looking at the backup targets", lambda: preload_rules(session.config, active=active))
    path = printable(str(session.config.replication.rules))
    silent = [f"{problem}: its VMDKs are those of its last listing" for problem in done.silent]
    face.show(Page(title="Preload vmdks.auto", lines=[f"{path}: {counted(done.added, 'VMDK')} added", *silent]))


def preview(face: Face, session: Session) -> None:
    """Shows what each rule would restore, and how far behind its replica is."""
    done = face.wait("Looking at rules and targets", lambda: one_pass.dry_run(session.config, list_all=False))
    _decisions(face, session, done, title="Preview")


def run_pass(face: Face, session: Session) -> None:
    """Runs a pass now, or shows what one would do."""
    rows = [
        Row(cells=("Dry: show what a pass would do, and do nothing",), value=True, key="d"),
        Row(cells=("Now: queue what the rules ask for",), value=False, key="n"),
    ]
    intro = tuple(filter(None, [queue_state(session)]))
    dry = face.choose(Choice(title="Run a replication pass", rows=rows, intro=intro, start=0))
    if dry is None:
        return
    done = face.wait("Looking at the backup targets", lambda: one_pass.dry_run(session.config)) if dry else _run(face, session)
    _decisions(face, session, done, title=done.summary())


def _run(face: Face, session: Session) -> Pass:
    try:
        return face.wait("Looking at the backup targets", lambda: one_pass.run_pass(session.config, wait=False))
    except one_pass.AlreadyRunning:
        # That pass looked at the targets before this one was asked for, so another is needed.
        wait = "Another pass is running: waiting for its end"
        return face.wait(wait, lambda: one_pass.run_pass(session.config, wait=True))


def _decisions(face: Face, session: Session, done: Pass, *, title: str) -> None:
    """Shows one row for each line of the rules; a page with all details for the one that is chosen."""
    seen = done.findings
    found = line_rows(seen.decisions, seen.problems, done.refused, dry_run=done.dry_run, silent=seen.silent)
    wrong = list(troubles(done, problems=False))
    rows = [Row(cells=_cells(cells), value=_all_of(cells)) for cells in found]
    if wrong:
        rows.append(Row(cells=("", f"{counted(len(wrong), 'warning')}", "", "", ""), value=wrong, key="w"))
    if not rows:
        face.show(Page(title=title, lines=[no_rules(session.config.replication.rules)]))
        return
    at: int = 0
    while not session.leaving.is_set():
        chosen = face.choose(Choice(title=title, rows=rows, columns=_COLUMNS, help=_HELP, start=at))
        if chosen is None:
            return
        at = next(number for number, row in enumerate(rows) if row.value is chosen)
        face.show(Page(title=title, lines=chosen))


def _cells(cells: Sequence[str]) -> tuple[str, ...]:
    by_title = dict(zip(LINE_TITLES, cells, strict=True))
    if by_title["RULE"] != "valid":
        return by_title["LINE"], "", "not valid", "", by_title["WHY"]
    return tuple(by_title[title] for title in _COLUMNS)


def _all_of(cells: Sequence[str]) -> list[str]:
    titles = (title.capitalize().replace("(utc)", "(UTC)") for title in LINE_TITLES)
    return [f"{title:<14} {cell}" for title, cell in zip(titles, cells, strict=True) if cell]
