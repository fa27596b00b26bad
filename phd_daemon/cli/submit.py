"""`phd submit`: writes a control file into the spool, complete and durable before it gets its name.

It does nothing a person could not do with an editor and `mv`: the daemon judges the file again at its door.
"""

from __future__ import annotations

import datetime as dt
import itertools
import os
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from phd_daemon.cli.complete import files
from phd_daemon.cli.options import archive_ref, config_option, destination, open_targets, read_config, restore_options, spool_of
from phd_daemon.host.catalog import catalog_of
from phd_daemon.operations.follow import follow, state_of
from phd_daemon.operations.newest import newest_of_each_disk
from phd_daemon.show import output
from phd_daemon.show.times import parse_date, parse_time
from phd_daemon.spool.control_file import ControlFile, check_policy, parse_control_file, render_control_file
from phd_daemon.spool.layout import Spool, State, too_long
from phd_daemon.spool.requests import drop as into_spool
from phd_daemon.spool.snapshot import nobody_serves
from phd_daemon.spool.status_file import read_status
from restore_core import catalog
from restore_core.catalog.index import refuse_emptied
from restore_core.errors import ExitCode, UsageError
from restore_core.naming import printable, unprintable
from restore_core.restore.request import Provision, VmxChoice
from restore_core.targets.base import ArchiveRef
from restore_core.targets.gaps import Gap, refuse_partial

if TYPE_CHECKING:
    from phd_daemon.config import Config


@click.command()
@click.argument("delta", required=False, shell_complete=files)
@restore_options
@click.option("--vm", metavar="NAME", help="Instead of DELTA: every disk of this VM, to the folder given with --to.")
@click.option("--uuid", help="Which VM, where several have that name.")
@click.option("--at", metavar="TIME", help="With --vm: the newest backup at or before this time.")
@click.option("--priority", type=click.IntRange(0, 9), default=5, show_default=True, help="0 first, 9 last.")
@click.option("--not-before", metavar="TIME", help='Wait until then: 22:00, "2026-11-24 03:00", +2h.')
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
    overwrite: bool,
    thin: bool,
    vmx: str,
    readback: bool,
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
    settings = read_config(config)
    spool = spool_of(settings)
    wanted = _disks_of_vm(settings, vm, uuid, at, to) if vm is not None else [_one_disk(settings, delta or "", to)]
    how = partial(
        ControlFile,
        full=archive_ref(full, _target_names(settings)) if full else None,
        overwrite=overwrite,
        vmx=VmxChoice(vmx),
        provision=Provision.THIN if thin else Provision.THICK,
        readback=readback,
        priority=priority,
        note=note,
    )
    start = parse_time(not_before, dt.datetime.now().astimezone()) if not_before else None
    texts = [checked_text(settings, how(delta=ref, restore_to=path)) for ref, path in wanted]
    stems = [drop(spool, text, stem=name, disk=path, not_before=start) for text, (_, path) in zip(texts, wanted, strict=True)]
    until = f" until {start:%Y-%m-%d %H:%M}" if start else ""
    for stem, (ref, path) in zip(stems, wanted, strict=True):
        output.say(f"{printable(stem)}: waiting{until}, {ref} to {printable(str(path))}")
    _warn_if_off(settings)
    codes = [wait_for(spool, stem) for stem in stems] if wait else []
    return next((code for code in codes if code), ExitCode.DONE)


def _refuse_contradictions(
    delta: str | None, vm: str | None, *, only_one: dict[str, str | None], only_vm: dict[str, str | None]
) -> None:
    if (delta is None) == (vm is None):
        raise UsageError("one DELTA, or --vm NAME, but not both", remedy="'phd submit --help' shows the two ways.")
    for option, value in (only_vm if vm is None else only_one).items():
        if value is not None:
            raise UsageError(f"{option} {'goes with --vm' if vm is None else 'is for one DELTA'}", remedy=f"Leave {option} out.")


