"""A part of a listing, and a target that was emptied: every command says so, none of them decides as if all were seen."""

from __future__ import annotations

import contextlib
import io
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from phd_daemon.cli.main import run
from restore_core.errors import ExitCode
from tests.rights import of_no_more_than_a_user

Say = pytest.CaptureFixture[str]
UUID = "564d122a-0ed7-3b92-2f46-aee9456b2074"
OTHER = "564d122a-0ed7-3b92-2f46-aee9456b2079"
MONDAY, TUESDAY = "2026-11-23 03:00", "2026-11-24 03:00"
FOLDER = {MONDAY: f"2026.11.23-CRM.{UUID}", TUESDAY: f"2026.11.24-CRM.{UUID}"}


class Site:
    """One target with two days of backups of one disk, a rule for it, and the commands of this installation."""

    def __init__(self, folder: Path, say: Say) -> None:
        self.folder, self.nas, self._say = folder, folder / "nas", say
        self.replica = folder / "volumes" / "ds1" / "CRM.img"
        for path in (self.nas, self.replica.parent, folder / "spool" / ".state", folder / "state"):
            path.mkdir(parents=True)
        (folder / "spool").chmod(0o700)
        (folder / "spool" / ".state").chmod(0o700)
        (folder / "phd.toml").write_text(
            f'state_dir = "{folder}/state"\n[queue]\nspool = "{folder}/spool"\n[datastores]\nroots = ["{folder}/volumes"]\n'
            f'[replication]\nrules = "{folder}/vmdks.auto"\nledger = "{folder}/restored.log"\n'
            f'[targets.nas1]\nurl = "file://{self.nas}"\n'
        )
        (folder / "vmdks.auto").write_text(f"RESTORE:CRM|*|00|CRM.img|{self.replica}\n")
        self.disk = folder / "CRM.img"
        self.disk.write_bytes(random.Random(1).randbytes(700_000))

    def __call__(self, *arguments: str) -> tuple[int, str]:
        """Exit code, and all that was said."""
        with of_no_more_than_a_user():
            code = run(list(arguments))
        said = self._say.readouterr()
        return code, said.out + said.err

    def data(self, *arguments: str) -> Any:
        with of_no_more_than_a_user():
            run([*arguments, "--json"])
        return json.loads(self._say.readouterr().out)

    def backup(self, at: str = TUESDAY, *options: str, uuid: str = UUID) -> tuple[int, str]:
        return self("backup", str(self.disk), "--target", "nas1", "--vm", "CRM", "--uuid", uuid, "--at", at, *options)

    def archives(self) -> list[str]:
        return sorted(str(path.relative_to(self.nas)) for path in self.nas.rglob("*.phd"))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Say) -> Site:
    made = Site(tmp_path, capsys)
    monkeypatch.setenv("PHD_CONFIG", str(tmp_path / "phd.toml"))
    assert made.backup(MONDAY)[0] == 0
    assert made.backup(TUESDAY)[0] == 0
    assert made("index")[0] == 0
    return made


@contextlib.contextmanager
def closed(folder: Path) -> Iterator[None]:
    folder.chmod(0)
    try:
        yield
    finally:
        folder.chmod(0o755)


@contextlib.contextmanager
def emptied(site: Site) -> Iterator[None]:
    """Nothing is mounted there any more."""
    away = site.nas.with_name("away")
    site.nas.rename(away)
    site.nas.mkdir()
    yield
    for left in site.nas.iterdir():
        shutil.rmtree(left)
    site.nas.rmdir()
    away.rename(site.nas)


LOOKS = (("index",), ("targets",), ("backups",), ("replicate", "--dry-run"))


@pytest.mark.parametrize("command", LOOKS, ids=" ".join)
def test_a_closed_folder_is_named_and_the_exit_code_is_69(site: Site, command: tuple[str, ...]) -> None:
    with closed(site.nas / FOLDER[TUESDAY]):
        code, said = site(*command)
        assert code == ExitCode.UNAVAILABLE
        assert FOLDER[TUESDAY] in said
        assert "Permission denied" in said
    assert site(*command)[0] == ExitCode.DONE


@pytest.mark.parametrize("command", LOOKS, ids=" ".join)
def test_lost_and_found_rings_no_alarm(site: Site, command: tuple[str, ...]) -> None:
    (site.nas / "lost+found").mkdir()
    (site.nas / "latest").symlink_to(FOLDER[TUESDAY])
    with closed(site.nas / "lost+found"):
        code, said = site(*command)
    assert code == ExitCode.DONE
    if command[0] in ("index", "targets"):
        assert "lost+found: Permission denied" in said
        assert "latest: a link" in said


