"""A terminal that types by itself: each command is shown, run by bash in the demo's folder, and must end with 0."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


class DemoFailed(Exception):
    """Something was off; the text says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell:
    """`folder` is where all commands run, with `phd` of this environment first on the PATH."""

    folder: Path

    @property
    def env(self) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
        return {**os.environ, "PATH": path, "PHD_CONFIG": str(self.folder / "phd.toml")}

    def type(self, command: str) -> str:
        """Show and run; the standard output, which was shown too."""
        show(command)
        ran = subprocess.run(["bash", "-c", command], cwd=self.folder, env=self.env, stdout=subprocess.PIPE, text=True, check=False)
        print(ran.stdout, end="", flush=True)
        if ran.returncode != 0:
            raise DemoFailed(f"'{command}' ended with {ran.returncode}")
        return ran.stdout

    def start(self, command: str, said: Path, ready: str) -> subprocess.Popen[bytes]:
        """Show and run in the background, as `command &` would; what it says goes to a file. Returns once it says `ready`."""
        show(f"{command} > {said.name} 2>&1 &")
        with said.open("wb") as file:
            process = subprocess.Popen(["bash", "-c", f"exec {command}"], cwd=self.folder, env=self.env, stdout=file, stderr=file)
        _wait_until(
            lambda: process.poll() is not None or ready in said.read_text(), f"'{ready}' of '{command}'", time.monotonic() + 30
        )
        if process.poll() is not None:
            raise DemoFailed(f"'{command}' ended with {process.returncode}:\n{said.read_text()}")
        return process

    def follow(self, log: Path, until: tuple[Path, ...], limit: float) -> None:
        """`tail -f` of a log that does not exist yet, until one of the files is there."""
        deadline = time.monotonic() + limit
        _wait_until(log.exists, log.name, deadline)
        show(f"tail -n +1 -f {log.relative_to(self.folder)}")
        tail = subprocess.Popen(["tail", "-n", "+1", "-f", "--sleep-interval=0.1", str(log)], cwd=self.folder)
        try:
            _wait_until(lambda: any(path.exists() for path in until), until[0].name, deadline)
            time.sleep(0.5)  # tail looks ten times a second; let it show the last line
        finally:
            tail.terminate()
            tail.wait()
        print("^C", flush=True)


def title(text: str) -> None:
    print(f"\n--- {text}", flush=True)


def show(command: str) -> None:
    print(f"$ {command}", flush=True)


def _wait_until(happened: Callable[[], bool], what: str, deadline: float) -> None:
    while not happened():
        if time.monotonic() > deadline:
            raise DemoFailed(f"{what} did not come in time")
        time.sleep(0.05)
