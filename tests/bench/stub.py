"""`sh DELTA restore` against the least a shell could do: unpack the Full and take a digest of it."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

from tests.bench.image import BLOCK, Images
from tests.bench.installed import Installed, newest_delta, only_full, two_days
from tests.bench.measure import Contender, ContenderFailed, best_of
from tests.bench.report import Row, at_most

OURS, LEAST = "sh DELTA restore", "zcat FULL > file; sha256sum file"
RUNS = 20_000


def stub_rows(phd: Installed, disks: Images, work: Path, rounds: int) -> list[Row]:
    """The disk of the other measurements with 2 % changed, and one of 9.8 GiB of which every other block changed."""
    out = work / "stub"
    out.mkdir(exist_ok=True)
    two_days(phd, "restore", disks.base, disks.changed)
    rows = [_row("sh DELTA restore of 4 GiB, 2 % changed", phd.target("restore"), disks.changed, out, rounds, limit=1.3)]
    monday, tuesday = _striped(out / "monday", 0), _striped(out / "tuesday", 1, under=out / "monday")
    two_days(phd, "runs", monday, tuesday)
    return [*rows, _row(f"the same with {RUNS} changed runs", phd.target("runs"), tuesday, out, rounds, limit=3)]


def _row(what: str, target: Path, disk: Path, out: Path, rounds: int, *, limit: float) -> Row:
    full, restored, plain = only_full(target), out / "shell.img", out / "plain.img"
    both = 'zcat < "$1" > "$2" && sha256sum "$2"'
    contenders = [
        Contender(
            name=OURS,
            command=["sh", str(newest_delta(target)), "restore", "--to", str(restored)],
            outputs=(restored,),
            reads=(target,),
        ),
        Contender(name=LEAST, command=["sh", "-c", both, "sh", str(full), str(plain)], outputs=(plain,), reads=(full,)),
    ]

    def compare(contender: Contender) -> None:
        if contender.name == OURS and subprocess.run(["cmp", "-s", str(restored), str(disk)], check=False).returncode:
            raise ContenderFailed(f"{what}: what it restored is not the disk")

    costs = best_of(contenders, rounds, after=compare)
    return at_most(what, costs[OURS], costs[LEAST], limit, LEAST)


def _striped(folder: Path, first: int, under: Path | None = None) -> Path:
    """A disk with data in every other block, from block `first` on, and in those of the disk in `under` too."""
    folder.mkdir(exist_ok=True)
    path, rng = folder / "runs.img", random.Random(first)
    if under is not None:
        subprocess.run(["cp", "--sparse=always", str(under / path.name), str(path)], check=True)
    with path.open("r+b" if under is not None else "wb") as disk:
        disk.truncate(2 * RUNS * BLOCK)
        for block in range(first, 2 * RUNS, 2):
            disk.seek(block * BLOCK)
            disk.write(rng.randbytes(64) * 64)
    return path
