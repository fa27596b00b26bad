"""Names on disk are UTF-8, whatever the locale says: the daemon, its workers and the command line in locales that are not."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from phd_daemon.spool.layout import State
from restore_core.backup.run import BackupOptions
from restore_core.backup.subject import Asked
from tests.lab import NIGHT, UUID, Lab
from tests.proof.daemon import PHD, Daemon

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.fixture(params=["ascii", "latin1"])
def locale(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """The environment of a process in such a locale."""
    if request.param == "ascii":
        return ASCII
    if shutil.which("localedef") is None:
        pytest.skip("localedef is not installed: no locale with ISO-8859-1 can be made")
    folder = tmp_path_factory.mktemp("locale")
    ran = subprocess.run(
        ["localedef", "-i", "de_DE", "-f", "ISO-8859-1", str(folder / "de_DE.ISO-8859-1")], capture_output=True, check=False
    )
    if not (folder / "de_DE.ISO-8859-1").is_dir():
        pytest.skip(f"localedef makes no locale here: {ran.stderr.decode(errors='replace').strip()}")
    return {"LOCPATH": str(folder), "LC_ALL": "de_DE.ISO-8859-1", "PYTHONUTF8": "0"}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Daemon, Lab, str]]:
    """An installation with a backup of a VM called Büro, and its Delta."""
    lab = Lab(tmp_path / "lab")
    options = BackupOptions(asked=Asked(vm="Büro", uuid=UUID), full=True, at=NIGHT, scratch=tmp_path)
    delta = lab.backup(os.urandom(1 << 20), options=options).delta
    assert delta is not None
    daemon = Daemon(tmp_path / "site", f'[targets.t]\nurl = "file://{lab.store}"\n')
    yield daemon, lab, str(delta)
    if daemon.alive:
        daemon.end(signal.SIGKILL)


def test_jobs_with_names_of_any_language_are_done(site: tuple[Daemon, Lab, str], locale: Mapping[str, str]) -> None:
    """A right control file ended the daemon with 70, and again at each start; others failed with "No such file"."""
    daemon, lab, delta = site
    daemon.up(environment=locale)
    for name, folder in (("a", "Grün"), ("b", "Łódź"), ("ж", "plain")):
        daemon.drop(name, delta, disk=f"{folder}/p")
    for name, folder in (("a", "Grün"), ("b", "Łódź"), ("ж", "plain")):
        assert daemon.ends(name) is State.DONE, daemon.log(name)
        assert daemon.disk(f"{folder}/p") == lab.disk.read_bytes()
    daemon.end()
    assert daemon.process is not None
    assert daemon.process.returncode == 0


def test_the_command_line_finds_and_makes_them(site: tuple[Daemon, Lab, str], locale: Mapping[str, str]) -> None:
    daemon, lab, delta = site
    to = daemon.datastore / "Łódź" / "p.img"
    for program in ([str(PHD)], [sys.executable, "-m", "phd_daemon.cli.main"]):
        ran = subprocess.run(
            [*program, "restore", delta, "--to", str(to), "--config", str(daemon.settings), "--overwrite"],
            env={**os.environ, **locale},
            capture_output=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        assert to.read_bytes() == lab.disk.read_bytes()
        to.unlink()


def test_a_terminal_gets_what_it_can_show(site: tuple[Daemon, Lab, str], locale: Mapping[str, str]) -> None:
    daemon, _lab, _delta = site
    ran = subprocess.run(
        [str(PHD), "backups", "--config", str(daemon.settings)], env={**os.environ, **locale}, capture_output=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert (b"B\xfcro" if "LOCPATH" in locale else b"B\\xfcro") in ran.stdout
