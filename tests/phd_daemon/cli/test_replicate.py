"""`phd replicate`, `phd rules check` and `phd rules load`: each rule with its decision and its reason, in words and as JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from phd_daemon.cli.main import run
from restore_core.errors import ExitCode

Say = pytest.CaptureFixture[str]
UUID = "564d122a-0ed7-3b92-2f46-aee9456b2074"
OTHER = "564d122a-0ed7-3b92-2f46-aee9456b9999"


def put(root: Path, folder: str, name: str) -> None:
    path = root / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    old = time.time() - 86400
    os.utime(path, (old, old))


def delta(stamp: str, disk: str = "CRM.vmdk", scsi: str = "00") -> str:
    return f"{scsi}-{disk}.delta-{stamp}-260101-0300.phd"


@pytest.fixture(autouse=True)
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "restore").mkdir(mode=0o700)
    (tmp_path / "volumes/A").mkdir(parents=True)
    (tmp_path / "phd.toml").write_text(
        f'state_dir = "{tmp_path}/state"\n[queue]\nspool = "{tmp_path}/restore"\n'
        f'[replication]\nrules = "{tmp_path}/vmdks.auto"\nledger = "{tmp_path}/restored.log"\n'
        f'default_datastore = "{tmp_path}/volumes/A"\n'
        f'[datastores]\nroots = ["{tmp_path}/volumes"]\n[targets.nas1]\nurl = "file://{tmp_path}/nas1"\n'
    )
    monkeypatch.setenv("PHD_CONFIG", str(tmp_path / "phd.toml"))
    put(tmp_path / "nas1", f"2026.01.01-CRM.{UUID}", delta("2026.01.01-0300"))
    put(tmp_path / "nas1", f"2026.01.02-CRM.{UUID}", delta("2026.01.02-0300"))
    put(tmp_path / "nas1", f"2026.01.02-CRM.{UUID}", delta("2026.01.02-0300", "CRM_1.vmdk", "01"))
    put(tmp_path / "nas1", "esx1", delta("2026.01.02-0300", "old.vmdk"))
    return tmp_path


def rules(site: Path, *lines: str) -> None:
    path = site / "vmdks.auto"
    path.write_text("".join(f"{line}\n" for line in lines))
    old = time.time() - 60
    os.utime(path, (old, old))


def rule(site: Path, to: str, *, uuid: str = UUID, vmdk: str = "CRM.vmdk", days: str = "") -> str:
    return f"RESTORE:CRM|{uuid}|*|{vmdk}|{site}/volumes/A/{to}{'|' + days if days else ''}"


def jobs(site: Path) -> list[str]:
    return sorted(path.name for path in (site / "restore").iterdir() if not path.name.startswith("."))


def test_a_pass_without_a_daemon(site: Path, capsys: Say) -> None:
    rules(site, rule(site, "CRM.vmdk"))
    assert run(["replicate"]) == 0
    said = capsys.readouterr()
    (job,) = jobs(site)
    assert job.endswith(".job")
    assert "CRM/CRM.vmdk" in said.out
    assert "the backup of 2026-01-02 03:00 UTC is not in the ledger" in said.out
    assert said.out.splitlines()[-1].startswith("pass: 1 rule, 1 matched, 1 queued, 0 up to date, 0 skipped, 1 target,")
    assert "no daemon serves the spool" in said.err


def test_a_dry_run_and_its_json(site: Path, capsys: Say) -> None:
    rules(site, rule(site, "CRM.vmdk"), rule(site, "b.vmdk", uuid=OTHER), "RESTORE:x")
    assert run(["replicate", "--dry-run"]) == ExitCode.BAD_DATA
    said = capsys.readouterr()
    assert "would be queued" in said.out
    assert "rules, line 3, column 10: the UUID is missing" in said.err
    assert jobs(site) == []
    assert run(["replicate", "--dry-run", "--json"]) == ExitCode.BAD_DATA
    found = json.loads(capsys.readouterr().out)
    assert (found["dry_run"], [one["verdict"] for one in found["decisions"]]) == (True, ["restore", "no backup"])


def test_rules_check_shows_valid_and_not_valid_lines_in_their_order(site: Path, capsys: Say) -> None:
    rules(site, "# mine", rule(site, "CRM.vmdk", days="-1"), "RESTORE:x", rule(site, "c.vmdk", vmdk="CRM_1.vmdk"))
    assert run(["rules", "check"]) == ExitCode.BAD_DATA
    said = capsys.readouterr()
    _titles, first, second, third = said.out.splitlines()
    assert first.startswith("valid")
    assert "would be queued" in first
    assert second.startswith("not valid, column 10  3")
    assert second.endswith("the UUID is missing: VM|UUID|SCSI|VMDK|PATH[|DAYS]")
    assert third.startswith("valid")
    assert said.err == ""
    assert jobs(site) == []
    assert not (site / "state/vmdks.auto.good").exists()
    rules(site, rule(site, "CRM.vmdk"))
    assert run(["rules", "check", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["decisions"][0]["verdict"] == "restore"


def test_rules_check_without_rules(site: Path, capsys: Say) -> None:
    assert run(["rules", "check"]) == 0
    assert "is not there: no rules" in capsys.readouterr().out
    rules(site, "# nothing")
    assert run(["rules", "check"]) == 0
    assert "holds no rule" in capsys.readouterr().out


def test_rules_load_appends_every_disk_once(site: Path, capsys: Say) -> None:
    rules(site, rule(site, "mine/CRM.vmdk"))
    before = (site / "vmdks.auto").read_text()
    assert run(["rules", "load"]) == 0
    assert "2 VMDKs added, commented out" in capsys.readouterr().out
    text = (site / "vmdks.auto").read_text()
    assert text == (
        before
        + f"#RESTORE:CRM|{UUID}|01|CRM_1.vmdk|{site}/volumes/A/CRM/CRM_1.vmdk\n"
        + f"#RESTORE:esx1|*|00|old.vmdk|{site}/volumes/A/esx1/old.vmdk\n"
    )
    for options in ([], ["--active"]):
        assert run(["rules", "load", *options]) == 0
        assert "0 VMDKs added\n" in capsys.readouterr().out
    assert (site / "vmdks.auto").read_text() == text


def test_rules_load_active_makes_rules_that_hold(site: Path, capsys: Say) -> None:
    assert run(["rules", "load", "--active"]) == 0
    assert run(["rules", "load", "--active"]) == 0
    assert run(["rules", "check"]) == 0
    assert capsys.readouterr().out.count("would be queued") == 3
    assert len((site / "vmdks.auto").read_text().splitlines()) == 3


def test_a_file_without_a_last_newline_keeps_its_last_line(site: Path) -> None:
    (site / "vmdks.auto").write_text("# no newline")
    assert run(["rules", "load"]) == 0
    assert (site / "vmdks.auto").read_text().splitlines()[0] == "# no newline"


def test_a_silent_target(site: Path, capsys: Say) -> None:
    rules(site, rule(site, "CRM.vmdk"))
    assert run(["index"]) == 0
    (site / "nas1").rename(site / "away")
    assert run(["replicate"]) == ExitCode.UNAVAILABLE
    said = capsys.readouterr()
    assert "target silent" in said.out
    assert "its last listing is used" in said.err
    assert run(["rules", "load"]) == ExitCode.UNAVAILABLE


def test_without_a_spool(site: Path, capsys: Say) -> None:
    (site / "restore").rmdir()
    assert run(["replicate"]) == ExitCode.CONFIGURATION
    assert "there is no such folder" in capsys.readouterr().err


def test_two_passes_at_once_queue_one_job(site: Path) -> None:
    rules(site, *(rule(site, f"{number}.vmdk") for number in range(8)))
    command = [sys.executable, "-m", "phd_daemon.cli.main", "replicate"]
    both = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(2)]
    assert [one.wait(60) for one in both] == [0, 0]
    assert len(jobs(site)) == 8


def test_a_pass_that_is_running_is_waited_for_and_that_is_said(site: Path, capsys: Say) -> None:
    rules(site, rule(site, "CRM.vmdk"))
    (site / "state").mkdir()
    program = "import fcntl, sys, time; fcntl.flock(sys.stdin, fcntl.LOCK_EX); print('locked', flush=True); time.sleep(0.5)"
    with (site / "state/replicate.lock").open("w+") as lock:
        command = [sys.executable, "-c", program]
        with subprocess.Popen(command, stdin=lock, stdout=subprocess.PIPE) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == b"locked\n"
            lock.close()
            assert run(["replicate"]) == 0
    assert "another pass is running: waiting" in capsys.readouterr().err
    assert len(jobs(site)) == 1


def test_a_rule_whose_job_is_queued_already(site: Path, capsys: Say) -> None:
    rules(site, rule(site, "CRM.vmdk"))
    run(["replicate"])
    capsys.readouterr()
    assert run(["replicate"]) == 0
    said = capsys.readouterr().out
    assert "  in the queue already  " in said
    assert " 0 queued, 0 up to date, 1 skipped (1 in the queue already)," in said
    assert run(["replicate", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["decisions"][0]["verdict"] == "queued"