def _target_names(settings: Config) -> list[str]:
    return [spec.name for spec in settings.targets]


def _one_disk(settings: Config, delta: str, to: str) -> tuple[ArchiveRef, Path]:
    return archive_ref(delta, _target_names(settings)), destination(to)


def _disks_of_vm(settings: Config, vm: str, uuid: str | None, at: str | None, to: str) -> list[tuple[ArchiveRef, Path]]:
    """One Delta for each disk of a VM. A target that does not answer, or hides some of its backups: what it holds may be newer."""
    targets = open_targets(settings)
    cache = catalog_of(settings)
    known: list[catalog.CatalogEntry] = []
    for name, spec in targets.specs.items():
        gaps: list[Gap] = []
        found = list(catalog.entries(targets[name], gaps))
        refuse_partial(name, [gap for gap in gaps if gap.may_hide(unprintable(vm), uuid)], cache.held_folders(spec))
        if not found and not gaps:
            refuse_emptied(spec, cache.held(spec))
        known += found
    time = parse_date(at) if at else None
    folder = Path(os.path.abspath(to))
    return [(entry.ref, folder / entry.name.disk) for entry in newest_of_each_disk(known, vm=unprintable(vm), uuid=uuid, at=time)]


def checked_text(settings: Config, control: ControlFile) -> bytes:
    """The text of the control file. What is refused here the daemon would only refuse later; who may do what, it alone can tell."""
    text = render_control_file(control).encode()
    names, roots = _target_names(settings), settings.datastores.roots
    check_policy(parse_control_file(text), roots=roots, target_names=names, submitter="", limits=None)
    return text


def drop(spool: Spool, text: bytes, *, stem: str | None, disk: Path, not_before: dt.datetime | None) -> str:
    """Put a control file into the spool and return the job's name. A name that was not given is made unique."""
    names = [_checked(stem)] if stem else _unused(spool, disk)
    dropped = into_spool(spool, text, names=names, not_before=not_before.timestamp() if not_before else None)
    if dropped is None:
        raise UsageError(f"a job '{printable(stem or '')}' is waiting already", remedy="Choose another --name, or cancel that one.")
    return dropped


def wait_for(spool: Spool, stem: str) -> int:
    """Show the log until the job is final; the exit code is the job's own."""
    for piece in follow(spool, stem):
        output.say(piece, end="")
    state = state_of(spool, stem)
    if state is None:
        output.complain(f"{printable(stem)} is gone from the queue")
        return ExitCode.INTERRUPTED
    status = read_status(spool.status(stem))
    if state is not State.DONE and status is not None and status.outcome is not None and status.outcome.exit_code:
        return status.outcome.exit_code
    return ExitCode.TRY_AGAIN if state.exit_code is None else state.exit_code


def _unused(spool: Spool, disk: Path) -> itertools.chain[str]:
    """The disk's own name, then numbered ones, those left out that a job has had already."""
    base = re.sub(r"[^A-Za-z0-9._-]", "_", disk.stem).lstrip(".")[:150] or "disk"
    names = itertools.chain([base], (f"{base}-{number}" for number in itertools.count(2)))
    return itertools.chain(itertools.filterfalse(lambda name: state_of(spool, name) is not None, names))


def _checked(stem: str) -> str:
    if "/" in stem or "\0" in stem or stem.startswith(".") or stem.endswith("~") or too_long(stem):
        raise UsageError(f"'{printable(stem)}' cannot be the name of a job", remedy="Take letters, digits, '-' and '_'.")
    return stem


def _warn_if_off(settings: Config) -> None:
    if not settings.queue.enabled:
        output.complain("the restore queue is switched off (queue.enabled in phd.toml): the job waits until it is on")
    elif nobody_serves(settings.queue.spool):
        output.complain("no daemon serves this spool: the job waits until one does ('phd daemon', or systemctl start phd-daemon)")
