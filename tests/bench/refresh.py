"""A replica of Monday brought to Tuesday, 2 % changed in scattered runs: ours, our own fresh restore, and what others do."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.bench.image import Images
from tests.bench.installed import Installed, newest_delta, two_days
from tests.bench.measure import Contender, ContenderFailed, best_of, empty_folder, prepare
from tests.bench.report import Row, at_most, told

FRESH, KNOWN, HASHED, SAME = "phd restore, fresh", "phd restore, on record", "phd restore, hashed", "phd restore, nothing changed"


def refresh_rows(phd: Installed, disks: Images, work: Path, rounds: int) -> list[Row]:
    """Each contender starts from Monday's disk, put back before every round."""
    two_days(phd, "restore", disks.base, disks.changed)
    folder = work / "refresh"
    empty_folder(folder)
    (phd.spool / ".state" / "receipts").mkdir(parents=True, exist_ok=True)
    ours, others = _ours(phd, folder), _others(disks, folder)

    def compare(contender: Contender) -> None:
        disk = folder / f"{contender.name}.img"
        if contender.name != SAME and prepare(["sh", "-c", f"cmp -s '{disk}' '{disks.changed}'; echo $?"]).strip() != "0":
            raise ContenderFailed(f"{contender.name}: what it made is not the disk")

    costs = best_of([*ours, *others], rounds, after=compare)
    shutil.rmtree(folder)
    rows = [
        at_most("Refresh of a 4 GiB replica, 2 % changed", costs[KNOWN], costs[FRESH], 0.35, FRESH),
        told("the same, hashing the replica first", costs[HASHED], costs[FRESH], FRESH),
        at_most("Refresh with nothing changed", costs[SAME], costs[FRESH], 0.2, FRESH),
    ]
    if others:
        best = min(others, key=lambda each: costs[each.name])
        rows.append(at_most("Refresh, 2 % changed", costs[KNOWN], costs[best.name], 0.25, f"best of {len(others)}: {best.name}"))
    return rows


def _ours(phd: Installed, folder: Path) -> list[Contender]:
    target = phd.target("restore")
    monday = next(target.rglob("*.delta-2026.01.05-0300-*"))
    tuesday = newest_delta(target)

    def contender(name: str, delta: Path, before: Callable[[Path], None]) -> Contender:
        disk = folder / f"{name}.img"
        return Contender(
            name=name,
            command=phd.command("restore", str(delta), "--to", str(disk), "--overwrite"),
            reads=(target,),
            clear=lambda: before(disk),
        )

    def put_monday(disk: Path) -> None:
        prepare(phd.command("restore", str(monday), "--to", str(disk), "--overwrite"))

    def put_monday_and_touch(disk: Path) -> None:
        put_monday(disk)
        os.utime(disk)

    return [
        contender(FRESH, tuesday, lambda disk: disk.unlink(missing_ok=True)),
        contender(KNOWN, tuesday, put_monday),
        contender(HASHED, tuesday, put_monday_and_touch),
        contender(SAME, monday, put_monday),
    ]


def _others(disks: Images, folder: Path) -> list[Contender]:
    found = []
    if shutil.which("rsync"):
        name = "rsync --inplace"
        out = folder / f"{name}.img"
        sync = f"rsync --inplace --no-whole-file '{disks.changed}' '{out}' && sync '{out}'"
        found.append(_other(name, sync, lambda: _put_monday(disks, out), (disks.changed,)))
    if shutil.which("casync"):
        name = "casync extract --seed"
        made, store, seed = folder / f"{name}.img", folder / "casync", folder / "seed.img"
        store.mkdir()
        prepare(["casync", "make", f"--store={store / 'c.castr'}", str(store / "d.caibx"), str(disks.changed)])
        prepare(["cp", "--sparse=always", str(disks.base), str(seed)])
        index, chunks = store / "d.caibx", store / "c.castr"
        # casync writes a new file beside its seed; onto an existing one it fails with "Stale file handle".
        sync = f"casync extract --store='{chunks}' --seed='{seed}' '{index}' '{made}' && sync '{made}'"
        found.append(_other(name, sync, lambda: made.unlink(missing_ok=True), (store, seed)))
    return found


def _put_monday(disks: Images, out: Path) -> None:
    prepare(["cp", "--sparse=always", str(disks.base), str(out)])
    prepare(["sync", str(out)])


def _other(name: str, script: str, clear: Callable[[], None], reads: tuple[Path, ...]) -> Contender:
    return Contender(name=name, command=["sh", "-c", script], reads=reads, clear=clear)
