"""The rounds over the spool: scan, decide, act, until every job waits or runs.

    for every stem that has a control file or a record:
        facts -> reconcile -> action; do it and look again, until it is Nothing, Ready, Live or Cancel

The keeper remembers records, and for how long each file has not changed. All of it can be lost: the next round finds it again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from phd_daemon.spool import events, intake, transitions
from phd_daemon.spool.job_log import muted
from phd_daemon.spool.layout import Spool, State, parse_name, why_no_job
from phd_daemon.spool.locks import lock_is_held
from phd_daemon.spool.reconcile import (
    Action,
    Cancel,
    Change,
    End,
    Examine,
    Facts,
    Live,
    Nothing,
    Ready,
    RenameOlder,
    WaitAgain,
    Withdraw,
    not_started,
    reconcile,
)
from phd_daemon.spool.record import JobRecord, NewerRecord, read_record
from phd_daemon.spool.scan import FileFacts, FileKind, Files, FolderReader
from phd_daemon.spool.status_file import Outcome, read_status
from phd_daemon.spool.troubles import Troubles
from restore_core.naming import printable

_MOST_STEPS = 8
_AGAIN_SECONDS = 2.0
_ERROR_SECONDS = 5.0
_BUG_SECONDS = 30.0
_ACCEPT_SECONDS = 0.5
"""Time limit for accepting new files in one round: 10,000 that come at once must not delay the end of finished jobs by seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerEnd:
    """How a worker of this daemon ended: in words, whether it was told to stop, and whether that was because it hung."""

    how: str
    stop_asked: bool
    hung: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What a round found. `after` is in how many seconds something may be due without a change in the spool."""

    ready: tuple[JobRecord, ...]
    live: tuple[JobRecord, ...]
    cancel: tuple[JobRecord, ...]
    after: float | None


@dataclass(slots=True, kw_only=True)
class _Watched:
    """A waiting file that may not be complete: its facts, and since when (monotonic) they have not changed."""

    file: FileFacts
    since: float
    renamed_in: bool


class Keeper:
    """Makes the rounds over one spool. `ended` is called with each record that has reached a final state.

    `enter` is called before a job becomes done, with its record and the time of its end; while it raises `OSError`, the job stays
    running. `unreaped` says whether a job has a child process that was not reaped yet. Such a worker counts as alive: otherwise a
    second one would be started, and how the first one ended would never be known.
    """

    def __init__(
        self,
        spool: Spool,
        *,
        ended: Callable[[JobRecord], None],
        tick: Callable[[], None],
        enter: Callable[[JobRecord, float], None] = lambda _record, _finished: None,
        unreaped: Callable[[str], bool] = lambda _stem: False,
        on_event: events.OnEvent = events.ignore,
    ) -> None:
        self._spool = spool
        self._enter = enter
        self._unreaped = unreaped
        self._not_entered: set[str] = set()
        self._ended = ended
        self._tick = tick
        self._on_event = on_event
        self._reader = FolderReader(spool)
        self._records: dict[str, JobRecord | None] = {}
        self._watched: dict[str, _Watched] = {}
        self._settled: dict[str, tuple[Files, Nothing | Ready]] = {}
        self._worker_ends: dict[str, WorkerEnd] = {}
        self._paused_until: dict[str, float] = {}
        self._failed: dict[str, tuple[type[Action], Files]] = {}
        self._troubles = Troubles(spool)
        self._until = 0.0
        self._load()

    def round(self, rules: intake.IntakeRules, *, renamed_in: Collection[str] = ()) -> Round:
        """Looks at every job once. `renamed_in` are names that were renamed into place. Raises `OSError` if the folder is gone."""
        self._until = time.monotonic() + _ACCEPT_SECONDS
        found = self._reader.scan()
        hints = {parsed[0] for name in renamed_in if (parsed := parse_name(name)) is not None and parsed[1] is State.WAITING}
        answers: list[tuple[str, Action]] = []
        for stem in sorted(found.keys() | {stem for stem, record in self._records.items() if record is not None}):
            answers.append((stem, self._try(stem, found.get(stem), rules, renamed_in=stem in hints)))
            self._tick()
        self._forget_gone(found)
        return self._summary(answers)

    def claim(self, stem: str) -> transitions.Claim | None:
        """Takes a ready job for a worker; returns None if it cannot be had now. Raises `OSError`; then it waits a while."""
        record = self._records.get(stem)
        self._settled.pop(stem, None)
        if record is None:
            return None
        try:
            claimed = transitions.claim(self._spool, record)
        except FileNotFoundError:
            raise  # the file is gone: the next round is at once, and sees why
        except Exception as error:
            self._paused_until[stem] = time.monotonic() + (_ERROR_SECONDS if isinstance(error, OSError) else _BUG_SECONDS)
            raise
        if claimed is not None:
            self._records[stem] = claimed.record
        return claimed

    def put_back(self, stem: str, *, why: str, wait: float, died: bool = False) -> None:
        """Lets a claimed job whose worker could not be started wait some seconds more; its lock is free again.

        With `died` that counts as the death of a worker: after the last one allowed the job has failed.
        """
        record = self._records[stem]
        if record is not None:
            action = not_started(record, why=why, next_try=time.time() + wait, died=died)
            self._records[stem] = transitions.apply(self._spool, stem, record, action)
            self._report_change(stem, record, action)

    def worker_ended(self, stem: str, end: WorkerEnd) -> None:
        """Remembers how a worker ended: the next round needs it if the worker left no outcome."""
        self._worker_ends[stem] = end

    def busy(self) -> tuple[JobRecord, ...]:
        """Returns the records of running jobs, without those that have ended and for which `enter` still fails."""
        records = (record for stem, record in self._records.items() if stem not in self._not_entered)
        return tuple(record for record in records if record is not None and record.state is State.RUNNING)

    def _load(self) -> None:
        for name in sorted(os.listdir(self._spool.state_folder)):
            stem, dot, suffix = name.rpartition(".")
            if dot and stem and not stem.startswith(".") and suffix == "json":
                self._record(stem)

    def _record(self, stem: str) -> JobRecord | NewerRecord | None:
        if stem in self._records:
            return self._records[stem]
        record = read_record(self._spool.record(stem))
        if isinstance(record, NewerRecord):
            self._troubles.report(stem, f"its record is of version {record.version}, newer than this program: left alone")
            return record
        self._records[stem] = record
        return record

    def _try(self, stem: str, files: Files | None, rules: intake.IntakeRules, *, renamed_in: bool) -> Action:
        """Settles one stem. An error, even a bug of this program, does not affect the other jobs."""
        pause = self._paused_until.get(stem, 0.0) - time.monotonic()
        if pause > 0:
            return Nothing(after=pause, why="waits after an error")
        try:
            return self._settle(stem, files or self._reader.look(stem), rules, renamed_in=renamed_in)
        except OSError as error:
            self._troubles.report_job(stem, str(error), self._records.get(stem))
            return Nothing(after=_ERROR_SECONDS)
        except Exception as error:  # noqa: BLE001  whatever it is: the other jobs go on
            self._on_event(events.BugFound(error=error, message="a bug of ours; this job is left alone for a while", name=stem))
            what = f"a bug of ours: {type(error).__name__}: {printable(str(error))}"
            self._troubles.report_job(stem, what, self._records.get(stem))
            self._paused_until[stem] = time.monotonic() + _BUG_SECONDS
            return Nothing(after=_BUG_SECONDS)

    def _settle(self, stem: str, files: Files, rules: intake.IntakeRules, *, renamed_in: bool) -> Action:
        """Acts on one stem until there is nothing more to do now."""
        settled = self._settled.get(stem)
        if settled is not None and settled[0] == files:
            return settled[1]
        self._watch(stem, files, renamed_in=renamed_in)
        for _ in range(_MOST_STEPS):
            record = self._record(stem)
            if isinstance(record, NewerRecord):
                return Nothing()
            action = reconcile(self._facts(stem, files, record))
            if isinstance(action, Nothing | Ready | Live | Cancel):
                if isinstance(action, Ready) or action == Nothing(why=getattr(action, "why", "")):
                    self._settled[stem] = (files, action)
                return action
            with muted(self._failed.get(stem) == (type(action), files)):
                self._failed[stem] = (type(action), files)
                waits = self._act(stem, record, action, rules)
                del self._failed[stem]
            if waits is not None:
                return waits
            files = self._reader.look(stem)
            self._watch(stem, files, renamed_in=False)
        return Nothing(after=_AGAIN_SECONDS)

    def _act(self, stem: str, record: JobRecord | None, action: Examine | Change, rules: intake.IntakeRules) -> Nothing | None:
        """Carries out the action; returns something to wait for if that is not possible now."""
        if record is not None and isinstance(action, End) and action.state is State.DONE and action.outcome is not None:
            self._not_entered.add(stem)
            self._enter(record, action.outcome.finished_at)
            self._not_entered.discard(stem)
        try:
            if isinstance(action, Examine):
                return self._examine(stem, record, action, rules)
            self._records[stem] = transitions.apply(self._spool, stem, record, action)
        except (FileNotFoundError, FileExistsError):
            return None  # somebody else has renamed it: look again
        self._report_change(stem, record, action)
        return None

    def _examine(self, stem: str, record: JobRecord | None, action: Examine, rules: intake.IntakeRules) -> Nothing | None:
        if not rules.open:
            return Nothing(why="the queue is disabled")
        if time.monotonic() > self._until:
            return Nothing(after=0.0, why="many have come at once")
        path = self._spool.control(stem, State.WAITING)
        found = intake.examine(path, validate=rules.validate, submitters=rules.submitters)
        if isinstance(found, intake.NotYet):
            self._watched.pop(stem, None)
            return Nothing(after=_AGAIN_SECONDS, why=found.why)
        if isinstance(found, intake.Accepted):
            accepted = self._records[stem] = intake.accept(self._spool, stem, record, action, found)
            self._on_event(events.JobAccepted(job=accepted))
        else:
            self._records[stem] = intake.reject(self._spool, stem, record, action, found)
            self._on_event(events.JobRejected(name=stem, file=found.file, error=found.error))
        return None

    def _report_change(self, stem: str, before: JobRecord | None, action: Change) -> None:
        """Tells those who listen about a change of state."""
        after = self._records.get(stem)
        if isinstance(action, WaitAgain | RenameOlder) and after is None:
            # It has a new name now, for which we may have remembered that there is no record.
            self._records = {name: record for name, record in self._records.items() if record is not None}
        if before is not None and before.state is State.RUNNING and (after is None or after.state is not State.RUNNING):
            self._worker_ends.pop(stem, None)
        if before is not None and (event := events.of_move(self._spool, before, after, action)) is not None:
            self._on_event(event)
        if before is not None and (isinstance(action, Withdraw) or (isinstance(action, End) and after is not None)):
            self._ended(after or before)

    def _facts(self, stem: str, files: Files, record: JobRecord | None) -> Facts:
        runs = State.RUNNING in files or (record is not None and record.state is State.RUNNING)
        held = runs and (self._unreaped(stem) or lock_is_held(self._spool.lock(stem)))
        # The lock is looked at first: a worker writes its outcome before it releases the lock.
        ended = record is not None and record.state is State.RUNNING and not held
        watched = self._watched.get(stem)
        end = self._worker_ends.get(stem)
        return Facts(
            files=files,
            record=record,
            lock_held=held,
            outcome=self._outcome(record) if ended and record is not None else None,
            how_ended=end.how if end else "",
            stop_asked=end.stop_asked if end else False,
            hung=end.hung if end else False,
            still=_still(watched) if watched else 0.0,
            renamed_in=watched.renamed_in if watched else False,
            now=time.time(),
        )

    def _outcome(self, record: JobRecord) -> Outcome | None:
        status = read_status(self._spool.status(record.stem))
        outcome = status.outcome if status else None
        return outcome if outcome is not None and outcome.attempt == record.attempt else None

    def _watch(self, stem: str, files: Files, *, renamed_in: bool) -> None:
        file = files.get(State.WAITING)
        if file is None:
            self._watched.pop(stem, None)
            return
        seen = self._watched.get(stem)
        if seen is None or seen.file != file:
            self._watched[stem] = _Watched(file=file, since=time.monotonic(), renamed_in=renamed_in)
        elif renamed_in:
            seen.renamed_in = True
        if file.kind is FileKind.OTHER:
            self._troubles.report(stem, f"{printable(self._spool.control(stem, State.WAITING).name)} is no file: left alone")

    def _summary(self, answers: list[tuple[str, Action]]) -> Round:
        def of(kind: type[Action]) -> tuple[JobRecord, ...]:
            records = (self._records.get(stem) for stem, action in answers if isinstance(action, kind))
            return tuple(record for record in records if record is not None)

        dues = [action.after for _, action in answers if isinstance(action, Nothing) and action.after is not None]
        return Round(ready=of(Ready), live=of(Live), cancel=of(Cancel), after=min(dues, default=None))

    def _forget_gone(self, found: Collection[str]) -> None:
        """Forgets files that are gone."""
        self._watched = {stem: seen for stem, seen in self._watched.items() if stem in found}
        self._settled = {stem: settled for stem, settled in self._settled.items() if stem in found}
        self._paused_until = {stem: until for stem, until in self._paused_until.items() if stem in found}
        for name in self._reader.too_long:
            self._troubles.report(name, why_no_job(name) or "")
        for name, why in self._reader.strays.items():
            self._troubles.report(name, why)
        self._troubles.put_aside(self._reader.obstacles)
        self._troubles.forget({*found, *self._reader.too_long, *self._reader.strays, *self._reader.obstacles})
        self._failed = {stem: action for stem, action in self._failed.items() if stem in found or self._records.get(stem)}


def _still(watched: _Watched) -> float:
    """Returns for how many seconds the file has not changed, as we saw it or as its times say."""
    seen = time.monotonic() - watched.since
    by_clock = time.time() - watched.file.ctime_ns / 1e9
    return max(seen, by_clock)
