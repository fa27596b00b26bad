"""`phd mount DELTA DIR`: the disk of a backup and its partitions as files, over FUSE, without restoring."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from phd_daemon.cli.complete import files
from phd_daemon.cli.options import command, config_option, full_option, open_targets
from phd_daemon.operations.files import opened_disk
from phd_daemon.operations.installation import archive_ref, read_config
from phd_daemon.operations.mount import RAW, Mounted, mount_disk
from phd_daemon.show import output
from phd_daemon.show.notes import DamageNotes
from restore_core.naming import printable

_READ_WITH = {
    "ext2": "fuse2fs -o ro {file} MNT",
    "ext3": "fuse2fs -o ro {file} MNT",
    "ext4": "fuse2fs -o ro {file} MNT",
    "NTFS": "ntfs-3g -o ro {file} MNT",
    "FAT12": "mdir -i {file}",
    "FAT16": "mdir -i {file}",
    "FAT32": "mdir -i {file}",
}
_KERNEL_FOR = {"XFS": "norecovery", "NTFS": "", "btrfs": "rescue=nologreplay"}


@command(stays_done=False)
@click.argument("delta", shell_complete=files)
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@full_option
@config_option
def mount(delta: str, folder: Path, full: str | None, config: Path | None) -> None:
    """Show the disk in DELTA as DIR/disk.raw, and its partitions as DIR/p1 and so on, read-only, until ^C or 'umount DIR'.

    No file system of the guest is mounted; what reads the files further is printed. 'phd get' needs none of this.
    """
    settings = read_config(config)
    targets = open_targets(settings)
    notes = DamageNotes()
    reference = archive_ref(full, targets.specs) if full else None
    with opened_disk(settings, targets, archive_ref(delta, targets.specs), full=reference, reporter=notes) as disk:
        notes.opened()
        mount_disk(disk, folder.absolute(), ready=_tell, complain=output.complain)


def _tell(mounted: Mounted) -> None:
    where = printable(str(mounted.folder))
    output.say(f"mounted on {where}, read-only, until ^C or 'umount {where}'")
    types = {part.name: part for part in mounted.table.partitions}
    rows = [
        (
            name,
            output.size(size),
            types[name].type if name in types else "the whole disk",
            types[name].file_system if name in types else "",
        )
        for name, size in mounted.files.items()
    ]
    output.table(("FILE", "SIZE", "TYPE", "HOLDS"), rows)
    for mark in mounted.table.marks:
        output.complain(f"partition table: {mark}")
    lines = []
    for part in mounted.table.partitions:
        file = shlex.quote(str(mounted.folder / part.name))
        if tool := _READ_WITH.get(part.file_system):
            lines.append(f"  {tool.format(file=file)}")
    lines.append(f"  guestfish --ro -a {shlex.quote(str(mounted.folder / RAW))} -i        # or 'phd serve': -a nbd+unix://...")
    output.say("to read on, for example:\n" + "\n".join(lines))
    output.say("The kernel's drivers trust a file system that a guest may have made to hurt. If you trust this one, as root:")
    for part in mounted.table.partitions:
        if part.file_system in _KERNEL_FOR or part.file_system.startswith("ext"):
            option = _KERNEL_FOR.get(part.file_system, "noload")
            file = shlex.quote(str(mounted.folder / part.name))
            options = ",".join(filter(None, ("ro", option, "nosuid", "nodev", "noexec", "loop")))
            output.say(f"  mount -o {options} {file} MNT")
