"""Rounds over a real folder: every human rename, re-dropped names, bad entries, crashes in between, and back."""

from __future__ import annotations

import json
import logging
import os
import time
from pathlib import Path

import pytest

from phd_daemon.spool import requests, transitions
from phd_daemon.spool.access import user_name
from phd_daemon.spool.control_file import ControlFile, parse_control_file
from phd_daemon.spool.intake import IntakeRules
from phd_daemon.spool.keeper import WorkerEnd
from phd_daemon.spool.layout import State
from phd_daemon.spool.reconcile import MAX_TRIES
from phd_daemon.spool.record import NewerRecord, read_record
from phd_daemon.spool.status_file import Result
from restore_core import durable
from tests.phd_daemon.spool.desk import TEXT, Desk, control

ME = user_name(os.geteuid())


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(tmp_path / "spool", monkeypatch)


@pytest.fixture
def waiting(desk: Desk) -> Desk:
    desk.drop("crm.job")
    assert [record.stem for record in desk.round().ready] == ["crm"]
    return desk


@pytest.fixture
def running(waiting: Desk) -> Desk:
    assert waiting.start() == 1
    return waiting


@pytest.fixture
def done(running: Desk) -> Desk:
    running.finish()
    running.round()
    assert running.names() == ["crm.done"]
    return running


class TestTheWay:
    def test_accepted(self, waiting: Desk) -> None:
        assert waiting.names() == ["crm.job"]
        first, *rest = waiting.log().splitlines()
        assert f"accepted from {ME}, asked at 20" in first
        assert any("/backups/crm.phd" in line for line in rest)
        assert any("/vmfs/volumes/ds1/crm.vmdk" in line for line in rest)
        assert (waiting.status().state, waiting.status().submitter) == ("waiting", ME)
        assert waiting.record().text.encode() == TEXT

    def test_running(self, running: Desk) -> None:
        assert running.names() == ["crm.running"]
        found = running.round()
        assert [record.stem for record in found.live] == ["crm"]
        assert not found.ready
        assert (running.record().state, running.status().state) == (State.RUNNING, "running")

    def test_done(self, done: Desk) -> None:
        assert done.status().outcome is not None
        assert (done.status().state, done.record().state) == ("done", State.DONE)
        assert done.ended == ["crm"]

    def test_failed(self, running: Desk) -> None:
        running.finish(result=Result.FAILED)
        running.round()
        assert running.names() == ["crm.failed"]

    def test_nothing_is_accepted_while_the_queue_is_disabled(self, desk: Desk) -> None:
        desk.policy = IntakeRules(validate=desk.policy.validate, submitters=(), open=False)
        desk.drop("crm.job")
        assert not desk.round().ready
        assert desk.files() == ["crm.job"]

    def test_a_claim_is_refused_when_the_file_changed_meanwhile(self, waiting: Desk) -> None:
        waiting.drop("crm.job", control("other"))
        assert waiting.keeper.claim("crm") is None
        assert waiting.names() == ["crm.job"]
        waiting.round()
        assert "other" in waiting.record().text

    def test_a_schedule_that_was_set_meanwhile_is_kept(self, waiting: Desk) -> None:
        later = time.time() + 3600
        os.utime(waiting.folder / "crm.job", (later, later))
        assert waiting.keeper.claim("crm") is None
        assert waiting.round().ready
        assert "scheduled: not before" in waiting.log()


