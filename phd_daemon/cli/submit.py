"""`phd submit`: writes a control file into the spool, complete and durable before it gets its name.

It does nothing a person could not do with an editor and `mv`: the daemon judges the file again at its door.
"""

from __future__ import annotations

import datetime as dt
import itertools
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from phd_daemon.cli import show
from phd_daemon.cli.follow import follow, state_of
from phd_daemon.cli.options import archive_ref, config_option, destination, read_config, restore_options, spool_of
from phd_daemon.cli.times import parse_time
from phd_daemon.spool.control_file import ControlFile, check_policy, parse_control_file, render_control_file
from phd_daemon.spool.layout import Spool, State, too_long
from phd_daemon.spool.status_file import read_status
from restore_core import durable
from restore_core.errors import ExitCode, UsageError
from restore_core.naming import printable
from restore_core.restore.request import Provision, VmxChoice

if TYPE_CHECKING:
    from phd_daemon.config import Config

_WITHOUT_OUTCOME = {
    State.DONE: ExitCode.DONE,
    State.CANCELLED: ExitCode.INTERRUPTED,
    State.REJECTED: ExitCode.BAD_DATA,
    State.FAILED: ExitCode.TRY_AGAIN,
}
"""The codes of final states whose status says nothing: it is a view, and somebody may have removed it."""


@click.command()
@click.argument("delta")
@restore_options
@click.option("--priority", type=click.IntRange(0, 9), default=5, show_default=True, help="0 first, 9 last.")
@click.option("--not-before", metavar="TIME", help='Wait until then: 22:00, "2026-11-24 03:00", +2h.')
@click.option("--note", default="", help="A line for the log and the queue.")
@click.option("--name", help="The job's name; default: that of the disk.")
@click.option("--wait", is_flag=True, help="Follow the job to its end, and exit with its code.")
@config_option
def submit(
    *,
    delta: str,
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
    """Put the restore of DELTA into the queue.

    DELTA is NAME:folder/file on a target, or a local file. A Full cannot be queued: name its empty Delta.
    """
    settings = read_config(config)
    spool = spool_of(settings)
    names = [spec.name for spec in settings.targets]
    control = ControlFile(
        delta=archive_ref(delta, names),
        restore_to=destination(to),
        full=archive_ref(full, names) if full else None,
        overwrite=overwrite,
        vmx=VmxChoice(vmx),
        provision=Provision.THIN if thin else Provision.THICK,
        readback=readback,
        priority=priority,
        note=note,
    )
    start = parse_time(not_before, dt.datetime.now().astimezone()) if not_before else None
    text = render_control_file(control).encode()
    # What is refused here the daemon would only refuse later. Who may do what is for the daemon alone to tell.
    check_policy(parse_control_file(text), roots=settings.datastores.roots, target_names=names, submitter="", limits=None)
    stem = drop(spool, text, stem=name, disk=control.restore_to, not_before=start)
    until = f" until {start:%Y-%m-%d %H:%M}" if start else ""
    show.say(f"{printable(stem)}: waiting in {printable(str(spool.folder))}{until}")
    _warn_if_off(settings)
    return wait_for(spool, stem) if wait else ExitCode.DONE


def drop(spool: Spool, text: bytes, *, stem: str | None, disk: Path, not_before: dt.datetime | None) -> str:
    """Put a control file into the spool and return the job's name. A name that was not given is made unique."""
    part = spool.folder / f".{os.getpid()}.{os.urandom(4).hex()}.tmp"
    try:
        _write(part, text, not_before)
        for candidate in [_checked(stem)] if stem else _unused(spool, disk):
            try:
                _appear(part, spool.control(candidate, State.WAITING))
                return candidate
            except FileExistsError:
                continue
        raise UsageError(f"a job '{printable(stem or '')}' is waiting already", remedy="Choose another --name, or cancel that one.")
    finally:
        durable.remove(part, durable=False)


def _write(part: Path, text: bytes, not_before: dt.datetime | None) -> None:
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        os.fchmod(fd, 0o644)  # past the umask: the daemon may be another user, and must be able to read it
        durable.write_all(fd, text)
        if not_before is not None:
            os.utime(fd, (not_before.timestamp(), not_before.timestamp()))
        durable.sync_file(fd)
    finally:
        os.close(fd)


def _appear(part: Path, final: Path) -> None:
    try:
        durable.move(part, final)
    except PermissionError:
        # A drop box (mode 1730) may be written but not read, so its folder cannot be opened to be synced.
        if os.path.lexists(part):
            raise


def wait_for(spool: Spool, stem: str) -> int:
    """Show the log until the job is final; the exit code is the job's own."""
    for piece in follow(spool, stem):
        show.say(piece, end="")
    state = state_of(spool, stem)
    if state is None:
        show.complain(f"{printable(stem)} is gone from the queue")
        return ExitCode.INTERRUPTED
    status = read_status(spool.status(stem))
    if state is not State.DONE and status is not None and status.outcome is not None and status.outcome.exit_code:
        return status.outcome.exit_code
    return _WITHOUT_OUTCOME[state]


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
        show.complain("the restore queue is switched off (queue.enabled in phd.toml): the job waits until it is on")
