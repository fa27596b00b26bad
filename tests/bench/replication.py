"""What the hourly look costs: indexing 100,000 archives, asking for some of them, and a pass of 500 rules over 10,000 backups.

The archives are empty files with the names of archives and an old date: what is measured reads names.
"""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

from tests.bench.installed import Installed
from tests.bench.measure import Contender, best_of, empty_folder, peak, prepare
from tests.bench.report import Row, at_most, below

MANY, FEW, RULES = 100_000, 10_000, 500
OLD = dt.datetime(2025, 1, 1, tzinfo=dt.UTC).timestamp()


def replication_rows(phd: Installed, rounds: int) -> list[Row]:
    """Rows of the catalog, then those of a pass."""
    return [*_catalog_rows(_alone(phd, "many", MANY), rounds), *_pass_rows(_alone(phd, "few", FEW), rounds)]


def _alone(phd: Installed, target: str, archives: int) -> Installed:
    """An installation with one target of so many archives, and no datastore but its own."""
    folder = phd.folder / f"catalog-{target}"
    own = Installed(folder=folder)
    for path in (own.spool, own.datastore, folder / "state"):
        path.mkdir(parents=True, exist_ok=True)
    own.spool.chmod(0o700)
    (folder / "phd.toml").write_text(
        f'state_dir = "{folder}/state"\n[queue]\nspool = "{own.spool}"\n'
        f'[replication]\nrules = "{folder}/vmdks.auto"\nledger = "{folder}/restored.log"\n'
        f'[datastores]\nroots = ["{own.datastore.parent}"]\n[targets.nas]\nurl = "file://{own.target("nas")}"\n'
    )
    if not own.target("nas").exists():
        print(f"making {archives} names of archives", flush=True)
        _make(own.target("nas"), archives)
    return own


def _make(root: Path, archives: int) -> None:
    """So many Deltas of 500 VMs with one disk each, a folder a VM and day, as backups lie."""
    made, day = 0, dt.date(2024, 1, 1)
    while made < archives:
        for number in range(RULES):
            folder = root / f"{day:%Y.%m.%d}-vm{number:03d}.564d{number:04x}-0ed7-3b92-2f46-aee9456b2074"
            folder.mkdir(parents=True)
            path = folder / f"00-vm{number:03d}.vmdk.delta-{day:%Y.%m.%d}-0300-240101-0300.phd"
            path.touch()
            os.utime(path, (OLD, OLD))
            made += 1
        day += dt.timedelta(days=1)


def _catalog_rows(phd: Installed, rounds: int) -> list[Row]:
    root = str(phd.target("nas"))
    seconds = best_of(
        [
            Contender(name="find -printf", command=["find", root, "-printf", "%s %T@ %p\n"]),
            Contender(name="phd index", command=phd.command("index")),
            Contender(name="phd backups --vm", command=phd.command("backups", "--vm", "vm01?")),
            Contender(name="phd backups --since", command=phd.command("backups", "--vmdk", "vm1*", "--since", "2024-07-15")),
        ],
        max(rounds, 3),
    )
    memory = peak(phd.command("index"))
    return [
        at_most(f"index of {MANY} archives, a folder each", seconds["phd index"], seconds["find -printf"], 5, "find -printf"),
        below("the same: peak memory", memory / 1e6, 100, "MB"),
        below(f"phd backups --vm 'vm01?' of {MANY}", seconds["phd backups --vm"], 0.5, "s"),
        below(f"phd backups --vmdk 'vm1*' --since ... of {MANY}", seconds["phd backups --since"], 0.5, "s"),
    ]


def _pass_rows(phd: Installed, rounds: int) -> list[Row]:
    rules = "".join(
        f"RESTORE:vm{number:03d}|564d{number:04x}-0ed7-3b92-2f46-aee9456b2074|00|vm{number:03d}.vmdk|{phd.datastore}/vm{number:03d}.vmdk\n"
        for number in range(RULES)
    )
    path = phd.folder / "vmdks.auto"
    path.write_text(rules)
    os.utime(path, (OLD, OLD))

    def clear() -> None:
        empty_folder(phd.spool)
        phd.spool.chmod(0o700)

    clear()
    prepare(phd.command("replicate"))
    seconds = best_of(
        [
            Contender(name="phd index", command=phd.command("index")),
            Contender(name="phd replicate, nothing new", command=phd.command("replicate")),
        ],
        max(rounds, 3),
    )
    new = best_of([Contender(name="phd replicate, all new", command=phd.command("replicate"), clear=clear)], max(rounds, 3))
    what = f"pass of {RULES} rules over {FEW} backups, beyond the listing"
    listing = seconds["phd index"]
    return [
        below(f"{what}: nothing new", seconds["phd replicate, nothing new"] - listing, 2, "s"),
        below(f"{what}: {RULES} jobs queued, durably", new["phd replicate, all new"] - listing, 2, "s"),
    ]