@pytest.mark.parametrize("command", LOOKS, ids=" ".join)
def test_an_emptied_target_is_asked_about_and_the_exit_code_is_69(site: Site, command: tuple[str, ...]) -> None:
    with emptied(site):
        code, said = site(*command)
        assert code == ExitCode.UNAVAILABLE
        assert "held 3 archives, holds none: is it mounted?" in said
        assert [one["stale"] for one in site.data("backups")] == [True] * 3
    site("index")  # one that has just failed is left alone for a minute
    assert site(*command)[0] == ExitCode.DONE


def test_what_was_known_of_a_closed_folder_is_shown_as_not_seen(site: Site) -> None:
    with closed(site.nas / FOLDER[TUESDAY]):
        assert [(one["time"][:10], one["stale"]) for one in site.data("backups")] == [
            ("2026-11-23", False),
            ("2026-11-23", False),
            ("2026-11-24", True),
        ]
        assert "Delta, not seen" in site("backups")[1]
        (known,) = site.data("index")
        assert (known["archives"], known["stale_files"]) == (3, 1)
        assert [gap["path"] for gap in known["gaps"]] == [FOLDER[TUESDAY]]


def test_a_rule_does_not_fall_back_to_an_older_backup(site: Site) -> None:
    """The newest backup was forgotten with its folder, and the replica was rolled back to the one before."""
    with closed(site.nas / FOLDER[TUESDAY]):
        (decision,) = site.data("replicate")["decisions"]
        assert (decision["verdict"], decision["archive"].rpartition("/")[0]) == ("target silent", f"nas1:{FOLDER[TUESDAY]}")
        assert "cannot be seen now" in decision["reason"]
    assert list((site.folder / "spool").glob("*.job")) == []
    (decision,) = site.data("replicate")["decisions"]
    assert decision["verdict"] == "restore"


def test_a_rule_says_that_a_newer_backup_may_be_hidden(site: Site) -> None:
    """Where nothing is known of what a closed folder holds the newest that is seen is taken, but never without a word."""
    shutil.rmtree(site.folder / "state")
    with closed(site.nas / FOLDER[TUESDAY]):
        code, said = site("replicate", "--dry-run")
        (decision,) = site.data("replicate", "--dry-run")["decisions"]
    assert code == ExitCode.UNAVAILABLE
    assert f"a newer backup may lie where nas1 cannot be seen now: {FOLDER[TUESDAY]}: Permission denied" in said
    assert len(decision["warnings"]) == 1


def test_no_rule_decides_on_an_emptied_target(site: Site) -> None:
    with emptied(site):
        (decision,) = site.data("replicate")["decisions"]
        assert decision["verdict"] == "target silent"
        assert "is it mounted" in decision["reason"]
    assert list((site.folder / "spool").glob("*.job")) == []


def test_no_second_full_is_made_because_the_first_cannot_be_seen(site: Site) -> None:
    before = site.archives()
    with closed(site.nas / FOLDER[MONDAY]):
        code, said = site.backup("2026-11-25 03:00")
        assert code == ExitCode.UNAVAILABLE
        assert f"its listing is partial: {FOLDER[MONDAY]}: Permission denied" in said
        assert "With --full" in said
    assert site.archives() == before


def test_a_folder_of_another_machine_keeps_no_backup_from_being_made(site: Site) -> None:
    assert site.backup(MONDAY, uuid=OTHER)[0] == 0
    with closed(site.nas / f"2026.11.23-CRM.{OTHER}"):
        code, said = site.backup("2026-11-25 03:00")
    assert code == ExitCode.DONE
    assert "passed over, with no backup of this machine in it" in said
    assert "Delta       nas1:2026.11.25" in said


def test_a_full_that_is_asked_for_is_made(site: Site) -> None:
    with closed(site.nas / FOLDER[MONDAY]):
        code, said = site.backup("2026-11-25 03:00", "--full")
    assert (code, "Full        nas1:2026.11.25" in said) == (ExitCode.DONE, True)


