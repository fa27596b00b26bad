"""`phd serve` as a child of the drill, one for each disk: it alone reads archives, and is joined to the rest by its socket."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phd_daemon.drill.launch import ProgramLimits
from phd_daemon.drill.programs import Program, started
from restore_core.errors import BadData, ExitCode, PhdError, TargetUnavailable, TryAgainLater, UsageError
from restore_core.naming import printable
from restore_core.targets.base import ArchiveRef, Stop

READY_SECONDS = 600.0
"""A target may be slow, and a Full of other backups may have to be looked for."""
_UNLIMITED = ProgramLimits(confined=False)
_MOST_ANSWER = 1 << 20
_MOST_TOLD = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedDrillDisk:
    """A disk that is served: its Delta, socket and size in bytes."""

    delta: ArchiveRef
    name: str
    socket: Path
    size: int
    program: Program

    def bad_blocks(self) -> list[str]:
        """Returns what the server said of blocks that it could not serve: each is bad in every copy."""
        return [line for line in self._told() if "cannot be served" in line]

    def healed_blocks(self) -> int:
        """Returns how many blocks another copy of the Full had."""
        return sum("is served from" in line for line in self._told())

    def other_troubles(self) -> list[str]:
        """Returns what else it said: of targets that do not answer."""
        return [line for line in self._told() if "cannot be served" not in line and "is served from" not in line]

    def _told(self) -> list[str]:
        return [line.removeprefix("phd: ") for line in self.program.said(_MOST_TOLD).splitlines()]


@contextlib.contextmanager
def served(delta: ArchiveRef, number: int, *, config: Path | None, folder: Path, stop: Stop) -> Iterator[ServedDrillDisk]:
    """Starts a server for a disk, and stops it at the end.

    Raises `BadData` for archives that are wrong, `UsageError` for what cannot be served, `TargetUnavailable`, `TryAgainLater`,
    and what `stop` raises.
    """
    path, log = folder / f"disk{number}.sock", folder / f"serve{number}.log"
    command = [sys.executable, "-P", "-m", "phd_daemon.cli.main", "serve", str(delta), "--sock", str(path), "--json", "--quiet"]
    command += ["--config", str(config)] if config is not None else []
    with started(command, log=log, limits=_UNLIMITED, stdout=subprocess.PIPE, gently=True) as program:
        ready = _ready(program, stop)
        (export,) = ready["exports"]
        yield ServedDrillDisk(delta=delta, name=str(export["disk"]), socket=path, size=int(export["size"]), program=program)


def _ready(program: Program, stop: Stop) -> dict[str, Any]:
    """Returns what the server prints when it lets clients in. Raises its error if it ends first."""
    output = program.process.stdout
    if output is None:
        raise TypeError("the server was started without a pipe")
    said, deadline = bytearray(), time.monotonic() + READY_SECONDS
    while True:
        stop()
        if time.monotonic() > deadline:
            raise TryAgainLater(f"the server of a disk was not ready after {READY_SECONDS:.0f} s: {program.said()}")
        if not select.select([output], [], [], 0.5)[0]:
            continue
        data = os.read(output.fileno(), 1 << 16)
        said += data
        if not data or len(said) > _MOST_ANSWER:
            raise _error(program.finish(), program.said())
        with contextlib.suppress(ValueError):
            found: dict[str, Any] = json.loads(said)
            return found


def _error(code: int, said: str) -> PhdError:
    text = printable(said.replace("\n", " ")) or f"the server of a disk ended with {code}"
    if code in (ExitCode.BAD_DATA, ExitCode.USAGE):
        return BadData(text) if code == ExitCode.BAD_DATA else UsageError(text)
    return TargetUnavailable(text) if code == ExitCode.UNAVAILABLE else TryAgainLater(text)
