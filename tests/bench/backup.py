"""A Full against pigz, a Delta against reading and hashing the disk."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.bench.image import Images
from tests.bench.installed import Installed, empty_target, newest_delta, only_full
from tests.bench.measure import MIB, Contender, best_of, prepare
from tests.bench.report import Row, at_most


def full_rows(phd: Installed, disks: Images, work: Path, rounds: int) -> list[Row]:
    """MB/s and size, at our default level and at the fast one."""
    if shutil.which("pigz") is None:
        return [Row(what="Full backup", ours="", against="pigz is not installed")]
    pairs = (("Full backup", (), (), 1.5), ("Full backup --fast", ("--fast",), ("-1",), 2.0))
    sizes: dict[str, int] = {}
    racing = []
    for name, ours, theirs, _ in pairs:
        racing += [_ours(phd, disks, name, ours), _pigz(disks, work, theirs)]

    def weigh(contender: Contender) -> None:
        sizes[contender.name] = (only_full(phd.target("backup")) if contender.clear else contender.outputs[0]).stat().st_size

    costs = best_of(racing, rounds, after=weigh)
    rows = []
    for name, _, theirs, times in pairs:
        pigz = _pigz_name(theirs)
        rows.append(_speed(name, pigz, size=disks.size, ours=costs[name], theirs=costs[pigz], times=times))
        rows.append(_size(name, pigz, ours=sizes[name], theirs=sizes[pigz], must=not theirs))
    return rows


def _ours(phd: Installed, disks: Images, name: str, options: tuple[str, ...]) -> Contender:
    command = phd.backup(disks.base, "backup", "--full", *options)
    return Contender(name=name, command=command, reads=(disks.base,), clear=lambda: empty_target(phd, "backup"))


def _pigz(disks: Images, work: Path, options: tuple[str, ...]) -> Contender:
    out = work / "out" / "pigz.gz"
    out.parent.mkdir(exist_ok=True)
    command = ["pigz", "-p2", *options]
    return Contender(name=_pigz_name(options), command=command, stdin=disks.base, stdout=out, outputs=(out,), reads=(disks.base,))


def _pigz_name(options: tuple[str, ...]) -> str:
    return " ".join(["pigz", *options, "-p2"])


def _speed(name: str, pigz: str, *, size: int, ours: float, theirs: float, times: float) -> Row:
    return Row(
        what=name,
        ours=f"{size / 1e6 / ours:.0f} MB/s",
        against=f"{pigz} {size / 1e6 / theirs:.0f} MB/s",
        ratio=f"{theirs / ours:.2f} x",
        target=f">= {times:g} x",
        ok=theirs >= times * ours,
    )


def _size(name: str, pigz: str, *, ours: int, theirs: int, must: bool) -> Row:
    return Row(
        what=f"{name}: its size",
        ours=f"{ours / 1e6:.0f} MB",
        against=f"{pigz} {theirs / 1e6:.0f} MB",
        ratio=f"{ours / theirs:.3f} x",
        target="<= 1 x" if must else "",
        ok=ours <= theirs if must else None,
    )


def delta_rows(phd: Installed, disks: Images, rounds: int) -> list[Row]:
    """Delta of a disk of which 2 % changed. Every round makes a new one against the same Full."""
    target = phd.target("delta")
    empty_target(phd, "delta")
    prepare(phd.backup(disks.base, "delta", "--full", "--at", "2026-01-05T03:00"))
    before = {*target.rglob("*.phd")}

    def forget() -> None:
        for path in {*target.rglob("*.phd")} - before:
            path.unlink()

    sizes: list[int] = []

    def weigh(contender: Contender) -> None:
        if contender.clear is not None:
            sizes.append(newest_delta(target).stat().st_size)

    name, other = "Delta backup, 2 % changed", "sha256sum of the disk"
    ours = Contender(name=name, command=phd.backup(disks.changed, "delta"), reads=(target, disks.changed), clear=forget)
    hashed = Contender(name=other, command=["sha256sum", str(disks.changed)], reads=(disks.changed,))
    costs = best_of([ours, hashed], rounds, after=weigh)
    rows = [at_most(name, costs[name], costs[other], 0.4, other)]
    return [
        *rows,
        Row(what=f"{name}: its size", ours=f"{sizes[0] / MIB:.1f} MiB", against=f"{disks.size * 0.02 / MIB:.1f} MiB changed"),
    ]
