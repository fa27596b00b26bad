"""How an installation stands, out of its records alone: daemon, queue, rules, targets, datastores, and what needs a person.

Nothing here asks a server, lists a target or locks anything, so it answers at once, also while the daemon is dead. What cannot be
looked at is named in `unseen`; it does not hide the rest.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phd_daemon.operations.installation import how_to_start, settings_in_use
from phd_daemon.spool.layout import State
from phd_daemon.spool.snapshot import JobView, daemon_running, snapshot
from restore_core import __version__
from restore_core.durable import read_plain
from restore_core.errors import ConfigurationError, PhdError
from restore_core.naming import printable

if TYPE_CHECKING:
    from phd_daemon.config.model import Config
    from phd_daemon.host.datastores import DatastoreView
    from restore_core.catalog.index import Indexed

NOT_TAKEN = 60.0
"""Seconds after which a control file that nobody has accepted shows that the daemon hangs."""
_VERSION = 1
_LAST_PASS = 4 << 20
_WORDS = {"gone": "whose replica is gone", "ambiguous": "that fit several disks"}
_WRONG = {
    "diverged": "somebody has written the replica: 'phd rules check' says which; restore it by hand with --overwrite, or leave it",
    "gone": "the replica was deleted: delete the lines of its path in {ledger} to have it again, or remove its rule",
    "ambiguous": "write the UUID and the SCSI id into the rule ('phd rules edit'; 'phd backups' shows the UUIDs)",
    "failed": "its last restore failed: 'phd queue' and 'phd log JOB' say why",
    "no backup": "no target holds a backup that fits: 'phd backups' shows what there is, 'phd rules edit' changes the rule",
    "refused": "it could not be queued: 'phd rules check' says why",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """One thing that needs a person: what it is, and what to type."""

    what: str
    type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonView:
    """`pid` is 0 if it is not known, None if no daemon serves the spool. `hangs` says by what that is seen, else it is empty."""

    pid: int | None
    since: float | None
    hangs: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PassView:
    """The last pass: when it ended, its line, the number of rules with each verdict, the worst lag in seconds, wrong lines."""

    time: str
    summary: str
    rules: int
    verdicts: dict[str, int]
    worst_lag: float | None
    bad_lines: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillView:
    """The last drill: when it began, its VM (printable), its verdict and why."""

    time: str
    vm: str
    verdict: str
    reason: str


@dataclass(slots=True, kw_only=True)
class Overview:
    """How the installation stands. A part that could not be looked at is None, and named in `unseen`."""

    spool: str = ""
    problem: str = ""
    daemon: DaemonView | None = None
    jobs: tuple[JobView, ...] | None = None
    last_pass: PassView | None = None
    targets: tuple[Indexed, ...] | None = None
    datastores: tuple[DatastoreView, ...] | None = None
    last_drill: DrillView | None = None
    needs: list[Need] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        """Returns how many jobs are in each state."""
        found = Counter(job.state for job in self.jobs or ())
        return {state.meaning: found[state] for state in State}

    def oldest(self, state: State) -> float | None:
        """Returns since when a job has been in this state; None if none is."""
        return min((job.since for job in self.jobs or () if job.state is state), default=None)


def overview(path: Path | None) -> Overview:
    """Returns how the installation stands whose settings are in `path` (None: the default path)."""
    from phd_daemon.config.load import load_what_is_right

    found = Overview()
    try:
        config, found.problem = load_what_is_right(path)
    except ConfigurationError as error:
        found.problem = str(error)
        found.unseen.append("everything that the settings name")
        return found
    found.spool = printable(str(config.queue.spool))
    for look, what in (
        (_queue, "the queue"),
        (_rules, "the last pass"),
        (_targets, "the targets"),
        (_datastores, "the datastores"),
        (_drills, "the drills"),
    ):
        _try(found, config, look, what)
    return found


def _try(found: Overview, config: Config, look: Callable[[Overview, Config], None], what: str) -> None:
    try:
        look(found, config)
    except PhdError as error:
        found.unseen.append(f"{what}: {error}")
    except OSError as error:
        where = printable(os.fsdecode(error.filename)) if error.filename else ""
        may_not = " (ask as root, or as a member of the spool's group)" if isinstance(error, PermissionError) else ""
        found.unseen.append(f"{what}: {where}: {error.strerror}{may_not}")


def _queue(found: Overview, config: Config) -> None:
    folder = config.queue.spool
    if not folder.is_dir():
        found.needs.append(
            Need(what=f"there is no spool {found.spool} ({settings_in_use(config)})", type=f"install -d -m 0700 {found.spool}")
        )
        return
    found.jobs = jobs = snapshot(folder, time.time())
    found.needs.extend(_of_jobs(jobs))
    with contextlib.suppress(FileNotFoundError):
        found.daemon = _daemon(folder, jobs)
    if found.daemon is not None and found.daemon.pid is None:
        found.needs.append(Need(what="no daemon serves the spool: nothing is restored", type=how_to_start()))
    elif found.daemon is not None and found.daemon.hangs:
        found.needs.append(Need(what=f"the daemon hangs: {found.daemon.hangs}", type="phd doctor"))
    if not config.queue.enabled and any(job.state is State.WAITING for job in jobs):
        found.needs.append(Need(what="the restore queue is switched off, and jobs wait", type="phd options queue.enabled true"))


def _daemon(folder: Path, jobs: tuple[JobView, ...]) -> DaemonView:
    pid = daemon_running(folder)
    since, hangs = None, ""
    if pid:
        with contextlib.suppress(OSError, IndexError):
            since, letter = started_at(pid), _fields(pid)[0]
            hangs = {"T": f"it is stopped (kill -CONT {pid} lets it go on)", "D": "it waits for a disk or a mount"}.get(letter, "")
    late = [job for job in jobs if job.state is State.WAITING and not job.accepted and job.until is None and not job.rotated]
    if pid is not None and not hangs and late and time.time() - min(job.since for job in late) > NOT_TAKEN:
        hangs = f"it has not read {printable(late[0].name)}.job"
    return DaemonView(pid=pid, since=since, hangs=hangs)


def started_at(pid: int) -> float:
    """Returns when a process began, as a Unix time. The times of /proc/PID are those of the first look at it. Raises `OSError`."""
    since_boot = int(_fields(pid)[19]) / os.sysconf("SC_CLK_TCK")
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + since_boot


def _fields(pid: int) -> list[str]:
    """Returns the fields of /proc/PID/stat (proc(5)) after the name. Raises `OSError`."""
    return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()


def _of_jobs(jobs: tuple[JobView, ...]) -> Iterator[Need]:
    for state, verb in ((State.FAILED, "failed"), (State.REJECTED, "was rejected"), (State.HELD, "is held")):
        mine = [job for job in jobs if job.state is state]
        if not mine:
            continue
        newest = max(mine, key=lambda job: job.since)
        name = printable(newest.name)
        others = f" and {len(mine) - 1} more" if len(mine) > 1 else ""
        then = {State.FAILED: f", then: phd retry {name}, or phd clean {name}", State.REJECTED: f", then: phd clean {name}"}
        act = f"phd release {name}, or phd cancel {name}" if state is State.HELD else f"phd log {name}{then[state]}"
        yield Need(what=f"{name}{others} {verb}", type=act)


def _rules(found: Overview, config: Config) -> None:
    lines = _last_line(config.state_dir / "passes.jsonl")
    if lines is None:
        return
    try:
        found.last_pass = one = _pass_of(json.loads(lines))
    except (ValueError, LookupError, TypeError, AttributeError):
        found.unseen.append("the last pass: its record cannot be read; the next pass writes another: phd replicate")
        return
    if one.bad_lines:
        found.needs.append(Need(what=f"wrong lines in rules or ledger: {one.bad_lines}", type="phd rules check"))
    ledger = printable(str(config.replication.ledger))
    for verdict, count in one.verdicts.items():
        if verdict in _WRONG:
            which = _WORDS.get(verdict) or f"that are '{verdict}'"
            what = f"rules {which}: {count}"
            found.needs.append(Need(what=what, type=_WRONG[verdict].format(ledger=ledger)))


def _last_line(path: Path) -> bytes | None:
    try:
        return read_plain(path, _LAST_PASS * 2).splitlines()[-1]
    except (FileNotFoundError, IndexError):
        return None


def _pass_of(document: dict[str, Any]) -> PassView:
    decisions = document["decisions"]
    return PassView(
        time=dt.datetime.fromisoformat(str(document["time"])).isoformat(),
        summary=str(document["summary"]),
        rules=int(document["rules"]),
        verdicts=dict(sorted(Counter(str(one["verdict"]) for one in decisions).items())),
        worst_lag=max((float(one["lag_seconds"]) for one in decisions if one["lag_seconds"] is not None), default=None),
        bad_lines=len(document["problems"]) + len(document["ledger_problems"]),
    )


def _targets(found: Overview, config: Config) -> None:
    from phd_daemon.host.catalog import catalog_of

    found.targets = catalog_of(config).known()
    if not found.targets:
        found.needs.append(Need(what="no target is configured", type="add [targets.NAME] to phd.toml; the sample shows how"))
    for one in found.targets:
        if one.trouble:
            accept = f", and if it was emptied on purpose: phd targets accept {one.target}" if "holds none" in one.trouble else ""
            found.needs.append(Need(what=one.trouble, type=f"phd targets{accept}"))


def _datastores(found: Overview, config: Config) -> None:
    from phd_daemon.host.datastores import record_of, views

    found.datastores = tuple(views(record_of(config)))
    for one in found.datastores:
        if one.state.wrong:
            where = printable(str(one.path))
            found.needs.append(Need(what=f"{where}: {one.state.value}", type="phd datastores"))


def _drills(found: Overview, config: Config) -> None:
    from phd_daemon.drill.kept_drills import DrillFolder
    from phd_daemon.drill.verdict import still_failed

    kept = DrillFolder(config.state_dir).kept()
    if kept:
        last = kept[-1]
        found.last_drill = DrillView(
            time=last.began.isoformat(timespec="seconds"), vm=printable(last.vm), verdict=last.verdict.value, reason=last.reason
        )
    for one in still_failed(kept):
        found.needs.append(Need(what=f"the last drill of {printable(one.vm)} failed: {one.reason}", type="phd drill --list"))


def document(found: Overview) -> dict[str, Any]:
    """Returns the stable form for programs, as docs/reference.md says; `phd_daemon.show.overview` makes a text of it."""
    return {
        "version": _VERSION,
        "phd": __version__,
        "spool": found.spool,
        "problem": found.problem,
        "daemon": asdict(found.daemon) if found.daemon else None,
        "queue": found.counts if found.jobs is not None else None,
        "waiting_since": found.oldest(State.WAITING),
        "failed_since": found.oldest(State.FAILED),
        "running": [
            {"job": printable(job.name), "percent": job.progress.percent, "remaining": job.progress.remaining}
            for job in found.jobs or ()
            if job.progress
        ],
        "last_pass": asdict(found.last_pass) if found.last_pass else None,
        "targets": None
        if found.targets is None
        else [
            {"name": one.target, "archives": one.archives, "listed": one.head and one.head.finished, "problem": one.trouble}
            for one in found.targets
        ],
        "datastores": None
        if found.datastores is None
        else [{"path": printable(str(one.path)), "state": one.state.value, "free": one.free} for one in found.datastores],
        "last_drill": asdict(found.last_drill) if found.last_drill else None,
        "needs": [asdict(need) for need in found.needs],
        "unseen": found.unseen,
    }
