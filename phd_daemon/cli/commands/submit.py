"""`phd submit`: queues the restore of a Delta, or of all disks of a VM."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import click

from phd_daemon.cli.complete import files
from phd_daemon.cli.options import PRIORITY, command, config_option, open_targets, restore_options, uuid_option, whole_vm_option
from phd_daemon.config.model import Config
from phd_daemon.operations.backups import deltas_of_vm
from phd_daemon.operations.follow import exit_code, follow
from phd_daemon.operations.installation import archive_ref, destination, how_to_start, read_config, refuse_missing, spool_of
from phd_daemon.operations.places import ends_like_a_disk
from phd_daemon.operations.queue import Obstacle, obstacle
from phd_daemon.operations.submit import submit as queue
from phd_daemon.show import output
from phd_daemon.show.times import ZONE, parse_moment, parse_time
from phd_daemon.spool.control_file import ControlFile
from phd_daemon.spool.layout import Spool
from restore_core.catalog import CatalogEntry
from restore_core.disk.spelling import as_there
from restore_core.errors import ArchiveAbsent, ExitCode, UsageError
from restore_core.naming import printable, restored_name, time_text, unescape_name
from restore_core.restore.request import RestoreOptions
from restore_core.targets.base import ArchiveRef

_WAITS = {
    Obstacle.SWITCHED_OFF: "the restore queue is switched off (queue.enabled in phd.toml): the job waits until it is on",
    Obstacle.NO_DAEMON: "no daemon serves this spool: the job waits until one does ('{start}' starts it)",
}


@command(stays_done=True)
@click.argument("delta", required=False, shell_complete=files)
@restore_options
@whole_vm_option
@uuid_option
@click.option(
    "--at",
    metavar="TIME",
    help=f'With --vm: its newest backup up to "2026-11-24" (the end of that day), "2026-11-24 03:00", or 3d (days ago). {ZONE}',
)
@click.option("--priority", type=PRIORITY, default=5, show_default=True, help="0 first, 9 last.")
@click.option("--not-before", metavar="TIME", help='Wait until then: 22:00, "2026-11-24 03:00", "2026-11-24" (its begin), +2h.')
@click.option("--note", default="", help="A line for the log and the queue.")
@click.option("--name", help="The job's name; default: that of the disk.")
@click.option("--wait", is_flag=True, help="Follow the job to its end, and exit with its code.")
@config_option
def submit(
    *,
    delta: str | None,
    vm: str | None,
    uuid: str | None,
    at: str | None,
    to: str,
    full: str | None,
    options: RestoreOptions,
    priority: int,
    not_before: str | None,
    note: str,
    name: str | None,
    wait: bool,
    config: Path | None,
) -> int:
    """Queue the restore of DELTA, or of all disks of a VM.

    DELTA is NAME:folder/file on a target, or a local file. A Full cannot be queued: name its empty Delta.
    """
    _refuse_contradictions(delta, vm, only_one={"--full": full, "--name": name}, only_vm={"--uuid": uuid, "--at": at})
    start = parse_time(not_before, dt.datetime.now().astimezone()) if not_before else None
    settings = read_config(config)
    names = [spec.name for spec in settings.targets]
    if delta is not None:
        wanted = [(archive_ref(delta, names, must_exist=False), destination(to))]
    else:
        wanted = _disks_of_vm(settings, vm or "", uuid, at, to)
    how = partial(
        ControlFile,
        full=archive_ref(full, names, must_exist=False) if full else None,
        options=options,
        priority=priority,
        note=note,
    )
    jobs = queue(settings, [how(delta=ref, restore_to=path) for ref, path in wanted], name=name, not_before=start)
    until = f" until {start:%Y-%m-%d %H:%M}" if start else ""
    for job, (ref, path) in zip(jobs, wanted, strict=True):
        _warn_of_missing(ref, names)
        output.say(f"{printable(job)}: waiting{until}, {ref} to {printable(str(path))}")
    if (wrong := obstacle(settings)) is not None:
        output.complain(_WAITS[wrong].format(start=how_to_start()))
    codes = [_wait_for(spool_of(settings), job) for job in jobs] if wait else []
    return next((code for code in codes if code), ExitCode.DONE)


def _warn_of_missing(ref: ArchiveRef, targets: Sequence[str]) -> None:
    """Says that a local file is not there; it may come before the job begins, so the job is queued all the same."""
    try:
        refuse_missing(ref, targets)
    except ArchiveAbsent as error:
        output.complain(str(error))


def _refuse_contradictions(
    delta: str | None, vm: str | None, *, only_one: dict[str, str | None], only_vm: dict[str, str | None]
) -> None:
    if (delta is None) == (vm is None):
        found = "neither is" if delta is None else "both are"
        raise UsageError(f"give DELTA or --vm NAME: {found} given", remedy="'phd submit --help' shows the two ways.")
    for option, value in (only_vm if vm is None else only_one).items():
        if value is not None:
            raise UsageError(f"{option} is only for {'--vm' if vm is None else 'one DELTA'}", remedy=f"Leave {option} out.")


def _disks_of_vm(settings: Config, vm: str, uuid: str | None, at: str | None, to: str) -> list[tuple[ArchiveRef, Path]]:
    now, folder = dt.datetime.now().astimezone(), Path(os.path.abspath(to))
    time = parse_moment(at, now, end_of_day=True) if at else None
    found = deltas_of_vm(settings, open_targets(settings), vm=unescape_name(vm), uuid=uuid, at=time)
    output.say(f"{printable(vm)}: the backup of {time_text(found.entries[0].time)} UTC, disks {_disk_names(found.entries)}")
    for line in found.not_in_it:
        output.complain(line)
    for entry in found.newer:
        output.complain(f"not taken, as it is not of all disks: the newer backup of {printable(entry.name.disk)}, {entry.ref}")
    if not ends_like_a_disk(folder) or folder.is_dir():
        return [(entry.ref, as_there(folder / restored_name(entry.name.disk))) for entry in found.entries]
    if len(found.entries) == 1:
        return [(found.entries[0].ref, destination(to))]
    raise UsageError(
        f"--to {printable(to)} names one disk, and {printable(vm)} has {len(found.entries)}",
        remedy=f"Name the folder for all of them: --to {printable(os.path.dirname(to) or '.')}",
    )


def _disk_names(entries: Iterable[CatalogEntry]) -> str:
    return ", ".join(printable(entry.name.disk) for entry in entries)


def _wait_for(spool: Spool, job: str) -> int:
    """Shows the log until the job is final. Returns the job's own exit code."""
    for piece in follow(spool, job):
        output.say(piece, end="")
    code = exit_code(spool, job)
    if code is None:
        output.complain(f"{printable(job)} is no longer in the queue: how it ended is not known")
    return ExitCode.INTERRUPTED if code is None else code
