"""The programs that a daemon starts run our own code, whatever lies in the folder that it was started in."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from phd_daemon.cli.commands.daemon import WORKER
from phd_daemon.replication.schedule import COMMAND


@pytest.mark.parametrize("command", [WORKER, COMMAND], ids=["worker", "pass"])
def test_no_module_is_taken_from_the_folder_that_a_daemon_was_started_in(command: Sequence[str], tmp_path: Path) -> None:
    """A daemon started by hand in another checkout ran the workers of that one."""
    for package in ("phd_daemon", "restore_core"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("import os\nos._exit(99)\n")
    ran = subprocess.run(command, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60)
    assert ran.returncode != 99
