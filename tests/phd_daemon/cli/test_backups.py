"""`phd backups` and `phd index`: the catalog on the command line, filtered, and honest about targets that do not answer."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from phd_daemon.cli.main import run
from restore_core.errors import ExitCode

Say = pytest.CaptureFixture[str]
UUID = "564d122a-0ed7-3b92-2f46-aee9456b2074"
DELTA = "00-CRM.vmdk.delta-2026.01.02-0300-260101-0300.phd"
FULL = "00-CRM.vmdk.gz-260101-0300.phd"
EMPTY = "00-CRM.vmdk.delta-2026.01.01-0300-260101-0300.phd"


def put(root: Path, path: str, *, mtime: float | None = None) -> Path:
    found = root / path
    found.parent.mkdir(parents=True, exist_ok=True)
    found.write_bytes(b"xyz")
    old = time.time() - 86400 if mtime is None else mtime
    os.utime(found, (old, old))
    return found


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "phd.toml"
    targets = "".join(f'[targets.{name}]\nurl = "file://{tmp_path}/{name}"\n' for name in ("nas1", "nas2"))
    path.write_text(f'state_dir = "{tmp_path}/state"\n{targets}')
    monkeypatch.setenv("PHD_CONFIG", str(path))
    put(tmp_path / "nas1", f"2026.01.01-CRM.{UUID}/{FULL}")
    put(tmp_path / "nas1", f"2026.01.01-CRM.{UUID}/{EMPTY}")
    put(tmp_path / "nas1", f"2026.01.02-CRM.{UUID}/{DELTA}")
    put(tmp_path / "nas2", f"esx1/{FULL}")
    return path


def listed(capsys: Say, *options: str) -> list[dict[str, object]]:
    assert run(["backups", "--json", *options]) == 0
    found: list[dict[str, object]] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ([], 4),
        (["--vm", "CRM"], 3),
        (["--vmdk", "CRM*"], 4),
        (["--uuid", UUID], 3),
        (["--uuid", "-"], 1),
        (["--scsi", "0:0"], 4),
        (["--scsi", "scsi0:0"], 4),
        (["--scsi", "01"], 0),
        (["--type", "full"], 2),
        (["--type", "delta"], 2),
        (["--target", "nas2"], 1),
        (["--target", "nas1", "--target", "nas2"], 4),
        (["--since", "2026-01-02"], 1),
        (["--until", "2026-01-01"], 3),
        (["--since", "2026-01-01 03:01+00:00"], 1),
        (["--since", "1h"], 0),
        (["--until", "1d", "--type", "full", "--vm", "esx?"], 1),
    ],
)
def test_filters(capsys: Say, options: list[str], count: int) -> None:
    assert len(listed(capsys, *options)) == count


def test_the_order_is_by_time_and_a_full_says_whether_it_has_a_map(capsys: Say) -> None:
    found = listed(capsys)
    assert [one["type"] for one in found] == ["empty delta", "full", "full, no map", "delta"]
    assert [one["type"] for one in listed(capsys, "--type", "full")] == ["full", "full, no map"]


def test_wrong_filters(capsys: Say) -> None:
    assert run(["backups", "--target", "nas9"]) == ExitCode.USAGE
    assert "no target is named 'nas9'" in capsys.readouterr().err
    assert run(["backups", "--since", "soon"]) == ExitCode.USAGE


def test_a_file_on_its_way_is_marked(tmp_path: Path, capsys: Say) -> None:
    put(tmp_path / "nas2", f"esx2/{FULL}", mtime=time.time())
    assert run(["backups", "--vm", "esx*"]) == 0
    said = capsys.readouterr()
    assert "Full, no map, arriving" in said.out
    assert "1 of these are so new" in said.err
    assert [one["type"] for one in listed(capsys, "--vm", "esx2")] == ["full, no map, arriving"]


def test_a_target_that_is_gone_is_listed_as_it_was(tmp_path: Path, capsys: Say) -> None:
    assert run(["index"]) == 0
    assert "4 archives on 2 targets" in capsys.readouterr().out
    (tmp_path / "nas1").rename(tmp_path / "away")
    assert run(["index"]) == ExitCode.UNAVAILABLE
    assert "stale since" in capsys.readouterr().out
    assert run(["backups"]) == ExitCode.UNAVAILABLE
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 5
    assert "nas1" in said.err
    assert "shown as of" in said.err
    assert run(["backups", "--target", "nas2"]) == 0
    capsys.readouterr()
    assert run(["index", "--json"]) == ExitCode.UNAVAILABLE
    one, two = json.loads(capsys.readouterr().out)
    assert (one["archives"], bool(one["stale_since"]), two["archives"], two["problem"]) == (3, True, 1, "")


def test_the_cache_may_be_deleted_and_state_dir_may_be_anything(tmp_path: Path, capsys: Say) -> None:
    assert len(listed(capsys)) == 4
    for path in (tmp_path / "state/catalog").iterdir():
        path.unlink()
    assert len(listed(capsys)) == 4
    shutil.rmtree(tmp_path / "state/catalog")
    (tmp_path / "state/catalog").write_text("not a folder")
    assert len(listed(capsys)) == 4


def test_an_index_that_is_young_enough_is_believed(
    tmp_path: Path, capsys: Say, monkeypatch: pytest.MonkeyPatch, config: Path
) -> None:
    monkeypatch.setattr("restore_core.catalog.index._QUICK", 0.0)
    assert len(listed(capsys)) == 4
    put(tmp_path / "nas2", f"esx2/{FULL}")
    assert len(listed(capsys)) == 4
    config.write_text(config.read_text() + '[index]\nmax_age = "1s"\n')
    time.sleep(1.1)
    assert len(listed(capsys)) == 5
    put(tmp_path / "nas2", f"esx3/{FULL}")
    config.write_text(config.read_text().replace('"1s"', '"5h"'))
    assert run(["index"]) == 0
    capsys.readouterr()
    assert len(listed(capsys)) == 6


def test_no_targets(config: Path, capsys: Say) -> None:
    config.write_text(config.read_text().split("\n")[0])
    assert run(["index"]) == 0
    said = capsys.readouterr().out
    assert "no targets" in said
    assert 'url = "file:///FOLDER"' in said
    assert run(["backups"]) == 0


def test_a_backup_without_a_disk_of_its_vm_says_so_in_the_list_in_json_and_in_a_plan(tmp_path: Path, capsys: Say) -> None:
    home = tmp_path / "ds" / "Web"
    home.mkdir(parents=True)
    for name in ("Web", "Web_1"):
        (home / f"{name}-flat.vmdk").write_bytes(b"x" * 1024)
        assert run(["stub", str(home / f"{name}-flat.vmdk")]) == 0
    (home / "Web.vmx").write_text(f'uuid.bios = "{UUID}"\nscsi0:0.fileName = "Web.vmdk"\nscsi0:1.fileName = "Web_1.vmdk"\n')
    capsys.readouterr()
    assert run(["backup", str(home / "Web.vmx"), "--target", "nas1", "--skip", "scsi0:1", "--json"]) == 0
    (made,) = json.loads(capsys.readouterr().out)
    assert made["left_out"] == ["scsi0:1"]
    delta, full = listed(capsys, "--vm", "Web")
    assert (delta["type"], delta["left_out"], full["left_out"]) == ("empty delta", ["scsi0:1"], [])
    assert [one["left_out"] for one in listed(capsys, "--vm", "CRM")] == [[], [], []]
    assert run(["backups", "--vm", "Web"]) == 0
    assert "without scsi0:1" in capsys.readouterr().out
    assert run(["plan", made["delta"], "--to", str(tmp_path / "out.vmdk")]) == 0
    assert "the disk scsi0:1 of this VM was left out of the backup" in capsys.readouterr().out
    assert run(["plan", made["delta"], "--to", str(tmp_path / "out.vmdk"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["delta"]["left_out"] == ["scsi0:1"]
