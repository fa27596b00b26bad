"""Decides the next action for one stem. A pure function: facts in, an action out.

The same function serves every round, every start and every crash. Repeat "decide, then act" and it ends in `Nothing`, `Ready` or
`Live`; without the act it decides the same again.
"""

from __future__ import annotations

from dataclasses import dataclass

from phd_daemon.spool.layout import FINAL, State
from phd_daemon.spool.record import JobRecord
from phd_daemon.spool.scan import FileFacts, FileKind, Files
from phd_daemon.spool.status_file import Outcome, Result
from restore_core.errors import ExitCode

SETTLE_SECONDS = 2.0
EMPTY_SECONDS = 60.0
BACK_OFF_SECONDS = (60.0, 300.0, 900.0, 3600.0)
"""How long a job waits before its second try, its third, ...; after the last of these tries it has failed."""
DEATH_PAUSES = (2.0, 60.0)
"""The same after a worker that died."""
MAX_TRIES, MAX_DEATHS = len(BACK_OFF_SECONDS) + 1, len(DEATH_PAUSES) + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that is known of one stem.

    `outcome` is that of the record's attempt, None if its worker wrote none. `how_ended` says how the worker ended if it was our
    child. `stop_asked`: the daemon told it to stop, and may have killed it then. `hung`: it did so because the worker hung.
    `still` is for how many seconds the waiting file has not changed.
    """

    files: Files
    record: JobRecord | None
    lock_held: bool = False
    outcome: Outcome | None = None
    how_ended: str = ""
    stop_asked: bool = False
    hung: bool = False
    still: float = 0.0
    renamed_in: bool = False
    now: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Nothing:
    """Do nothing. Look again after so many seconds (None: when the spool changes); `why` is shown to people."""

    after: float | None = None
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examine:
    """Validate the waiting file. `retry`: it is the file of the finished job, renamed back; its log goes on.

    `rotate`: once it is accepted or rejected, older files of the same stem are renamed first.
    """

    retry: bool = False
    rotate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """It is accepted and waits: the scheduler decides when it starts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """A worker runs it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """A worker runs it and somebody took the running file away: tell the worker to stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """Give it its final state. `source` is the state its file has now, None if the file must be written again from the record.

    `outcome` is the worker's; if it is None, the daemon writes one with `reason` and `exit_code`. `late`: somebody cancelled it
    when it had ended.
    """

    state: State
    source: State | None
    outcome: Outcome | None = None
    reason: str = ""
    exit_code: int = ExitCode.INTERRUPTED
    late: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitAgain:
    """Let it wait again, in its old place in the queue."""

    source: State
    tries: int
    deaths: int
    next_try: float | None
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RenameOlder:
    """Give a held job a name of its own: a newer file of its name waits beside it."""

    source: State


@dataclass(frozen=True, slots=True, kw_only=True)
class Requeue:
    """Rename a .running file that no worker ever had back to .job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetWaitingState:
    """Let it wait in `state`: somebody renamed it, between .job and .held."""

    state: State


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteChange:
    """Note that the accepted file changed: its time is the schedule, its text changes nothing."""

    state: State


@dataclass(frozen=True, slots=True, kw_only=True)
class Reidentify:
    """Note the identity of a finished job's new file: an editor has replaced the old one."""

    state: State


@dataclass(frozen=True, slots=True, kw_only=True)
class DropRecord:
    """Delete the record: its file is gone and another one has the name. Keep log and status."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdraw:
    """Delete log, status and record: somebody deleted the waiting file, and so withdrew the job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forget:
    """Delete log, status and record: the file of the finished job is gone."""


Settled = Nothing | Ready | Live | Cancel
"""Nothing is to be written: the round is over for this stem."""
Change = End | WaitAgain | RenameOlder | Requeue | SetWaitingState | NoteChange | Reidentify | DropRecord | Withdraw | Forget
Action = Settled | Examine | Change


def reconcile(facts: Facts) -> Action:
    """Returns the next action for one stem."""
    record = facts.record
    if record is not None and record.state is State.RUNNING:
        return _running(facts, record) if facts.lock_held else _ended(facts, record)
    if State.RUNNING in facts.files:
        # A worker whose record was lost goes on; whose lock it holds is not known, so nothing is started beside it.
        return Nothing(why="a worker without a record is at it") if facts.lock_held else Requeue()
    if record is None:
        return _new_file(facts, rotate=_has_final(facts.files)) if State.WAITING in facts.files else Nothing()
    return _finished(facts, record) if record.state.final else _waiting(facts, record)


def _running(facts: Facts, record: JobRecord) -> Action:
    file = facts.files.get(State.RUNNING)
    if file is None:
        return Cancel()
    return NoteChange(state=State.RUNNING) if _changed(file, record) else Live()


def _ended(facts: Facts, record: JobRecord) -> Action:
    """The worker is gone: its outcome decides, or that it left none."""
    if State.RUNNING not in facts.files:
        return _ended_by_hand(facts, record)
    outcome = facts.outcome
    here = State.RUNNING
    if outcome is None:
        return _died(facts, record, here)
    match outcome.result:
        case Result.DONE | Result.FAILED | Result.CANCELLED:
            return End(state=State(outcome.result.value), source=here, outcome=outcome)
        case Result.TRY_AGAIN:
            return _try_again(record, here, outcome)
        case Result.STOPPED:
            return _died(facts, record, here) if facts.hung else _uncounted(record, here, why="")


