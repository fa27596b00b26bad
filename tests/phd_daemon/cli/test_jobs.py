"""The commands that touch the spool do what a person could do with an editor, `mv` and `tail`, and nothing else."""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from phd_daemon.cli.main import run
from phd_daemon.spool.control_file import parse_control_file
from phd_daemon.spool.job_log import JobLog
from phd_daemon.spool.status_file import JobStatus, Outcome, Result, write_status
from restore_core.errors import ExitCode
from restore_core.restore.request import Provision, RestoreOptions, VmxChoice

Say = pytest.CaptureFixture[str]
DELTA = "nas1:2007.09.21-CRM.564d122a-0ed7-3b92-2f46-aee9456b2074/00-CRM.vmdk.delta-2007.09.21-0300-070920-1601.phd"


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    folder = tmp_path / "spool"
    folder.mkdir()
    return folder


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spool: Path) -> Path:
    path = tmp_path / "phd.toml"
    path.write_text(
        f'[queue]\nspool = "{spool}"\n[datastores]\nroots = ["{tmp_path}/volumes"]\n[targets.nas1]\nurl = "file://{tmp_path}/nas"\n'
    )
    monkeypatch.setenv("PHD_CONFIG", str(path))
    monkeypatch.chdir(tmp_path)
    return path


def names(spool: Path) -> list[str]:
    return sorted(entry.name for entry in spool.iterdir())


def submit(*more: str, to: str = "volumes/A/ronzo/CRM.vmdk") -> int:
    return run(["submit", DELTA, "--to", to, *more])


@pytest.fixture
def private_umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.usefixtures("private_umask")
def test_submit_writes_what_the_daemon_reads(tmp_path: Path, spool: Path, capsys: Say) -> None:
    options = ["--full", "nas1:f/00-CRM.vmdk.gz-070920-1601.phd", "--overwrite", "--thin", "--vmx", "as-is", "--readback"]
    assert submit(*options, "--priority", "0", "--note", 'he said "now"') == 0
    assert names(spool) == ["CRM.job"]
    assert (spool / "CRM.job").stat().st_mode & 0o777 == 0o640
    control = parse_control_file((spool / "CRM.job").read_bytes())
    assert (str(control.delta), control.restore_to) == (DELTA, tmp_path / "volumes/A/ronzo/CRM.vmdk")
    wanted = RestoreOptions(overwrite=True, provision=Provision.THIN, vmx=VmxChoice.AS_IS, readback=True)
    assert control.options == wanted
    assert (control.priority, control.note, str(control.full)) == (0, 'he said "now"', "nas1:f/00-CRM.vmdk.gz-070920-1601.phd")
    assert capsys.readouterr().out == f"CRM: waiting, {DELTA} to {tmp_path}/volumes/A/ronzo/CRM.vmdk\n"


@pytest.mark.parametrize("taken", ["CRM.job", "CRM.running", "CRM.done", "CRM.held"])
def test_a_name_that_was_not_given_is_made_unique(spool: Path, taken: str) -> None:
    (spool / taken).write_text("")
    assert submit() == 0
    assert names(spool) == sorted([taken, "CRM-2.job"])


def test_a_name_that_was_given_is_kept_or_refused(spool: Path, capsys: Say) -> None:
    (spool / "monday.done").write_text("")
    assert submit("--name", "monday") == 0
    assert submit("--name", "monday") == ExitCode.USAGE
    assert names(spool) == ["monday.done", "monday.job"]
    for bad in ("a/b", ".hidden", "x" * 300):
        assert submit("--name", bad) == ExitCode.USAGE
    assert "a job 'monday' is waiting already" in capsys.readouterr().err


