"""`phd serve` as a process of its own, as it is confined for good, and the programs that read what it serves."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


class ServeProcess:
    """A server that runs. `ready` is what it printed with --json."""

    def __init__(self, process: subprocess.Popen[str], ready: dict[str, Any], log: Path) -> None:
        self.process, self.ready, self.log = process, ready, log

    @property
    def uri(self) -> str:
        return str(self.ready["exports"][0]["uris"][0])

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, and return the exit code."""
        self.process.send_signal(number)
        code = self.process.wait(60)
        assert self.process.stdout is not None
        assert not self.process.stdout.read(), "one document, and nothing else"
        return code


@contextlib.contextmanager
def phd_serve(folder: Path, *arguments: object, settings: str = "") -> Iterator[ServeProcess]:
    """`phd serve --json ARGUMENTS` with its settings below `folder`, until the end of the context."""
    config, log = folder / "phd.toml", folder / "serve.log"
    config.write_text(f'state_dir = "{folder}/state"\n[queue]\nspool = "{folder}/spool"\n{settings}')
    command = [sys.executable, "-m", "phd_daemon.cli.main", "serve", "--json", "--config", str(config), *map(str, arguments)]
    with log.open("a") as errors, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process:
        try:
            assert process.stdout is not None
            text = ""
            for line in process.stdout:
                text += line
                if line == "}\n":
                    break
            assert text, f"exit code {process.wait(30)}: {log.read_text()}"
            yield ServeProcess(process, json.loads(text), log)
        finally:
            process.kill()


def tool(name: str) -> str:
    """The path of a program; skips, loudly, where it is not installed."""
    found = shutil.which(name, path=PATH)
    if found is None:
        pytest.skip(f"{name} is not installed: tests/machine/debian.sh test installs it where it may")
    return found


def ran(*command: object, code: int = 0) -> str:
    """What a program prints; it must end with this code."""
    done = subprocess.run([tool(str(command[0])), *map(str, command[1:])], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == code, f"{command}: {done.returncode}: {done.stdout} {done.stderr}"
    return done.stdout + done.stderr
