"""A pass over real archives, a real spool and real files; and with a real daemon, until the disks are there."""

from __future__ import annotations

import datetime as dt
import fcntl
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from phd_daemon.cli.main import run
from phd_daemon.config.load import load_config
from phd_daemon.config.model import Config
from phd_daemon.replication import one_pass, pass_record
from phd_daemon.replication.schedule import last_start, start_file
from phd_daemon.show.rules import rule_row
from phd_daemon.spool.control_file import parse_control_file
from phd_daemon.spool.requests import drop
from restore_core.backup.run import BackupOptions, BackupReporter, backup
from restore_core.backup.subject import Asked
from restore_core.errors import ExitCode, TryAgainLater
from restore_core.replication.ledger import read_ledger
from restore_core.replication.selection import Verdict
from restore_core.restore.request import OURS
from restore_core.targets.kinds import make_target
from tests.rights import of_no_more_than_a_user

UUID = "564d122a-0ed7-3b92-2f46-aee9456b2074"
PATIENCE = 30.0
Say = pytest.CaptureFixture[str]


class Site:
    """One host: a configuration, a spool, a datastore; targets that hosts may share."""

    def __init__(self, root: Path, *, targets: Path | None = None, name: str = "here", zone: str = "UTC") -> None:
        self.root, self.targets, self.zone = root / name, targets or root / "targets", zone
        self.spool, self.store = self.root / "restore", self.root / "volumes" / "ISCSI02"
        for folder in (self.spool, self.store, self.targets / "nas1"):
            folder.mkdir(parents=True, exist_ok=True)
        self.spool.chmod(0o700)
        self.rules_file, self.ledger_file = self.root / "vmdks.auto", self.root / "restored.log"
        self.configure()

    def configure(self, replication: str = "", *, targets: tuple[str, ...] = ("nas1",)) -> Config:
        named = "".join(f'[targets.{name}]\nurl = "file://{self.targets}/{name}"\ntimezone = "{self.zone}"\n' for name in targets)
        path = self.root / "phd.toml"
        path.write_text(
            f'state_dir = "{self.root}/state"\n[queue]\nspool = "{self.spool}"\n'
            f'[replication]\nrules = "{self.rules_file}"\nledger = "{self.ledger_file}"\n'
            f'default_datastore = "{self.store}"\n{replication}\n'
            f'[datastores]\nroots = ["{self.store.parent}"]\n{named}'
        )
        self.config = load_config(path)
        return self.config

    def rules(self, *lines: str) -> None:
        self.rules_file.write_text("".join(f"{line}\n" for line in lines))
        old = time.time() - 60
        os.utime(self.rules_file, (old, old))

    def rule(self, to: str = "ronzo/CRM.vmdk", *, days: str = "", vm: str = "CRM", vmdk: str = "CRM.vmdk") -> str:
        return f"RESTORE:{vm}|{UUID}|00|{vmdk}|{self.store}/{to}{'|' + days if days else ''}"

    def backup(self, data: bytes, at: str, *, target: str = "nas1", vm: str = "CRM", full: bool = False) -> None:
        disk = self.root / f"{vm}.img"
        disk.write_bytes(data)
        time_of = dt.datetime.fromisoformat(at).replace(tzinfo=dt.UTC)
        asked = Asked(vm=vm, uuid=UUID, scsi="00")
        options = BackupOptions(asked=asked, full=full, at=time_of, scratch=self.root)
        spec = next(spec for spec in self.config.targets if spec.name == target)
        backup(disk, make_target(spec), options, BackupReporter())

    def run(self) -> pass_record.Pass:
        return one_pass.run_pass(self.config, wait=False)

    def restored_by_hand(self) -> int:
        (archive,) = (path for path in self.targets.rglob("*.delta-2026.03.01*"))
        where, config = self.store / "ronzo" / "CRM.vmdk", self.root / "phd.toml"
        return run(["restore", f"nas1:{archive.parent.name}/{archive.name}", "--to", str(where), "--config", str(config)])

    def verdicts(self) -> list[Verdict]:
        return [one.verdict for one in self.run().findings.decisions]

    def names(self, *suffixes: str) -> list[str]:
        wanted = suffixes or ("job", "held", "running", "done", "failed", "rejected", "cancelled")
        return sorted(path.name for path in self.spool.iterdir() if path.name.rpartition(".")[2] in wanted)


