"""Drills: a VM whose last one failed, and an installation that had drills and has none any more."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

from phd_daemon.doctor.finding import Finding, Report
from phd_daemon.drill.kept_drills import DrillFolder
from phd_daemon.drill.verdict import Drill, still_failed
from restore_core.naming import printable, time_text

_DAY = dt.timedelta(days=1)


def examine(state_dir: Path, *, warn_after: float, now: dt.datetime) -> Report:
    """Examines the drills that are kept; `warn_after` are seconds. Without any drill there is nothing to say."""
    folder = DrillFolder(state_dir)
    try:
        kept = folder.kept()
    except OSError as error:
        return Report(unseen=(f"the drills: {printable(str(folder.path))}: {error.strerror}",))
    if not kept:
        return Report()
    found = [*map(_failed, still_failed(kept)), *_late(kept[-1], warn_after, now)]
    last = kept[-1]
    fact = f"last drill: {printable(last.vm)}, {time_text(last.began)} UTC: {last.verdict.value}"
    return Report(findings=tuple(found), facts=(fact,))


def _failed(one: Drill) -> Finding:
    return Finding(
        check="drill-failed",
        what=f"the drill of its backup of {time_text(one.backup)} UTC failed: {one.reason}",
        where=printable(one.vm),
        why="It may not come up when it has to be restored.",
        mend="Look at 'phd drill --list' and the picture; make a new backup, and drill that: phd drill NAME.",
    )


def _late(last: Drill, warn_after: float, now: dt.datetime) -> Iterator[Finding]:
    if (now - last.began).total_seconds() > warn_after:
        yield Finding(
            check="drill-late",
            what=f"the last drill was {(now - last.began) // _DAY} days ago",
            where=printable(last.vm),
            why="Whether the backups made since then boot is not known.",
            mend="Look whether phd-drill.timer runs (systemctl list-timers), or drill by hand: phd drill --random.",
        )
