"""One pass of replication: index > match > check > queue. Its program is `python -m phd_daemon.replication.one_pass`.

    lock; note the start; list all targets; read rules, ledger, queue and destinations; decide (pure);
    drop one control file for each decision to restore; write one line and one document about the pass

A target that fails, a rule that is wrong or a file that cannot be queued does not affect the others. The lock allows one pass at a
time. A crash anywhere leaves at most control files that the next pass finds in the queue.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import os
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from zoneinfo import ZoneInfo

from phd_daemon.config.load import load_config
from phd_daemon.config.model import Config
from phd_daemon.host.catalog import catalog_of, fresh_catalog
from phd_daemon.host.datastores import DatastoreLook, record_of
from phd_daemon.host.process import forbid_core_dumps
from phd_daemon.replication import pass_record, schedule
from phd_daemon.replication.pass_record import Findings, Pass
from phd_daemon.replication.rules_file import load_rules
from phd_daemon.spool.control_file import MAX_BYTES, ControlFile, check_policy, parse_control_file, render_control_file
from phd_daemon.spool.layout import Spool, State
from phd_daemon.spool.own_files import open_unlinked
from phd_daemon.spool.requests import drop
from phd_daemon.spool.snapshot import JobView, snapshot
from phd_daemon.worker import sandbox
from restore_core.catalog import CatalogEntry
from restore_core.catalog.exact import exact, header_of
from restore_core.catalog.index import Catalog, Indexed
from restore_core.catalog.query import Query
from restore_core.disk.destination import disk_key, open_destination
from restore_core.errors import BadControlFile, ExitCode, PhdError, TryAgainLater
from restore_core.naming import printable
from restore_core.replication.ledger import job_name, read_ledger
from restore_core.replication.rules import Rule
from restore_core.replication.selection import DiskState, JobPhase, PassPolicy, QueuedJob, RuleDecision, Verdict, World, select
from restore_core.restore.receipt import Receipt, Receipts
from restore_core.restore.request import OURS, RestoreOptions
from restore_core.targets import TargetSet, parse_ref
from restore_core.targets.base import ArchiveRef
from restore_core.targets.gaps import shown
from restore_core.targets.kinds import make_target

PRIORITY = 7
"""Jobs of people, whose default is 5, go first."""


_PHASES = {None: JobPhase.ACTIVE, ExitCode.DONE: JobPhase.DONE, ExitCode.INTERRUPTED: JobPhase.CANCELLED}
"""By the exit code of a job's state; every other end is a failure."""


class AlreadyRunning(TryAgainLater):
    """Another process makes a pass just now."""


def run_pass(config: Config, *, wait: bool) -> Pass:
    """Makes one pass. While another one runs it waits with `wait`, and raises `AlreadyRunning` without.

    Raises typed errors when nothing can be decided at all (no spool, no readable ledger, no writable state_dir), `OSError`.
    """
    config.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _alone(config.state_dir / "replicate.lock", wait=wait):
        began = time.monotonic()
        schedule.note_start(schedule.start_file(config.state_dir), time.time())
        catalog = catalog_of(config)
        catalog.index(make_target)
        findings = decide_rules(config, catalog, keep=True)
        jobs, refused = _queue(config, findings)
        done = Pass(findings=findings, seconds=time.monotonic() - began, dry_run=False, jobs=jobs, refused=refused)
        pass_record.append_pass(pass_record.record_file(config.state_dir), done)
    return done


def dry_run(config: Config, *, list_all: bool = True) -> Pass:
    """Returns what a pass would do now. Without `list_all` only targets whose listing is too old are listed again."""
    began = time.monotonic()
    with fresh_catalog(config, look=None if list_all else ()) as catalog:
        findings = decide_rules(config, catalog, keep=False)
    _texts, refused = _control_files(config, findings)
    return Pass(findings=findings, seconds=time.monotonic() - began, dry_run=True, jobs={}, refused=refused)


def decide_rules(config: Config, catalog: Catalog, *, keep: bool) -> Findings:
    """Decides on every rule by the catalog as it is. With `keep` good rules are copied, for a time when they cannot be read."""
    loaded = load_rules(config, keep=keep)
    ledger = read_ledger(config.replication.ledger)
    rules = loaded.found.rules
    spool = Spool(folder=config.queue.spool)
    targets = catalog.known()
    now = dt.datetime.now(dt.UTC)
    roots = config.datastores.roots
    world = World(
        entries=_entries(config, catalog, rules, now),
        ledger=ledger,
        jobs=queued_jobs(spool),
        destinations={rule.destination: _destination(rule.destination, config, spool) for rule in rules},
        now=now,
        silent={one.target: one.problem for one in targets if one.problem},
        zones={spec.name: ZoneInfo(spec.timezone) for spec in config.targets},
        key=lambda path: disk_key(path, roots),
    )
    policy = PassPolicy(
        storm_limit=config.replication.storm_limit,
        fall_back_to_older=config.replication.fall_back_to_older,
        retry=dt.timedelta(seconds=config.replication.every),
        retry_most=dt.timedelta(seconds=max(86400, config.replication.every)),
    )
    decided = _with_origins(select(rules, world, policy), world, config)
    return Findings(
        now=now,
        decisions=tuple(_warned(decision, targets) for decision in decided),
        problems=loaded.found.problems,
        bad_lines=ledger.bad,
        targets=targets,
        notes=(loaded.trouble,) if loaded.trouble else (),
    )