class TestHands:
    def test_hold_and_release(self, waiting: Desk) -> None:
        arrived = waiting.record().arrived_ns
        waiting.mv("crm.job", "crm.held")
        assert not waiting.round().ready
        assert waiting.status().state == "held"
        waiting.mv("crm.held", "crm.job")
        assert waiting.round().ready[0].arrived_ns == arrived
        assert "released" in waiting.log()

    def test_dropped_as_held_is_accepted_on_release(self, desk: Desk) -> None:
        desk.drop("crm.held")
        assert not desk.round().ready
        desk.mv("crm.held", "crm.job")
        assert desk.round().ready

    def test_withdraw(self, waiting: Desk) -> None:
        waiting.rm("crm.job")
        waiting.round()
        assert waiting.files() == []
        assert os.listdir(waiting.spool.state_folder) == []

    def test_forget(self, done: Desk) -> None:
        done.rm("crm.done")
        done.round()
        assert done.files() == []
        assert os.listdir(done.spool.state_folder) == []

    @pytest.mark.parametrize("final", ["done", "failed", "cancelled", "rejected"])
    def test_a_waiting_one_moved_to_a_final_name_is_cancelled(self, waiting: Desk, final: str) -> None:
        waiting.mv("crm.job", f"crm.{final}")
        waiting.round()
        assert waiting.names() == ["crm.cancelled"]
        assert "cancelled before it ran" in waiting.log()
        assert waiting.status().outcome is not None

    @pytest.mark.parametrize("how", ["rename", "remove"])
    def test_cancel_while_it_runs(self, running: Desk, how: str) -> None:
        if how == "rename":
            running.mv("crm.running", "crm.cancelled")
        else:
            running.rm("crm.running")
        assert [record.stem for record in running.round().cancel] == ["crm"]
        running.finish(result=Result.CANCELLED)
        running.round()
        assert running.names() == ["crm.cancelled"]
        assert (running.folder / "crm.cancelled").read_bytes() == TEXT
        assert running.record().state is State.CANCELLED

    def test_cancel_that_came_too_late(self, running: Desk) -> None:
        running.mv("crm.running", "crm.cancelled")
        running.finish(result=Result.DONE)
        running.round()
        assert running.names() == ["crm.done"]
        assert "too late" in running.log()

    def test_one_whose_end_was_not_heard_of_yet_counts_as_alive(self, running: Desk) -> None:
        unheard = {"crm"}
        running.keeper._unreaped = lambda stem: stem in unheard
        running.finish(result=None)
        assert [record.stem for record in running.round().live] == ["crm"]
        assert running.names() == ["crm.running"]
        unheard.clear()
        running.keeper.worker_ended("crm", WorkerEnd(how="killed by signal 9", stop_asked=False))
        running.round()
        assert running.names() == ["crm.job"]
        assert "killed by signal 9" in running.log()

    def test_cancel_of_a_worker_that_died(self, running: Desk) -> None:
        running.rm("crm.running")
        running.finish(result=None)
        running.round()
        assert running.names() == ["crm.cancelled"]
        assert running.status().outcome is not None

    @pytest.mark.parametrize("result", [Result.FAILED, Result.CANCELLED])
    def test_retry(self, running: Desk, result: Result) -> None:
        running.finish(result=result)
        running.round()
        running.mv(running.names()[0], "crm.job")
        assert [record.stem for record in running.round().ready] == ["crm"]
        assert "tried again: attempt 2" in running.log()
        assert running.log().count("accepted from") == 2
        assert running.start() == 2

    def test_retry_takes_the_text_as_it_is_now(self, running: Desk) -> None:
        running.finish(result=Result.FAILED)
        running.round()
        (running.folder / "crm.failed").write_bytes(control(overwrite=True))
        running.mv("crm.failed", "crm.job")
        record = running.round().ready[0]
        assert record.control is not None
        assert record.control.options.overwrite
        assert record.attempt == 1

    def test_retry_of_a_rejected_one_that_was_mended(self, desk: Desk) -> None:
        desk.drop("crm.job", b"delta = 1\n")
        desk.round()
        assert desk.names() == ["crm.rejected"]
        (desk.folder / "crm.rejected").write_bytes(TEXT)
        desk.mv("crm.rejected", "crm.job")
        assert desk.round().ready
        assert "rejected: crm.job" in desk.log()
        assert "phd retry crm; what it asks for can be edited in crm.rejected\n" in desk.log()
        assert desk.start() == 2

    def test_put_back_while_it_runs(self, running: Desk) -> None:
        running.mv("crm.running", "crm.job")
        assert running.round().cancel
        running.finish(result=Result.CANCELLED)
        assert running.round().ready
        assert running.names() == ["crm.job"]

    def test_held_while_it_runs(self, running: Desk) -> None:
        running.mv("crm.running", "crm.held")
        running.finish(result=Result.CANCELLED)
        running.round()
        assert running.names() == ["crm.held"]
        assert running.status().state == "held"

    def test_edits_are_noted_once_and_change_nothing(self, waiting: Desk) -> None:
        (waiting.folder / "crm.job").write_bytes(control("other"))
        for _ in range(3):
            waiting.round()
        assert waiting.log().count("edited after it was accepted") == 1
        assert waiting.record().text.encode() == TEXT
        waiting.start()
        (waiting.folder / "crm.running").write_bytes(control("third"))
        for _ in range(3):
            waiting.round()
        assert waiting.log().count("edited after it was accepted") == 2

    def test_touch_schedules_and_is_no_edit(self, waiting: Desk) -> None:
        later = time.time() + 3600
        os.utime(waiting.folder / "crm.job", (later, later))
        record = waiting.round().ready[0]
        assert abs(record.mtime_ns / 1e9 - later) < 1
        assert "edited" not in waiting.log()

    def test_an_edit_takes_no_schedule_away(self, waiting: Desk) -> None:
        later = time.time() + 3600
        os.utime(waiting.folder / "crm.job", (later, later))
        waiting.round()
        with (waiting.folder / "crm.job").open("ab") as file:
            file.write(b"priority = 1\n")
        record = waiting.round().ready[0]
        assert abs(record.not_before_ns / 1e9 - later) < 1
        assert "edited" in waiting.log()
        assert waiting.status().not_before == pytest.approx(later, abs=1)
        os.utime(waiting.folder / "crm.job", (later + 60, later + 60))
        assert waiting.round().ready[0].not_before_ns / 1e9 == pytest.approx(later + 60, abs=1)

    def test_a_waiting_one_replaced_by_a_new_file_is_the_new_one(self, waiting: Desk) -> None:
        waiting.drop("crm.job", control("other"))
        record = waiting.round().ready[0]
        assert "other" in record.text
        assert "replaced, before it ran" in waiting.log()

    def test_a_name_renamed_is_another_job(self, waiting: Desk) -> None:
        waiting.mv("crm.job", "crm2.job")
        assert [record.stem for record in waiting.round().ready] == ["crm2"]
        assert "crm.log" not in waiting.files()


