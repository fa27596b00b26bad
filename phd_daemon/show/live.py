"""What a restore in the foreground shows: one line drawn over and over on a terminal, a line every 5 s anywhere else."""

from __future__ import annotations

import shutil
import time
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import PurePosixPath

from phd_daemon.show import output
from phd_daemon.show.progress import clock, full_line, live, shortened
from restore_core import __version__
from restore_core.naming import printable
from restore_core.restore.request import Phase, PlanSummary, Progress, RestoreOutcome, RestoreRequest
from restore_core.targets.base import LOCAL, TargetSpec

_REDRAW_EVERY = 0.25
_PRINT_EVERY = 5.0
RenderLine = Callable[[Progress, float], str]


def delta_line(progress: Progress, now: float) -> str:
    """The line of a Delta restore."""
    return live(progress, now=now).line


def redraw(text: str) -> None:
    """Draw it over the last one, shortened where the terminal is too narrow for it."""
    output.redraw(shortened(text, shutil.get_terminal_size().columns - 1))


def at_the_end(progress: Progress) -> Progress:
    """What the last line shows: what was published is a restore that is done, and no phase any more."""
    return replace(progress, phase=Phase.RESTORE) if progress.phase is Phase.PUBLISH else progress


class FullLine:
    """The line of a Full restore; it remembers the last one, for the current rate."""

    def __init__(self) -> None:
        self._done, self._then, self._rate = 0, 0.0, 0.0

    def __call__(self, progress: Progress, now: float) -> str:
        """`405 MB processed Avg(15.0 MB/s) Cur(13.7 MB/s)`."""
        then = self._then or progress.started
        if now > then:
            self._rate = (progress.done - self._done) / (now - then)
        self._done, self._then = progress.done, now
        return full_line(done=progress.done, elapsed=now - progress.started, current_rate=self._rate)


class LiveReport:
    """The `Reporter` of a command in the foreground."""

    def __init__(self, line: RenderLine = delta_line, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._line, self._clock = line, clock
        self._terminal = output.on_a_terminal()
        self._every = _REDRAW_EVERY if self._terminal else _PRINT_EVERY
        self._shown = clock()
        self._last: Progress | None = None

    def note(self, text: str) -> None:
        """One line of what was decided."""
        output.say(text)

    def planned(self, plan: PlanSummary) -> None:
        """The plan."""
        self.note(f"Planned: {plan.describe()}")

    def progress(self, progress: Progress) -> None:
        """How far it is; called far more often than it is shown."""
        now = self._clock()
        self._last = progress
        if now - self._shown >= self._every:
            self._shown = now
            self._show(progress, now)

    def must_go_on(self) -> bool:
        """Whether the restore is where it cannot be stopped any more."""
        return self._last is not None and self._last.phase in (Phase.APPLY, Phase.PUBLISH)

    def close(self) -> None:
        """Show the last line once more; it stays."""
        if self._last is not None:
            self._show(at_the_end(self._last), self._clock())
            if self._terminal:
                output.say()

    def _show(self, progress: Progress, now: float) -> None:
        text = self._line(progress, now)
        redraw(text) if self._terminal else output.say(text)


def header_block(request: RestoreRequest, specs: Mapping[str, TargetSpec], *, is_full: bool) -> list[str]:
    """Returns the lines that say what is going to be restored and to where, as phd has printed them since 2007."""
    kind = "FULL" if is_full else "DELTA"
    path = PurePosixPath(request.delta.path)
    to = request.destination
    if request.delta.target == LOCAL:
        location, source = str(path.parent.parent), "LOCAL"
    else:
        url = urllib.parse.urlsplit(specs[request.delta.target].url)
        location = urllib.parse.unquote(url.path, errors="surrogateescape") if url.scheme == "file" else f"{url.hostname}{url.path}"
        source = "LOCAL" if url.scheme == "file" else f"NET {url.scheme.upper()}"
    disk = [f" VMDK: {printable(to.name)}", f" FLAT: {printable(to.stem)}-flat.vmdk"] if to.suffix == ".vmdk" else []
    return [
        f"phd {__version__}, Doing {kind} Backup Restoration",
        "",
        f"Restore {kind} Backup from",
        f" Location: {printable(location)}",
        f" Folder  : {printable(path.parent.name)}",
        f" File    : {printable(path.name)}",
        "Restore to:",
        f" VMFS: {printable(str(to.parent))}",
        *(disk or [f" FILE: {printable(to.name)}"]),
        "",
        f"Restoring {kind} Backup from {source} Target",
    ]


def done_line(outcome: RestoreOutcome, *, is_full: bool) -> str:
    """Returns the one line that says what was restored, how fast and how."""
    vmx_text = f", VMX {printable(outcome.vmx.name)}" if outcome.vmx else ""
    where = printable(str(outcome.destination))
    checked = "restored" if is_full else "restored and verified"
    return f"{where}: {outcome.disk_size} bytes {checked} in {clock(outcome.seconds)} ({outcome.way}{vmx_text})"
