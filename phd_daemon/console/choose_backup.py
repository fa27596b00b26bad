"""The flow to one backup: machine or VMDK name, a date or All Dates, the list of backups.

The backup that is chosen last is handed to a function. When that returns, the list is shown again, so that the next disk of a
machine can be chosen at once.
"""

from __future__ import annotations

import datetime as dt
import enum
import urllib.parse
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial

from phd_daemon.console.face import Choice, Face, Row
from phd_daemon.console.menus import call, waited
from phd_daemon.console.session import Session
from phd_daemon.console.steps import Went, on_if, take
from phd_daemon.operations.backups import Backups, Maps, search
from phd_daemon.operations.groups import VERSION_2, Group, by_day, by_machine, by_vmdk, machine_of, newest_first, proposed
from phd_daemon.operations.restore import BackupFacts, read_facts
from phd_daemon.show import output
from phd_daemon.show.archives import type_of
from phd_daemon.show.output import counted
from restore_core.catalog import CatalogEntry
from restore_core.catalog.index import Indexed
from restore_core.errors import ArchiveAbsent, ConfigurationError
from restore_core.naming import ArchiveType, printable, scsi_colon, time_text
from restore_core.targets import TargetSet

_ARRIVING = "it is so new that it may still be on its way to the target; look again in a minute"
_MACHINE_COLUMNS = ("VM", "UUID", "DISKS", "BACKUPS", "NEWEST (UTC)")
_VMDK_COLUMNS = ("VMDK", "MACHINES", "BACKUPS", "NEWEST (UTC)")
BACKUP_COLUMNS = ("TARGET", "SIZE", "TYPE", "DATE (UTC)", "SCSI", "VMDK")

Then = Callable[[CatalogEntry, Face, Session], None]
Groups = Callable[[Sequence[CatalogEntry]], list[Row[Group]]]
_GROUPS_HELP = """\
What the targets held when they were last looked at. Targets are looked at again after index.max_age, or at once with (I).
Machines of the same name are told apart by their UUID. Version-2 backups are listed under the name of their host."""
_BACKUPS_HELP = """\
Choose a Delta rather than a Full: all of its blocks are checked, and it knows the name of its disk. The empty Delta has the
very disk of the Full it was made with. A filter is compared with all columns: delta 0:0 nas1 shows that disk's Deltas there."""


class _Again(enum.Enum):
    AGAIN = "look at the targets again"


class _Whole(enum.Enum):
    WHOLE = "all disks of the VM"


Whole = Callable[[Group, Face, Session], None]


class _Browse:
    """The steps, and what was chosen in them. `groups` makes the rows of the first list, `whole` restores all disks of one."""

    whole: Whole | None = None

    held: Backups  # newest first
    group: Group
    day: Group

    def __init__(self, face: Face, session: Session, then: Then, groups: Groups, only: ArchiveType | None) -> None:
        self._face, self._session, self._then, self._groups, self._only = face, session, then, groups, only

    def browse(self, title: str, columns: tuple[str, ...]) -> None:
        """Takes the steps until the first list is left, or the person does not wait for it."""
        if self._look(()):
            take([partial(self.choose_group, title, columns), self.choose_day, self.choose_backup])

    def choose_group(self, title: str, columns: tuple[str, ...]) -> Went:
        """A machine or a VMDK name."""
        while True:
            again: Row[Group | _Again] = Row(cells=("Look at the backup targets again",), value=_Again.AGAIN, key="i")
            rows: list[Row[Group | _Again]] = [*self._groups(self.held.entries), again]
            start = 0 if len(rows) == 2 else None
            choice = Choice(title=title, rows=rows, columns=columns, intro=seen(self.held.targets), help=_GROUPS_HELP, start=start)
            chosen = self._face.choose(choice)
            if isinstance(chosen, Group):
                self.group = chosen
                return Went.ON
            if chosen is None:
                return Went.BACK
            self._look(None)

    def choose_day(self) -> Went:
        """A date or All Dates; or all disks of the VM."""
        title = f"{self.group.title}: a date or All Dates"
        rows: list[Row[Group | _Whole]] = [*_days(self.group)]
        deltas = [entry for entry in self.group.entries if entry.name.type is ArchiveType.DELTA]
        if self.whole is not None and len({entry.disk_key for entry in deltas}) > 1:
            rows.append(Row(cells=("All disks of this VM, from one backup run", "to the queue"), value=_Whole.WHOLE, key="w"))
        while (chosen := self._face.choose(Choice(title=title, rows=rows, help=_BACKUPS_HELP, start=1))) is _Whole.WHOLE:
            if self.whole is not None:
                call(self.group.title, partial(self.whole, self.group), self._face, self._session)
        self.day = chosen if isinstance(chosen, Group) else self.group
        return on_if(chosen)

    def choose_backup(self) -> Went:
        """One backup after another, until the list is left."""
        rows = _backups(self.day, self.held.maps)
        columns = BACKUP_COLUMNS + ("VM",) * (len(rows[0].cells) - len(BACKUP_COLUMNS))
        title, start = f"Backups of {self.day.title}", proposed(self.day.entries)
        choice = Choice(title=title, rows=rows, columns=columns, help=_BACKUPS_HELP, start=start)
        while (entry := self._face.choose(choice)) is not None:
            call(title, partial(self._then, entry), self._face, self._session)
        return Went.BACK

    def _look(self, look: Collection[str] | None) -> bool:
        """Reads the catalog, and the targets themselves where it is too old (`look`: also those, None: all of them).

        Returns whether the person waited for it.
        """
        config = self._session.config
        if not config.targets:
            raise ConfigurationError("no backup target is configured", remedy="Add [targets.NAME] to phd.toml.")

        def work() -> Backups:
            found = search(config, kind=self._only, look=look)
            return replace(found, entries=newest_first(found.entries))

        held = waited("Looking at the backup targets", work, self._face, self._session)
        if held is None:
            return False
        if not held.entries:
            what = "; ".join(seen(held.targets))
            raise ArchiveAbsent(f"no backups were found: {what}", remedy="'phd targets' shows which targets answer.")
        self.held = held
        return True


