"""Backup Restore Status: all jobs of the restore queue; for each its log, and what can be done to it.

The list, a job, what is done to it, then the list again as it is now. Everything here is what `phd queue`, `log`, `hold`,
`release`, `cancel`, `retry`, `priority` and `clean` do.
"""

from __future__ import annotations

import contextlib
import enum
import time
from collections.abc import Iterable, Iterator

from phd_daemon.console.face import Choice, Face, Page, Question, Row
from phd_daemon.console.menus import call, queue_state
from phd_daemon.console.session import Session
from phd_daemon.console.steps import Went, on_if, take
from phd_daemon.operations.follow import follow, state_of, whole_log
from phd_daemon.operations.installation import spool_of
from phd_daemon.operations.queue import act, clean, jobs, possible, set_priority
from phd_daemon.show import output
from phd_daemon.show.output import counted
from phd_daemon.show.progress import clock
from phd_daemon.show.times import age, minute
from phd_daemon.spool.layout import Act, State
from phd_daemon.spool.snapshot import JobView, ReadStatuses
from phd_daemon.spool.status_file import LiveProgress
from restore_core.errors import in_one_line
from restore_core.naming import printable

TITLE = "Backup Restore Status"
_COLUMNS = ("JOB", "STATE", "BY", "AGE", "TO", "WHAT")
_HELP = """\
All jobs of the restore queue: those that run, those that wait in their order, held ones, and those that have ended, the newest
last. AGE counts from when a job came, began or ended. Choose a job for its log and for what can be done to it.
The same from a shell: phd queue, phd log JOB -f."""
_JOB_HELP = """\
The log of a job that runs is shown as it grows; leaving it does nothing to the job. A held job waits until it is released.
What a cancelled job has written is removed; disks that were finished before are never touched by anything here."""


_ACTS = {
    Act.HOLD: ("h", "Hold it"),
    Act.RELEASE: ("r", "Release it"),
    Act.CANCEL: ("c", "Cancel it"),
    Act.RETRY: ("t", "Try again"),
    Act.PRIORITY: ("p", "Another priority"),
    Act.REMOVE: ("d", "Remove it, with its log"),
}


class _Other(enum.Enum):
    """What is chosen that is no job and no act."""

    LOOK = "Look again at the queue as it is now"
    CLEAN = "Clean up: remove all jobs that ended, with logs"
    LOG = "The log"


def status(face: Face, session: Session) -> None:
    """The list, again and again until it is left."""
    flow = _Status(face, session)
    take([flow.choose_job, flow.go_to_job])


