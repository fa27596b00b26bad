"""`phd doctor` over a whole installation: the exit code, the text, the document; and that it changes nothing."""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from phd_daemon.cli.main import run
from phd_daemon.doctor import machine, unit
from phd_daemon.spool.layout import Spool
from phd_daemon.spool.locks import PidLock
from phd_daemon.spool.safety import check_spool
from restore_core.errors import ExitCode
from restore_core.replication.ledger import LedgerLine, append_restore
from tests.phd_daemon.small_backup import SmallBackup, small_backup

Say = pytest.CaptureFixture[str]


class Site:
    """An installation without a fault, with one backup and one rule."""

    def __init__(self, root: Path) -> None:
        self.root, self.spool, self.store = root, root / "restore", root / "volumes" / "A"
        self.backup: SmallBackup = small_backup(root / "nas")
        for folder in (self.spool, self.store, root / "state"):
            folder.mkdir(parents=True, mode=0o700)
        check_spool(Spool(folder=self.spool))
        self.rules, self.ledger, self.config = root / "vmdks.auto", root / "restored.log", root / "phd.toml"
        self.rules.write_text(f"RESTORE:CRM|*|*|CRM.vmdk|{self.store}/CRM.vmdk\n")
        self.settings(f'[targets.nas1]\nurl = "file://{root}/nas"\n')

    def settings(self, more: str) -> None:
        self.config.write_text(
            f'state_dir = "{self.root}/state"\n[queue]\nspool = "{self.spool}"\n'
            f'[replication]\nrules = "{self.rules}"\nledger = "{self.ledger}"\ndefault_datastore = "{self.store}"\n'
            f'[datastores]\nroots = ["{self.store.parent}"]\n{more}'
        )
        self.config.chmod(0o600)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """One that a daemon serves, on a machine with room."""
    site = Site(tmp_path)
    monkeypatch.setenv("PHD_CONFIG", str(site.config))
    monkeypatch.setattr(unit, "BOOTED", tmp_path / "no-systemd")
    monkeypatch.setattr(machine, "nearly_full", lambda _: "")
    lock = PidLock(Spool(folder=site.spool).daemon_lock)
    lock.acquire()
    with lock:
        yield site


def found(say: Say, code: ExitCode = ExitCode.FINDINGS) -> list[str]:
    assert run(["doctor", "--json"]) == code
    document = json.loads(say.readouterr().out)
    return [one["check"] for one in document["findings"]]


@pytest.mark.usefixtures("site")
def test_nothing_to_mend(capsys: Say) -> None:
    assert run(["doctor"]) == ExitCode.DONE
    said = capsys.readouterr().out
    assert "nothing to mend was found" in said
    assert "ok: target nas1 answers" in said
    assert "ok: workers: " in said


def test_it_changes_nothing_but_the_cache(site: Site, capsys: Say) -> None:
    def seen() -> list[tuple[str, int]]:
        files = (
            path for path in site.root.rglob("*") if not {"catalog", "targets"} & set(path.parts) and path != site.root / "state"
        )
        return sorted((str(path), path.stat().st_mtime_ns) for path in files if path.is_file())

    before = seen()
    assert found(capsys, ExitCode.DONE) == []
    assert seen() == before


def test_a_finding_says_why_and_how_to_mend(site: Site, capsys: Say) -> None:
    site.rules.write_text(f"RESTORE:CRN|*|*|CRM.vmdk|{site.store}/CRM.vmdk\n")
    assert run(["doctor"]) == ExitCode.FINDINGS
    said = capsys.readouterr().out
    assert f"{site.rules}, line 1: CRN/CRM.vmdk" in said
    assert "[rule-matches-nothing]\n  why   " in said
    assert "\n  mend  'phd backups' shows" in said
    assert "1 thing to mend" in said


def test_settings_that_cannot_be_read(site: Site, capsys: Say) -> None:
    site.config.write_text("[queue]\nworkers = 99\n")
    assert found(capsys) == ["config-invalid"]


def test_a_target_that_is_gone_and_rules_that_are_wrong(site: Site, capsys: Say) -> None:
    assert found(capsys, ExitCode.DONE) == []
    (site.root / "nas").rename(site.root / "unmounted")
    site.rules.write_text(site.rules.read_text() + "RESTORE:what\n")
    assert found(capsys) == ["target-unreachable", "rule-bad"]


def test_a_replica_that_is_in_the_ledger_and_gone(site: Site, capsys: Say) -> None:
    restored = LedgerLine(
        time=dt.datetime(2026, 1, 1, tzinfo=dt.UTC), archive=site.backup.delta, destination=site.store / "CRM.vmdk", job="crm"
    )
    append_restore(site.ledger, restored)
    assert found(capsys) == ["replica-gone"]


def test_leftovers_but_not_those_of_a_waiting_job(site: Site, capsys: Say) -> None:
    part = site.store / "CRM-flat.vmdk.phd-new"
    part.touch()
    os.utime(part, (1, 1))
    assert found(capsys) == ["partial-file-stale"]
    (site.spool / "crm.held").write_text(f'delta = "{site.backup.delta}"\nrestore_to = "{site.store}/CRM.vmdk"\n')
    assert found(capsys, ExitCode.DONE) == []


def test_a_backup_from_the_future(site: Site, capsys: Say) -> None:
    ahead = site.backup.delta_path.with_name("00-CRM.vmdk.delta-2091.09.20-1601-910920-1601.phd")
    ahead.write_bytes(site.backup.delta_path.read_bytes())
    assert "clock-wrong" in found(capsys)


def test_no_room(capsys: Say, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    del site
    monkeypatch.setattr(machine, "nearly_full", lambda _: "1 MiB of 9 MiB are free")
    assert set(found(capsys)) == {"disk-nearly-full"}


def test_a_spool_that_is_not_there(site: Site, capsys: Say) -> None:
    text = site.config.read_text().replace(str(site.spool), str(site.root / "nothing"))
    site.config.write_text(text)
    assert found(capsys) == ["spool-unsafe", "daemon-down"]
    assert run(["doctor"]) == ExitCode.FINDINGS
    assert "not looked at: " in capsys.readouterr().out


def test_folders_that_are_not_there(site: Site, capsys: Say) -> None:
    for name in ("default_datastore", "roots"):
        old = f'default_datastore = "{site.store}"' if name == "default_datastore" else f'roots = ["{site.store.parent}"]'
        text = site.config.read_text()
        site.config.write_text(text.replace(old, old.replace(str(site.root), "/nowhere")))
        assert "datastore-missing" in found(capsys), name
        site.config.write_text(text)


def test_a_default_datastore_that_nobody_uses_is_no_finding(site: Site, capsys: Say) -> None:
    text = site.config.read_text()
    site.config.write_text(text.replace(f'default_datastore = "{site.store}"', ""))
    assert "datastore-missing" not in found(capsys, ExitCode.DONE)


def test_a_state_dir_that_can_be_none(site: Site, capsys: Say) -> None:
    text = site.config.read_text()
    (site.root / "a-file").touch()
    site.config.write_text(text.replace("/state", "/a-file/state"))
    assert "state-dir-unwritable" in found(capsys)
    site.config.write_text(text.replace("/state", "/not/yet"))
    assert found(capsys, ExitCode.DONE) == []


def test_a_rules_file_that_is_a_link_to_nothing(site: Site, capsys: Say) -> None:
    site.rules.unlink()
    site.rules.symlink_to("gone")
    assert "rule-bad" in found(capsys)
    assert run(["rules", "check"]) == ExitCode.TRY_AGAIN
    assert "a link to " in capsys.readouterr().err
