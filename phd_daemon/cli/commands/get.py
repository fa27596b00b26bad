"""`phd get DELTA p1:/path ... [--to DIR]`: takes files and folders out of a backup, without restoring the disk."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from phd_daemon.cli.complete import files
from phd_daemon.cli.interrupt import interruptible
from phd_daemon.cli.options import command, config_option, full_option, json_option, open_targets, quiet_option
from phd_daemon.operations.files import WantedFiles, get_files, opened_disk, parse_where
from phd_daemon.operations.installation import archive_ref, read_config
from phd_daemon.show import output
from phd_daemon.show.live import LiveLine
from phd_daemon.show.notes import DamageNotes
from restore_core.errors import ExitCode
from restore_core.naming import printable
from restore_core.serve.taken import TakenFiles

_SHOWN = 50


@command(stays_done=False)
@click.argument("delta", shell_complete=files)
@click.argument("paths", nargs=-1, required=True, metavar="p1:/PATH...")
@click.option("--to", type=click.Path(path_type=Path), default=Path(), metavar="DIR", help="Where to; default: this folder.")
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
@click.option("--owners", is_flag=True, help="As root: keep users, groups, setuid and setgid.")
@full_option
@json_option
@quiet_option
@config_option
def get(
    *,
    delta: str,
    paths: tuple[str, ...],
    to: Path,
    overwrite: bool,
    owners: bool,
    full: str | None,
    as_json: bool,
    config: Path | None,
) -> int:
    """Take files and whole folders out of DELTA, as p1:/etc/fstab ('phd ls DELTA' lists). The disk is not restored.

    Exit code 0: all of it; 1: some were left out, as devices and what exists already; 65: some cannot be read.
    """
    settings = read_config(config)
    targets = open_targets(settings)
    wanted = WantedFiles(where=tuple(map(parse_where, paths)), to=to, overwrite=overwrite, owners=owners)
    notes = DamageNotes()
    reference = archive_ref(full, targets.specs) if full else None
    with interruptible() as stop:
        targets.stop = stop
        with opened_disk(settings, targets, archive_ref(delta, targets.specs), full=reference, reporter=notes) as disk:
            notes.opened()
            live = LiveLine() if output.on_a_terminal() and not as_json else None
            taken = get_files(disk, wanted, stop, lambda now: _show(now, live))
            if live is not None:
                live.end()
    if as_json:
        output.as_json({**_printable(taken), "to": printable(str(to.absolute()))})
    else:
        _tell(taken, to)
    if any(one.damaged for one in taken.left_out):
        return ExitCode.BAD_DATA
    return ExitCode.FINDINGS if taken.left_out else ExitCode.DONE


def _show(taken: TakenFiles, live: LiveLine | None) -> None:
    if live is not None:
        live.show(lambda _: f"{output.counted(taken.files, 'file')}, {output.size(taken.bytes_written)}")


def _tell(taken: TakenFiles, to: Path) -> None:
    parts = [(taken.files, "file"), (taken.folders, "folder"), (taken.links, "link")]
    counts = ", ".join(output.counted(number, noun) for number, noun in parts if number) or "nothing"
    output.say(f"{counts} taken into {printable(str(to))}, {output.size(taken.bytes_written)} written")
    lines = [f"{one.path}: left out: {printable(one.why)}" for one in taken.left_out]
    for line in [*lines[:_SHOWN], *map(printable, taken.notes[:_SHOWN])]:
        output.complain(line)
    if len(lines) > _SHOWN:
        output.complain(f"and {len(lines) - _SHOWN} more were left out; --json lists all")


def _printable(taken: TakenFiles) -> dict[str, object]:
    data = asdict(taken)
    data["left_out"] = [{**one, "why": printable(one["why"])} for one in data["left_out"]]
    data["notes"] = list(map(printable, taken.notes))
    return data
