"""The decision for every row of the state table, and for the mixes a crash or a hand can leave."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from phd_daemon.spool.control_file import parse_control_file
from phd_daemon.spool.layout import State
from phd_daemon.spool.reconcile import (
    BACK_OFF_SECONDS,
    MAX_TRIES,
    Action,
    Cancel,
    DropRecord,
    End,
    Examine,
    Facts,
    Forget,
    Live,
    NoteChange,
    Nothing,
    Ready,
    Reidentify,
    RenameOlder,
    Requeue,
    SetWaitingState,
    WaitAgain,
    Withdraw,
    reconcile,
)
from phd_daemon.spool.record import JobRecord
from phd_daemon.spool.scan import FileFacts, FileKind
from phd_daemon.spool.status_file import Outcome, Result
from restore_core.disk.identity import FileIdentity
from tests.phd_daemon.spool.desk import TEXT

MINE, OTHER = 1, 2
W, H, R, D, F, C, X = (
    State.WAITING,
    State.HELD,
    State.RUNNING,
    State.DONE,
    State.FAILED,
    State.CANCELLED,
    State.REJECTED,
)


def file(inode: int = MINE, *, size: int = 10, kind: FileKind = FileKind.REGULAR, links: int = 1, generation: int = 7) -> FileFacts:
    identity = FileIdentity(inode=inode, generation=generation)
    return FileFacts(kind=kind, identity=identity, size=size, mtime_ns=5, ctime_ns=5, links=links)


def lying(state: State) -> dict[str, Any]:
    return {state.value: file()}


def record(state: State, **changes: object) -> JobRecord:
    return JobRecord(
        stem="crm", state=state, identity=FileIdentity(inode=MINE, generation=7), size=10, mtime_ns=5, not_before_ns=5,
        arrived_ns=5,
        accepted_at=1.0, uid=0, submitter="root", text=TEXT.decode(), control=parse_control_file(TEXT), attempt=1,
    ).with_(**changes)  # fmt: skip


def outcome(result: Result) -> Outcome:
    return Outcome(attempt=1, result=result, exit_code=1, reason="why", finished_at=1000.0)


def decide(
    known: JobRecord | None, /, *, locked: bool = False, result: Result | None = None, still: float = 0.0, **files: FileFacts
) -> Action:
    at = {State(suffix): facts for suffix, facts in files.items()}
    return reconcile(
        Facts(files=at, record=known, lock_held=locked, outcome=outcome(result) if result else None, still=still, now=1.0)
    )


class TestNewFiles:
    def test_renamed_in_is_taken_at_once(self) -> None:
        assert reconcile(Facts(files={W: file()}, record=None, renamed_in=True)) == Examine()

    def test_written_in_place_must_be_still_for_two_seconds(self) -> None:
        assert decide(None, job=file(), still=0.5) == Nothing(after=1.5, why="still being written")
        assert decide(None, job=file(), still=2.0) == Examine()

    def test_empty_waits_a_minute_even_if_renamed_in(self) -> None:
        assert reconcile(Facts(files={W: file(size=0)}, record=None, renamed_in=True, still=10.0)) == Nothing(
            after=50.0, why="still empty"
        )
        assert decide(None, job=file(size=0), still=60.0) == Examine()

    def test_links_get_time_to_become_one(self) -> None:
        for facts in (file(links=2), file(kind=FileKind.SYMLINK)):
            assert isinstance(reconcile(Facts(files={W: facts}, record=None, renamed_in=True)), Nothing)
            assert decide(None, job=facts, still=2.0) == Examine()

    def test_no_file_is_left_alone(self) -> None:
        assert isinstance(decide(None, job=file(kind=FileKind.OTHER), still=99.0), Nothing)

    def test_over_a_finished_one_the_old_files_are_rotated(self) -> None:
        assert decide(None, job=file(OTHER), done=file(), still=9.0) == Examine(rotate=True)
        assert decide(record(D), job=file(OTHER), done=file(), still=9.0) == Examine(rotate=True)

    def test_unknown_finished_and_held_files_are_left_alone(self) -> None:
        for state in (H, D, F, C, X):
            assert decide(None, **lying(state)) == Nothing()

    def test_running_without_a_record_waits_again_unless_somebody_holds_the_lock(self) -> None:
        assert decide(None, running=file()) == Requeue()
        assert isinstance(decide(None, running=file(), locked=True), Nothing)


class TestWaiting:
    def test_ready(self) -> None:
        assert decide(record(W), job=file()) == Ready()

    def test_hold_and_release(self) -> None:
        assert reconcile(Facts(files={H: file()}, record=record(W))) == SetWaitingState(state=H)
        assert reconcile(Facts(files={H: file()}, record=record(H))) == Nothing()
        assert decide(record(H), job=file()) == SetWaitingState(state=W)

    def test_withdrawn(self) -> None:
        assert decide(record(W)) == Withdraw()
        assert decide(record(H)) == Withdraw()

    def test_edited_in_place(self) -> None:
        assert decide(record(W), job=file(size=11)) == NoteChange(state=W)
        assert reconcile(Facts(files={H: file(size=11)}, record=record(H))) == NoteChange(state=H)

    def test_replaced_is_a_new_drop_even_with_the_same_inode_number(self) -> None:
        assert decide(record(W), job=file(OTHER), still=9.0) == Examine()
        assert decide(record(W), job=file(MINE, generation=8), still=9.0) == Examine()

    def test_unknown_generation_is_no_evidence(self) -> None:
        assert decide(record(W), job=file(MINE, generation=0)) == Ready()

    @pytest.mark.parametrize("final", [D, F, C, X])
    def test_renamed_to_a_final_state_by_hand_is_cancelled(self, final: State) -> None:
        assert decide(record(W), **lying(final)) == End(state=C, source=final, reason="cancelled before it ran")

    def test_a_crash_between_rename_and_record_of_a_start(self) -> None:
        assert decide(record(W), running=file()) == Requeue()

    def test_a_held_one_makes_way_for_a_namesake(self) -> None:
        assert reconcile(Facts(files={H: file(), W: file(OTHER)}, record=record(H), still=9.0)) == RenameOlder(source=H)

    def test_but_not_for_what_is_no_file(self) -> None:
        folder = replace(file(OTHER), kind=FileKind.OTHER)
        assert reconcile(Facts(files={H: file(), W: folder}, record=record(H), still=9.0)) == Nothing()

    def test_a_held_one_that_was_replaced_is_no_longer_ours(self) -> None:
        assert reconcile(Facts(files={H: file(OTHER)}, record=record(H))) == DropRecord()


class TestRunning:
    def test_lives_while_the_lock_is_held(self) -> None:
        assert decide(record(R), running=file(), locked=True) == Live()
        assert decide(record(R), running=file(), locked=True, job=file(OTHER), still=9.0) == Live()

    def test_edit_is_compared_once(self) -> None:
        assert decide(record(R), running=file(size=11), locked=True) == NoteChange(state=R)
        assert decide(record(R), running=file(OTHER), locked=True) == NoteChange(state=R)

    def test_taken_away_while_alive_is_a_cancel(self) -> None:
        assert decide(record(R), locked=True) == Cancel()
        for state in (W, D, F, C, X):
            assert decide(record(R), locked=True, **lying(state)) == Cancel()

    def test_outcomes(self) -> None:
        for result, state in ((Result.DONE, D), (Result.FAILED, F), (Result.CANCELLED, C)):
            action = decide(record(R), running=file(), result=result)
            assert isinstance(action, End)
            assert (action.state, action.source, action.late) == (state, R, False)

    def test_tried_again_with_growing_pauses_then_given_up(self) -> None:
        for tries, pause in enumerate(BACK_OFF_SECONDS):
            action = decide(record(R, tries=tries), running=file(), result=Result.TRY_AGAIN)
            assert action == WaitAgain(source=R, tries=tries + 1, deaths=0, next_try=1000.0 + pause, why="why")
        last = decide(record(R, tries=MAX_TRIES - 1), running=file(), result=Result.TRY_AGAIN)
        assert isinstance(last, End)
        assert (last.state, last.reason) == (F, "given up after 5 tries: why")
        assert BACK_OFF_SECONDS == (60.0, 300.0, 900.0, 3600.0)

    def test_stopped_does_not_count(self) -> None:
        assert decide(record(R, tries=2, deaths=1), running=file(), result=Result.STOPPED) == WaitAgain(
            source=R, tries=2, deaths=1, next_try=None, why=""
        )

    def test_death_counts_to_three(self) -> None:
        facts = Facts(files={R: file()}, record=record(R), how_ended="killed by signal 9 (perhaps out of memory)", now=1000.0)
        action = reconcile(facts)
        assert action == WaitAgain(
            source=R, tries=0, deaths=1, next_try=1002.0, why="worker killed by signal 9 (perhaps out of memory)"
        )
        second = reconcile(Facts(files={R: file()}, record=record(R, deaths=1), how_ended=facts.how_ended, now=1000.0))
        assert isinstance(second, WaitAgain)
        assert second.next_try == 1060.0
        last = reconcile(Facts(files={R: file()}, record=record(R, deaths=2), how_ended=facts.how_ended))
        assert isinstance(last, End)
        assert last.state is F
        assert last.reason.startswith("worker killed by signal 9 (perhaps out of memory)")

    def test_a_death_that_nobody_saw_is_not_waited_for(self) -> None:
        action = reconcile(Facts(files={R: file()}, record=record(R), now=1000.0))
        assert isinstance(action, WaitAgain)
        assert (action.deaths, action.next_try) == (1, None)

    def test_one_that_hung_counts_as_dead_whatever_it_says_at_last(self) -> None:
        said = outcome(Result.STOPPED)
        stopped = reconcile(Facts(files={R: file()}, record=record(R), outcome=said, hung=True, how_ended="showed no sign of life"))
        assert isinstance(stopped, WaitAgain)
        assert (stopped.deaths, stopped.why) == (1, "worker showed no sign of life")

    def test_killed_because_it_would_not_stop_is_no_death(self) -> None:
        action = reconcile(Facts(files={R: file()}, record=record(R), stop_asked=True, how_ended="killed by signal 9"))
        assert action == WaitAgain(source=R, tries=0, deaths=0, next_try=None, why="")


class TestTakenAwayWhileItRan:
    @pytest.mark.parametrize("result", [None, Result.CANCELLED, Result.STOPPED, Result.TRY_AGAIN])
    def test_removed(self, result: Result | None) -> None:
        action = decide(record(R), result=result)
        assert isinstance(action, End)
        assert (action.state, action.source) == (C, None)

    def test_too_late(self) -> None:
        for source, files in ((None, {}), (C, lying(C)), (W, lying(W))):
            action = decide(record(R), result=Result.DONE, **files)
            assert isinstance(action, End)
            assert (action.state, action.source, action.late) == (D, source, True)

    def test_renamed_to_cancelled(self) -> None:
        action = decide(record(R), result=Result.CANCELLED, cancelled=file())
        assert isinstance(action, End)
        assert (action.state, action.source) == (C, C)

    def test_put_back(self) -> None:
        action = decide(record(R), result=Result.CANCELLED, job=file())
        assert action == WaitAgain(source=W, tries=0, deaths=0, next_try=None, why="put back by hand")
        assert reconcile(Facts(files={H: file()}, record=record(R), outcome=outcome(Result.CANCELLED))) == SetWaitingState(state=H)

    def test_removed_and_dropped_again_is_cancelled_first(self) -> None:
        action = decide(record(R), result=Result.CANCELLED, job=file(OTHER), still=9.0)
        assert isinstance(action, End)
        assert (action.state, action.source) == (C, None)

    @pytest.mark.parametrize(("result", "state"), [(Result.DONE, D), (Result.FAILED, F), (Result.CANCELLED, C)])
    def test_a_crash_between_the_last_rename_and_the_record(self, result: Result, state: State) -> None:
        action = decide(record(R), result=result, **lying(state))
        assert isinstance(action, End)
        assert (action.state, action.source, action.late) == (state, state, False)

    def test_a_crash_between_put_back_and_record(self) -> None:
        assert decide(record(R), result=Result.TRY_AGAIN, job=file()) == WaitAgain(
            source=W, tries=1, deaths=0, next_try=1060.0, why="why"
        )


class TestFinished:
    @pytest.mark.parametrize("state", [D, F, C, X])
    def test_stays_retries_is_forgotten(self, state: State) -> None:
        assert decide(record(state), **lying(state)) == Nothing()
        assert decide(record(state), job=file(), still=9.0) == Examine(retry=True)
        assert decide(record(state)) == Forget()

    def test_replaced_by_an_editor_then_renamed_is_still_a_retry(self) -> None:
        assert decide(record(F), failed=file(OTHER)) == Reidentify(state=F)

    def test_another_file_under_the_name_is_a_new_drop(self) -> None:
        assert decide(record(F), job=file(OTHER), still=9.0) == Examine(rotate=True)

    def test_parked_for_a_later_retry(self) -> None:
        assert reconcile(Facts(files={H: file()}, record=record(F))) == Nothing()

    def test_renamed_to_running_by_hand(self) -> None:
        assert decide(record(F), running=file()) == Requeue()
