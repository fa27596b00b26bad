"""The commands that read and write archives: restore, plan, verify, backup, backups, targets, vmx, stub."""

from __future__ import annotations

import gzip
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from phd_daemon.cli.main import run
from restore_core.errors import ExitCode
from tests.phd_daemon.small_backup import UUID, VMX, SmallBackup, small_backup


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SmallBackup:
    return small_backup(tmp_path_factory.mktemp("made") / "nas", size=24 << 20)


@pytest.fixture
def backup(tmp_path: Path, made: SmallBackup) -> SmallBackup:
    """A copy for each test: making one syncs files, which is slow on a busy machine."""
    shutil.copytree(made.full_path.parents[1], tmp_path / "nas")
    return replace(
        made,
        target=replace(made.target, url=f"file://{tmp_path}/nas"),
        delta_path=tmp_path / "nas" / made.delta.path,
        full_path=tmp_path / "nas" / made.full.path,
    )


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backup: SmallBackup) -> Path:
    path = tmp_path / "phd.toml"
    path.write_text(
        f'state_dir = "{tmp_path}/state"\n[queue]\nspool = "{tmp_path}/spool"\n'
        f'[targets.nas1]\nurl = "{backup.target.url}"\n[backup]\nstaging_dir = "{tmp_path}"\n'
    )
    monkeypatch.setenv("PHD_CONFIG", str(path))
    monkeypatch.chdir(tmp_path)
    return path


Say = pytest.CaptureFixture[str]
pytestmark = pytest.mark.usefixtures("config")


def test_restore_of_a_delta_prints_the_header_of_2007_and_gives_the_exact_disk(
    tmp_path: Path, backup: SmallBackup, capsys: Say
) -> None:
    (tmp_path / "ds").mkdir()
    assert run(["restore", str(backup.delta), "--to", "ds/CRM.vmdk"]) == 0
    assert (tmp_path / "ds/CRM-flat.vmdk").read_bytes() == backup.content
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith(", Doing DELTA Backup Restoration")
    assert lines[2:9] == [
        "Restore DELTA Backup from",
        f" Location: {tmp_path}/nas",
        f" Folder  : 2007.09.20-CRM.{UUID}",
        " File    : 00-CRM.vmdk.delta-2007.09.20-1601-070920-1601.phd",
        "Restore to:",
        f" VMFS: {tmp_path}/ds",
        " VMDK: CRM.vmdk",
    ]
    assert lines[9:12] == [" FLAT: CRM-flat.vmdk", "", "Restoring DELTA Backup from LOCAL Target"]
    assert lines[-2].startswith("Delta: 100% Full: 100%, 24 mb of 24 mb")
    assert lines[-1].startswith(f"{tmp_path}/ds/CRM.vmdk: 25165824 bytes restored and verified in 00:0")


def test_restore_of_a_full_by_its_local_path(tmp_path: Path, backup: SmallBackup, capsys: Say) -> None:
    assert run(["restore", str(backup.full_path.relative_to(tmp_path)), "--to", "disk.img"]) == 0
    assert (tmp_path / "disk.img").read_bytes() == backup.content
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith(", Doing FULL Backup Restoration")
    assert " FILE: disk.img" in lines
    assert lines[-2].startswith("24 MB processed Avg(")


def test_restore_of_any_gzip(tmp_path: Path) -> None:
    (tmp_path / "old.gz").write_bytes(gzip.compress(b"x" * 1000))
    assert run(["restore", "old.gz", "--to", "disk.img"]) == 0
    assert (tmp_path / "disk.img").read_bytes() == b"x" * 1000


def test_what_a_full_has_not(backup: SmallBackup, capsys: Say) -> None:
    assert run(["restore", str(backup.full), "--to", "a.img", "--readback", "--vmx", "as-is"]) == ExitCode.USAGE
    assert "is a Full: --vmx as-is, --readback cannot be done" in capsys.readouterr().err


