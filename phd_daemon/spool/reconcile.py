"""From what lies in the spool to the one next thing to do for each stem. Pure: facts in, an action out.

Every round, after every start, after every crash: the same function. Doing the action and asking again ends in
`Nothing`, `Ready` or `Live`; asking twice without doing gives the same answer.
"""

from __future__ import annotations

from dataclasses import dataclass

from phd_daemon.spool.layout import FINAL, State
from phd_daemon.spool.record import JobRecord
from phd_daemon.spool.scan import FileFacts, Files, Kind
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
    """All that is known of one stem. `still` is for how many seconds the waiting file has not changed.

    `outcome` is that of the record's attempt, None when its worker wrote none. `how_ended` says how the worker ended
    if it was our child. `stop_asked`: we told it to stop and it may have been killed for not listening. `hung`: because it hung.
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
    """Leave it. Look again after so many seconds (None: when something rings), `why` is shown to people."""

    after: float | None = None
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examine:
    """Take the waiting file to the door. `retry`: it is the finished one, renamed back; its log goes on.

    `rotate`: old files under the same stem get out of the way first, once the door has made up its mind.
    """

    retry: bool = False
    rotate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """Accepted and waiting: the scheduler's business."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """A worker is at it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """A worker is at it and somebody took the running file away: tell it to stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """Give it its final state. `source` is where its file lies now, None when it has to be made again from the record.

    `outcome` is the worker's; None: the daemon writes one with `reason` and `exit_code`.
    """

    state: State
    source: State | None
    outcome: Outcome | None = None
    reason: str = ""
    exit_code: int = ExitCode.INTERRUPTED
    late: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """Let it wait again, in its old place in the queue."""

    source: State
    tries: int
    deaths: int
    next_try: float | None
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepAside:
    """A newer file of its name waits beside a held job: the held one gets a name of its own, and each comes to its end."""

    source: State


@dataclass(frozen=True, slots=True, kw_only=True)
class Requeue:
    """A .running file that no worker ever had: rename it back to .job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Regard:
    """Somebody renamed it between .job and .held: from now on it waits as `state`."""

    state: State


@dataclass(frozen=True, slots=True, kw_only=True)
class Compare:
    """The accepted file changed: its time is the schedule, its text no longer counts."""

    state: State


@dataclass(frozen=True, slots=True, kw_only=True)
class Reidentify:
    """A finished job's file was replaced (an editor did): from now on it is this one."""

    state: State


@dataclass(frozen=True, slots=True, kw_only=True)
class Disown:
    """What the record speaks of is gone and something else lies there: drop the record, keep the rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdraw:
    """The waiting file is gone: it was withdrawn; log, status and record go too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forget:
    """The finished file is gone: forget it; log, status and record go too."""


Waits = Nothing | Ready | Live | Cancel
"""Nothing is to be written: the round is over for this stem."""
Moves = End | Again | StepAside | Requeue | Regard | Compare | Reidentify | Disown | Withdraw | Forget
Action = Waits | Examine | Moves


def reconcile(facts: Facts) -> Action:
    """The next thing to do for one stem."""
    record = facts.record
    if record is None:
        return _unknown(facts)
    if record.state is State.RUNNING:
        return _alive(facts, record) if facts.lock_held else _ended(facts, record)
    if record.state in (State.WAITING, State.HELD):
        return _waiting(facts, record)
    return _finished(facts, record)


def _unknown(facts: Facts) -> Action:
    if State.RUNNING in facts.files:
        # A worker whose record was lost goes on; nobody can say whose lock it holds, so nothing is started beside it.
        return Nothing(why="a worker without a record is at it") if facts.lock_held else Requeue()
    if State.WAITING in facts.files:
        return _at_the_door(facts, rotate=_has_final(facts.files))
    return Nothing()


def _alive(facts: Facts, record: JobRecord) -> Action:
    file = facts.files.get(State.RUNNING)
    if file is None:
        return Cancel()
    return Compare(state=State.RUNNING) if _changed(file, record) else Live()


def _ended(facts: Facts, record: JobRecord) -> Action:
    """The worker is gone: its outcome decides, or its death."""
    if State.RUNNING not in facts.files:
        return _ended_by_hand(facts, record)
    outcome = facts.outcome
    here = State.RUNNING
    if outcome is None:
        return _died(facts, record, here)
    match outcome.result:
        case Result.DONE:
            return End(state=State.DONE, source=here, outcome=outcome)
        case Result.FAILED:
            return End(state=State.FAILED, source=here, outcome=outcome)
        case Result.CANCELLED:
            return End(state=State.CANCELLED, source=here, outcome=outcome)
        case Result.TRY_AGAIN:
            return _try_again(record, here, outcome)
        case Result.STOPPED:
            return _died(facts, record, here) if facts.hung else _uncounted(record, here, why="")