def browse_machines(
    face: Face, session: Session, then: Then, *, only: ArchiveType | None = None, whole: Whole | None = None
) -> None:
    """From the list of virtual machines to `then`, or to `whole` with one of them, until the list is left."""
    flow = _Browse(face, session, then, lambda entries: [_machine(group) for group in by_machine(entries)], only)
    flow.whole = whole
    flow.browse("Virtual Machines", _MACHINE_COLUMNS)


def browse_vmdks(face: Face, session: Session, then: Then) -> None:
    """From the list of VMDK names to `then`, until the list is left."""
    flow = _Browse(face, session, then, lambda entries: [_vmdk(group) for group in by_vmdk(entries)], None)
    flow.browse("VMDK Names", _VMDK_COLUMNS)


def summary(entry: CatalogEntry, targets: TargetSet) -> list[str]:
    """Returns lines about the backup that was chosen, and where it is."""
    kind = "Full" if entry.name.type is ArchiveType.FULL else "empty Delta" if entry.name.empty_delta else "Delta"
    target = targets.specs[entry.ref.target]
    url = urllib.parse.urlsplit(target.url)
    folder = urllib.parse.unquote(url.path, errors="surrogateescape").rstrip("/")
    place = "" if url.scheme == "file" else f"{url.hostname}:"
    return [
        f"Virtual machine : {machine_of(entry)}",
        f"Disk            : {printable(entry.name.disk)}, SCSI {scsi_colon(entry.name.scsi)}",
        f"Backup          : {kind} of {time_text(entry.time)} UTC, {output.size(entry.stat.size)}",
        f"Target          : {target.name}, {printable(target.url)}",
        f"Full path       : {place}{printable(f'{folder}/{entry.ref.path}')}",
    ]


def read_header(entry: CatalogEntry, face: Face, session: Session) -> BackupFacts | None:
    """Reads the header of the backup; None: the person did not wait for it."""
    message = f"Connecting to {entry.ref.target} and checking the header of the backup"
    return waited(message, lambda: read_facts(entry, session.targets), face, session)


def seen(known: Sequence[Indexed]) -> tuple[str, ...]:
    """Returns a line that says when the targets were looked at, and one for each that does not answer completely."""
    silent = tuple(f"{one.trouble}; shown {_as_of(one)}" for one in known if one.trouble)
    fine = "; ".join(f"{one.target}: {counted(one.archives, 'archive')} {_as_of(one)}" for one in known if not one.trouble)
    return tuple(filter(None, (fine, *silent)))


def _as_of(one: Indexed) -> str:
    return f"as of {dt.datetime.fromtimestamp(one.head.began, dt.UTC):%Y-%m-%d %H:%M} UTC" if one.head else "never seen"


def _days(group: Group) -> list[Row[Group]]:
    """All Dates, then one row for each day."""
    rows = [Row(cells=(day, counted(len(mine.entries), "backup")), value=mine) for day, mine in by_day(group)]
    return [Row(cells=("All Dates", counted(len(group.entries), "backup")), value=group, key="a"), *rows]


def _backups(group: Group, maps: Maps) -> list[Row[CatalogEntry]]:
    """One row for each backup. The name of the machine is the last column where there are several machines."""
    several = len({(entry.disk_key.vm, entry.disk_key.uuid) for entry in group.entries}) > 1
    return [_backup(entry, maps, several=several) for entry in group.entries]


def _machine(group: Group) -> Row[Group]:
    newest, folder = group.entries[0], group.entries[0].folder
    disks = len({(entry.name.scsi, entry.disk_key.disk) for entry in group.entries})
    uuid = printable(folder.uuid or VERSION_2)
    cells = (printable(folder.vm), uuid, str(disks), str(len(group.entries)), time_text(newest.time))
    return Row(cells=cells, value=group)


def _vmdk(group: Group) -> Row[Group]:
    names = sorted({printable(entry.folder.vm) for entry in group.entries})
    who = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return Row(cells=(group.title, who, str(len(group.entries)), time_text(group.entries[0].time)), value=group)


def _backup(entry: CatalogEntry, maps: Maps, *, several: bool) -> Row[CatalogEntry]:
    cells = (
        entry.ref.target,
        output.size(entry.stat.size),
        type_of(entry, maps) + (", not seen" if entry.stale else ""),
        time_text(entry.time),
        scsi_colon(entry.name.scsi),
        printable(entry.name.disk),
    )
    whose = (machine_of(entry),) if several else ()
    return Row(cells=(*cells, *whose), value=entry, refused="" if entry.settled else _ARRIVING)