def _warned(decision: RuleDecision, targets: Iterable[Indexed]) -> RuleDecision:
    """Returns the decision, with a warning where a newer backup may be in what a target could not list."""
    rule = decision.rule
    uuid = decision.entry.folder.uuid if decision.entry else None
    hiding = [(one.target, gap.gap) for one in targets if one.partial for gap in one.gaps if gap.gap.may_hide(rule.vm, uuid)]
    if not hiding:
        return decision
    text = f"a newer backup may lie where {hiding[0][0]} cannot be seen now: {shown([gap for _, gap in hiding])}"
    return replace(decision, warnings=(*decision.warnings, text))


def _with_origins(decided: Iterable[RuleDecision], world: World, config: Config) -> list[RuleDecision]:
    """Returns the decisions, with a warning where a replica would be replaced by a backup of a disk that lay elsewhere.

    Two hosts may have a VM and its clone under one name: nothing else in their backups tells them apart.
    """
    with contextlib.closing(TargetSet(config.targets)) as targets:
        return [_with_origin(one, world, targets) for one in decided]


def _with_origin(one: RuleDecision, world: World, targets: TargetSet) -> RuleDecision:
    there = world.destinations[one.rule.destination].archive
    if one.verdict is not Verdict.RESTORE or one.entry is None or there is None or there.target in world.silent:
        return one
    heads = (header_of(there, targets), header_of(one.entry.ref, targets))
    before, now = (head.source if head is not None else "" for head in heads)
    if not before or not now or before == now:
        return one
    text = f"its disk was {printable(before)}, and is {printable(now)}: was it moved, or do two disks share all their names?"
    return replace(one, warnings=(*one.warnings, text))


def exit_code(done: Pass) -> ExitCode:
    """Returns the exit code of a pass. Bad lines go first: a target may answer the next time without help."""
    found = done.findings
    if found.problems or found.bad_lines or found.notes:
        return ExitCode.BAD_DATA
    return ExitCode.UNAVAILABLE if any(one.trouble for one in found.targets) else ExitCode.DONE


def _entries(config: Config, catalog: Catalog, rules: Iterable[Rule], now: dt.datetime) -> list[CatalogEntry]:
    """Returns the archives of the VMs that rules name, with exact times where a stamp can mean two times."""
    query = Query(vms=frozenset(rule.vm for rule in rules))
    zones = {spec.name: ZoneInfo(spec.timezone) for spec in config.targets}
    targets = TargetSet(config.targets)
    try:
        return [exact(entry, zones[entry.ref.target], targets, now=now) for entry in catalog.entries(query)]
    finally:
        targets.close()


def _destination(path: Path, config: Config, spool: Spool) -> DiskState:
    """Returns what is at a destination, and whether it is still what our last restore wrote, by its receipt."""
    try:
        with open_destination(path, roots=config.datastores.roots, make_folders=False) as there:
            disk = there.stat_disk()
            startable = there.raw or there.stat_descriptor() is not None
            known = Receipts(spool.receipts, there).load()
            if disk is None or known is None or not known.ours(disk):
                exists = disk is not None or (startable and not there.raw)
                return DiskState(exists=exists, unseen="" if known else _no_receipts(spool))
            archive, taken = _restored(known)
            return DiskState(exists=True, ours=True, archive=archive, taken=taken, startable=startable)
    except (OSError, PhdError) as error:
        exists = os.path.lexists(path)
        why = error.message if isinstance(error, PhdError) else printable(str(error))
        return DiskState(exists=exists, unseen=why if exists else "")


def _restored(known: Receipt) -> tuple[ArchiveRef | None, dt.datetime | None]:
    """Returns which archive a receipt is of, and when that backup was made; None for what it does not say."""
    try:
        return parse_ref(known.archive), dt.datetime.fromtimestamp(known.taken, dt.UTC) if known.taken else None
    except (ValueError, OverflowError, OSError):
        return None, None


def _no_receipts(spool: Spool) -> str:
    """Returns why there may be receipts that we cannot read; empty if there are none."""
    try:
        os.stat(spool.receipts / "any")
    except PermissionError:
        return "the records of restores may be read by root alone"
    except OSError:
        pass
    return ""