def _ended_by_hand(facts: Facts, record: JobRecord) -> Action:
    """The worker is gone and its file was renamed: by a person, or by the daemon, which crashed after the rename."""
    moved_to = _state_of_file(facts.files, record)
    outcome = facts.outcome
    if outcome is not None and outcome.result in (Result.DONE, Result.FAILED):
        state = State(outcome.result.value)
        if not (state is State.FAILED and moved_to is State.WAITING):
            return End(state=state, source=moved_to, outcome=outcome, late=moved_to is not state)
    if moved_to is State.WAITING:
        if outcome is not None and outcome.result is Result.TRY_AGAIN:
            return _try_again(record, State.WAITING, outcome)
        return _uncounted(record, State.WAITING, why="put back by hand")
    if moved_to is not None and not moved_to.final:
        return SetWaitingState(state=moved_to)
    cancelled = outcome if outcome is not None and outcome.result is Result.CANCELLED else None
    return End(state=State.CANCELLED, source=moved_to, outcome=cancelled, reason="cancelled while it ran")


def _died(facts: Facts, record: JobRecord, here: State) -> Action:
    if facts.stop_asked:
        return _uncounted(record, here, why="")
    how = "worker " + (facts.how_ended or "ended without an outcome (killed, or the machine went down)")
    deaths = record.deaths + 1
    if deaths >= MAX_DEATHS:
        reason = f"{how}; {deaths} workers died over this job"
        return End(state=State.FAILED, source=here, reason=reason, exit_code=ExitCode.TRY_AGAIN)
    # What killed our own child is likely to be there still, so the job waits. After a crash of the machine there is no wait.
    next_try = facts.now + DEATH_PAUSES[deaths - 1] if facts.how_ended else None
    return WaitAgain(source=here, tries=record.tries, deaths=deaths, next_try=next_try, why=how)


def not_started(record: JobRecord, *, why: str, next_try: float, died: bool) -> End | WaitAgain:
    """Returns the action for a claimed job that got no worker: it waits. With `died` that counts like the death of a worker."""
    deaths = record.deaths + died
    if deaths >= MAX_DEATHS:
        return End(state=State.FAILED, source=State.RUNNING, reason=why, exit_code=ExitCode.OUR_BUG)
    return WaitAgain(source=State.RUNNING, tries=record.tries, deaths=deaths, next_try=next_try, why=why)


def _try_again(record: JobRecord, here: State, outcome: Outcome) -> Action:
    if not outcome.counted:
        next_try = outcome.finished_at + BACK_OFF_SECONDS[0]
        return WaitAgain(source=here, tries=record.tries, deaths=record.deaths, next_try=next_try, why=outcome.reason)
    tries = record.tries + 1
    if tries >= MAX_TRIES:
        reason = f"given up after {tries} tries: {outcome.reason}"
        return End(state=State.FAILED, source=here, reason=reason, exit_code=outcome.exit_code)
    next_try = outcome.finished_at + BACK_OFF_SECONDS[tries - 1]
    return WaitAgain(source=here, tries=tries, deaths=record.deaths, next_try=next_try, why=outcome.reason)


def _uncounted(record: JobRecord, here: State, *, why: str) -> WaitAgain:
    return WaitAgain(source=here, tries=record.tries, deaths=record.deaths, next_try=None, why=why)


def _waiting(facts: Facts, record: JobRecord) -> Action:
    files = facts.files
    state = _state_of_file(files, record)
    if state is None:
        if State.WAITING in files:
            return _new_file(facts, rotate=_has_final(files))
        return DropRecord() if files else Withdraw()
    if state.final:
        return End(state=State.CANCELLED, source=state, reason="cancelled before it ran")
    if state is not record.state:
        return SetWaitingState(state=state)
    if _changed(files[state], record):
        return NoteChange(state=state)
    if state is State.WAITING:
        return Ready()
    newer = files.get(State.WAITING)
    return RenameOlder(source=state) if newer is not None and newer.kind is not FileKind.OTHER else Nothing()


def _finished(facts: Facts, record: JobRecord) -> Action:
    files = facts.files
    if State.WAITING in files:
        retry = not _has_final(files) and files[State.WAITING].identity.same(record.identity)
        return _new_file(facts, retry=retry, rotate=not retry)
    if record.state in files and not files[record.state].identity.same(record.identity):
        return Reidentify(state=record.state)
    return Nothing() if files else Forget()


def _new_file(facts: Facts, *, rotate: bool, retry: bool = False) -> Action:
    """Examines a file that is complete: it was renamed into place, or has not changed for some time."""
    file = facts.files[State.WAITING]
    if file.kind is FileKind.OTHER:
        return Nothing(why="this is no file: not a job")
    if file.kind is FileKind.REGULAR and file.size == 0:
        missing = EMPTY_SECONDS - facts.still
        return Examine(retry=retry, rotate=rotate) if missing <= 0 else Nothing(after=missing, why="still empty")
    # Some programs give a file a second name for a moment when they put it into place: wait until it has one name.
    at_once = facts.renamed_in and file.kind is FileKind.REGULAR and file.links == 1
    missing = SETTLE_SECONDS - facts.still
    if at_once or missing <= 0:
        return Examine(retry=retry, rotate=rotate)
    return Nothing(after=missing, why="still being written")


def _state_of_file(files: Files, record: JobRecord) -> State | None:
    """Returns the state that the record's own file has now; .running files are not looked at."""
    return next((state for state in _NOT_RUNNING if state in files and files[state].identity.same(record.identity)), None)


_NOT_RUNNING = sorted(set(State) - {State.RUNNING}, key=lambda state: (state.place, state.value))


def _changed(file: FileFacts, record: JobRecord) -> bool:
    same_file = file.identity.same(record.identity)
    return not same_file or (file.size, file.mtime_ns) != (record.size, record.mtime_ns)


def _has_final(files: Files) -> bool:
    return any(state in files for state in FINAL)
