"""What a killed backup left on a server is named, with its size, its age and how to remove it; and the doctor stays quick."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from phd_daemon.doctor import examination, leftovers
from phd_daemon.doctor.finding import Report
from restore_core.targets.base import ServerLimits, TargetSpec
from tests import servers
from tests.servers import Served

PART = "2026.03.01-A.x/.phd-0123456789abcdef.phd-part"


@pytest.fixture(scope="module")
def ssh() -> Iterator[Served]:
    with tempfile.TemporaryDirectory(prefix="phd-") as folder, servers.sshd(Path(folder)) as served:
        yield served


@pytest.fixture
def part(ssh: Served) -> Iterator[Path]:
    """A part file of 30,000,000 bytes, three days old."""
    path = ssh.store / PART
    path.parent.mkdir()
    with path.open("wb") as file:
        file.truncate(30_000_000)
    then = time.time() - 3 * 86400 - 60
    os.utime(path, (then, then))
    yield path
    shutil.rmtree(path.parent)


def test_a_part_file_on_a_server_is_named_with_size_age_and_the_command_that_removes_it(ssh: Served, part: Path) -> None:
    (found,) = leftovers.on_servers([ssh.spec], time.time()).findings
    assert found.check == "partial-file-stale"
    assert found.where == f"sftp:{PART}"
    assert "28.6 MB of an unfinished backup, not written for 3 days" in found.what
    assert found.mend.startswith("printf ")
    assert str(part) in found.mend
    assert os.system(found.mend) == 0  # noqa: S605 - it is what a person would type
    assert not part.exists()
    assert leftovers.on_servers([ssh.spec], time.time()) == Report()


def test_a_backup_that_is_being_made_is_no_finding(ssh: Served, part: Path) -> None:
    os.utime(part)
    assert leftovers.on_servers([ssh.spec], time.time()) == Report()


def test_a_name_that_steers_a_terminal_is_not_printed(ssh: Served, part: Path) -> None:
    part.rename(part.with_name(".phd-\x1b[2J.phd-part"))
    (found,) = leftovers.on_servers([ssh.spec], time.time()).findings
    assert "\x1b" not in found.where + found.mend
    assert "%HH" in found.mend


def test_a_target_that_takes_too_long_is_said_to_be_seen_in_part(ssh: Served, part: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert part.exists()
    assert leftovers.LOOK.listing_seconds <= 30
    monkeypatch.setattr(leftovers, "LOOK", ServerLimits(listing_seconds=-1.0))
    (unseen,) = leftovers.on_servers([ssh.spec], time.time()).unseen
    assert "all leftovers on target sftp" in unseen


def test_a_folder_of_this_machine_is_not_asked_like_a_server() -> None:
    assert leftovers.on_servers([TargetSpec(name="a", url="file:///nowhere")], time.time()) == Report()


def test_a_server_that_did_not_answer_is_not_asked_again(
    ssh: Served, part: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "none").touch()
    dead = replace(ssh.spec, name="dead", url=f"sftp://u@127.0.0.1:{servers.free_port()}/", known_hosts=str(tmp_path / "none"))
    keys = ("url", "key_file", "known_hosts")
    tables = "".join(
        f"[targets.{spec.name}]\n" + "".join(f'{key} = "{getattr(spec, key)}"\n' for key in keys) for spec in (ssh.spec, dead)
    )
    (tmp_path / "phd.toml").write_text(f'state_dir = "{tmp_path}/state"\n[queue]\nspool = "{tmp_path}/spool"\n{tables}')
    asked: list[str] = []
    look = leftovers.on_servers

    def noted(specs: Collection[TargetSpec], now: float) -> Report:
        asked.extend(spec.name for spec in specs)
        return look(specs, now)

    monkeypatch.setattr(leftovers, "on_servers", noted)
    found = examination.examine(tmp_path / "phd.toml").findings
    assert asked == ["sftp"]
    assert [one.where for one in found if one.check == "partial-file-stale"] == [f"sftp:{PART}"]
    assert part.exists()


@pytest.mark.parametrize(("nlst", "found", "unseen"), [([], [f"ftp:{PART}"], ()), (["NLST"], [], ("ftp",))])
def test_a_server_that_shows_no_dot_names_in_its_listings_is_asked_otherwise_or_said_to_hide_them(
    tmp_path: Path, nlst: list[str], found: list[str], unseen: tuple[str, ...]
) -> None:
    """Without MLSD, and where LIST -a is LIST: part files of older versions were there, and the doctor found nothing."""
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"*": {"without": ["MLSD", "MLST", *nlst], "dots": "never"}}))
    with servers.pyftpd(tmp_path, script=script) as served:
        path = served.store / PART
        path.parent.mkdir()
        path.write_bytes(b"12345")
        os.utime(path, (0, 1_600_000_000))
        report = leftovers.on_servers([served.spec], time.time())
        assert [one.where for one in report.findings] == found
        assert [line.split(":")[0] for line in report.unseen] == [f"leftovers on target {name}" for name in unseen]
        shown = path.with_name(path.name.removeprefix("."))  # as they are called now
        path.rename(shown)
        assert [one.where for one in leftovers.on_servers([served.spec], time.time()).findings] == [
            f"ftp:{PART.replace('/.', '/')}"
        ]
