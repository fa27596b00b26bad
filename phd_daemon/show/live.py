"""What a restore or a backup in the foreground prints: a line that is drawn over on a terminal, a line every 5 s elsewhere."""

from __future__ import annotations

import shutil
import time
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import PurePosixPath

from phd_daemon.show import output
from phd_daemon.show.progress import clock, delta_line, full_line, shortened
from restore_core import __version__
from restore_core.naming import printable
from restore_core.restore.request import Phase, PlanSummary, Progress, RestoreOutcome, RestoreRequest
from restore_core.targets.base import LOCAL, TargetSpec

_REDRAW_EVERY = 0.25
_PRINT_EVERY = 5.0
RenderLine = Callable[[Progress, float], str]
Say = Callable[[str], None]


def redraw(text: str) -> None:
    """Draws a line over the last one, shortened if the terminal is too narrow for it."""
    output.redraw(shortened(text, shutil.get_terminal_size().columns - 1))


class FullLine:
    """The line of a Full restore; it remembers the last one, for the current rate."""

    def __init__(self) -> None:
        self._done, self._then, self._rate = 0, 0.0, 0.0

    def __call__(self, progress: Progress, now: float) -> str:
        """Returns `405 MB processed Avg(15.0 MB/s) Cur(13.7 MB/s)`."""
        then = self._then or progress.started
        if now > then:
            self._rate = (progress.done - self._done) / (now - then)
        self._done, self._then = progress.done, now
        return full_line(done=progress.done, elapsed=now - progress.started, current_rate=self._rate)


class LiveLine:
    """A line that is shown at most so often. Without `say` and `draw` it goes to standard output; without `draw` to `say`."""

    def __init__(self, say: Say | None = None, draw: Say | None = None, every: float | None = None) -> None:
        terminal = say is None and draw is None and output.on_a_terminal()
        self._ends = terminal
        self._say = say or output.say
        self._draw = draw or (redraw if terminal else self._say)
        self._every = every or (_REDRAW_EVERY if terminal else _PRINT_EVERY)
        self._shown = time.monotonic()
        self._drawn = False

    def note(self, text: str) -> None:
        """Shows one line that stays."""
        self._say(text)

    def show(self, text: Callable[[float], str], *, last: bool = False) -> None:
        """Shows the text of this moment if the last one was shown long enough ago, or if it is the `last` one."""
        now = time.monotonic()
        if last or now - self._shown >= self._every:
            self._shown, self._drawn = now, True
            self._draw(text(now))

    def end(self) -> None:
        """Goes to the next line of the terminal, if something was drawn."""
        if self._drawn and self._ends:
            self._say("")


class LiveReport:
    """The `Reporter` of a restore that a person watches."""

    def __init__(self, line: RenderLine = delta_line, live: LiveLine | None = None) -> None:
        self._line, self._live = line, live or LiveLine()
        self._last: Progress | None = None

    def note(self, text: str) -> None:
        """Shows one line of what was decided."""
        self._live.note(text)

    def planned(self, plan: PlanSummary) -> None:
        """Shows the plan."""
        self._live.note(f"Planned: {plan.describe()}")

    def progress(self, progress: Progress) -> None:
        """Takes how far it is; called far more often than it is shown."""
        self._last = progress
        self._live.show(lambda now: self._line(progress, now))

    def must_go_on(self) -> bool:
        """Returns whether the restore is where it cannot be stopped any more."""
        return self._last is not None and self._last.phase in (Phase.APPLY, Phase.PUBLISH)

    def close(self) -> None:
        """Shows the last line once more; it stays. What was published is a restore that is done, and no phase any more."""
        last = self._last
        if last is not None:
            last = replace(last, phase=Phase.RESTORE) if last.phase is Phase.PUBLISH else last
            self._live.show(lambda now: self._line(last, now), last=True)
            self._live.end()


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
