"""Backup Restore Status: all jobs of the restore queue, and for each its log and what can be done to it.

the list > a job > its log (live while it is not over), hold, release, cancel, try again, priority, remove > the list, read anew

Everything here is what `phd queue`, `log`, `hold`, `release`, `cancel`, `retry`, `priority` and `clean` do.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from phd_daemon.console.face import Choice, Face, Page, Question, Row
from phd_daemon.console.menus import call, queue_state
from phd_daemon.console.session import Session
from phd_daemon.operations.follow import follow, state_of
from phd_daemon.operations.installation import spool_of
from phd_daemon.show import output
from phd_daemon.show.output import counted
from phd_daemon.show.progress import clock
from phd_daemon.show.times import age, minute
from phd_daemon.spool import requests
from phd_daemon.spool.layout import Spool, State
from phd_daemon.spool.plain import open_own
from phd_daemon.spool.priority import set_priority
from phd_daemon.spool.snapshot import JobView, snapshot
from phd_daemon.spool.status_file import LiveProgress, in_one_line
from restore_core.naming import printable

TITLE = "Backup Restore Status"
_COLUMNS = ("JOB", "STATE", "BY", "AGE", "WHAT")
_HELP = """\
All jobs of the restore queue: those that run, those that wait in their order, held ones, and those that have ended, the newest
last. AGE counts from when a job came, began or ended. Choose a job for its log and for what can be done to it.
The same from a shell: phd queue, phd log JOB -f."""
_JOB_HELP = """\
The log of a job that runs is shown as it grows; leaving it does nothing to the job. A held job waits until it is released.
What a cancelled job has written is removed; disks that were finished before are never touched by anything here."""


class _Do(enum.Enum):
    """What is chosen that is no job: for the list, and for one job."""

    LOOK = "Look again"
    CLEAN = "Clean up"
    LOG = "The log"
    HOLD = "Hold it"
    RELEASE = "Release it"
    CANCEL = "Cancel it"
    RETRY = "Try again"
    PRIORITY = "Another priority"
    REMOVE = "Remove it, with its log"


def status(face: Face, session: Session) -> None:
    """The list, again and again until it is left."""
    spool, last = spool_of(session.config), ""
    while not session.leaving.is_set():
        views = snapshot(spool.folder, time.time())
        chosen = face.choose(_list(views, session, spool, last))
        if chosen is None:
            return
        if isinstance(chosen, JobView):
            last = chosen.name
            call(TITLE, partial(_job, spool=spool, name=chosen.name), face, session)
        elif chosen is _Do.CLEAN:
            call(TITLE, partial(_clean, spool=spool, views=views), face, session)


def _list(views: tuple[JobView, ...], session: Session, spool: Spool, last: str) -> Choice[JobView | _Do]:
    """Standing on the job that was chosen last, if it is still there."""
    now = time.time()
    start = next((at for at, view in enumerate(views) if view.name == last), 0)
    rows: list[Row[JobView | _Do]] = [Row(cells=_cells(view, now), value=view) for view in views]
    rows.append(Row(cells=(_Do.LOOK.value, "", "", "", "at the queue as it is now"), value=_Do.LOOK, key="l"))
    if any(view.state.final for view in views):
        rows.append(Row(cells=(_Do.CLEAN.value, "", "", "", "remove all jobs that ended, with logs"), value=_Do.CLEAN, key="c"))
    held = "" if views else "The restore queue is empty."
    intro = tuple(filter(None, [held, queue_state(session)]))

    def anew() -> Choice[JobView | _Do]:
        return _list(snapshot(spool.folder, time.time()), session, spool, last)

    return Choice(title=TITLE, rows=rows, columns=_COLUMNS, intro=intro, help=_HELP, start=start, anew=anew)


def _cells(view: JobView, now: float) -> tuple[str, ...]:
    what = _short(view.progress) if view.progress else in_one_line(view.why) or printable(view.restore_to)
    return printable(view.name), view.state.meaning, printable(view.submitter), age(now - view.since), what


def _short(progress: LiveProgress) -> str:
    left = f", {clock(progress.remaining)} left" if progress.remaining is not None else ""
    return f"{progress.percent:.0f}%, {output.size(progress.rate)}/s{left}"


def _job(face: Face, session: Session, *, spool: Spool, name: str) -> None:
    """What can be done to one job, until something was done that changes it, or it is gone."""
    while not session.leaving.is_set() and (view := _view(spool, name)) is not None:
        chosen = face.choose(_page(view, spool))
        if chosen is None or _done(chosen, view, face, spool):
            return


def _view(spool: Spool, name: str) -> JobView | None:
    return next((view for view in snapshot(spool.folder, time.time()) if view.name == name), None)


def _page(view: JobView, spool: Spool) -> Choice[_Do]:
    """All that is known of a job, and what can be done to it."""
    rows = [Row(cells=(_label(done, view),), value=done, key=key) for key, done in _may(view, time.time())]
    title = f"Job {printable(view.name)}"

    def anew() -> Choice[_Do]:
        return _page(_view(spool, view.name) or view, spool)

    return Choice(title=title, rows=rows, intro=tuple(_details(view)), help=_JOB_HELP, start=0, anew=anew)


def _done(chosen: _Do, view: JobView, face: Face, spool: Spool) -> bool:
    """Do it. False when nothing was changed: a log was read, or the person went back."""
    name = printable(view.name)
    match chosen:
        case _Do.LOG:
            _show_log(face, spool, view)
            return False
        case _Do.PRIORITY:
            return _priority(face, spool, view)
        case _Do.CANCEL:
            warning = ["What it has written so far is removed."] if view.state is State.RUNNING else []
            if not face.confirm(f"Cancel {name}?", warning, default=False):
                return False
            requests.cancel(spool.folder, view.name)
        case _Do.REMOVE:
            if not face.confirm(f"Remove {name}, with its log?", ["Its disk is not touched."], default=False):
                return False
            requests.clean(spool.folder, [view.name])
        case _:
            {_Do.HOLD: requests.hold, _Do.RELEASE: requests.release, _Do.RETRY: requests.retry}[chosen](spool.folder, view.name)
    return True


def _may(view: JobView, now: float) -> Iterator[tuple[str, _Do]]:
    """What there is to choose, with its letter."""
    yield "l", _Do.LOG
    if view.state.final:
        yield "t", _Do.RETRY
        yield "d", _Do.REMOVE
        return
    if view.state is State.HELD:
        yield "r", _Do.RELEASE
    if view.state is State.WAITING:
        yield "h", _Do.HOLD
        yield "p", _Do.PRIORITY
        if view.next_try is not None and view.next_try > now:
            yield "t", _Do.RETRY
    yield "c", _Do.CANCEL


def _label(done: _Do, view: JobView) -> str:
    if done is _Do.LOG and not view.state.final:
        return f"{done.value}, as it grows"
    return f"{done.value} (it has {view.priority})" if done is _Do.PRIORITY else done.value


def _details(view: JobView) -> Iterator[str]:
    state = f"{view.state.meaning} since {minute(view.since)}"
    attempt = f", attempt {view.attempt}" if view.attempt else ""
    yield f"{state}, submitted by {printable(view.submitter)}{attempt}"
    if view.delta:
        yield f"from  {view.delta}"
        yield f"to    {printable(view.restore_to)}"
    if view.note:
        yield f"note  {view.note}"
    if view.progress is not None:
        yield view.progress.line
    elif view.why:
        yield in_one_line(view.why)


def _priority(face: Face, spool: Spool, view: JobView) -> bool:
    question = Question(
        title=f"Priority of {printable(view.name)}",
        prompt="Priority, 0 (first) to 9 (last)",
        suggestion=str(view.priority),
        help="Jobs with a lower number run first. A person's job has 5 if nothing else was said, one of replication 7.",
        check=lambda text: None if text in "0123456789" and len(text) == 1 else "Type one digit, 0 to 9.",
    )
    answer = face.ask(question)
    if answer is None:
        return False
    set_priority(spool.folder, view.name, int(answer))
    return True


def _clean(face: Face, _session: Session, *, spool: Spool, views: tuple[JobView, ...]) -> None:
    ended = sum(view.state.final for view in views)
    title = f"Remove {counted(ended, 'job')} that ended, with the logs?"
    if face.confirm(title, ["Disks are not touched. Jobs that wait or run are not, either."], default=False):
        gone = requests.clean(spool.folder)
        face.show(Page(title=TITLE, lines=[f"{counted(len(gone), 'job')} removed"]))


def _show_log(face: Face, spool: Spool, view: JobView) -> None:
    """As it grows while the job is not over, else as a text to read."""
    title = f"Log of {printable(view.name)}"
    state = state_of(spool, view.name)
    if state is not None and not state.final:
        face.follow(title, lines_of(follow(spool, view.name)))
        return
    face.show(Page(title=title, lines=_whole(spool.log(view.name)) or ["There is no log."]))


def _whole(path: Path) -> list[str]:
    try:
        with open_own(path) as file:
            return list(lines_of([file.read().decode("utf-8", "backslashreplace")]))
    except FileNotFoundError:
        return []


def lines_of(pieces: Iterable[str]) -> Iterator[str]:
    """Whole lines, safe to print, out of pieces that may end anywhere."""
    rest = ""
    for piece in pieces:
        *whole, rest = (rest + piece).split("\n")
        yield from map(output.harmless, whole)
    if rest:
        yield output.harmless(rest)
