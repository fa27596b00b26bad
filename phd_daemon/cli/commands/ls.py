"""`phd ls DELTA [p1:/path]`: the partitions of a backup, or the files in one, without restoring."""

from __future__ import annotations

import datetime as dt
import stat
from pathlib import Path

import click

from phd_daemon.cli.complete import files
from phd_daemon.cli.interrupt import interruptible
from phd_daemon.cli.options import command, config_option, full_option, json_option, open_targets
from phd_daemon.operations.files import InPartition, Listing, list_files, opened_disk, parse_where, partitions_of
from phd_daemon.operations.installation import archive_ref, read_config
from phd_daemon.show import output
from phd_daemon.show.notes import DamageNotes
from restore_core.errors import ExitCode
from restore_core.naming import printable
from restore_core.serve.file_systems.guest_file import GuestFacts
from restore_core.serve.partitions import PartitionTable

_LETTERS = {"file": stat.S_IFREG, "folder": stat.S_IFDIR, "link": stat.S_IFLNK}


@command(stays_done=False)
@click.argument("delta", shell_complete=files)
@click.argument("path", required=False, metavar="[p1:/PATH]")
@full_option
@json_option
@config_option
def ls(delta: str, path: str | None, full: str | None, as_json: bool, config: Path | None) -> int:
    """List the partitions in DELTA, or the files at a path in one of them, as p1:/etc. Nothing is restored.

    ext2-4, XFS, NTFS and FAT are read.
    """
    settings = read_config(config)
    targets = open_targets(settings)
    where = parse_where(path) if path else None
    notes = DamageNotes()
    reference = archive_ref(full, targets.specs) if full else None
    with interruptible() as stop:
        targets.stop = stop
        with opened_disk(settings, targets, archive_ref(delta, targets.specs), full=reference, reporter=notes) as disk:
            notes.opened()
            if where is None:
                _show_partitions(partitions_of(disk), disk.size, as_json=as_json)
                return ExitCode.DONE
            listing = list_files(disk, where, stop)
    _show_files(where, listing, as_json=as_json)
    return ExitCode.BAD_DATA if listing.problem else ExitCode.DONE


def _show_partitions(table: PartitionTable, size: int, *, as_json: bool) -> None:
    if as_json:
        parts = [
            {"name": p.name, "start": p.start, "length": p.length, "type": p.type, "file_system": p.file_system or None}
            for p in table.partitions
        ]
        output.as_json({"size": size, "table": table.scheme or None, "partitions": parts, "marks": list(table.marks)})
        return
    rows = [(p.name, str(p.start), output.size(p.length), p.type, p.file_system or "-") for p in table.partitions]
    output.table(("PART", "START", "SIZE", "TYPE", "HOLDS"), rows)
    for mark in table.marks:
        output.complain(f"partition table: {mark}")


def _show_files(where: InPartition, listing: Listing, *, as_json: bool) -> None:
    found = sorted(listing.files, key=lambda facts: facts.name)
    if as_json:
        data = {"path": str(where), "files": [_data(facts) for facts in found], "notes": listing.notes}
        output.as_json({**data, "problem": listing.problem or None})
        return
    output.table(("MODE", "OWNER", "SIZE", "TIME", "NAME"), [_row(facts) for facts in found])
    for note in listing.notes:
        output.complain(f"{where.partition}: {printable(note)}")
    if listing.problem:
        output.complain(f"{where}: not all of it was seen: {printable(listing.problem)}")


def _row(facts: GuestFacts) -> tuple[str, str, str, str, str]:
    mode = stat.filemode(_LETTERS.get(facts.kind, 0) | (facts.mode or 0))
    if facts.mode is None:
        mode = mode[0] + "-" * 9
    name = printable(facts.name) + (f" -> {printable(facts.link)}" if facts.link else "")
    owner = "-" if facts.uid is None else f"{facts.uid}:{facts.gid}"
    why = f"  ({printable(facts.problem)})" if facts.problem else ""
    return mode, owner, str(facts.size), _time(facts.mtime), name + why


def _time(mtime: int | None) -> str:
    try:
        return "-" if mtime is None else f"{dt.datetime.fromtimestamp(mtime // 10**9, dt.UTC).astimezone():%Y-%m-%d %H:%M}"
    except (OverflowError, OSError, ValueError):
        return "-"


def _data(facts: GuestFacts) -> dict[str, object]:
    return {
        "name": printable(facts.name),
        "kind": facts.kind,
        "size": facts.size,
        "mode": facts.mode,
        "mtime_ns": facts.mtime,
        "uid": facts.uid,
        "gid": facts.gid,
        "link": printable(facts.link) if facts.kind == "link" else None,
        "problem": printable(facts.problem) or None,
    }
