"""`phd backup DISK_OR_VMX --target T`: a Full with its empty Delta, or a Delta against the newest Full."""

from __future__ import annotations

from pathlib import Path

import click

from phd_daemon.cli.complete import target_names
from phd_daemon.cli.interrupt import Interrupt, interruptible
from phd_daemon.cli.options import command, config_option, json_option, open_targets, quiet_option, scsi_option
from phd_daemon.operations.archiving import WantedBackup, make_backup
from phd_daemon.operations.installation import known_target, read_config
from phd_daemon.show import output
from phd_daemon.show.live import LiveLine
from phd_daemon.show.progress import percent
from phd_daemon.show.times import ZONE, parse_stamp
from restore_core.backup.run import BackupReporter, BackupResult
from restore_core.backup.subject import Asked
from restore_core.naming import printable


@command(stays_done=True)
@click.argument("disk", type=click.Path(path_type=Path), metavar="DISK_OR_VMX")
@click.option(
    "--target",
    "name",
    required=True,
    metavar="NAME",
    shell_complete=target_names,
    help="Where the backup goes: a [targets.NAME] of phd.toml.",
)
@click.option("--full", is_flag=True, help="A Full, also where a Delta would do.")
@click.option("--fast", is_flag=True, help="Compress less, in a third of the time.")
@click.option("--vm", metavar="NAME", help="The VM's name; default: the folder that holds its VMX.")
@click.option("--uuid", help="The VM's UUID; default: uuid.bios of its VMX.")
@scsi_option
@click.option("--at", metavar="TIME", help=f'The time of the backup, if it is not now: "2026-11-24 03:00". {ZONE}')
@click.option("--live", is_flag=True, help="Also if the VM is running; such a backup is as after a power cut, at best.")
@click.option("--skip", multiple=True, metavar="ID", help="Leave this disk of a VMX out: scsi0:1. May be given again.")
@json_option
@quiet_option
@config_option
def backup(
    *,
    disk: Path,
    name: str,
    full: bool,
    fast: bool,
    vm: str | None,
    uuid: str | None,
    scsi: str | None,
    at: str | None,
    live: bool,
    skip: tuple[str, ...],
    as_json: bool,
    config: Path | None,
) -> None:
    """Back up a flat VMDK, raw image, device, or all disks of a VMX."""
    settings = read_config(config)
    targets = open_targets(settings)
    known_target(name, targets.specs)
    asked = Asked(vm=vm, uuid=uuid, scsi=scsi, live=live, skip=skip)
    wanted = WantedBackup(asked=asked, full=full, fast=fast, at=parse_stamp(at) if at else None)
    with interruptible() as stop:
        report = BackupReport(stop, quiet=as_json)
        try:
            results = make_backup(settings, targets, disk, wanted, target=name, reporter=report)
        finally:
            report.close()
    if as_json:
        output.as_json([_data(result) for result in results])
        return
    for result in results:
        if result.full is not None:
            output.say(f"Full        {result.full}")
        output.say(f"{'Delta       ' if result.full is None else 'empty Delta '}{result.delta}")
        output.say(
            f"{printable(result.header.disk)}: {result.header.disk_size} bytes of disk, {result.bytes_written} bytes written"
        )


class BackupReport(BackupReporter):
    """Shows how far a backup is; nothing of it with `quiet`."""

    def __init__(self, stop: Interrupt, *, quiet: bool) -> None:
        self._stop = stop
        self._live = LiveLine(say=lambda _: None) if quiet else LiveLine()

    def note(self, text: str) -> None:
        """Shows one line of what was decided."""
        self._live.note(text)

    def progress(self, disk: str, done: int, total: int) -> None:
        """Takes how many bytes of the disk are done. Raises `Stopped` when a signal came."""
        self._stop()
        self._live.show(lambda _: f"{printable(disk)}: {int(percent(done, total))}%, {done >> 20} mb of {total >> 20} mb")

    def close(self) -> None:
        """Goes to the next line of the terminal."""
        self._live.end()


def _data(result: BackupResult) -> dict[str, object]:
    header = result.header
    return {
        "delta": str(result.delta),
        "full": str(result.full) if result.full else None,
        "vm": printable(header.vm),
        "uuid": header.uuid,
        "scsi": header.scsi,
        "vmdk": printable(header.disk),
        "left_out": list(map(printable, header.left_out)),
        "disk_size": header.disk_size,
        "bytes_written": result.bytes_written,
    }