def disk(seed: int, size: int = 512_000) -> bytes:
    return (bytes([seed]) * 1000 + os.urandom(1000)) * (size // 2000)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = Site(tmp_path)
    site.backup(disk(1), "2026-03-01 03:00")
    site.backup(disk(2), "2026-03-02 03:00")
    site.rules(site.rule(vmdk="CRM.img"))
    return site


def test_a_pass_queues_the_newest_backup_and_only_once(site: Site) -> None:
    done = site.run()
    assert [one.verdict for one in done.findings.decisions] == [Verdict.RESTORE]
    (name,) = site.names()
    assert name.startswith("auto-CRM-2026.03.02-0300-")
    assert name.endswith(".job")
    control = parse_control_file((site.spool / name).read_bytes())
    assert control.delta.name.startswith("00-CRM.img.delta-2026.03.02-0300")
    assert (control.restore_to, control.options.overwrite) == (site.store / "ronzo/CRM.vmdk", OURS)
    assert control.note == "replication, line 1 of vmdks.auto"
    assert done.jobs == {1: name.removesuffix(".job")}
    assert site.verdicts() == [Verdict.QUEUED]
    assert len(site.names()) == 1


def test_the_record_of_a_pass(site: Site) -> None:
    site.rules(site.rule(vmdk="CRM.img"), "nonsense", site.rule("x.vmdk", vmdk="CRM.img", days="-9999"))
    began = time.time()
    done = site.run()
    assert done.summary().startswith(
        "pass: 2 rules, 1 matched, 1 queued, 0 up to date, 1 skipped (1 too new), 1 target, 1 bad line in the rules, "
    )
    (record,) = [json.loads(line) for line in pass_record.record_file(site.config.state_dir).read_text().splitlines()]
    assert (record["rules"], record["matched"], record["queued"], record["dry_run"]) == (2, 1, 1, False)
    first, second = record["decisions"]
    assert (first["line"], first["verdict"], first["job"], first["lag_seconds"]) == (1, "restore", done.jobs[1], None)
    assert (second["line"], second["verdict"], second["job"]) == (3, "too new", None)
    assert record["problems"] == [
        {"line": 2, "column": 1, "message": "this is not a rule: a line starts with RESTORE:, USE_DAYS= or #"}
    ]
    assert record["targets"] == [{"name": "nas1", "archives": 3, "problem": ""}]
    started = last_start(start_file(site.config.state_dir))
    assert started is not None
    assert began - 1 <= started <= time.time()
    assert one_pass.exit_code(done) is ExitCode.BAD_DATA


def test_the_record_is_bounded(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pass_record, "_MOST_BYTES", 3000)
    monkeypatch.setattr(pass_record, "_KEPT_BYTES", 1500)
    for _ in range(9):
        site.run()
    path = pass_record.record_file(site.config.state_dir)
    assert path.stat().st_size <= 3000
    assert all(json.loads(line)["rules"] == 1 for line in path.read_text().splitlines())


def test_a_dry_run_shows_everything_and_does_nothing(site: Site) -> None:
    done = one_pass.dry_run(site.config)
    assert [one.verdict for one in done.findings.decisions] == [Verdict.RESTORE]
    assert "1 would be queued" in done.summary()
    assert site.names() == []
    left = sorted(path.name for path in (site.root / "state").iterdir())
    assert left == ["catalog"]


def test_a_storm_arrives_held(site: Site) -> None:
    site.configure("storm_limit = 2")
    site.rules(*(site.rule(f"{number}.vmdk", vmdk="CRM.img") for number in range(3)))
    done = site.run()
    assert [name.rpartition(".")[2] for name in site.names()] == ["held"] * 3
    assert "3 queued (3 held)" in done.summary()
    assert b"held: more new restores than storm_limit" in (site.spool / site.names()[0]).read_bytes()
    assert site.verdicts() == [Verdict.QUEUED] * 3


def test_one_failing_target_stops_no_other(site: Site) -> None:
    (site.targets / "nas2").mkdir()
    site.configure(targets=("nas1", "nas2"))
    site.backup(disk(3), "2026-03-03 03:00", target="nas2", vm="Mail", full=True)
    site.rules(site.rule(vmdk="CRM.img"), site.rule("Mail.vmdk", vm="Mail", vmdk="Mail.img"))
    site.run()
    for name in site.names():
        (site.spool / name).unlink()
    (site.targets / "nas2").rename(site.targets / "unmounted")
    done = site.run()
    assert [one.verdict for one in done.findings.decisions] == [Verdict.RESTORE, Verdict.SILENT]
    assert "2 targets (1 silent)" in done.summary()
    assert "2 matched (1 not seen now)" in done.summary()
    seen = [rule_row(one, {}, dry_run=True, silent=done.findings.silent)[4] for one in done.findings.decisions]
    assert [text.endswith("(not seen now)") for text in seen] == [False, True]
    assert one_pass.exit_code(done) is ExitCode.UNAVAILABLE
    (site.targets / "unmounted").rename(site.targets / "nas2")
    assert site.verdicts() == [Verdict.QUEUED, Verdict.RESTORE]


def test_a_rule_that_cannot_be_queued_stops_no_other(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.rules(site.rule("a.vmdk", vmdk="CRM.img"), site.rule("b.vmdk", vmdk="CRM.img"))
    real = drop

    def no_room(*_arguments: object, **_keys: object) -> str | None:
        monkeypatch.setattr(one_pass, "drop", real)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(one_pass, "drop", no_room)
    done = site.run()
    assert [*done.jobs] == [2]
    assert "No space left" in done.refused[1]


def test_rules_that_became_unreadable_keep_the_last_good_ones(site: Site) -> None:
    site.run()
    (site.spool / site.names()[0]).unlink()
    for breakage in (lambda: site.rules_file.write_bytes(b"\0\0\0"), site.rules_file.unlink, site.rules_file.mkdir):
        breakage()
        if site.rules_file.is_file():
            os.utime(site.rules_file, (1e9, 1e9))
        done = site.run()
        assert len(done.findings.decisions) == 1
        assert "the last good rules are followed, those of 20" in done.findings.notes[0]
        assert one_pass.exit_code(done) is ExitCode.BAD_DATA
    site.rules_file.rmdir()
    (site.root / "state/vmdks.auto.good").unlink()
    assert site.run().findings.decisions == ()
    site.rules_file.mkdir()
    with pytest.raises(TryAgainLater, match="Is a directory"):
        site.run()


def test_a_rules_file_that_is_being_saved_is_waited_for(site: Site) -> None:
    whole = site.rules_file.read_text()
    site.rules_file.write_text(whole[:-8])

    def finish() -> None:
        time.sleep(0.5)
        site.rules_file.write_text(whole)

    pid = os.fork()
    if pid == 0:
        finish()
        os._exit(0)
    done = site.run()
    os.waitpid(pid, 0)
    assert [one.rule.destination.name for one in done.findings.decisions] == ["CRM.vmdk"]


def test_a_ledger_that_cannot_be_read_stops_the_pass(site: Site) -> None:
    site.ledger_file.mkdir()
    with pytest.raises(TryAgainLater, match="is no regular file"):
        site.run()
    assert site.names() == []


def test_bad_lines_of_the_ledger_are_reported(site: Site) -> None:
    site.ledger_file.write_text("2026-03-01T00:00:00Z|nas1:x|/y|z|0000000000000000\n")
    done = site.run()
    assert [one.verdict for one in done.findings.decisions] == [Verdict.RESTORE]
    assert "1 bad line in the ledger" in done.summary()
    assert one_pass.exit_code(done) is ExitCode.BAD_DATA


def test_one_pass_at_a_time(site: Site) -> None:
    (site.root / "state").mkdir()
    with (site.root / "state/replicate.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(TryAgainLater, match="running already"):
            site.run()
        program = [sys.executable, "-m", "phd_daemon.replication.one_pass", str(site.root / "phd.toml")]
        ran = subprocess.run(program, capture_output=True, text=True, check=False)
        assert (ran.returncode, ran.stdout) == (ExitCode.TRY_AGAIN, "no pass: a replication pass is running already\n")
    ran = subprocess.run(program, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout.startswith("pass: 1 rule, 1 matched, 1 queued")) == (0, True)


def test_a_disk_that_we_never_wrote_is_left_alone(site: Site) -> None:
    (site.store / "ronzo").mkdir()
    (site.store / "ronzo/CRM-flat.vmdk").write_bytes(b"somebody's work")
    assert site.verdicts() == [Verdict.DIVERGED]
    assert site.names() == []


def test_the_hour_that_comes_twice(tmp_path: Path) -> None:
    """02:50 before and 02:10 after the clocks went back: the second is the newer one, and only its header knows."""
    site = Site(tmp_path, zone="Europe/Vienna")
    site.backup(disk(1), "2026-10-25 00:50")
    site.backup(disk(2), "2026-10-25 01:10")
    site.rules(site.rule(vmdk="CRM.img"))
    (decision,) = site.run().findings.decisions
    assert decision.wanted == dt.datetime(2026, 10, 25, 1, 10, tzinfo=dt.UTC)
    assert decision.entry is not None
    assert "2026.10.25-0210" in decision.entry.ref.name


def test_backups_made_within_one_minute_are_not_taken_for_the_future(tmp_path: Path) -> None:
    site = Site(tmp_path)
    now = dt.datetime.now(dt.UTC)
    for ago in (3, 2, 1):
        site.backup(disk(ago), f"{now - dt.timedelta(seconds=ago):%Y-%m-%d %H:%M:%S}")
    site.rules(site.rule(vmdk="CRM.img"))
    (decision,) = site.run().findings.decisions
    assert decision.entry is not None
    newest = max(path.name for path in (site.targets / "nas1").rglob("*.delta-*.phd"))
    assert (decision.entry.ref.name, decision.warnings) == (newest, ())


def test_forty_rules_over_two_hundred_backups(site: Site) -> None:
    within = site.targets / "nas1" / f"2026.03.02-CRM.{UUID}"
    (delta,) = within.iterdir()
    days = [dt.date(2025, 1, 1) + dt.timedelta(days=day) for day in range(200)]
    for day in days:
        folder = site.targets / "nas1" / f"{day:%Y.%m.%d}-Web.{UUID}"
        folder.mkdir()
        os.link(delta, folder / f"00-Web.vmdk.delta-{day:%Y.%m.%d}-0300-250101-0300.phd")
    site.configure("storm_limit = 99")
    site.rules(*(site.rule(f"{number}/Web.vmdk", vm="Web", vmdk="Web.vmdk", days=f"-{number}") for number in range(400, 440)))
    done = site.run()
    assert len(done.jobs) == 40
    for decision in done.findings.decisions:
        assert decision.wanted is not None
        latest = done.findings.now - dt.timedelta(days=decision.rule.days)
        assert decision.wanted <= latest
        assert decision.wanted.date() == days[-1] or latest - decision.wanted < dt.timedelta(days=1)


class Running:
    """`phd daemon` of one site."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.said = (site.root / "daemon.said").open("a")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "phd_daemon.cli.main", "daemon", "--config", str(site.root / "phd.toml")],
            stderr=self.said,
            stdout=subprocess.DEVNULL,
        )

    def until(self, true: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE
        while not true():
            assert self.process.poll() is None, (self.site.root / "daemon.said").read_text()
            assert time.monotonic() < end, f"{self.site.names()}\n{(self.site.root / 'daemon.said').read_text()}"
            time.sleep(0.05)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE)
        self.said.close()


@pytest.fixture
def daemons() -> Iterator[Callable[[Site], Running]]:
    running: list[Running] = []

    def start(site: Site) -> Running:
        running.append(Running(site))
        return running[-1]

    yield start
    for one in running:
        one.stop()


def test_a_daemon_replicates_by_itself(tmp_path: Path, daemons: Callable[[Site], Running], capsys: Say) -> None:
    """The seed's two lines on one host: the newest, and one at least three days old. Then a refresh, and what an admin may do."""
    site = Site(tmp_path)
    now = dt.datetime.now(dt.UTC)
    contents = {days: disk(days) for days in (5, 4, 1)}
    for days, content in contents.items():
        site.backup(content, f"{now - dt.timedelta(days=days):%Y-%m-%d %H:%M}")
    newest, older = site.store / "ronzo/CRM-flat.vmdk", site.store / "caleb/CRM-flat.vmdk"
    site.rules(site.rule(vmdk="CRM.img"), site.rule("caleb/CRM.vmdk", vmdk="CRM.img", days="-3"))
    daemon = daemons(site)
    daemon.until(lambda: len(site.names("done")) == 2)
    assert (newest.read_bytes(), older.read_bytes()) == (contents[1], contents[4])
    assert len(read_ledger(site.ledger_file).lines) == 2
    config = ["--config", str(site.root / "phd.toml")]
    assert run(["replicate", *config]) == 0
    assert "2 up to date" in capsys.readouterr().out

    today = disk(7)
    site.backup(today, f"{now - dt.timedelta(minutes=5):%Y-%m-%d %H:%M}")
    daemon.process.send_signal(signal.SIGHUP)
    daemon.until(lambda: len(site.names("done")) == 3)
    assert newest.read_bytes() == today
    assert older.read_bytes() == contents[4]

    site.ledger_file.unlink()
    assert run(["replicate", *config]) == 0
    daemon.until(lambda: len(site.names("running", "job", "held")) == 0)
    assert len(read_ledger(site.ledger_file).lines) == 2
    assert site.names("failed") == []

    newest.write_bytes(b"started in an emergency")
    site.backup(disk(8), f"{now - dt.timedelta(minutes=2):%Y-%m-%d %H:%M}")
    capsys.readouterr()
    assert run(["replicate", *config]) == 0
    assert "diverged" in capsys.readouterr().out
    assert newest.read_bytes() == b"started in an emergency"

    for path in older.parent.iterdir():
        path.unlink()
    assert run(["replicate", *config]) == 0
    said = capsys.readouterr().out
    assert "gone" in said
    assert "delete its lines in the ledger" in said
    assert not older.exists()


def test_two_hosts_follow_one_target(tmp_path: Path, daemons: Callable[[Site], Running]) -> None:
    one, two = Site(tmp_path, name="one"), Site(tmp_path, name="two")
    content = disk(1)
    one.backup(content, "2026-03-01 03:00")
    for site in (one, two):
        site.rules(site.rule(vmdk="CRM.img"))
    running = [daemons(one), daemons(two)]
    for daemon in running:
        daemon.until(lambda site=daemon.site: len(site.names("done")) == 1)  # type: ignore[misc]  # bound at once
        assert (daemon.site.store / "ronzo/CRM-flat.vmdk").read_bytes() == content


def test_a_damaged_backup_falls_back_only_when_asked(tmp_path: Path, daemons: Callable[[Site], Running], capsys: Say) -> None:
    site = Site(tmp_path)
    good = disk(1)
    site.backup(good, "2026-03-01 03:00")
    site.backup(disk(2), "2026-03-02 03:00")
    (delta,) = (site.targets / "nas1" / f"2026.03.02-CRM.{UUID}").iterdir()
    whole = bytearray(delta.read_bytes())
    whole[-2000] ^= 4
    delta.write_bytes(whole)
    os.utime(delta, (1e9, 1e9))
    site.rules(site.rule(vmdk="CRM.img"))
    daemon = daemons(site)
    daemon.until(lambda: len(site.names("failed")) == 1)
    (log,) = [path.read_text() for path in site.spool.glob("auto-*.log")]
    assert "The archive is damaged" in log, log
    config = ["--config", str(site.root / "phd.toml")]
    assert run(["replicate", *config]) == 0
    assert "not again before" in capsys.readouterr().out
    assert not (site.store / "ronzo/CRM-flat.vmdk").exists()
    site.configure("fall_back_to_older = true")
    assert run(["replicate", *config]) == 0
    assert "failed its check, so the next older one is taken" in capsys.readouterr().out
    daemon.until(lambda: len(site.names("done")) == 1)
    assert (site.store / "ronzo/CRM-flat.vmdk").read_bytes() == good


def test_a_vanished_newest_backup_takes_the_replica_nowhere(
    tmp_path: Path, daemons: Callable[[Site], Running], capsys: Say
) -> None:
    """The newest backup was moved away: the replica was rolled back to the one before, and "up to date" when the file returned."""
    site = Site(tmp_path)
    now = dt.datetime.now(dt.UTC)
    old, new = disk(1), disk(2)
    site.backup(old, f"{now - dt.timedelta(hours=30):%Y-%m-%d %H:%M}")
    site.backup(new, f"{now - dt.timedelta(minutes=20):%Y-%m-%d %H:%M}")
    site.rules(site.rule(vmdk="CRM.img"))
    replica = site.store / "ronzo/CRM-flat.vmdk"
    daemon = daemons(site)
    daemon.until(lambda: len(site.names("done")) == 1)
    assert replica.read_bytes() == new
    config = ["--config", str(site.root / "phd.toml")]
    (newest,) = (site.targets / "nas1").rglob(f"*.delta-{now - dt.timedelta(minutes=20):%Y.%m.%d-%H%M}-*.phd")
    newest.rename(tmp_path / "moved-away")

    assert run(["replicate", *config]) == 0
    said = capsys.readouterr().out
    daemon.until(lambda: not site.names("job", "held", "running"))
    assert replica.read_bytes() == new
    assert len(site.names("done")) == 1
    assert "is the newest on the targets, that of" in said
    assert "is here (OLDER)" in said
    assert "0 up to date, 1 skipped (1 OLDER)" in said
    record = json.loads(pass_record.record_file(site.config.state_dir).read_text().splitlines()[-1])
    assert record["decisions"][0]["verdict"] == "OLDER"
    for command in (["rules", "check"], ["replicate", "--dry-run"], ["doctor"]):
        run([*command, *config])
        assert "OLDER" in capsys.readouterr().out, command

    (tmp_path / "moved-away").rename(newest)
    assert run(["replicate", *config]) == 0
    assert "1 up to date" in capsys.readouterr().out
    assert replica.read_bytes() == new


def test_an_older_backup_restored_by_hand_stays_until_a_newer_one_comes(
    tmp_path: Path, daemons: Callable[[Site], Running], capsys: Say
) -> None:
    """It was called "up to date" with a backup that was not there any more, and other days took it back further."""
    site = Site(tmp_path)
    now = dt.datetime.now(dt.UTC)
    contents = {hours: disk(hours) for hours in (80, 55, 1)}
    for hours, content in contents.items():
        site.backup(content, f"{now - dt.timedelta(hours=hours):%Y-%m-%d %H:%M}")
    site.rules(site.rule(vmdk="CRM.img"))
    replica = site.store / "ronzo/CRM-flat.vmdk"
    daemon = daemons(site)
    daemon.until(lambda: len(site.names("done")) == 1)
    config = ["--config", str(site.root / "phd.toml")]

    (older,) = (site.targets / "nas1").rglob(f"*.delta-{now - dt.timedelta(hours=55):%Y.%m.%d-%H%M}-*.phd")
    assert run(["restore", str(older), "--to", str(site.store / "ronzo/CRM.vmdk"), "--overwrite", *config]) == 0
    assert replica.read_bytes() == contents[55]
    capsys.readouterr()
    assert run(["replicate", *config]) == 0
    said = capsys.readouterr().out
    assert "0 up to date, 1 skipped (1 OLDER)" in said
    assert "which was restored before): it is kept until one newer than" in said

    site.rules(site.rule(vmdk="CRM.img", days="-3"))
    assert run(["replicate", *config]) == 0
    said = capsys.readouterr().out
    until = now - dt.timedelta(hours=55) + dt.timedelta(days=3)
    assert f"is here (OLDER): ahead of its rule until {until:%Y-%m-%d %H:%M} UTC" in said

    site.rules(site.rule(vmdk="CRM.img"))
    newer = disk(9)
    site.backup(newer, f"{now - dt.timedelta(minutes=10):%Y-%m-%d %H:%M}")
    assert run(["replicate", *config]) == 0
    daemon.until(lambda: len(site.names("done")) == 2)
    assert replica.read_bytes() == newer


def test_up_to_date_is_said_of_nothing_else(tmp_path: Path, daemons: Callable[[Site], Running]) -> None:
    """The folder of a replica is moved, its descriptor removed, something else put there: each was "up to date", or rolled back."""
    site = Site(tmp_path)
    site.backup(disk(1), "2026-03-01 03:00")
    site.rules(site.rule(vmdk="CRM.img"))
    daemons(site).until(lambda: len(site.names("done")) == 1)
    assert site.verdicts() == [Verdict.CURRENT]
    (site.store.parent / "nice-name").symlink_to(site.store.name)  # the same disk by another path
    site.rules(site.rule("../nice-name/ronzo/CRM.vmdk", vmdk="CRM.img").replace("ISCSI02/../", ""))
    assert site.verdicts() == [Verdict.CURRENT]
    folder = site.store / "ronzo"

    (folder / "CRM.vmdk").rename(tmp_path / "descriptor")
    assert site.verdicts() == [Verdict.DIVERGED]
    (tmp_path / "descriptor").rename(folder / "CRM.vmdk")
    assert site.verdicts() == [Verdict.CURRENT]

    folder.rename(site.store / "moved")
    assert site.verdicts() == [Verdict.GONE]
    (row,) = [rule_row(one, {}, dry_run=True) for one in site.run().findings.decisions]
    assert row[4].endswith("on nas1"), "its backup is there: what is gone is the replica"
    assert row[5] == "replica is gone"
    (folder).mkdir()
    (folder / "CRM-flat.vmdk").write_bytes(b"somebody's work")
    assert site.verdicts() == [Verdict.DIVERGED]
    assert site.names("job", "held", "running") == []


def test_a_job_of_a_rule_that_waited_does_not_go_back_from_what_came_meanwhile(
    tmp_path: Path, daemons: Callable[[Site], Running]
) -> None:
    """A job waited (held, or for its target) while a person restored a newer backup: then it took the replica back."""
    site = Site(tmp_path)
    site.configure("storm_limit = 1")
    now = dt.datetime.now(dt.UTC)
    new = disk(2)
    site.backup(disk(1), f"{now - dt.timedelta(hours=30):%Y-%m-%d %H:%M}")
    site.rules(site.rule(vmdk="CRM.img"), site.rule("other/CRM.vmdk", vmdk="CRM.img"))
    daemon = daemons(site)
    daemon.until(lambda: len(site.names("held")) == 2)
    name = next(name for name in site.names("held") if "ronzo" in (site.spool / name).read_text()).removesuffix(".held")
    site.backup(new, f"{now - dt.timedelta(minutes=20):%Y-%m-%d %H:%M}")
    (newer,) = (site.targets / "nas1").rglob(f"*.delta-{now - dt.timedelta(minutes=20):%Y.%m.%d-%H%M}-*.phd")
    config = ["--config", str(site.root / "phd.toml")]
    assert run(["restore", str(newer), "--to", str(site.store / "ronzo/CRM.vmdk"), *config]) == 0

    assert run(["release", name, *config]) == 0
    daemon.until(lambda: site.names("failed", "done") != [])
    assert (site.store / "ronzo/CRM-flat.vmdk").read_bytes() == new
    assert site.names("failed") == [f"{name}.failed"]
    assert "a newer backup was restored there after this job was queued" in (site.spool / f"{name}.log").read_text()


@pytest.mark.parametrize("spool", [True, False])
def test_a_restore_by_hand_before_any_daemon_ran_is_recorded_and_known_to_the_rules(site: Site, spool: bool, capsys: Say) -> None:
    if not spool:
        site.spool.rmdir()
    assert site.restored_by_hand() == 0
    assert "not recorded" not in capsys.readouterr().err
    for folder in (site.spool, site.spool / ".state", site.spool / ".state" / "receipts"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert site.verdicts() == [Verdict.RESTORE]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make folders for another user")
def test_what_root_records_belongs_to_the_user_of_the_spool(site: Site) -> None:
    os.chown(site.spool, 1234, 1234)
    assert site.restored_by_hand() == 0
    made = [path.lstat() for path in site.spool.rglob("*")]
    assert len(made) == 4
    assert {(facts.st_uid, facts.st_gid) for facts in made} == {(1234, 1234)}


def test_a_user_who_may_not_record_a_restore_is_told_and_the_disk_is_restored(site: Site, capsys: Say) -> None:
    site.spool.chmod(0o500)
    with of_no_more_than_a_user():
        assert site.restored_by_hand() == 0
    said = capsys.readouterr()
    assert "this restore is not recorded" in said.out + said.err
    assert "Permission denied" in said.out + said.err
    assert (site.store / "ronzo" / "CRM.vmdk").exists()


def test_a_replica_that_a_backup_of_a_disk_from_elsewhere_would_replace_is_warned_of(site: Site) -> None:
    """A clone on another host may have every name of its original; only where its disk lay tells them apart."""
    assert site.restored_by_hand() == 0
    (same,) = one_pass.dry_run(site.config).findings.decisions
    assert (same.verdict, same.warnings) == (Verdict.RESTORE, ())
    root, site.root = site.root, site.root / "clone"
    site.root.mkdir()
    site.backup(disk(3), "2026-03-03 03:00")
    site.root = root
    (other,) = one_pass.dry_run(site.config).findings.decisions
    assert other.verdict is Verdict.RESTORE
    (said,) = other.warnings
    assert f"was {root}/CRM.img, and is {root}/clone/CRM.img" in said
