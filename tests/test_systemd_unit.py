"""The shipped unit: systemd understands every line of it, and it stays as tight as measured."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

UNIT = Path(__file__).resolve().parents[1] / "systemd" / "phd-daemon.service"
SERVER = UNIT.with_name("phd-serve@.service")
INSTALLED = "/opt/phd/bin/phd"
THRESHOLD = 15  # tenths; 1.5 is the best a root service that needs a network was measured to reach, without one it is 0.7


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed: the unit was not checked (Debian package systemd)")
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)


def complaints(unit_text: str, folder: Path, name: str = UNIT.name) -> str:
    """What `systemd-analyze verify` says of a copy whose program exists; nothing means all is understood."""
    assert INSTALLED in unit_text
    copy = folder / name
    copy.write_text(unit_text.replace(INSTALLED, "/bin/true"))
    ran = analyze("verify", "--man=no", str(copy))
    said = "\n".join(line for line in ran.stderr.splitlines() if name in line)
    return said or ("" if ran.returncode == 0 else ran.stderr)


def exposure_is_low(unit: Path) -> bool:
    return analyze("security", "--offline=true", f"--threshold={THRESHOLD}", "--no-pager", str(unit)).returncode == 0


def settings() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


def test_every_line_is_understood(tmp_path: Path) -> None:
    assert complaints(UNIT.read_text(), tmp_path) == ""


def test_every_line_of_the_unit_of_a_sessions_server_is_understood(tmp_path: Path) -> None:
    text = SERVER.read_text()
    assert complaints(text, tmp_path, SERVER.name) == ""
    assert complaints(text.replace("Restart=always", "Restart=often"), tmp_path, SERVER.name) != ""
    assert exposure_is_low(SERVER)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("KillMode=process", "KillMod=process"), ("WatchdogSec=30", "WatchdogSec=often"), ("Type=notify", "Type=notifies")],
)
def test_a_bad_line_is_noticed(tmp_path: Path, right: str, wrong: str) -> None:
    assert right in UNIT.read_text()
    assert complaints(UNIT.read_text().replace(right, wrong), tmp_path) != ""


def test_exposure() -> None:
    assert exposure_is_low(UNIT)


def test_a_loose_unit_is_noticed(tmp_path: Path) -> None:
    line = "CapabilityBoundingSet=\n"
    assert line in UNIT.read_text()
    loose = tmp_path / UNIT.name
    loose.write_text(UNIT.read_text().replace(line, ""))
    assert not exposure_is_low(loose)


def test_workers_survive_the_daemon_and_have_time_to_stop() -> None:
    unit = settings()
    assert unit["KillMode"] == ["process"]
    assert int(unit["TimeoutStopSec"][0]) > 90, "a drain may take 90 s"
    assert unit["OOMPolicy"] == ["continue"]
    assert unit["Type"] == ["notify"]
    assert int(unit["WatchdogSec"][0]) >= 10


def test_what_it_must_write_is_writable() -> None:
    unit = settings()
    assert unit["ReadWritePaths"] == ["/etc/phd -/vmfs/volumes"]
    assert unit["StateDirectory"] == ["phd"], "/var/lib/phd, the default state_dir"


def test_it_names_the_manual_page_by_its_real_section() -> None:
    pages = [page.stem for page in (UNIT.parents[1] / "docs").glob("*.[1-8]")]
    sections = [page.suffix[1:] for page in (UNIT.parents[1] / "docs").glob("*.[1-8]")]
    assert settings()["Documentation"] == [f"man:{pages[0]}({sections[0]})"]


def test_a_reload_fails_on_settings_with_a_mistake_before_the_daemon_is_told() -> None:
    check, hup = settings()["ExecReload"]
    assert check.endswith(f"{INSTALLED} daemon --check")
    assert "-HUP" in hup


DRILL = UNIT.with_name("phd-drill.service")
DRILL_THRESHOLD = 29
"""It may make namespaces (FUSE), has one capability for them, and writes memory that it executes (QEMU)."""


def test_the_drill_units_are_understood_and_as_tight_as_measured(tmp_path: Path) -> None:
    assert complaints(DRILL.read_text(), tmp_path, DRILL.name) == ""
    timer = tmp_path / "phd-drill.timer"
    timer.write_text(DRILL.with_suffix(".timer").read_text())
    assert timer.name not in analyze("verify", "--man=no", str(timer)).stderr
    found = analyze("security", "--offline=true", f"--threshold={DRILL_THRESHOLD}", "--no-pager", str(DRILL))
    assert found.returncode == 0, found.stdout


def test_a_drill_begins_only_if_somebody_enables_its_timer_and_has_limits() -> None:
    text = DRILL.read_text()
    assert "[Install]" not in text
    assert "phd drill" not in UNIT.read_text()
    for key in ("MemoryMax", "TasksMax", "TimeoutStartSec", "Nice", "IOWeight", "CPUWeight"):
        assert f"\n{key}=" in text
    assert "\nKillMode=control-group\n" in text
