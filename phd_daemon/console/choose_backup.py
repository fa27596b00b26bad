"""The flow to one backup: machine or VMDK name, a date or All Dates, the list of backups.

The backup that is chosen last is handed to a function. When that returns, the list is shown again, so that the next disk of a
machine can be chosen at once.
"""

from __future__ import annotations

import datetime as dt
import enum
import urllib.parse
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial

from phd_daemon.console import holdings
from phd_daemon.console.face import Choice, Face, Row
from phd_daemon.console.menus import call, waited
from phd_daemon.console.session import Session
from phd_daemon.console.steps import Went, on_if, take
from phd_daemon.operations.backups import Maps, search
from phd_daemon.operations.chosen_backup import Checked, check
from phd_daemon.operations.groups import Group, machine_of, newest_first, proposed
from phd_daemon.show import output
from phd_daemon.show.output import counted
from restore_core.catalog import CatalogEntry
from restore_core.catalog.index import Indexed
from restore_core.errors import ArchiveAbsent, ConfigurationError
from restore_core.naming import ArchiveType, printable, scsi_colon
from restore_core.targets import TargetSet

Then = Callable[[CatalogEntry, Face, Session], None]
Groups = Callable[[Sequence[CatalogEntry]], list[Row[Group]]]
_GROUPS_HELP = """\
What the targets held when they were last looked at; older looks than index.max_age are made anew by themselves, (I) does it now.
Machines of the same name stand apart by their UUID. Version-2 backups stand under the name of their host."""
_BACKUPS_HELP = """\
Choose a Delta rather than a Full: all of its blocks are checked, and it knows the name of its disk. The empty Delta has the
very disk of the Full it was made with. A filter is compared with all columns: delta 0:0 nas1 shows that disk's Deltas there."""


class _Again(enum.Enum):
    AGAIN = "look at the targets again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Everything the targets hold, newest first, and how old that knowledge is."""

    entries: tuple[CatalogEntry, ...]
    maps: Maps
    seen: tuple[str, ...]


class _Browse:
    """The steps, and what was chosen in them. `groups` makes the rows of the first list."""

    held: Held
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
            choice = Choice(title=title, rows=rows, columns=columns, intro=self.held.seen, help=_GROUPS_HELP, start=start)
            chosen = self._face.choose(choice)
            if isinstance(chosen, Group):
                self.group = chosen
                return Went.ON
            if chosen is None:
                return Went.BACK
            self._look(None)

    def choose_day(self) -> Went:
        """A date or All Dates."""
        title = f"{self.group.title}: a date or All Dates"
        day = self._face.choose(Choice(title=title, rows=holdings.days(self.group), help=_BACKUPS_HELP, start=1))
        self.day = day or self.group
        return on_if(day)

    def choose_backup(self) -> Went:
        """One backup after another, until the list is left."""
        rows = holdings.backups(self.day, self.held.maps)
        columns = holdings.BACKUP_COLUMNS + ("VM",) * (len(rows[0].cells) - len(holdings.BACKUP_COLUMNS))
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

        def work() -> Held:
            found = search(config, kind=self._only, look=look)
            return Held(entries=newest_first(found.entries), maps=found.maps, seen=seen(found.targets))

        held = waited("Looking at the backup targets", work, self._face, self._session)
        if held is None:
            return False
        if not held.entries:
            what = "; ".join(held.seen)
            raise ArchiveAbsent(f"no backups were found: {what}", remedy="'phd targets' shows which targets answer.")
        self.held = held
        return True


def browse_machines(face: Face, session: Session, then: Then, *, only: ArchiveType | None = None) -> None:
    """From the list of virtual machines to `then`, until the list is left."""
    _Browse(face, session, then, holdings.machines, only).browse("Virtual Machines", holdings.MACHINE_COLUMNS)


def browse_vmdks(face: Face, session: Session, then: Then) -> None:
    """From the list of VMDK names to `then`, until the list is left."""
    _Browse(face, session, then, holdings.vmdks, None).browse("VMDK Names", holdings.VMDK_COLUMNS)


def summary(entry: CatalogEntry, targets: TargetSet) -> list[str]:
    """The backup that was chosen, where it lies, and where that target is."""
    kind = "Full" if entry.name.type is ArchiveType.FULL else "empty Delta" if entry.name.empty_delta else "Delta"
    target = targets.specs[entry.ref.target]
    url = urllib.parse.urlsplit(target.url)
    folder = urllib.parse.unquote(url.path, errors="surrogateescape").rstrip("/")
    place = "" if url.scheme == "file" else f"{url.hostname}:"
    return [
        f"Virtual machine : {machine_of(entry)}",
        f"Disk            : {printable(entry.name.disk)}, SCSI {scsi_colon(entry.name.scsi)}",
        f"Backup          : {kind} of {entry.time:%Y-%m-%d %H:%M} UTC, {output.size(entry.stat.size)}",
        f"Target          : {target.name}, {printable(target.url)}",
        f"Full path       : {place}{printable(f'{folder}/{entry.ref.path}')}",
    ]


def read_header(entry: CatalogEntry, face: Face, session: Session) -> Checked | None:
    """Reads the header of the backup; None: the person did not wait for it."""
    message = f"Connecting to {entry.ref.target} and checking the header of the backup"
    return waited(message, lambda: check(entry, session.targets), face, session)


def seen(known: Sequence[Indexed]) -> tuple[str, ...]:
    """When the targets were looked at, in one line; and a line for each that does not answer, or in part."""
    silent = tuple(f"{one.trouble}; shown {_as_of(one)}" for one in known if one.trouble)
    fine = "; ".join(f"{one.target}: {counted(one.archives, 'archive')} {_as_of(one)}" for one in known if not one.trouble)
    return tuple(filter(None, (fine, *silent)))


def _as_of(one: Indexed) -> str:
    return f"as of {dt.datetime.fromtimestamp(one.head.began, dt.UTC):%Y-%m-%d %H:%M} UTC" if one.head else "never seen"