@pytest.mark.parametrize("options", [(), ("--full",)], ids=["a Delta", "a Full"])
def test_nothing_is_written_to_an_emptied_target(site: Site, options: tuple[str, ...]) -> None:
    """A backup made a new Full on the root disk, below the place where the target should be mounted."""
    with emptied(site):
        code, said = site.backup("2026-11-25 03:00", *options)
        assert code == ExitCode.UNAVAILABLE
        assert "held 3 archives, holds none: is it mounted?" in said
        assert "phd targets accept nas1" in said
        assert list(site.nas.iterdir()) == []
        shutil.rmtree(site.folder / "state")  # the cache may be deleted at any time
        assert site.backup("2026-11-25 03:00", *options)[0] == ExitCode.UNAVAILABLE
        assert list(site.nas.iterdir()) == []


def test_a_person_accepts_an_emptied_target(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    with emptied(site):
        monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
        code, said = site("targets", "accept", "nas1")
        assert code == ExitCode.INTERRUPTED
        assert "held 3 archives, and holds none" in said
        assert site("index")[0] == ExitCode.UNAVAILABLE
        monkeypatch.setattr("sys.stdin", io.StringIO(""))
        assert site("targets", "accept", "nas1")[0] == ExitCode.USAGE
        assert site("index")[0] == ExitCode.UNAVAILABLE
        assert site("targets", "accept", "nas1", "--yes")[0] == ExitCode.DONE
        assert site("index")[0] == ExitCode.DONE
        assert site.data("backups") == []
        assert site("targets", "accept", "nas1", "--yes") == (
            ExitCode.DONE,
            f"target nas1 (file://{site.nas}) held 0 archives, and holds none\nnothing to accept: it is believed as it is\n",
        )
        assert site.backup("2026-11-25 03:00")[0] == ExitCode.DONE
    assert site("index")[0] == ExitCode.DONE
    assert len(site.data("backups")) == 3


def test_a_target_that_does_not_answer_cannot_be_accepted(site: Site) -> None:
    away = site.nas.with_name("away")
    site.nas.rename(away)
    assert site("targets", "accept", "nas1", "--yes")[0] == ExitCode.UNAVAILABLE
    site.nas.mkdir()
    assert site("index")[0] == ExitCode.UNAVAILABLE


def test_a_record_that_cannot_be_written_is_an_error(site: Site) -> None:
    records = site.folder / "spool" / ".state" / "targets"
    with emptied(site):
        shutil.rmtree(records)
        records.write_text("in the way")
        code, said = site("targets", "accept", "nas1", "--yes")
        assert code != ExitCode.DONE
        assert "this cannot be recorded" in said
        assert site("index")[0] == ExitCode.UNAVAILABLE


def test_a_whole_vm_is_not_restored_from_what_can_be_seen(site: Site) -> None:
    with closed(site.nas / FOLDER[TUESDAY]):
        code, said = site("submit", "--vm", "CRM", "--to", str(site.replica.parent))
        assert code == ExitCode.UNAVAILABLE
        assert FOLDER[TUESDAY] in said
    with emptied(site):
        assert site("submit", "--vm", "CRM", "--to", str(site.replica.parent))[0] == ExitCode.UNAVAILABLE
    assert list((site.folder / "spool").glob("*.job")) == []
    assert site("submit", "--vm", "CRM", "--to", str(site.replica.parent))[0] == ExitCode.DONE


def check_names(found: Any) -> list[str]:
    return sorted(one["check"] for one in found["findings"] if one["where"] == "targets.nas1")


@pytest.mark.parametrize(
    ("way", "check"), [(lambda site: closed(site.nas / FOLDER[TUESDAY]), "listing-partial"), (emptied, "target-emptied")]
)
def test_the_doctor_names_it(site: Site, way: Callable[[Site], contextlib.AbstractContextManager[None]], check: str) -> None:
    with way(site):
        assert check_names(site.data("doctor")) == [check]
    site("index")
    assert check_names(site.data("doctor")) == []


def test_a_full_behind_a_closed_folder_may_come_back(site: Site) -> None:
    """A restore whose Full cannot be seen is worth another attempt; one whose Full is gone is not."""
    delta = next(path for path in site.archives() if path.startswith(FOLDER[TUESDAY]))
    with closed(site.nas / FOLDER[MONDAY]):
        code, said = site("restore", f"nas1:{delta}", "--to", str(site.folder / "back.img"))
        assert code == ExitCode.UNAVAILABLE
        assert "not every target answers" in said
        assert FOLDER[MONDAY] in said
    shutil.rmtree(site.nas / FOLDER[MONDAY])
    code, said = site("restore", f"nas1:{delta}", "--to", str(site.folder / "back.img"))
    assert "is on no target" in said