def test_not_before_is_the_time_of_the_file_when_it_appears(spool: Path, capsys: Say) -> None:
    assert submit("--not-before", "2031-01-02 22:00") == 0
    assert (spool / "CRM.job").stat().st_mtime == dt.datetime.fromisoformat("2031-01-02 22:00").astimezone().timestamp()
    assert "waiting until 2031-01-02 22:00" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nas1:f/00-CRM.vmdk.gz-070920-1601.phd", "--to", "volumes/A/x.vmdk"], 65, "A Full cannot be queued"),
        ([DELTA, "--to", "/etc/x.vmdk"], 73, "is not in a datastore"),
        (["nas2:a/b.phd", "--to", "volumes/A/x.vmdk"], 2, "no target is named 'nas2' (did you mean 'nas1'?)"),
        ([DELTA, "--to", "volumes/A/x.vmdk", "--note", "a\nb"], 65, "note: must be one line"),
        ([DELTA, "--to", "volumes/A/x-flat.vmdk"], 65, "names a flat file"),
        ([DELTA, "--to", "volumes/A/x.vmdk", "--not-before", "soon"], 2, "'soon' is not a time"),
        ([DELTA], 2, "Missing option '--to'"),
        (["--to", "x"], 2, "give DELTA or --vm NAME"),
        ([DELTA, "--vm", "CRM", "--to", "x"], 2, "give DELTA or --vm NAME"),
        ([DELTA, "--at", "22:00", "--to", "x"], 2, "--at is only for --vm"),
        (["--vm", "CRM", "--name", "x", "--to", "x"], 2, "--name is only for one DELTA"),
        ([DELTA, "--to", "x.vmdk", "--priority", "10"], 2, "--priority"),
    ],
)
def test_what_would_be_rejected_is_refused_at_once(spool: Path, capsys: Say, arguments: list[str], code: int, said: str) -> None:
    assert run(["submit", *arguments]) == code
    assert said in capsys.readouterr().err
    assert names(spool) == []


def test_no_spool_and_a_queue_that_is_off(config: Path, spool: Path, capsys: Say) -> None:
    config.write_text(config.read_text().replace("[queue]", "[queue]\nenabled = false"))
    assert submit() == 0
    assert "switched off" in capsys.readouterr().err
    (spool / "CRM.job").unlink()
    spool.rmdir()
    assert submit() == ExitCode.CONFIGURATION
    assert "there is no such folder" in capsys.readouterr().err


