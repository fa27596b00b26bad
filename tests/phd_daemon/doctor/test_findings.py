"""Each thing the doctor looks for: found when it is there, not found when it is not."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from phd_daemon.doctor import datastores, leftovers, machine, rules, spool, targets, unit
from phd_daemon.doctor.finding import Finding
from phd_daemon.replication.pass_record import Findings
from phd_daemon.spool import safety
from phd_daemon.spool.layout import Spool
from phd_daemon.spool.locks import PidLock
from restore_core import mounts
from restore_core.catalog import CatalogEntry
from restore_core.catalog.entry import entry_of
from restore_core.disk.known_datastores import DatastoreRecord, learn
from restore_core.errors import ConfigurationError, TargetNotTrusted, TargetUnavailable
from restore_core.naming import delta_name, folder_name
from restore_core.replication.ledger import BadLine
from restore_core.replication.rules import Problem, Rule
from restore_core.replication.selection import JobPhase, QueuedJob, RuleDecision, Verdict
from restore_core.targets.base import ArchiveRef, FileStat, ServerLimits, Target, TargetSpec
from restore_core.targets.remote import secret

ROOT = Path(__file__).resolve().parents[3]
NOW = 1_800_000_000.0
DAY = 86400.0


def checks(found: Iterable[Finding]) -> list[str]:
    """The short names; and every finding says all there is to say."""
    listed = list(found)
    for one in listed:
        assert all((one.what, one.where, one.why, one.mend)), one
    return [one.check for one in listed]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "restore"
    made.mkdir(mode=0o700)
    return made


class TestSpool:
    def test_served_and_safe(self, folder: Path) -> None:
        place = Spool(folder=folder)
        safety.check_spool(place)
        lock = PidLock(place.daemon_lock)
        lock.acquire()
        with lock:
            report = spool.examine(folder, enabled=True)
            assert checks(report.findings) == []
            assert str(os.getpid()) in report.facts[0]
            assert checks(spool.examine(folder, enabled=False).findings) == ["queue-disabled"]

    def test_daemon_down(self, folder: Path) -> None:
        assert checks(spool.examine(folder, enabled=True).findings) == ["daemon-down"]

    def test_modes(self, folder: Path) -> None:
        for mode, unsafe in ((0o700, False), (0o3730, False), (0o1730, False), (0o770, True), (0o777, True), (0o1777, False)):
            folder.chmod(mode)
            found = checks(spool.examine(folder, enabled=True).findings)
            assert ("spool-unsafe" in found) is unsafe, oct(mode)

    def test_not_there_and_not_a_folder(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        for path in (tmp_path / "nothing", tmp_path / "file"):
            assert "spool-unsafe" in checks(spool.examine(path, enabled=True).findings)

    def test_a_spool_that_is_not_there_is_made_before_a_daemon_is_started(self, tmp_path: Path) -> None:
        missing, down = spool.examine(tmp_path / "nothing", enabled=True).findings
        assert checks([missing, down]) == ["spool-unsafe", "daemon-down"]
        assert "without it no job can be asked for" in missing.why
        assert down.mend.startswith("Make the spool first, then start it: ")

    def test_a_file_that_is_never_read_is_found_with_its_right_name(self, folder: Path) -> None:
        (folder / "two words.JOB").touch()
        (folder / "README").touch()
        found = spool.examine(folder, enabled=True).findings
        assert checks(found) == ["spool-misnamed", "daemon-down"]
        assert found[0].mend.endswith("mv -n 'two words.JOB' 'two words.job'")

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
    def test_owner_and_link_of_another(self, folder: Path, tmp_path: Path) -> None:
        link = tmp_path / "link"
        link.symlink_to(folder)
        assert "spool-unsafe" not in checks(spool.examine(link, enabled=True).findings)
        os.lchown(link, 65534, 65534)
        assert "spool-unsafe" in checks(spool.examine(link, enabled=True).findings)
        os.chown(folder, 65534, 65534)
        assert "spool-unsafe" in checks(spool.examine(folder, enabled=True).findings)

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
    def test_a_folder_above_it_that_belongs_to_another(self, tmp_path: Path) -> None:
        inner = tmp_path / "theirs" / "restore"
        inner.mkdir(parents=True)
        os.chown(inner.parent, 65534, 65534)
        found = spool.examine(inner, enabled=True).findings
        assert checks(found) == ["spool-unsafe", "daemon-down"]
        assert "theirs, above it, belongs to user 65534" in found[0].what

    def test_a_folder_above_it_that_others_may_write(self, tmp_path: Path) -> None:
        inner = tmp_path / "open" / "restore"
        inner.mkdir(parents=True)
        inner.parent.chmod(0o777)
        assert "spool-unsafe" in checks(spool.examine(inner, enabled=True).findings)
        inner.parent.chmod(0o1777)
        assert "spool-unsafe" not in checks(spool.examine(inner, enabled=True).findings)

    @pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs"])
    def test_network_file_system(self, folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
        monkeypatch.setattr(safety, "file_system", lambda _: kind)
        found = spool.examine(folder, enabled=True).findings
        assert any(kind in one.what for one in found)


class _Asked:
    """A target that answers, or raises."""

    def __init__(self, error: Exception | None) -> None:
        self._error = error

    def listing(self, _gaps: object = None) -> Iterator[None]:
        if self._error is not None:
            raise self._error
        return iter(())

    def close(self) -> None:
        pass


class TestDatastores:
    @staticmethod
    def look(record: DatastoreRecord) -> dict[str, Finding]:
        job = QueuedJob(
            name="crm",
            state="waiting",
            phase=JobPhase.ACTIVE,
            archive="a",
            destination=record.roots[0] / "DS1" / "vm" / "a.vmdk",
            finished=None,
            exit_code=None,
        )
        found = datastores.examine(record, [job]).findings
        checks(found)
        return {one.check: one for one in found}

    def test_each_that_is_not_there_as_it_was(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        record = DatastoreRecord(file=tmp_path / "record.json", roots=(tmp_path / "volumes",))
        store, other = record.roots[0] / "DS1", tmp_path / "other"
        store.mkdir(parents=True)
        other.mkdir()
        assert self.look(record) == {}
        learn(store, record)
        assert self.look(record) == {}
        (tmp_path / "fstab").write_text(f"nas:/x {store} nfs defaults\n")
        with monkeypatch.context() as patch:
            patch.setattr(mounts, "FSTAB", tmp_path / "fstab")
            assert "Waiting for it: crm." in self.look(record)["datastore-unmounted"].why
        store.rename(tmp_path / "away")
        assert "phd datastores forget DS1" in self.look(record)["datastore-gone"].mend
        store.symlink_to(other)
        assert "phd datastores accept DS1" in self.look(record)["datastore-changed"].mend
        record.file.write_text("{")
        assert list(self.look(record)) == ["datastore-record"]


class TestTargets:
    def test_each_answer(self) -> None:
        errors = {
            "good": None,
            "silent": TargetUnavailable("target silent: connection refused", remedy="Is it up?"),
            "changed": TargetNotTrusted("target changed: another host key", remedy="phd targets trust changed"),
        }
        specs = [TargetSpec(name=name, url="sftp://h/x") for name in errors]

        def make(spec: TargetSpec, _: ServerLimits) -> Target:
            return _Asked(errors[spec.name])  # type: ignore[return-value]  # as much of a target as is asked

        report = targets.reachable(specs, make)
        assert checks(report.findings) == ["target-unreachable", "host-key-unknown"]
        assert [one.where for one in report.findings] == ["targets.silent", "targets.changed"]
        assert report.facts == ("target good answers",)

    def test_real_ones(self, tmp_path: Path) -> None:
        (tmp_path / "there").mkdir()
        specs = [TargetSpec(name=name, url=f"file://{tmp_path}/{name}") for name in ("there", "gone")]
        closed = TargetSpec(name="closed", url="ftp://127.0.0.1:1/x")
        report = targets.reachable([*specs, closed])
        assert [one.where for one in report.findings] == ["targets.gone", "targets.closed"]
        assert checks(report.findings) == ["target-unreachable"] * 2

    def test_none_is_a_fact(self) -> None:
        assert targets.reachable([]).findings == ()

    def test_secrets(self, tmp_path: Path) -> None:
        key, hosts, settings = tmp_path / "key", tmp_path / "known_hosts", tmp_path / "phd.toml"
        for path in (key, hosts, settings):
            path.write_text("x")
            path.chmod(0o600)
        spec = TargetSpec(name="a", url="sftp://h/x", key_file=str(key), known_hosts=str(hosts))
        assert checks(targets.secrets([spec], settings).findings) == []
        key.chmod(0o640)
        assert checks(targets.secrets([spec], settings).findings) == ["secret-readable"]
        hosts.chmod(0o664)
        settings.chmod(0o666)
        assert checks(targets.secrets([spec], settings).findings) == ["secret-readable", "settings-writable", "settings-writable"]
        key.unlink()
        assert "secret-missing" in checks(targets.secrets([spec], None).findings)

    def test_what_whoever_asks_may_not_see_is_no_finding(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refused(path: str, key: str) -> int:
            raise ConfigurationError(f"{key}: {path}: Permission denied") from PermissionError()

        spec = TargetSpec(name="a", url="ftp://u@127.0.0.1:1/x", password_file=str(tmp_path / "password"))
        monkeypatch.setattr(secret, "_open", refused)
        for report in (targets.secrets([spec], None), targets.reachable([spec])):
            assert report.findings == ()
            assert "password" in report.unseen[0]


RULE = Rule(line=3, vm="CRM", uuid=None, scsi=None, vmdk="CRM.vmdk", destination=Path("/v/A/CRM.vmdk"), days=0)


def look(
    *verdicts: Verdict, problems: tuple[Problem, ...] = (), bad: tuple[BadLine, ...] = (), notes: tuple[str, ...] = ()
) -> Findings:
    return Findings(
        now=dt.datetime.now(dt.UTC),
        decisions=tuple(RuleDecision(rule=RULE, verdict=verdict, reason="why") for verdict in verdicts),
        problems=problems,
        bad_lines=bad,
        targets=(),
        notes=notes,
    )


class TestRules:
    def found(self, what: Findings) -> list[str]:
        return checks(rules.findings(what, rules="vmdks.auto", ledger="restored.log"))

    def test_verdicts(self) -> None:
        wrong = {
            Verdict.NO_BACKUP: "rule-matches-nothing",
            Verdict.AMBIGUOUS: "rule-ambiguous",
            Verdict.GONE: "replica-gone",
            Verdict.DIVERGED: "replica-diverged",
            Verdict.OLDER: "replica-older",
            Verdict.AHEAD: "replica-ahead",
        }
        for verdict in Verdict:
            assert self.found(look(verdict)) == ([wrong[verdict]] if verdict in wrong else []), verdict

    def test_a_disk_that_cannot_be_looked_at_is_no_finding(self) -> None:
        seen = look(Verdict.DIVERGED)
        blind = replace(seen, decisions=(replace(seen.decisions[0], unseen="may be read by root alone"),))
        assert self.found(blind) == []
        assert rules.unseen(blind) == ("/v/A/CRM.vmdk: may be read by root alone",)
        assert rules.unseen(seen) == ()

    def test_lines(self) -> None:
        assert self.found(look(problems=(Problem(line=1, column=2, message="no"),))) == ["rule-bad"]
        assert self.found(look(bad=(BadLine(number=1, why="torn"),))) == ["ledger-line-bad"]
        assert self.found(look(notes=("the last good rules are followed",))) == ["rule-bad"]

    def test_backups_from_the_future(self) -> None:
        now = dt.datetime(2026, 3, 1, 3, 0, tzinfo=dt.UTC)

        def entry(hours: float) -> CatalogEntry:
            stamp = now + dt.timedelta(hours=hours)
            folder = folder_name(date=stamp.date(), vm="CRM", uuid="564d122a-0ed7-3b92-2f46-aee9456b2074")
            name = delta_name(scsi="00", disk="CRM.vmdk", stamp=stamp, base=stamp)
            made = entry_of(ArchiveRef(target="nas1", path=f"{folder}/{name}"), FileStat(size=1, mtime=0), dt.UTC)  # type: ignore[arg-type]  # any zone will do
            assert made is not None
            return made

        assert checks(rules.from_the_future([entry(-1), entry(0.5)], now)) == []
        (one,) = rules.from_the_future([entry(-1), entry(48), entry(49)], now)
        assert (one.check, one.where) == ("clock-wrong", "targets.nas1")
        assert one.what.startswith("2 of its backups")


class TestLeftovers:
    @pytest.mark.parametrize(
        ("name", "check"),
        [
            ("CRM-flat.vmdk.phd-new", "partial-file-stale"),
            ("CRM-flat.vmdk.phd-redo-part", "partial-file-stale"),
            (".phd-0123456789abcdef.tmp", "partial-file-stale"),
            ("CRM-flat.vmdk.phd-redo", "refresh-interrupted"),
            ("CRM.vmdk.phd-applying", "refresh-interrupted"),
            ("CRM-flat.vmdk", None),
        ],
    )
    def test_each_kind(self, tmp_path: Path, name: str, check: str | None) -> None:
        path = tmp_path / "vm" / "2007" / name
        path.parent.mkdir(parents=True)
        path.write_text("half")
        expected = [check] if check else []
        young = leftovers.examine([tmp_path], owned=[], now=path.stat().st_mtime + DAY - 10)
        assert checks(young.findings) == []
        old = leftovers.examine([tmp_path], owned=[], now=path.stat().st_mtime + 2 * DAY)
        assert checks(old.findings) == expected
        owned = [tmp_path / "vm" / "2007" / "CRM.vmdk"]
        mine = leftovers.examine([tmp_path], owned=owned, now=path.stat().st_mtime + 2 * DAY)
        assert checks(mine.findings) == (expected if name.startswith(".") else [])

    def test_by_another_path_it_is_the_same_disk(self, tmp_path: Path) -> None:
        (tmp_path / "A").mkdir()
        (tmp_path / "alias").symlink_to("A")
        part = tmp_path / "A" / "x.img.phd-new"
        part.touch()
        then = part.stat().st_mtime + 2 * DAY
        assert not leftovers.examine([tmp_path / "A"], owned=[tmp_path / "alias" / "x.img"], now=then).findings

    def test_no_link_is_followed_and_too_much_is_said(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "store").mkdir()
        (tmp_path / "elsewhere").mkdir()
        part = tmp_path / "elsewhere" / "x.img.phd-new"
        part.touch()
        (tmp_path / "store" / "link").symlink_to(tmp_path / "elsewhere")
        then = part.stat().st_mtime + 2 * DAY
        assert leftovers.examine([tmp_path / "store"], owned=[], now=then).findings == ()
        monkeypatch.setattr(leftovers, "MOST_ENTRIES", 0)
        assert leftovers.examine([tmp_path / "store"], owned=[], now=then).unseen

    def test_a_name_that_steers_a_terminal_is_not_printed(self, tmp_path: Path) -> None:
        path = tmp_path / "a\x1b[2J\n.phd-new"
        path.touch()
        (one,) = leftovers.examine([tmp_path], owned=[], now=path.stat().st_mtime + 2 * DAY).findings
        assert "\x1b" not in one.where + one.mend
        assert "\n" not in one.where + one.mend

    def test_local_folders(self) -> None:
        specs = [TargetSpec(name="a", url="file:///back%20ups"), TargetSpec(name="b", url="ftp://h/x")]
        assert leftovers.local_folders(specs) == [Path("/back ups")]


def room(**facts: int) -> os.statvfs_result:
    values = {"f_bsize": 4096, "f_frsize": 4096, "f_blocks": 1 << 20, "f_bavail": 1 << 19, "f_files": 1000, "f_favail": 500} | facts
    order = ("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree", "f_favail", "f_flag", "f_namemax")
    return os.statvfs_result([values.get(name, 0) for name in order])


class TestMachine:
    def test_nearly_full(self) -> None:
        assert machine.nearly_full(room()) == ""
        assert "204 MiB of 4096 MiB" in machine.nearly_full(room(f_bavail=(1 << 20) // 20 - 1))
        assert machine.nearly_full(room(f_blocks=1 << 15, f_bavail=(16 << 20) // 4096 - 1))
        assert "inodes" in machine.nearly_full(room(f_favail=49))
        assert machine.nearly_full(room(f_files=0, f_favail=0)) == ""
        assert machine.nearly_full(room(f_blocks=0, f_bavail=0)) == ""

    def test_each_file_system_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "statvfs", lambda _: room(f_bavail=1))
        found = machine.full({tmp_path: "spool", tmp_path / "gone": "x", tmp_path.parent: "state_dir"})
        assert checks(found) == ["disk-nearly-full"]

    def test_clocks(self, tmp_path: Path) -> None:
        assert checks(machine.clocks([tmp_path, tmp_path / "gone"])) == []
        assert os.listdir(tmp_path) == []
        assert checks(machine.apart(tmp_path, NOW + 1, before=NOW, after=NOW)) == []
        (ahead,) = machine.apart(tmp_path, NOW + 60, before=NOW, after=NOW)
        assert "60 s ahead" in ahead.what
        (behind,) = machine.apart(tmp_path, NOW - 60, before=NOW, after=NOW)
        assert (behind.check, "60 s behind" in behind.what) == ("clock-wrong", True)

    def test_a_clock_that_went_back(self) -> None:
        assert checks(machine.backwards(NOW, NOW, "restored.log")) == []
        assert checks(machine.backwards(NOW + 3600, NOW, "restored.log")) == ["clock-wrong"]


def as_shown(**changes: str) -> str:
    good = {"LoadState": "loaded", **unit.EXPECTED, "SystemCallFilter": "read write", "RestrictNamespaces": "yes"}
    good |= {"WatchdogUSec": "30s", "IPAddressDeny": "0.0.0.0/0 ::/0", **changes}
    return "".join(f"{key}={value}\n" for key, value in good.items())


class TestUnit:
    def test_ours(self, tmp_path: Path) -> None:
        assert unit.examine(as_shown, booted=tmp_path).findings == ()

    @pytest.mark.parametrize(
        ("key", "value"),
        [*((key, "weak") for key in unit.EXPECTED), ("SystemCallFilter", ""), ("WatchdogUSec", "0"), ("WatchdogUSec", "infinity")],
    )
    def test_each_difference(self, tmp_path: Path, key: str, value: str) -> None:
        (one,) = unit.examine(lambda: as_shown(**{key: value}), booted=tmp_path).findings
        assert one.check == "unit-not-hardened"
        assert key in one.what

    def test_where_it_cannot_be_seen(self, tmp_path: Path) -> None:
        def silent() -> str:
            raise subprocess.TimeoutExpired("systemctl", 10)

        for show, booted in ((as_shown, tmp_path / "no"), (silent, tmp_path), (lambda: "LoadState=not-found\n", tmp_path)):
            report = unit.examine(show, booted=booted)
            assert (report.findings, len(report.unseen)) == ((), 1)

    def test_what_is_expected_is_what_is_shipped(self) -> None:
        shipped: dict[str, str] = {}
        for line in (ROOT / "systemd" / "phd-daemon.service").read_text().splitlines():
            key, equals, value = line.partition("=")
            if equals and not line.startswith("#"):
                shipped[key] = value
        assert {key: shipped[key] for key in unit.EXPECTED} == dict(unit.EXPECTED)
        # systemd prints this one in microseconds and under another name.
        assert "WatchdogSec" in shipped
