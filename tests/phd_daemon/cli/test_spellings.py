"""Names whose accents are stored in one way and typed in the other (macOS: NFD) are one name at every door, and shown as stored."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal
from unicodedata import normalize

import pytest

from phd_daemon.cli.main import run

UUID = "564d122a-0ed7-3b92-2f46-aee9456b2074"
FORMS = pytest.mark.parametrize(("stored", "typed"), [("NFD", "NFC"), ("NFC", "NFD")])
Form = Literal["NFC", "NFD"]
Phd = Callable[..., tuple[int, str]]


@pytest.fixture
def phd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Phd:
    for name in ("nas", "volumes/ds1", "spool/.state", "state"):
        (tmp_path / name).mkdir(parents=True, mode=0o700)
    (tmp_path / "phd.toml").write_text(
        f'state_dir = "{tmp_path}/state"\n[queue]\nspool = "{tmp_path}/spool"\n[datastores]\nroots = ["{tmp_path}/volumes"]\n'
        f'[replication]\nrules = "{tmp_path}/vmdks.auto"\nledger = "{tmp_path}/restored.log"\n'
        f'default_datastore = "{tmp_path}/volumes/ds1"\n[targets.nas1]\nurl = "file://{tmp_path}/nas"\n'
    )
    monkeypatch.setenv("PHD_CONFIG", str(tmp_path / "phd.toml"))

    def command(*arguments: str) -> tuple[int, str]:
        with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.redirect_stderr(said):
            code = run(list(arguments))
        return code, said.getvalue()

    return command


def backed_up(phd: Phd, folder: Path, form: Form, *, at: str = "2026-11-21 03:00+00:00", target: str = "nas1") -> None:
    disk = folder / normalize(form, "Größe.img")
    disk.write_bytes(b"x" * 5000)
    vm = normalize(form, "Büro")
    assert phd("backup", str(disk), "--target", target, "--vm", vm, "--uuid", UUID, "--at", at)[0] == 0


def found(phd: Phd, *arguments: str) -> list[Any]:
    code, said = phd("backups", "--json", *arguments)
    assert code == 0, said
    data: list[Any] = json.loads(said)
    return data


@FORMS
def test_backups_are_found_by_name_and_pattern_and_shown_as_they_are_stored(
    phd: Phd, tmp_path: Path, stored: Form, typed: Form
) -> None:
    backed_up(phd, tmp_path, stored)
    for arguments in (
        ("--vm", "Büro"), ("--vm", "B?ro"), ("--vm", "B*o"), ("--vm", "B[aü]ro"), ("--vmdk", "Größe.img"), ("--vmdk", "Gr*ö*img"),
    ):  # fmt: skip
        assert len(found(phd, arguments[0], normalize(typed, arguments[1]))) == 2, arguments
    assert {one["vm"] for one in found(phd)} == {normalize(stored, "Büro")}
    assert found(phd, "--vm", "Buro") == []


def test_letters_that_only_resemble_each_other_are_two_names(phd: Phd, tmp_path: Path) -> None:
    disk = tmp_path / "a.img"
    disk.write_bytes(b"x" * 5000)
    assert phd("backup", str(disk), "--target", "nas1", "--vm", "o\ufb03ce")[0] == 0
    assert found(phd, "--vm", "office") == []
    assert len(found(phd, "--vm", "o\ufb03ce")) == 2


@FORMS
def test_the_disks_of_a_vm_are_submitted_and_their_job_is_named(phd: Phd, tmp_path: Path, stored: Form, typed: Form) -> None:
    backed_up(phd, tmp_path, stored)
    code, said = phd("submit", "--vm", normalize(typed, "Büro"), "--to", str(tmp_path / "volumes" / "ds1" / "b"))
    assert code == 0, said
    (job,) = (tmp_path / "spool").glob("*.job")
    job.rename(job.with_name(normalize(stored, "Büro") + ".job"))
    assert phd("hold", normalize(typed, "Büro"))[0] == 0
    assert (tmp_path / "spool" / (normalize(stored, "Büro") + ".held")).exists()
    code, said = phd("priority", normalize(typed, "Büro"), "1")
    assert (code, "it is held" in said) == (2, True)
    assert phd("release", normalize(typed, "Büro"))[0] == 0
    assert phd("priority", normalize(typed, "Büro"), "1")[0] == 0
    delta = next(one["archive"] for one in found(phd) if one["type"] != "full")
    to = str(tmp_path / "volumes" / "ds1" / "c" / "x.img")
    code, said = phd("submit", delta, "--to", to, "--name", normalize(typed, "Büro"))
    assert (code, "is waiting already" in said) == (2, True)


@FORMS
def test_a_rule_finds_its_backup_and_load_adds_no_second_line(phd: Phd, tmp_path: Path, stored: Form, typed: Form) -> None:
    backed_up(phd, tmp_path, stored)
    rules = tmp_path / "vmdks.auto"
    rules.write_text(f"RESTORE:{normalize(typed, 'Büro')}|*|00|{normalize(typed, 'Größe.img')}|{tmp_path}/volumes/ds1/R/r.img\n")
    before = rules.read_text()
    code, said = phd("replicate", "--dry-run", "--json")
    assert code == 0, said
    assert "no backup" not in said, said
    assert '"restore"' in said
    assert phd("rules", "load")[0] == 0
    assert rules.read_text() == before


def test_load_writes_one_line_for_a_disk_that_is_stored_in_both_ways(phd: Phd, tmp_path: Path) -> None:
    backed_up(phd, tmp_path, "NFC")
    backed_up(phd, tmp_path, "NFD", at="2026-11-22 03:00+00:00")
    assert phd("rules", "load")[0] == 0
    assert (tmp_path / "vmdks.auto").read_text().count("RESTORE:") == 1


@FORMS
def test_what_was_meant_is_proposed_and_a_datastore_is_named(phd: Phd, tmp_path: Path, stored: Form, typed: Form) -> None:
    backed_up(phd, tmp_path, stored)
    code, said = phd("submit", "--vm", normalize(typed, "büro"), "--to", str(tmp_path / "volumes" / "ds1" / "b"))
    assert code != 0
    assert f"did you mean '{normalize(stored, 'Büro')}'" in said
    (tmp_path / "volumes" / normalize(stored, "Spëicher")).mkdir()
    assert phd("datastores", "accept", normalize(typed, "Spëicher"))[0] == 0


def test_a_local_archive_is_found_in_another_spelling(phd: Phd, tmp_path: Path) -> None:
    backed_up(phd, tmp_path, "NFD")
    (full,) = (tmp_path / "nas").rglob("*.gz-*.phd")
    code, said = phd("verify", normalize("NFC", str(full)))
    assert code == 0, said


def test_old_backups_that_are_named_by_a_flat_file_are_submitted_as_the_disks_that_they_are(phd: Phd, tmp_path: Path) -> None:
    """They were refused: "names a flat file", of a name that nobody had typed."""
    disk = tmp_path / "X.vmdk"
    disk.with_name("X-flat.vmdk").write_bytes(b"x" * 5120)
    assert phd("backup", str(disk.with_name("X-flat.vmdk")), "--target", "nas1", "--vm", "CRM", "--uuid", UUID)[0] == 0
    for path in list((tmp_path / "nas").rglob("*.phd")):
        path.rename(path.with_name(path.name.replace("-X.vmdk", "-X-flat.vmdk")))
    to = tmp_path / "volumes" / "ds1" / "CRM"
    code, said = phd("submit", "--vm", "CRM", "--to", str(to))
    assert code == 0, said
    (job,) = (tmp_path / "spool").glob("*.job")
    assert f'restore_to = "{to}/X.vmdk"' in job.read_text()