def test_a_drop_box_that_may_be_written_but_not_read(spool: Path, monkeypatch: pytest.MonkeyPatch, capsys: Say) -> None:
    def refuse(path: Path, **_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("restore_core.durable.sync_folder", refuse)
    assert submit() == 0
    assert names(spool) == ["CRM.job"]
    monkeypatch.setattr("restore_core.durable.move", lambda *_: refuse(spool))
    assert submit() == ExitCode.DESTINATION
    assert names(spool) == ["CRM.job"]
    capsys.readouterr()


VM = "2007.09.{day}-CRM.564d122a-0ed7-3b92-2f46-aee9456b2074/{scsi}-{disk}.delta-2007.09.{day}-0300-070901-0300.phd"


def test_a_date_is_the_newest_state_of_that_day_as_the_list_up_to_it_shows(
    tmp_path: Path, spool: Path, monkeypatch: pytest.MonkeyPatch, capsys: Say
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    for day in ("20", "21", "22"):
        path = tmp_path / "nas" / VM.format(day=day, scsi="00", disk="CRM.vmdk")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
        os.utime(path, (1.2e9, 1.2e9))
    assert run(["submit", "--vm", "CRM", "--at", "2007-09-21", "--to", "volumes/A/copy"]) == 0
    taken = str(parse_control_file((spool / "CRM.job").read_bytes()).delta)
    assert taken == "nas1:" + VM.format(day="21", scsi="00", disk="CRM.vmdk")
    capsys.readouterr()
    assert run(["backups", "--vm", "CRM", "--until", "2007-09-21", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[-1]["archive"] == taken
    assert run(["submit", "--vm", "CRM", "--at", "2d", "--to", "volumes/A/other"]) == 0
    assert "the backup of 2007-09-22 03:00 UTC" in capsys.readouterr().out


def test_a_vm_of_one_disk_may_be_given_the_name_of_that_disk(tmp_path: Path, spool: Path, capsys: Say) -> None:
    to = "volumes/A/copy/other.vmdk"
    for scsi, disk in (("00", "CRM.vmdk"), ("01", "data.vmdk")):
        path = tmp_path / "nas" / VM.format(day="20", scsi=scsi, disk=disk)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
        assert run(["submit", "--vm", "CRM", "--to", to]) == (0 if scsi == "00" else ExitCode.USAGE)
    assert parse_control_file((spool / "other.job").read_bytes()).restore_to == tmp_path / to
    assert names(spool) == ["other.job"]
    assert "CRM has 2\n  Name the folder for all of them: --to volumes/A/copy\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["", "--to", "x.vmdk"], 2, ("the archive has no name", "NAME:FOLDER/FILE")),
        (["nas1:abc", "--to", "volumes/A/x.vmdk"], 65, ("its folder is missing", "nas1:FOLDER/NAME.phd")),
        (["nas1:a/b.phd", "--to", ""], 2, ("the disk has no name", "--to FOLDER/NAME.vmdk")),
        (["nas1:a/b.phd", "--to", "volumes/A/x.img", "--name", "n" * 201], 2, ("at most 200 bytes, this one has 201", "--name")),
        (["--vm", "", "--to", "x"], 2, ("--vm is given without a value", "leave it out")),
        (["nas1:a/b.phd", "--to", "volumes/A/x-flat.vmdk"], 65, ("phd: restore_to: names a flat file", "FOLDER/NAME.vmdk")),
        (["nas1:a/b.phd", "--to", "/other/x.vmdk"], 73, ("is not in a datastore", "/volumes/DATASTORE/x.vmdk")),
    ],
)
def test_a_wrong_request_ends_in_what_to_type(
    spool: Path, arguments: list[str], code: int, said: tuple[str, str], capsys: Say
) -> None:
    assert run(["submit", *arguments]) == code
    text = capsys.readouterr().err
    assert [part for part in said if part not in text] == []
    assert ".job" not in text
    assert names(spool) == []


def test_all_disks_of_a_vm_at_a_time(tmp_path: Path, spool: Path, capsys: Say) -> None:
    for day, scsi, disk in (
        ("20", "00", "CRM.vmdk"),
        ("21", "00", "CRM.vmdk"),
        ("21", "01", "data.vmdk"),
        ("22", "01", "data.vmdk"),
    ):
        path = tmp_path / "nas" / VM.format(day=day, scsi=scsi, disk=disk)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    assert run(["submit", "--vm", "CRM", "--at", "2007-09-21 12:00+00:00", "--to", "volumes/A/copy", "--vmx", "as-is"]) == 0
    assert names(spool) == ["CRM.job", "data.job"]
    control = parse_control_file((spool / "data.job").read_bytes())
    vmx = [parse_control_file((spool / name).read_bytes()).options.vmx for name in ("CRM.job", "data.job")]
    assert vmx == [VmxChoice.AS_IS, VmxChoice.NONE], "one VMX, of the VM"
    assert str(control.delta) == "nas1:" + VM.format(day="21", scsi="01", disk="data.vmdk")
    assert control.restore_to == tmp_path / "volumes/A/copy/data.vmdk"
    assert run(["submit", "--vm", "CRN", "--to", "volumes/A/copy"]) == ExitCode.UNAVAILABLE
    assert run(["submit", "--vm", "CRM", "--to", "/elsewhere"]) == ExitCode.DESTINATION
    assert names(spool) == ["CRM.job", "data.job"]
    capsys.readouterr()


def test_a_disk_that_was_backed_up_alone_is_not_mixed_with_others_of_an_older_run(tmp_path: Path, spool: Path, capsys: Say) -> None:
    for day, scsi, disk in (("21", "00", "CRM.vmdk"), ("21", "01", "data.vmdk"), ("22", "01", "data.vmdk")):
        path = tmp_path / "nas" / VM.format(day=day, scsi=scsi, disk=disk)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    assert run(["submit", "--vm", "CRM", "--to", "volumes/A/copy"]) == 0
    control = parse_control_file((spool / "data.job").read_bytes())
    assert str(control.delta) == "nas1:" + VM.format(day="21", scsi="01", disk="data.vmdk")
    said = capsys.readouterr()
    assert "CRM: the backup of 2007-09-21" in said.out
    assert "disks CRM.vmdk, data.vmdk" in said.out
    assert f"the newer backup of data.vmdk, nas1:{VM.format(day='22', scsi='01', disk='data.vmdk')}" in said.err


def test_names_that_no_terminal_likes(spool: Path, capsys: Say) -> None:
    assert submit(to="volumes/A/we\x1bird/my näme.vmdk") == 0
    assert names(spool) == ["my_n_me.job"]
    assert b"we%1Bird" in (spool / "my_n_me.job").read_bytes()
    assert "\x1b" not in capsys.readouterr().out


def end_soon(spool: Path, stem: str, state: str, code: int) -> threading.Thread:
    """A daemon that is as small as can be: takes the job, writes its log, status and final name."""

    def work() -> None:
        os.rename(spool / f"{stem}.job", spool / f"{stem}.running")
        log = JobLog(spool / f"{stem}.log")
        log.line("attempt 1")
        outcome = Outcome(attempt=1, result=Result.FAILED if code else Result.DONE, exit_code=code, reason="x", finished_at=1.0)
        status = JobStatus(job=stem, state=state, submitter="", delta="", restore_to="", priority=5, accepted_at=0, outcome=outcome)
        write_status(spool / f"{stem}.status", status, durable_now=False)
        log.line(f"{state}: the last line")
        os.rename(spool / f"{stem}.running", spool / f"{stem}.{state}")

    return once_there(spool / f"{stem}.job", work)


@pytest.mark.parametrize(("state", "code"), [("done", 0), ("failed", 65), ("cancelled", 130), ("rejected", 73)])
def test_wait_shows_the_log_and_exits_with_the_jobs_code(spool: Path, capsys: Say, state: str, code: int) -> None:
    thread = end_soon(spool, "CRM", state, code)
    assert submit("--wait") == code
    thread.join()
    assert capsys.readouterr().out.splitlines()[-1].endswith(f"{state}: the last line")


def once_there(path: Path, act: Callable[[], None]) -> threading.Thread:
    def work() -> None:
        while not path.exists():
            time.sleep(0.01)
        act()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_wait_for_a_job_that_is_withdrawn(spool: Path) -> None:
    thread = once_there(spool / "CRM.job", (spool / "CRM.job").unlink)
    assert submit("--wait") == ExitCode.INTERRUPTED
    thread.join()


def test_log_and_log_follow(spool: Path, capsys: Say) -> None:
    assert run(["log", "CRM"]) == ExitCode.USAGE
    (spool / "CRM.job").write_text("")
    assert run(["log", "CRM"]) == 0
    assert "no log yet" in capsys.readouterr().err
    thread = end_soon(spool, "CRM", "done", 0)
    assert run(["log", "CRM", "-f"]) == 0
    thread.join()
    followed = capsys.readouterr().out
    assert run(["log", "CRM"]) == 0
    assert capsys.readouterr().out == followed
    assert followed.endswith("done: the last line\n")


def test_a_log_that_is_replaced_while_it_is_followed(spool: Path) -> None:
    (spool / "CRM.running").write_text("")
    (spool / "CRM.log").write_text("old\n")
    with subprocess.Popen([sys.executable, "-m", "phd_daemon.cli.main", "log", "CRM", "-f"], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"old\n"
        os.rename(spool / "CRM.log", spool / "CRM.~1.log")
        (spool / "CRM.log").write_text("new\n")
        os.rename(spool / "CRM.running", spool / "CRM.done")
        assert child.stdout.read() == b"new\n"
    assert child.returncode == 0


def test_a_character_that_was_cut_in_two(spool: Path) -> None:
    (spool / "CRM.running").write_text("")
    (spool / "CRM.log").write_bytes("a\tb\nn\u00e4".encode()[:-1])
    with subprocess.Popen([sys.executable, "-m", "phd_daemon.cli.main", "log", "CRM", "-f"], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"a\tb\n"
        with (spool / "CRM.log").open("ab") as log:
            log.write("\u00e4".encode()[1:])
        os.rename(spool / "CRM.running", spool / "CRM.done")
        assert child.stdout.read() == "n\u00e4".encode()


@pytest.mark.parametrize("daemon_is_there", [True, False])
def test_the_last_word_of_a_cancelled_worker_is_waited_for_but_not_for_ever(
    spool: Path, monkeypatch: pytest.MonkeyPatch, capsys: Say, daemon_is_there: bool
) -> None:
    status = JobStatus(job="CRM", state="running", submitter="", delta="", restore_to="", priority=5, accepted_at=0, pid=7)
    write_status(spool / "CRM.status", status, durable_now=False)
    (spool / "CRM.log").write_text("restoring\n")
    (spool / "CRM.cancelled").write_text("")
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if daemon_is_there:
            (spool / "CRM.log").write_text("restoring\ncancelled\n")
            outcome = Outcome(attempt=1, result=Result.CANCELLED, exit_code=130, reason="cancelled", finished_at=1.0)
            write_status(spool / "CRM.status", status.with_(outcome=outcome, pid=None), durable_now=False)

    monkeypatch.setattr("phd_daemon.operations.follow.time.sleep", sleep)
    assert run(["log", "CRM", "-f"]) == 0
    assert capsys.readouterr().out == ("restoring\ncancelled\n" if daemon_is_there else "restoring\n")
    assert len(slept) == 1 if daemon_is_there else 5 <= sum(slept) < 6


def test_control_c_leaves_the_viewer_only(spool: Path) -> None:
    (spool / "CRM.running").write_text("")
    (spool / "CRM.log").write_text("line\n")
    command = [sys.executable, "-m", "phd_daemon.cli.main", "log", "CRM", "-f"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"line\n"
        child.send_signal(2)
        _, said = child.communicate()
    assert (child.returncode, said) == (0, b"")
    assert names(spool) == ["CRM.log", "CRM.running"]


def test_hold_release_cancel_retry_are_renames(spool: Path, capsys: Say) -> None:
    (spool / "a.job").write_text("")
    for command, name in (("hold", "a.held"), ("release", "a.job"), ("cancel", "a.cancelled"), ("retry", "a.job")):
        assert run([command, "a"]) == 0
        assert names(spool) == [name]
    os.rename(spool / "a.job", spool / "a.running")
    assert run(["hold", "a", "b"]) == ExitCode.USAGE
    assert run(["cancel", "a"]) == 0
    assert names(spool) == ["a.cancelled"]
    said = capsys.readouterr().err
    assert "a cannot be held: it is running" in said
    assert "b cannot be held: there is no such job" in said


def test_retry_beside_a_waiting_job_of_the_same_name_says_that_there_are_two(spool: Path, capsys: Say) -> None:
    for name in ("a.failed", "a.job"):
        (spool / name).write_text("")
    assert run(["retry", "a"]) == ExitCode.USAGE
    said = capsys.readouterr().err
    assert "a cannot be tried again: another job of that name is waiting (a.job exists already)" in said
    assert "'phd cancel a'" in said


def test_one_job_that_cannot_be_does_not_keep_the_others(spool: Path) -> None:
    (spool / "b.job").write_text("")
    assert run(["hold", "a", "b"]) == ExitCode.USAGE
    assert names(spool) == ["b.held"]


def test_clean_removes_finished_jobs_and_nothing_else(spool: Path, capsys: Say) -> None:
    for name in ("a.done", "a.log", "a.status", "b.running", "b.log", "c.failed", "d.job"):
        (spool / name).write_text("")
    assert run(["clean", "b"]) == ExitCode.USAGE
    assert run(["clean", "--older-than", "1"]) == 0
    assert "c.failed" in names(spool)
    assert run(["clean", "c"]) == 0
    assert "c.failed" not in names(spool)
    assert run(["clean"]) == 0
    assert names(spool) == ["b.log", "b.running", "d.job"]
    assert run(["clean", "--older-than", "1", "d"]) == ExitCode.USAGE
    capsys.readouterr()


def test_priority(spool: Path, capsys: Say) -> None:
    assert submit("--priority", "5") == 0
    capsys.readouterr()
    assert run(["priority", "CRM", "0"]) == 0
    assert capsys.readouterr().out == "CRM: priority 0 (was 5)\n"
    assert parse_control_file((spool / "CRM.job").read_bytes()).priority == 0
    assert run(["priority", "CRM", "0"]) == 0
    assert capsys.readouterr().out == "CRM: priority 0, as it was\n"
    assert run(["priority", "CRM", "10"]) == ExitCode.USAGE
    assert run(["priority", "nobody", "1"]) == ExitCode.USAGE
    assert "there is no such job" in capsys.readouterr().err


def test_the_name_of_a_job_forges_no_line(spool: Path, capsys: Say) -> None:
    (spool / "new\nline.job").write_text("")
    assert run(["hold", "new\nline"]) == 0
    assert run(["release", "new%0Aline"]) == 0
    assert capsys.readouterr().out == "new%0Aline: held\nnew%0Aline: waits again\n".replace("waits again", "released")
