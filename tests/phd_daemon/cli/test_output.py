"""Standard output that is full, closed or not there at all: no traceback, no false failure of what was done, no false success."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PHD = [sys.executable, "-m", "phd_daemon.cli.main"]
FULL = Path("/dev/full")
DELTA = "nas1:CRM.564d122a-0ed7-3b92-2f46-aee9456b2074.2026.01.09-0310/00.CRM.vmdk.2026.01.09-0310.delta"

pytestmark = pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")


@pytest.fixture(autouse=True)
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "volumes/A").mkdir(parents=True)
    (tmp_path / "restore").mkdir(mode=0o700)
    (tmp_path / "phd.toml").write_text(
        f'[queue]\nspool = "{tmp_path}/restore"\n[datastores]\nroots = ["{tmp_path}/volumes"]\n'
        f'[targets.nas1]\nurl = "file://{tmp_path}"\n'
    )
    monkeypatch.setenv("PHD_CONFIG", str(tmp_path / "phd.toml"))
    return tmp_path


def phd(*words: str) -> subprocess.CompletedProcess[str]:
    """The command with a full standard output."""
    with FULL.open("w") as full:
        return subprocess.run([*PHD, *words], stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE, text=True, check=False)


def in_shell(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", "-c", script, "sh", *PHD], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("words", [["queue"], ["options"], ["--help"], ["backups", "--help"], ["--version"], ["doctor"]])
def test_a_full_output_is_said_once_and_is_no_success(words: list[str]) -> None:
    ran = phd(*words)
    assert ran.stderr.endswith("phd: standard output: No space left on device: what was to be printed is lost\n")
    assert "Traceback" not in ran.stderr
    assert ran.returncode == (1 if words == ["doctor"] else 73)


def test_a_job_that_was_queued_is_no_failure(site: Path) -> None:
    ran = phd("submit", DELTA, "--to", str(site / "volumes/A/crm.vmdk"))
    assert (site / "restore/crm.job").exists(), ran.stderr
    assert ran.returncode == 0
    assert ran.stderr.endswith("phd: standard output: No space left on device: 'phd submit' did its work all the same\n")
    assert phd("hold", "crm").returncode == 0


@pytest.mark.parametrize("closed", [">&-", "<&-", "<&- >&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("words", ["queue", "options", "--help", "", "--plain"])
def test_without_standard_streams(words: str, closed: str) -> None:
    ran = in_shell(f'"$@" {words} {closed}')
    assert "bug" not in ran.stderr
    assert ran.returncode in ({0, 130} if words == "--plain" else {0})


def test_no_file_takes_the_place_of_a_closed_stream(site: Path) -> None:
    """A file that is opened while 1 is free would be printed into."""
    code = (
        "import os; from phd_daemon.show import output; output.open_what_is_missing();"
        f"fd = os.open({str(site / 'phd.toml')!r}, os.O_RDONLY); os.write(2, str(fd > 2).encode()); output.say('x')"
    )
    ran = subprocess.run(
        ["sh", "-c", '"$0" -c "$1" <&- >&-', sys.executable, code], stderr=subprocess.PIPE, text=True, check=True, env=os.environ
    )
    assert ran.stderr == "True"