def _ended_by_hand(facts: Facts, record: JobRecord) -> Action:
    """The running file was taken away, or the end was cut short by a crash after its rename."""
    moved_to = _where(facts.files, record)
    outcome = facts.outcome
    if outcome is not None and outcome.result in (Result.DONE, Result.FAILED):
        state = State.DONE if outcome.result is Result.DONE else State.FAILED
        if not (state is State.FAILED and moved_to is State.WAITING):
            return End(state=state, source=moved_to, outcome=outcome, late=moved_to is not state)
    if moved_to is State.WAITING:
        if outcome is not None and outcome.result is Result.TRY_AGAIN:
            return _try_again(record, State.WAITING, outcome)
        return _uncounted(record, State.WAITING, why="put back by hand")
    if moved_to is State.HELD:
        return Regard(state=State.HELD)
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
    # Our own child died under our eyes: what killed it is likely to be there still. After a crash of the machine there is no wait.
    next_try = facts.now + DEATH_PAUSES[deaths - 1] if facts.how_ended else None
    return Again(source=here, tries=record.tries, deaths=deaths, next_try=next_try, why=how)


def not_started(record: JobRecord, *, why: str, next_try: float, died: bool) -> End | Again:
    """A claimed job got no worker: it waits, and `died` counts like the death of one."""
    deaths = record.deaths + died
    if deaths >= MAX_DEATHS:
        return End(state=State.FAILED, source=State.RUNNING, reason=why, exit_code=ExitCode.OUR_BUG)
    return Again(source=State.RUNNING, tries=record.tries, deaths=deaths, next_try=next_try, why=why)


def _try_again(record: JobRecord, here: State, outcome: Outcome) -> Action:
    if not outcome.counted:
        next_try = outcome.finished_at + BACK_OFF_SECONDS[0]
        return Again(source=here, tries=record.tries, deaths=record.deaths, next_try=next_try, why=outcome.reason)
    tries = record.tries + 1
    if tries >= MAX_TRIES:
        reason = f"given up after {tries} tries: {outcome.reason}"
        return End(state=State.FAILED, source=here, reason=reason, exit_code=outcome.exit_code)
    next_try = outcome.finished_at + BACK_OFF_SECONDS[tries - 1]
    return Again(source=here, tries=tries, deaths=record.deaths, next_try=next_try, why=outcome.reason)


def _uncounted(record: JobRecord, here: State, *, why: str) -> Again:
    return Again(source=here, tries=record.tries, deaths=record.deaths, next_try=None, why=why)


def _waiting(facts: Facts, record: JobRecord) -> Action:
    files = facts.files
    if State.RUNNING in files:
        return Nothing(why="a worker without a record is at it") if facts.lock_held else Requeue()
    where = _where(files, record)
    if where is State.WAITING:
        if record.state is State.HELD:
            return Regard(state=State.WAITING)
        return Compare(state=State.WAITING) if _changed(files[State.WAITING], record) else Ready()
    if where is State.HELD:
        if record.state is State.WAITING:
            return Regard(state=State.HELD)
        if _changed(files[State.HELD], record):
            return Compare(state=State.HELD)
        newer = files.get(State.WAITING)
        return StepAside(source=State.HELD) if newer is not None and newer.kind is not Kind.OTHER else Nothing()
    if where is not None:
        return End(state=State.CANCELLED, source=where, reason="cancelled before it ran")
    if State.WAITING in files:
        return _at_the_door(facts, rotate=_has_final(files))
    return Disown() if files else Withdraw()


def _finished(facts: Facts, record: JobRecord) -> Action:
    files = facts.files
    if State.RUNNING in files:
        return Nothing(why="a worker without a record is at it") if facts.lock_held else Requeue()
    if State.WAITING in files:
        retry = not _has_final(files) and files[State.WAITING].identity.same(record.identity)
        return _at_the_door(facts, retry=retry, rotate=not retry)
    if record.state in files and not files[record.state].identity.same(record.identity):
        return Reidentify(state=record.state)
    return Nothing() if files else Forget()


def _at_the_door(facts: Facts, *, rotate: bool, retry: bool = False) -> Action:
    """Complete, or still being written? Renamed into place is complete; anything else must have been still."""
    file = facts.files[State.WAITING]
    if file.kind is Kind.OTHER:
        return Nothing(why="this is no file: not a job")
    if file.kind is Kind.REGULAR and file.size == 0:
        missing = EMPTY_SECONDS - facts.still
        return Examine(retry=retry, rotate=rotate) if missing <= 0 else Nothing(after=missing, why="still empty")
    # A second name is what some programs make for a moment when they put a file into place: wait for it to go.
    at_once = facts.renamed_in and file.kind is Kind.REGULAR and file.links == 1
    missing = SETTLE_SECONDS - facts.still
    if at_once or missing <= 0:
        return Examine(retry=retry, rotate=rotate)
    return Nothing(after=missing, why="still being written")


def _where(files: Files, record: JobRecord) -> State | None:
    """The state under which the record's own file lies now."""
    return next((state for state in _BY_LIKELIHOOD if state in files and files[state].identity.same(record.identity)), None)


_BY_LIKELIHOOD = (State.WAITING, State.HELD, *sorted(FINAL, key=lambda state: state.value))


def _changed(file: FileFacts, record: JobRecord) -> bool:
    same_file = file.identity.same(record.identity)
    return not same_file or (file.size, file.mtime_ns) != (record.size, record.mtime_ns)


def _has_final(files: Files) -> bool:
    return any(state in files for state in FINAL)
