"""Runs all checks. Each is independent: what one cannot look at does not stop the others."""

from __future__ import annotations

import contextlib
import datetime as dt
import time
from collections.abc import Iterator
from pathlib import Path

from phd_daemon.config.load import load_config
from phd_daemon.config.model import Config
from phd_daemon.doctor import datastores, drills, leftovers, machine, open_sessions, rules, spool, targets, unit
from phd_daemon.doctor.finding import Finding, Report
from phd_daemon.host.catalog import catalog_of
from phd_daemon.host.datastores import record_of
from phd_daemon.operations.installation import settings_in_use
from phd_daemon.replication import one_pass
from phd_daemon.spool.layout import Spool
from phd_daemon.worker import sandbox
from restore_core.errors import ConfigurationError, PhdError
from restore_core.naming import printable
from restore_core.replication.ledger import read_ledger
from restore_core.replication.selection import JobPhase
from restore_core.targets.kinds import make_target


def examine(path: Path | None) -> Report:
    """Examines the installation whose settings are in `path` (None: the default path)."""
    try:
        config = load_config(path)
    except ConfigurationError as error:
        return Report(findings=(_invalid(error),), unseen=("everything that the settings name",)) + unit.examine() + _confinement()
    reached = targets.reachable(config.targets, held=catalog_of(config).held)
    known, left = _of_jobs(config)
    parts = (
        Report(facts=(settings_in_use(config),)),
        targets.secrets(config.targets, config.source),
        Report(findings=tuple(targets.idle(config.targets))),
        spool.examine(config.queue.spool, enabled=config.queue.enabled),
        datastores.examine_folders(config),
        known,
        reached,
        _replication(config, reached),
        left,
        Report(findings=tuple(open_sessions.unserved(Spool(folder=config.queue.spool)))),
        leftovers.on_servers([spec for spec in config.targets if spec.name not in _silent(reached)], time.time()),
        _machine(config),
        drills.examine(config.state_dir, warn_after=config.drills.warn_after, now=dt.datetime.now(dt.UTC)),
        unit.examine(),
        _confinement(),
    )
    return sum(parts, Report())


def _invalid(error: ConfigurationError) -> Finding:
    return Finding(
        check="config-invalid",
        what=error.message,
        where="phd.toml",
        why="A running daemon keeps its old settings; a new one does not start.",
        mend=error.remedy,
    )


def _silent(reached: Report) -> set[str]:
    """Returns the targets that have just failed to answer: they are not asked again."""
    return {one.where.removeprefix("targets.") for one in reached.findings}


def _replication(config: Config, reached: Report) -> Report:
    """Examines rules and catalog. A target that has just failed to answer is not asked again: its last listing is used."""
    silent = _silent(reached)
    catalog = catalog_of(config)
    old = set(catalog.old(max_age=config.index.max_age, now=time.time())) - silent
    unseen: tuple[str, ...] = ()
    if old:
        try:
            catalog.index(make_target, names=old)
        except OSError as error:
            unseen = (f"what {', '.join(sorted(old))} hold now: state_dir cannot be written ({error.strerror})",)
    found: list[Finding] = list(rules.from_the_future(catalog.entries(), dt.datetime.now(dt.UTC)))
    found += targets.partial(catalog.known())
    where, ledger = printable(str(config.replication.rules)), printable(str(config.replication.ledger))
    try:
        look = one_pass.decide_rules(config, catalog, keep=False)
        found += rules.findings(look, rules=where, ledger=ledger)
        unseen += rules.unseen(look)
    except PhdError as error:
        if targets.may_not_look(error):
            return Report(findings=tuple(found), unseen=(*unseen, f"the rules: {error.message}; ask as root"))
        why, mend = "No rule can be followed: nothing is replicated.", error.remedy or "Make the file readable."
        found.append(Finding(check="rule-bad", what=error.message, where=where, why=why, mend=mend))
    except OSError as error:
        unseen += (f"the rules: {error.strerror} ({printable(str(error.filename or where))})",)
    return Report(findings=tuple(found), unseen=unseen)


def _of_jobs(config: Config) -> tuple[Report, Report]:
    """Examines the datastores that jobs wait for, and the leftovers that no job will continue with."""
    record = record_of(config)
    try:
        jobs = one_pass.queued_jobs(Spool(folder=config.queue.spool))
    except OSError as error:
        unread = Report(unseen=(f"leftovers of restores: the queue cannot be read ({error.strerror})",))
        return datastores.examine(record, ()), unread
    owned = [job.destination for job in jobs if job.phase is JobPhase.ACTIVE]
    tops = [*_datastores(config), config.queue.spool, config.state_dir, *leftovers.local_folders(config.targets)]
    return datastores.examine(record, jobs), leftovers.examine(tops, owned=owned, now=time.time())


def _machine(config: Config) -> Report:
    places = {config.queue.spool: "spool", config.state_dir: "state_dir"}
    found = [*machine.full({**places, **dict.fromkeys(_datastores(config), "datastore")})]
    # In .state, since a file in the spool itself would wake the daemon.
    found += machine.clocks([Spool(folder=config.queue.spool).state_folder, config.state_dir])
    with contextlib.suppress(PhdError, OSError):
        newest = max((line.time.timestamp() for line in read_ledger(config.replication.ledger).lines), default=0.0)
        found += machine.backwards(newest, time.time(), printable(str(config.replication.ledger)))
    return Report(findings=tuple(found))


def _confinement() -> Report:
    have = sandbox.available()
    fact = Report(facts=(f"workers: {have.describe()}",))
    if have.execution_denied:
        return fact
    bad = Finding(
        check="not-confined",
        what="this kernel offers neither Landlock nor seccomp",
        where="workers",
        why="Only our own code keeps a worker from running a program.",
        mend="Use a kernel of 5.13 or later with CONFIG_SECURITY_LANDLOCK, or one with CONFIG_SECCOMP_FILTER.",
    )
    return fact + Report(findings=(bad,))


def _datastores(config: Config) -> Iterator[Path]:
    for root in config.datastores.roots:
        with contextlib.suppress(OSError):
            yield from (folder for folder in sorted(root.iterdir()) if folder.is_dir())
