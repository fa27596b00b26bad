"""A Delta restore against everything else that could put the same disk back."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.bench.image import Images
from tests.bench.installed import Installed, newest_delta, only_full, two_days
from tests.bench.measure import Contender, ContenderFailed, best_of, peak, remove_outputs
from tests.bench.peers import PEERS, ready
from tests.bench.report import Row, at_most, below, told

OURS, SPARSE, COPY, ZCAT = "phd restore", "cp --sparse=always", "cp --sparse=never", "zcat FULL > file"
MEMORY_LIMIT = 150


def restore_rows(phd: Installed, disks: Images, work: Path, rounds: int) -> list[Row]:
    """Time of all, and the peak memory of ours."""
    two_days(phd, "restore", disks.base, disks.changed)
    out = work / "out"
    out.mkdir(exist_ok=True)
    own = contenders(phd, disks, out)
    others = [peer for peer in (ready(each, work / "peers", disks.changed, out / "peer.img") for each in PEERS) if peer is not None]
    right = {ZCAT: disks.base}

    def compare(contender: Contender) -> None:
        if subprocess.run(
            ["cmp", "-s", str(contender.outputs[0]), str(right.get(contender.name, disks.changed))], check=False
        ).returncode:
            raise ContenderFailed(f"{contender.name}: what it restored is not the disk")

    costs = best_of([*own, *others], rounds, after=compare)
    ours = costs[OURS]
    rows = [
        at_most("Delta restore of 4 GiB, 42 % used", ours, costs[SPARSE], 2.5, SPARSE),
        at_most("", ours, costs[COPY], 0.8, COPY),
        at_most("", ours, costs[ZCAT], 0.08, ZCAT),
    ]
    if others:
        best = min(others, key=lambda peer: costs[peer.name])
        rows.append(at_most("", ours, costs[best.name], 0.42, f"best of {len(others)} peers: {best.name}"))
        rows += [told("", ours, costs[peer.name], peer.name) for peer in others if peer is not best]
    used = peak(own[0].command)
    remove_outputs(own[0])
    return [*rows, below("its peak memory", used / 1e6, MEMORY_LIMIT, "MB")]


def contenders(phd: Installed, disks: Images, out: Path) -> list[Contender]:
    """Ours, the copies, and plain gunzip. The copies read the uncompressed disk, so they are the floor, not a way back."""
    target, flat = phd.target("restore"), out / "X-flat.vmdk"
    full, image = only_full(target), str(disks.changed)
    ours = phd.command("restore", str(newest_delta(target)), "--to", str(out / "X.vmdk"))
    copied = out / "copy.img"
    never = ["cp", "--reflink=never", "--sparse=never", image, str(copied)]
    return [
        Contender(name=OURS, command=ours, outputs=(flat, out / "X.vmdk"), reads=(target,)),
        Contender(
            name=SPARSE,
            command=["cp", "--reflink=never", "--sparse=always", image, str(copied)],
            outputs=(copied,),
            reads=(disks.changed,),
        ),
        Contender(name=COPY, command=never, outputs=(copied,), reads=(disks.changed,)),
        Contender(name=ZCAT, command=["zcat"], stdin=full, stdout=copied, outputs=(copied,), reads=(full,)),
    ]
