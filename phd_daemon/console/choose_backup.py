"""The way to one backup: machine or VMDK name > a date or All Dates > the list.

Every list is left one step back. What is chosen last is handed to a function, and the list stands there again when that
returns, so that the next disk of a machine can be chosen at once.
"""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial

from phd_daemon.console import holdings
from phd_daemon.console.face import Choice, Face, Row
from phd_daemon.console.holdings import Group
from phd_daemon.console.menus import call, waited
from phd_daemon.console.session import Session
from phd_daemon.operations.backups import Maps, search
from phd_daemon.show.words import counted
from restore_core.catalog import CatalogEntry
from restore_core.catalog.index import Indexed
from restore_core.errors import ArchiveAbsent, ConfigurationError
from restore_core.naming import ArchiveType

Then = Callable[[CatalogEntry, Face, Session], None]
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


def browse_machines(face: Face, session: Session, then: Then, *, only: ArchiveType | None = None) -> None:
    """From the list of virtual machines to `then`, until the list is left."""
    _browse(face, session, then, title="Virtual Machines", columns=holdings.MACHINE_COLUMNS, group=holdings.by_machine, only=only)


def browse_vmdks(face: Face, session: Session, then: Then) -> None:
    """From the list of VMDK names to `then`, until the list is left."""
    _browse(face, session, then, title="VMDK Names", columns=holdings.VMDK_COLUMNS, group=holdings.by_vmdk, only=None)


def _browse(
    face: Face,
    session: Session,
    then: Then,
    *,
    title: str,
    columns: tuple[str, ...],
    group: Callable[[Sequence[CatalogEntry]], list[Row[Group]]],
    only: ArchiveType | None,
) -> None:
    held = _look(face, session, look=(), only=only)
    while held is not None:
        again: Row[Group | _Again] = Row(cells=("Look at the backup targets again",), value=_Again.AGAIN, key="i")
        rows: list[Row[Group | _Again]] = [*group(held.entries), again]
        start = 0 if len(rows) == 2 else None
        chosen = face.choose(Choice(title=title, rows=rows, columns=columns, intro=held.seen, help=_GROUPS_HELP, start=start))
        if chosen is None:
            return
        if isinstance(chosen, Group):
            _days(face, session, then, chosen, held.maps)
        else:
            held = _look(face, session, look=None, only=only) or held


def _days(face: Face, session: Session, then: Then, group: Group, maps: Maps) -> None:
    rows = holdings.by_day(group)
    title = f"{group.title}: a date or All Dates"
    while (chosen := face.choose(Choice(title=title, rows=rows, help=_BACKUPS_HELP, start=1))) is not None:
        _backups(face, session, then, chosen, maps)


def _backups(face: Face, session: Session, then: Then, group: Group, maps: Maps) -> None:
    rows = holdings.backups(group, maps)
    columns = holdings.BACKUP_COLUMNS + ("VM",) * (len(rows[0].cells) - len(holdings.BACKUP_COLUMNS))
    title, start = f"Backups of {group.title}", holdings.proposed(group.entries)
    while (entry := face.choose(Choice(title=title, rows=rows, columns=columns, help=_BACKUPS_HELP, start=start))) is not None:
        call(title, partial(then, entry), face, session)


def seen(known: Sequence[Indexed]) -> tuple[str, ...]:
    """When the targets were looked at, in one line; and a line for each that does not answer, or in part."""
    silent = tuple(f"{one.trouble}; shown {_as_of(one)}" for one in known if one.trouble)
    fine = "; ".join(f"{one.target}: {counted(one.archives, 'archive')} {_as_of(one)}" for one in known if not one.trouble)
    return tuple(filter(None, (fine, *silent)))


def _as_of(one: Indexed) -> str:
    return f"as of {dt.datetime.fromtimestamp(one.head.began, dt.UTC):%Y-%m-%d %H:%M} UTC" if one.head else "never seen"


def _look(face: Face, session: Session, *, look: Collection[str] | None, only: ArchiveType | None) -> Held | None:
    """The catalog, and the targets themselves where it is too old (`look`: also those, None: all of them).

    None: the person did not wait for it.
    """
    if not session.config.targets:
        raise ConfigurationError("no backup target is configured", remedy="Add [targets.NAME] to phd.toml.")

    def work() -> Held:
        found = search(session.config, kind=only, look=look)
        return Held(entries=holdings.newest_first(found.entries), maps=found.maps, seen=seen(found.targets))

    held = waited("Looking at the backup targets", work, face, session)
    if held is not None and not held.entries:
        what = "; ".join(held.seen)
        raise ArchiveAbsent(f"no backups were found: {what}", remedy="'phd targets' shows which targets answer.")
    return held