def test_exit_codes_of_a_restore(tmp_path: Path, backup: SmallBackup, capsys: Say) -> None:
    assert run(["restore", "nas1:a/b.phd", "--to", "a.vmdk"]) == ExitCode.UNAVAILABLE
    assert run(["restore", "nas2:a/b.phd", "--to", "a.vmdk"]) == ExitCode.USAGE
    assert run(["restore", str(backup.delta), "--to", str(tmp_path)]) == ExitCode.USAGE
    (tmp_path / "a-flat.vmdk").write_text("somebody's")
    assert run(["restore", str(backup.delta), "--to", "a.vmdk"]) == ExitCode.DESTINATION
    assert (tmp_path / "a-flat.vmdk").read_text() == "somebody's"
    assert run(["restore", str(backup.delta), "--to", "a.vmdk", "--overwrite"]) == 0
    assert (tmp_path / "a-flat.vmdk").read_bytes() == backup.content
    data = bytearray(backup.full_path.read_bytes())
    data[len(data) // 3] ^= 1
    backup.full_path.write_bytes(data)
    assert run(["restore", str(backup.delta), "--full", str(backup.full), "--to", "b.vmdk"]) == ExitCode.BAD_DATA
    assert not list(tmp_path.glob("b*"))
    capsys.readouterr()


def test_plan_shows_blocks_and_why(backup: SmallBackup, capsys: Say) -> None:
    assert run(["plan", str(backup.delta), "--to", "a.vmdk"]) == 0
    text = capsys.readouterr().out
    assert "64      16777216  Full     not changed since the Full" in text
    assert "32      8388608   nowhere  zero: neither fetched nor decoded" in text
    assert run(["plan", str(backup.delta), "--to", "a.vmdk", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["full_bytes"] == 16 << 20


def test_plan_has_the_options_of_restore_and_ends_as_it_would(tmp_path: Path, backup: SmallBackup, capsys: Say) -> None:
    """It had none: a disk that is there was exit code 0 and "needs --overwrite"; a VMX that lies there was not foreseen."""
    line = ["plan", str(backup.delta), "--to", "a.img"]
    assert run(line) == 0
    assert "--overwrite" not in capsys.readouterr().out
    (tmp_path / "a.img").write_bytes(bytes(5000))
    for command in (line, [*line, "--json"]):
        with pytest.raises(SystemExit) as caught:
            run(command)
        assert caught.value.code == ExitCode.DESTINATION
    said, found = capsys.readouterr().out.split("{", 1)
    assert "a.img is there already: a restore needs --overwrite" in said
    assert "A restore would be refused now: a.img: a.img is there already" in said.replace(f"{tmp_path}/", "")
    assert json.loads("{" + found)["needs_overwrite"] is True
    assert run([*line, "--overwrite", "--thin", "--readback"]) == 0
    (tmp_path / "a.vmx").write_text("another VM")
    with pytest.raises(SystemExit) as caught:
        run([*line, "--overwrite", "--vmx", "as-is"])
    assert caught.value.code == run(["restore", *line[1:], "--overwrite", "--vmx", "as-is"]) == ExitCode.DESTINATION
    assert "a.vmx: another VMX is there" in capsys.readouterr().out


def test_plan_lists_the_fulls_with_a_star_at_the_proven_one(backup: SmallBackup, capsys: Say) -> None:
    other = backup.full_path.with_name("00-CRM.vmdk.gz-070919-1601.phd")
    other.write_bytes(backup.full_path.read_bytes()[:-1])
    capsys.readouterr()
    assert run(["plan", str(backup.delta), "--to", "a.vmdk"]) == 0
    text = capsys.readouterr().out
    assert f"VM CRM, UUID {UUID}, SCSI 0:0, CRM.vmdk, {24 << 20} bytes of disk" in text
    (star,) = [line for line in text.splitlines() if line.startswith("*")]
    assert str(backup.full) in star
    assert f"another backup: {backup.full_path.stat().st_size - 1} bytes" in text
    assert run(["plan", str(backup.delta), "--to", "a.vmdk", "--json"]) == 0
    fulls = json.loads(capsys.readouterr().out)["fulls"]
    assert [(one["archive"], one["proven"]) for one in fulls] == [
        (str(backup.full), True),
        (str(backup.full).replace("070920", "070919"), False),
    ]


@pytest.mark.parametrize("which", ["delta", "full"])
def test_verify_finds_one_flipped_bit(backup: SmallBackup, capsys: Say, which: str) -> None:
    path = backup.delta_path if which == "delta" else backup.full_path
    assert run(["verify", str(path)]) == 0
    assert ": good" in capsys.readouterr().out
    assert run(["verify", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["disk_size"] == 24 << 20
    data = bytearray(path.read_bytes())
    data[-20] ^= 8
    path.write_bytes(data)
    assert run(["verify", str(path)]) == ExitCode.BAD_DATA


def test_a_backup_made_by_the_command_comes_back(tmp_path: Path, capsys: Say) -> None:
    disk = tmp_path / "web.img"
    disk.write_bytes(os.urandom(300_000) + bytes(700_000))
    assert run(["backup", "web.img", "--target", "nas1", "--at", "2026-11-24 03:00+00:00", "--fast"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "making a Full" in lines[0]
    full, empty = lines[-3].split()[1], lines[-2].split()[2]
    assert full.endswith("/00-web.img.gz-261124-0300.phd")
    disk.write_bytes(os.urandom(300_000) + bytes(700_000))
    assert run(["backup", "web.img", "--target", "nas1", "--at", "2026-11-25 03:00+00:00", "--json"]) == 0
    (made,) = json.loads(capsys.readouterr().out)
    assert made["full"] is None
    assert run(["restore", made["delta"], "--to", "back.img"]) == 0
    assert (tmp_path / "back.img").read_bytes() == disk.read_bytes()
    assert run(["verify", empty]) == 0
    assert run(["backup", "web.img", "--target", "nas1", "--at", "yesterday"]) == ExitCode.USAGE
    assert run(["backup", "web.img", "--target", "nas1", "--scsi", "0:0"]) == ExitCode.USAGE
    assert run(["backup", "absent.img", "--target", "nas1"]) != 0
    assert run(["backup", "web.img", "--target", "nas9"]) == ExitCode.USAGE
    capsys.readouterr()
    assert run(["backup", "web.img", "--target", "nas1", "--vm", "we\x1bb", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["vm"] == "we%1Bb"


def test_backups_are_listed_with_all_that_tells_them_apart(backup: SmallBackup, capsys: Say) -> None:
    assert run(["backups"]) == 0
    titles, empty, full = capsys.readouterr().out.splitlines()
    assert titles.split()[:3] == ["TARGET", "DATE", "(UTC)"]
    assert empty.split() == [
        "nas1",
        "2007-09-20",
        "16:01",
        "empty",
        "Delta",
        *empty.split()[5:7],
        "0:0",
        "CRM",
        UUID,
        "CRM.vmdk",
        str(backup.delta),
    ]
    assert " Full " in full
    backup.delta_path.unlink()
    assert run(["backups", "--type", "full", "--vm", "C*", "--json"]) == 0
    (only,) = json.loads(capsys.readouterr().out)
    assert (only["type"], only["archive"]) == ("full, no map", str(backup.full))
    assert run(["backups", "--vmdk", "other*"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_targets_that_answer_and_one_that_does_not(config: Path, capsys: Say) -> None:
    assert run(["targets"]) == 0
    assert "answers in" in capsys.readouterr().out
    config.write_text(config.read_text() + '[targets.gone]\nurl = "file:///not/mounted"\n')
    assert run(["targets", "--json"]) == ExitCode.UNAVAILABLE
    assert [(one["name"], one["answers"]) for one in json.loads(capsys.readouterr().out)] == [("nas1", True), ("gone", False)]
    assert run(["backups"]) == ExitCode.UNAVAILABLE
    said = capsys.readouterr()
    assert "gone" in said.err
    assert "CRM.vmdk" in said.out


def test_a_target_whose_folder_was_never_made_says_how_to_make_it(config: Path, capsys: Say) -> None:
    config.write_text(config.read_text() + '[targets.fresh]\nurl = "file:///not/made%20yet"\n')
    assert run(["targets"]) == ExitCode.UNAVAILABLE
    assert "mkdir -p '/not/made yet'" in "".join(capsys.readouterr())


def test_vmx_alone(tmp_path: Path, backup: SmallBackup, capsys: Say) -> None:
    assert run(["vmx", str(backup.delta), "--to", "."]) == 0
    assert (tmp_path / "CRM.vmx").read_bytes() == VMX
    assert run(["vmx", str(backup.delta), "--to", "."]) == ExitCode.DESTINATION
    capsys.readouterr()


def test_stub(tmp_path: Path, capsys: Say) -> None:
    (tmp_path / "x-flat.vmdk").write_bytes(bytes(1024))
    assert run(["stub", "x-flat.vmdk"]) == 0
    assert 'RW 2 VMFS "x-flat.vmdk"' in (tmp_path / "x.vmdk").read_text()
    assert run(["stub", "absent-flat.vmdk"]) != 0
    assert run(["stub", "x.vmdk"]) == ExitCode.USAGE
    capsys.readouterr()


def test_on_a_terminal_the_line_is_drawn_over_and_the_vmx_is_asked_for(tmp_path: Path, backup: SmallBackup) -> None:
    main, other = pty.openpty()
    command = [sys.executable, "-m", "phd_daemon.cli.main", "restore", str(backup.delta), "--to", "t.vmdk"]
    with subprocess.Popen(command, stdin=other, stdout=other, stderr=other, env={**os.environ, "TERM": "xterm"}) as child:
        os.close(other)
        shown = b""
        while b"[y/N]" not in shown:
            shown += os.read(main, 4096)
        os.write(main, b"y\n")
        assert child.wait() == 0
    os.close(main)
    assert b"\rDelta: 100% Full: 100%" in shown
    assert (tmp_path / "CRM.vmx").read_bytes() == VMX


def test_control_c_stops_and_leaves_nothing(tmp_path: Path) -> None:
    # A FIFO as a gzip is refused, so the restore is made long instead: a bomb of zeros that never ends within the test.
    (tmp_path / "long.gz").write_bytes(gzip.compress(bytes(64 << 20), 1) * 40)
    command = [sys.executable, "-m", "phd_daemon.cli.main", "restore", "long.gz", "--to", "long.img", "--thin"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        while not list(tmp_path.glob("long.img*")):
            time.sleep(0.01)
        child.send_signal(signal.SIGINT)
        _, said = child.communicate()
    assert child.returncode == ExitCode.INTERRUPTED
    assert b"stopping" in said
    assert not list(tmp_path.glob("long.img*"))


@pytest.mark.parametrize("name", ["old disk.img.gz", f"nas/2026.01.02-WEB.{UUID}/010-web.vmdk.gz-260102-0300.phd"])
def test_a_foreign_gzip_is_adopted_and_then_restored_block_by_block(tmp_path: Path, capsys: Say, name: str) -> None:
    content = os.urandom(700_000) + bytes(600_000)
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(gzip.compress(content))
    assert run(["adopt", name]) == 0
    empty = capsys.readouterr().out.splitlines()[-1].removeprefix("empty Delta ")
    assert run(["restore", empty, "--to", "back.img"]) == 0
    assert (tmp_path / "back.img").read_bytes() == content
    assert run(["verify", empty]) == 0
    (tmp_path / name).write_bytes(b"\x1f\x8b not worth reading, its empty Delta is there")
    assert run(["adopt", name]) == ExitCode.DESTINATION
    assert "is there already" in capsys.readouterr().err


def test_what_cannot_be_adopted(tmp_path: Path, backup: SmallBackup, capsys: Say) -> None:
    backup.delta_path.unlink()
    assert run(["adopt", str(backup.full)]) == ExitCode.BAD_DATA
    assert "a Full that phd made" in capsys.readouterr().err
    assert run(["adopt", "absent.gz"]) == ExitCode.UNAVAILABLE
    (tmp_path / "text.gz").write_text("text")
    assert run(["adopt", "text.gz"]) == ExitCode.BAD_DATA
    assert run(["adopt", "text.gz", "--uuid", "7"]) == ExitCode.USAGE
    assert not list(tmp_path.glob("*.delta*"))
    assert not list(backup.delta_path.parent.glob("*.delta*"))