class _Status:
    """The steps of the list, then those of one job; `job` is the name of the one that was chosen last."""

    job = ""
    chosen: JobView | _Other
    view: JobView
    act: Act
    _views: tuple[JobView, ...] = ()

    def __init__(self, face: Face, session: Session) -> None:
        self._face, self._session, self._spool = face, session, spool_of(session.config)
        self._known: ReadStatuses = {}

    def choose_job(self) -> Went:
        """One of all jobs. The job that was chosen last is proposed, if it is still there."""
        chosen = self._face.choose(self._list())
        self.chosen = chosen or _Other.LOOK
        return on_if(chosen)

    def go_to_job(self) -> Went:
        """All that is done to one job, or to those that have ended; then the list is asked again."""
        if isinstance(self.chosen, JobView):
            self.job = self.chosen.name
            call(TITLE, lambda *_: take([self.choose_act, self.do_it]), self._face, self._session)
        elif self.chosen is _Other.CLEAN:
            call(TITLE, lambda *_: self._clean(), self._face, self._session)
        return Went.BACK

    def choose_act(self) -> Went:
        """What is done to the job; its log is shown at once. There is no such question when the job is gone."""
        while (view := self._view()) is not None:
            self.view = view
            chosen = self._face.choose(self._page(view))
            if isinstance(chosen, Act):
                self.act = chosen
                return Went.ON
            if chosen is None:
                break
            self._show_log()
        return Went.BACK

    def do_it(self) -> Went:
        """Does it; what cannot be undone only after a question."""
        config, name, title, lines = self._session.config, self.view.name, "", [""]
        if self.act is Act.PRIORITY:
            return self._set_priority()
        if self.act is Act.CANCEL:
            lines = ["What it has written so far is removed."] if self.view.state is State.RUNNING else []
            title = f"Cancel {printable(name)}?"
        if self.act is Act.REMOVE:
            title, lines = f"Remove {printable(name)}, with its log?", ["Its disk is not touched."]
        if title and not self._face.confirm(title, lines, default=False):
            return Went.BACK
        if self.act is Act.REMOVE:
            clean(config, [name])
            return Went.ON
        for answer in act(config, self.act, [name]):
            if answer.refusal is not None:
                raise answer.refusal
        return Went.ON

    def _set_priority(self) -> Went:
        question = Question(
            title=f"Priority of {printable(self.view.name)}",
            prompt="Priority, 0 (first) to 9 (last)",
            suggestion=str(self.view.priority),
            help="Jobs with a lower number run first. A person's job has 5 if nothing else was said, one of replication 7.",
            check=lambda text: None if text in "0123456789" and len(text) == 1 else "Type one digit, 0 to 9.",
        )
        answer = self._face.ask(question)
        if answer is not None:
            set_priority(self._session.config, self.view.name, int(answer))
        return on_if(answer)

    def _clean(self) -> None:
        ended = sum(view.state.final for view in self._views)
        title = f"Remove {counted(ended, 'job')} that ended, with the logs?"
        if self._face.confirm(title, ["Disks are not touched. Jobs that wait or run are not, either."], default=False):
            gone = clean(self._session.config)
            self._face.show(Page(title=TITLE, lines=[f"{counted(len(gone), 'job')} removed"]))

    def _show_log(self) -> None:
        """As it grows while the job is not over, else as a text to read."""
        name = self.view.name
        title, state = f"Log of {printable(name)}", state_of(self._spool, name)
        if state is not None and not state.final:
            self._face.follow(title, lines_of(follow(self._spool, name)))
        else:
            lines = []
            with contextlib.suppress(FileNotFoundError):
                lines = list(lines_of(whole_log(self._spool, name)))
            self._face.show(Page(title=title, lines=lines or ["There is no log."]))

    def _list(self) -> Choice[JobView | _Other]:
        self._views = views = jobs(self._session.config, self._known)
        now = time.time()
        start = next((at for at, view in enumerate(views) if view.name == self.job), 0)
        rows: list[Row[JobView | _Other]] = [Row(cells=_cells(view, now), value=view) for view in views]
        rows.append(Row(cells=(_Other.LOOK.value,), value=_Other.LOOK, key="l"))
        if any(view.state.final for view in views):
            rows.append(Row(cells=(_Other.CLEAN.value,), value=_Other.CLEAN, key="c"))
        held = "" if views else "The restore queue is empty."
        intro = tuple(filter(None, [held, queue_state(self._session)]))
        return Choice(title=TITLE, rows=rows, columns=_COLUMNS, intro=intro, help=_HELP, start=start, anew=self._list)

    def _view(self) -> JobView | None:
        return next((view for view in jobs(self._session.config, self._known) if view.name == self.job), None)

    def _page(self, view: JobView) -> Choice[Act | _Other]:
        """All that is known of a job, and what can be done to it."""
        log = _Other.LOG.value + ("" if view.state.final else ", as it grows")
        rows: list[Row[Act | _Other]] = [Row(cells=(log,), value=_Other.LOG, key="l")]
        for one in possible(view):
            key, label = _ACTS[one]
            has = f" (it has {view.priority})" if one is Act.PRIORITY else ""
            rows.append(Row(cells=(label + has,), value=one, key=key))
        title, intro = f"Job {printable(view.name)}", tuple(_details(view))
        return Choice(title=title, rows=rows, intro=intro, help=_JOB_HELP, start=0, anew=lambda: self._page(self._view() or view))


def _cells(view: JobView, now: float) -> tuple[str, ...]:
    what = _short(view.progress) if view.progress else in_one_line(view.why)
    by, to = printable(view.submitter), printable(view.restore_to)
    return printable(view.name), view.state.meaning, by, age(now - view.since), to, what


def _short(progress: LiveProgress) -> str:
    left = f", {clock(progress.remaining)} left" if progress.remaining is not None else ""
    return f"{progress.percent:.0f}%, {output.size(progress.rate)}/s{left}"


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


def lines_of(pieces: Iterable[str]) -> Iterator[str]:
    """Whole lines, safe to print, out of pieces that may end anywhere."""
    rest = ""
    for piece in pieces:
        *whole, rest = (rest + piece).split("\n")
        yield from map(output.harmless, whole)
    if rest:
        yield output.harmless(rest)