class TestNamesakes:
    def test_dropped_over_a_finished_one(self, done: Desk) -> None:
        done.drop("crm.job", control("second"))
        assert [record.stem for record in done.round().ready] == ["crm"]
        assert done.files() == ["crm.job", "crm.log", "crm.status", "crm.~1.done", "crm.~1.log", "crm.~1.status"]
        assert "second" in done.log()
        assert "second" not in done.log("crm.~1")

    def test_dropped_again_and_again(self, done: Desk) -> None:
        for number in (1, 2, 3):
            done.drop("crm.job", control(f"n{number}"))
            done.round()
            done.start()
            done.finish()
            done.round()
        assert done.names() == ["crm.done", "crm.~1.done", "crm.~2.done", "crm.~3.done"]

    def test_rotated_ones_are_inert(self, done: Desk) -> None:
        done.drop("crm.job")
        done.round()
        before = done.files()
        done.restart()
        done.round()
        assert done.files() == before

    def test_dropped_while_its_namesake_runs(self, running: Desk) -> None:
        running.drop("crm.job", control("second"))
        found = running.round()
        assert not found.ready
        assert running.names() == ["crm.job", "crm.running"]
        running.finish()
        assert [record.text for record in running.round().ready] == [control("second").decode()]
        assert running.names() == ["crm.job", "crm.~1.done"]

    @pytest.mark.parametrize("result", [Result.TRY_AGAIN, Result.STOPPED, None])
    def test_both_wait_when_the_older_one_has_to_wait_again(self, running: Desk, result: Result | None) -> None:
        running.drop("crm.job", control("second"))
        running.finish(result=result)
        running.round()
        assert running.names() == ["crm.job", "crm.~1.job"]
        assert running.record("crm.~1").text.encode() == TEXT
        assert running.record("crm.~1").attempt == 1
        assert "goes on as crm.~1" in running.log("crm.~1")
        assert running.record("crm").text == control("second").decode()

    def test_refused_over_a_finished_one(self, done: Desk) -> None:
        done.drop("crm.job", b"nonsense")
        done.round()
        assert done.names() == ["crm.rejected", "crm.~1.done"]
        assert "accepted" not in done.log()

    def test_the_name_of_the_end_is_taken(self, running: Desk) -> None:
        (running.folder / "crm.done").write_text("a person's own file")
        running.finish()
        running.round()
        assert running.names() == ["crm.done", "crm.~1.done"]
        assert (running.folder / "crm.done").read_bytes() == TEXT