def queued_jobs(spool: Spool) -> tuple[QueuedJob, ...]:
    """Returns what is asked for where by jobs that wait, run or have ended. Raises `OSError` when the spool cannot be read."""
    found = []
    for view in snapshot(spool.folder, time.time()):
        archive, destination = view.delta, view.restore_to
        if not archive or not view.accepted:
            control = _control(spool.control(view.name, view.state))
            if control is None:
                continue
            archive, destination = str(control.delta), os.fspath(control.restore_to)
        found.append(_queued_job(view, archive, destination))
    return tuple(found)


def _queued_job(view: JobView, archive: str, destination: str) -> QueuedJob:
    phase = _PHASES.get(view.state.exit_code, JobPhase.FAILED)
    return QueuedJob(
        name=view.name,
        state=view.state.meaning,
        phase=phase,
        archive=archive,
        destination=Path(destination),
        finished=None if phase is JobPhase.ACTIVE else dt.datetime.fromtimestamp(view.since, dt.UTC),
        exit_code=view.exit_code,
    )


def _control(path: Path) -> ControlFile | None:
    """Returns a control file that the daemon has not accepted yet; None for one that cannot be read or is not valid."""
    try:
        with open_unlinked(path) as file:
            return parse_control_file(file.read(MAX_BYTES + 1))
    except (OSError, BadControlFile):
        return None


def _queue(config: Config, findings: Findings) -> tuple[dict[int, str], dict[int, str]]:
    """Drops the control files; returns the jobs' names, and why one could not be dropped, both by line of the rules."""
    spool = Spool(folder=config.queue.spool)
    texts, refused = _control_files(config, findings)
    jobs: dict[int, str] = {}
    for decision in findings.decisions:
        line, entry = decision.rule.line, decision.entry
        if line not in texts or line in refused or entry is None:
            continue
        name = job_name(entry.ref, decision.rule.destination, vm=decision.rule.vm, stamp=f"{entry.name.stamp:%Y.%m.%d-%H%M}")
        try:
            dropped = drop(spool, texts[line], names=[name], state=State.HELD if decision.held else State.WAITING)
        except OSError as error:
            refused[line] = f"the control file cannot be written: {printable(str(error))}"
        else:
            if dropped is None:
                refused[line] = f"a job {printable(name)} is there already"
            else:
                jobs[line] = dropped
    return jobs, refused


def _control_files(config: Config, findings: Findings) -> tuple[dict[int, bytes], dict[int, str]]:
    """Returns a control file for each decision to restore, and why the daemon would reject it or let it wait, by line."""
    texts: dict[int, bytes] = {}
    refused: dict[int, str] = {}
    names = [spec.name for spec in config.targets]
    away = DatastoreLook(record_of(config))
    for decision in findings.decisions:
        if decision.verdict is Verdict.RESTORE and decision.entry is not None:
            line = decision.rule.line
            texts[line] = _text(decision, decision.entry.ref)
            try:
                control = parse_control_file(texts[line])
                check_policy(control, roots=config.datastores.roots, target_names=names, submitter="", limits=None)
            except PhdError as error:
                refused[line] = error.message
            else:
                if why := away(decision.rule.destination):
                    refused[line] = f"its datastore is not there: {why}"
    return texts, refused


def _text(decision: RuleDecision, delta: ArchiveRef) -> bytes:
    """Returns the control file of a decision. Whatever happens until it runs, only a disk that we wrote last is replaced."""
    warning = " (held: more new restores than storm_limit)" if decision.held else ""
    control = ControlFile(
        delta=delta,
        restore_to=decision.rule.destination,
        options=RestoreOptions(overwrite=OURS),
        priority=PRIORITY,
        note=f"replication, line {decision.rule.line} of vmdks.auto{warning}",
    )
    return render_control_file(control).encode()


@contextlib.contextmanager
def _alone(path: Path, *, wait: bool) -> Iterator[None]:
    """Allows one pass at a time, by a kernel lock that ends with its process."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise AlreadyRunning("a replication pass is running already", remedy="Wait for its end.") from None
        yield
    finally:
        os.close(fd)


def main() -> int:
    """The child process of the daemon, confined: makes one pass, prints its summary and returns an exit code."""
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    forbid_core_dumps()  # it logs in to servers
    try:
        config = load_config(source)
        config.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with sandbox.opened([config.state_dir, config.queue.spool]) as folders:
            sandbox.confine(folders)
        done = run_pass(config, wait=False)
    except PhdError as error:
        sys.stdout.write(f"no pass: {error.message}\n")
        return error.exit_code
    except OSError as error:
        sys.stdout.write(f"no pass: {printable(str(error))}\n")
        return ExitCode.TRY_AGAIN
    sys.stdout.write(done.summary() + "\n")
    return exit_code(done)


if __name__ == "__main__":
    sys.exit(main())
