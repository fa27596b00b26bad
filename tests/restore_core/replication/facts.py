"""Backups, rules and worlds for tests of the selection, without a file."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from pathlib import Path
from zoneinfo import ZoneInfo

from restore_core import naming
from restore_core.catalog import CatalogEntry
from restore_core.catalog.entry import entry_of
from restore_core.replication.ledger import Ledger, LedgerLine
from restore_core.replication.rules import Rule, parse_rules
from restore_core.replication.selection import DiskState, PassPolicy, QueuedJob, RuleDecision, World, select
from restore_core.targets.base import ArchiveRef, FileStat

UUID = "564d122a-0ed7-3b92-2f46-aee9456b2074"
OTHER = "564d122a-0ed7-3b92-2f46-aee9456b9999"
NOW = dt.datetime(2026, 3, 10, 12, 0, tzinfo=dt.UTC)
HOME = Path("/vmfs/volumes/ISCSI02/ronzo/CRM.vmdk")
OLD = 1e9


def delta(
    stamp: str,
    *,
    target: str = "nas1",
    vm: str = "CRM",
    uuid: str | None = UUID,
    scsi: str = "00",
    disk: str = "CRM.vmdk",
    zone: str = "UTC",
    mtime: float = OLD,
    settled: bool = True,
) -> CatalogEntry:
    """A Delta with the stamp `2026-03-09 03:00`, local to `zone`."""
    time = dt.datetime.fromisoformat(stamp)
    folder = naming.folder_name(date=time.date(), vm=vm, uuid=uuid) if uuid else vm
    name = naming.delta_name(scsi=scsi, disk=disk, stamp=time, base=dt.datetime(2026, 1, 1, 3))  # noqa: DTZ001 - as in a name
    found = entry_of(
        ArchiveRef(target=target, path=f"{folder}/{name}"), FileStat(size=1, mtime=mtime), ZoneInfo(zone), settled=settled
    )
    assert found is not None
    return found


def rule(days: int = 0, *, uuid: str = UUID, scsi: str = "00", to: Path = HOME) -> Rule:
    """One rule for CRM.vmdk."""
    (found,) = parse_rules(f"RESTORE:CRM|{uuid}|{scsi}|CRM.vmdk|{to}|-{days}".encode(), roots=None).rules
    return found


def ledger(*entries: CatalogEntry, to: Path = HOME) -> Ledger:
    """A ledger that names these as restored, in this order."""
    lines = tuple(LedgerLine(time=entry.time, archive=entry.ref, destination=to, job="auto-x") for entry in entries)
    return Ledger(lines=lines, bad=())


def holding(entry: CatalogEntry) -> DiskState:
    """A disk that a restore of this backup has left, and nobody has written since."""
    return DiskState(exists=True, ours=True, archive=entry.ref, taken=entry.time)


def decide(
    entries: Iterable[CatalogEntry],
    *,
    rules: Iterable[Rule] = (),
    entered: Ledger | None = None,
    jobs: Iterable[QueuedJob] = (),
    there: DiskState | None = None,
    now: dt.datetime = NOW,
    silent: dict[str, str] | None = None,
    policy: PassPolicy | None = None,
    zone: str = "UTC",
) -> RuleDecision:
    """The decision on the first rule, by default the plain one for CRM.vmdk."""
    wanted = [*rules] or [rule()]
    world = World(
        entries=entries,
        ledger=entered or Ledger(lines=(), bad=()),
        jobs=[*jobs],
        destinations={HOME: there or DiskState(exists=entered is not None, ours=True)},
        now=now,
        silent=silent or {},
        zones={name: ZoneInfo(zone) for name in ("nas1", "vmfs")},
    )
    return select(wanted, world, policy or PassPolicy())[0]