class TestTrouble:
    def test_tried_again_with_the_reason_then_given_up(self, running: Desk) -> None:
        for attempt in range(1, MAX_TRIES):
            running.finish(result=Result.TRY_AGAIN)
            record = running.round().ready[0]
            assert record.tries == attempt
            assert record.next_try is not None
            assert record.next_try > time.time()
            assert (running.status().next_try, running.status().why_waiting) == (record.next_try, "as played")
            running.start()
        running.finish(result=Result.TRY_AGAIN)
        running.round()
        assert running.names() == ["crm.failed"]
        assert "failed: given up after 5 tries: as played" in running.log()
        said = (
            "what to do now that it has failed: mend the cause, then: phd retry crm; what it asks for can be edited in crm.failed"
        )
        assert running.log().splitlines()[-1].endswith(said)
        outcome = running.status().outcome
        assert outcome is not None
        assert outcome.exit_code == 69

    def test_worker_killed_three_times(self, running: Desk) -> None:
        for _ in range(2):
            running.finish(result=None, how="killed by signal 9 (perhaps out of memory)")
            assert running.round().ready
            running.start()
        running.finish(result=None, how="killed by signal 9 (perhaps out of memory)")
        running.round()
        assert running.names() == ["crm.failed"]
        assert "failed: worker killed by signal 9 (perhaps out of memory)" in running.log()

    def test_outcome_of_an_earlier_attempt_does_not_count(self, running: Desk) -> None:
        running.finish(result=Result.TRY_AGAIN)
        running.round()
        status = running.status()
        running.start()
        assert running.status().outcome is None
        (running.spool.status("crm")).unlink()
        os.close(running.locks.pop("crm"))
        assert status.attempt == 1
        assert running.round().ready  # died, not "try again"
        assert running.record().deaths == 1

    def test_no_worker_could_be_started(self, running: Desk) -> None:
        os.close(running.locks.pop("crm"))
        running.keeper.put_back("crm", why="no worker could be started: EAGAIN", wait=60)
        record = running.round().ready[0]
        assert (record.deaths, record.tries) == (0, 0)
        assert record.next_try is not None

    def test_a_retry_by_hand_is_in_the_log(self, running: Desk) -> None:
        os.close(running.locks.pop("crm"))
        running.keeper.put_back("crm", why="no worker could be started: EAGAIN", wait=60)
        running.round()
        requests.retry(running.folder, "crm")
        assert running.round().ready[0].next_try is None
        assert "it was asked for ('phd retry', or a touch of the file)" in running.log()

    def test_restart_adopts_what_lives_and_requeues_what_died(self, running: Desk) -> None:
        running.drop("other.job", control("other"))
        running.round()
        running.start("other")
        running.restart()
        os.close(running.locks.pop("other"))
        found = running.round()
        assert [record.stem for record in found.live] == ["crm"]
        assert [record.stem for record in found.ready] == ["other"]
        assert running.record("other").deaths == 1

    def test_status_and_record_lost(self, running: Desk) -> None:
        running.finish()
        for name in os.listdir(running.spool.state_folder):
            os.unlink(running.spool.state_folder / name)
        running.rm("crm.status")
        running.restart()
        assert running.round().ready
        assert running.names() == ["crm.job"]

    def test_damaged_record_is_accepted_again(self, waiting: Desk) -> None:
        waiting.spool.record("crm").write_text("{")
        waiting.restart()
        assert waiting.round().ready
        assert waiting.log().count("accepted from") == 2

    def test_record_of_a_newer_version_is_left_alone(self, waiting: Desk, caplog: pytest.LogCaptureFixture) -> None:
        path = waiting.spool.record("crm")
        path.write_text(json.dumps({"version": 2, "something": "new"}))
        waiting.restart()
        before = waiting.files()
        for _ in range(2):
            assert not waiting.round().ready
        assert waiting.files() == before
        assert isinstance(read_record(path), NewerRecord)
        assert sum("newer than this program" in str(line.__dict__.get("why")) for line in caplog.records) == 1

    def test_a_full_spool_does_not_end_the_round(self, waiting: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        waiting.drop("other.job", control("other"))
        with monkeypatch.context() as patch:
            patch.setattr(durable, "write_whole", full)
            found = waiting.round()
        assert [record.stem for record in found.ready] == ["crm"]
        assert found.after is not None
        assert len(waiting.round().ready) == 2

    def test_second_claim_while_a_worker_lives(self, running: Desk) -> None:
        """Somebody deleted the record and put the file back: the lock still says no."""
        running.spool.record("crm").unlink()
        running.mv("crm.running", "crm.job")
        running.restart()
        assert running.round().ready
        assert running.keeper.claim("crm") is None
        assert running.names() == ["crm.job"]


class TestBadEntries:
    def reject(self, desk: Desk) -> str:
        desk.round()
        assert desk.names() == ["crm.rejected"]
        assert desk.status().state == "rejected"
        outcome = desk.status().outcome
        assert outcome is not None
        assert outcome.exit_code in (65, 73)
        return desk.log()

    def test_symlink(self, desk: Desk) -> None:
        (desk.outside / "real").write_bytes(TEXT)
        (desk.folder / "crm.job").symlink_to(desk.outside / "real")
        assert "symbolic link" in self.reject(desk)
        assert (desk.folder / "crm.rejected").is_symlink()
        assert (desk.outside / "real").exists()

    def test_symlink_to_nowhere(self, desk: Desk) -> None:
        (desk.folder / "crm.job").symlink_to("nowhere")
        assert "symbolic link" in self.reject(desk)

    def test_hard_link(self, desk: Desk) -> None:
        (desk.outside / "real").write_bytes(TEXT)
        os.link(desk.outside / "real", desk.folder / "crm.job")
        assert "hard links" in self.reject(desk)

    def test_sparse_gigabyte(self, desk: Desk) -> None:
        with (desk.folder / "crm.job").open("wb") as file:
            file.truncate(1 << 30)
        assert "not a control file" in self.reject(desk)

    def test_binary_and_wrong_line(self, desk: Desk) -> None:
        desk.drop("crm.job", b"\x00\xff\x7fELF")
        assert "crm.job" in self.reject(desk)

    def test_the_log_names_file_line_reason_and_remedy(self, desk: Desk) -> None:
        desk.drop("crm.job", TEXT + b"overwritten = true\n")
        log = self.reject(desk)
        assert "rejected: crm.job" in log
        assert "line 3" in log
        assert "overwritten" in log
        assert "Correct the file" in log

    def test_empty_waits_then_is_rejected(self, desk: Desk) -> None:
        desk.drop("crm.job", b"")
        found = desk.round()
        assert found.after == 50.0
        assert desk.files() == ["crm.job"]
        desk.still = 60.0
        assert "empty" in self.reject(desk)

    @pytest.mark.parametrize("kind", ["fifo", "directory"])
    def test_no_file_is_left_alone_with_one_warning(self, desk: Desk, kind: str, caplog: pytest.LogCaptureFixture) -> None:
        path = desk.folder / "crm.job"
        if kind == "fifo":
            os.mkfifo(path)
        else:
            path.mkdir()
        for _ in range(3):
            assert not desk.round().ready
        assert desk.files() == ["crm.job"]
        assert sum("is no file" in str(line.__dict__.get("why")) for line in caplog.records) == 1

    def test_names_that_are_too_long(self, desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
        desk.drop("x" * 201 + ".job")
        desk.round()
        desk.round()
        assert desk.names() == ["x" * 201 + ".job"]
        assert sum("longer than 200 bytes" in str(line.__dict__.get("why")) for line in caplog.records) == 1

    @pytest.mark.parametrize("stem", [os.fsdecode(b"caf\xe9"), "two\nlines \x1b[2J", "x" * 200, "daemon", "a.~1", "witness é %41"])
    def test_odd_names_run_like_any_other(self, desk: Desk, stem: str, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        desk.drop(f"{stem}.job")
        assert [record.stem for record in desk.round().ready] == [stem]
        desk.start(stem)
        desk.restart()
        assert [record.stem for record in desk.round().live] == [stem]
        desk.finish(stem)
        desk.round()
        assert desk.names() == [f"{stem}.done"]
        said = "".join(str(line.__dict__.get("job", "")) for line in caplog.records)
        assert said.isprintable()

    def test_the_daemon_goes_on(self, desk: Desk) -> None:
        os.mkfifo(desk.folder / "a.job")
        desk.drop("b.job", b"\xff")
        desk.drop("c.job", control("c"))
        assert [record.stem for record in desk.round().ready] == ["c"]


class TestCrashes:
    """A crash after each step of a start and of an end: the next daemon finds its way, and nothing runs twice."""

    def test_after_the_rename_of_a_start(self, waiting: Desk) -> None:
        waiting.mv("crm.job", "crm.running")
        waiting.restart()
        assert waiting.round().ready
        assert waiting.record().deaths == 0

    def test_after_the_record_of_a_start(self, running: Desk) -> None:
        os.close(running.locks.pop("crm"))
        running.restart()
        assert running.round().ready

    @pytest.mark.parametrize("result", [Result.DONE, Result.FAILED, Result.CANCELLED])
    def test_after_the_rename_of_an_end(self, running: Desk, result: Result) -> None:
        running.finish(result=result)
        running.mv("crm.running", f"crm.{result.value}")
        running.restart()
        running.round()
        assert running.names() == [f"crm.{result.value}"]
        assert "too late" not in running.log()

    def test_between_the_rotation_of_file_and_log(self, done: Desk) -> None:
        done.drop("crm.job")
        done.mv("crm.done", "crm.~1.done")
        done.restart()
        assert done.round().ready
        assert done.names() == ["crm.job", "crm.~1.done"]

    def test_every_step_of_an_end_may_be_the_last(self, running: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        class Crash(BaseException):
            pass

        running.finish()
        steps = 0
        while running.names() != ["crm.done"] or steps == 0 or running.record().state is not State.DONE:
            steps += 1
            left = [steps]

            def one_less(name: str, left: list[int] = left) -> None:
                real = getattr(durable, name)

                def step(*arguments: object, **keywords: object) -> object:
                    left[0] -= 1
                    if left[0] == 0:
                        raise Crash
                    return real(*arguments, **keywords)

                patch.setattr(durable, name, step)

            with monkeypatch.context() as patch:
                for name in ("move", "write_whole"):
                    one_less(name)
                running.restart()
                try:
                    running.round()
                except Crash:
                    continue
        assert steps > 2
        assert running.names() == ["crm.done"]

    def test_asking_twice_changes_nothing(self, done: Desk) -> None:
        done.drop("b.job", b"bad")
        done.drop("c.job", control("c"))
        done.round()
        before = {name: (done.folder / name).stat() for name in done.files()}
        done.restart()
        done.round()
        assert {name: (done.folder / name).stat().st_ino for name in done.files()} == {
            name: found.st_ino for name, found in before.items()
        }

    def test_a_step_aside_survives_a_restart(self, running: Desk) -> None:
        running.drop("crm.job", control("second"))
        running.finish(result=Result.STOPPED)
        running.restart()
        running.round()  # the new name is in the folder now, and rings
        running.restart()
        assert [record.stem for record in running.round().ready] == ["crm", "crm.~1"]


def test_free_rotation_counts_logs_too(desk: Desk) -> None:
    (desk.folder / "crm.~1.log").write_text("")
    assert transitions.free_rotation(desk.spool, "crm") == "crm.~2"


def test_a_flood_is_taken_in_over_several_rounds(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        desk.drop(f"n{number}.job", control(f"n{number}"))
    with monkeypatch.context() as patch:
        patch.setattr("phd_daemon.spool.keeper._ACCEPT_SECONDS", -1.0)
        found = desk.round()
    assert (found.ready, found.after) == ((), 0.0)
    assert len(desk.round().ready) == 5


def test_one_jobs_bug_is_no_others(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.drop("a.job", control("a"))
    desk.drop("b.job", control("b"))
    real = parse_control_file

    def judge(text: bytes, _who: str) -> ControlFile:
        if b"/a.phd" in text:
            raise ZeroDivisionError
        return real(text)

    desk.policy = IntakeRules(validate=judge, submitters=())
    found = desk.round()
    assert [record.stem for record in found.ready] == ["b"]
    assert desk.has("a", State.WAITING)
    assert any("a bug of ours" in line.message for line in caplog.records)


def test_a_lock_that_cannot_be_asked_stops_only_its_job(running: Desk) -> None:
    running.drop("b.job", control("b"))
    os.unlink(running.spool.lock("crm"))
    running.spool.lock("crm").symlink_to("crm.lock")
    assert [record.stem for record in running.round().ready] == ["b"]
    assert running.names() == ["b.job", "crm.running"]
