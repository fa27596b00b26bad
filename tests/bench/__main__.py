"""`python -m tests.bench`: measure, print the table, write it into docs/benchmarks.md. Exit 1 when a target is missed."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from tests.bench import report
from tests.bench.backup import delta_rows, full_rows
from tests.bench.files import files_rows
from tests.bench.image import images
from tests.bench.installed import install
from tests.bench.latency import latency_rows
from tests.bench.listing import listing_rows
from tests.bench.measure import ContenderFailed
from tests.bench.memory import memory_rows
from tests.bench.network import network_rows
from tests.bench.refresh import refresh_rows
from tests.bench.replication import replication_rows
from tests.bench.restore import restore_rows
from tests.bench.serve import serve_rows
from tests.bench.stub import stub_rows

ROOT = Path(__file__).resolve().parents[2]
PARTS = "restore,network,refresh,stub,full,delta,replication,listing,memory,latency,serve,files"
NEEDED = 25 << 30
"""Bytes for a first run of 4 GiB: disks 3.6, archives and stores of seven 5, one output of 4.3, and room."""


def main() -> int:
    asked = _arguments()
    work = Path(os.environ.get("PHD_BENCH_DIR") or ROOT / ".work" / "bench").absolute()
    work.mkdir(parents=True, exist_ok=True)
    size = asked.gib << 30
    _check_space(work, NEEDED * asked.gib // 4)
    disks = images(work, size)
    phd = install(work / f"phd-{asked.gib}", "restore", "backup", "delta", "small", "network", "runs", "served", "files")
    parts: dict[str, Callable[[], list[report.Row]]] = {
        "restore": lambda: restore_rows(phd, disks, work / f"run-{asked.gib}", asked.rounds),
        "network": lambda: network_rows(phd, disks, work / f"run-{asked.gib}", asked.rounds),
        "refresh": lambda: refresh_rows(phd, disks, work / f"run-{asked.gib}", asked.rounds),
        "stub": lambda: stub_rows(phd, disks, work / f"run-{asked.gib}", asked.rounds),
        "full": lambda: full_rows(phd, disks, work / f"run-{asked.gib}", asked.rounds),
        "delta": lambda: delta_rows(phd, disks, asked.rounds),
        "replication": lambda: replication_rows(phd, asked.rounds),
        "listing": lambda: listing_rows(phd, asked.rounds),
        "memory": lambda: memory_rows(phd, work),
        "latency": lambda: latency_rows(phd, work),
        "serve": lambda: serve_rows(phd, disks, work / f"run-{asked.gib}", max(3, asked.rounds)),
        "files": lambda: files_rows(phd, disks, work / f"run-{asked.gib}", max(3, asked.rounds)),
    }
    (work / f"run-{asked.gib}").mkdir(exist_ok=True)
    chosen = asked.only.split(",") if asked.only else [*parts]
    rows: list[report.Row] = []
    for name in chosen:
        print(f"== {name}", flush=True)
        rows += parts[name]()
    conditions = report.conditions(asked.rounds)
    print(f"\n{conditions}\n\n{report.as_text(rows)}")
    whole = chosen == [*parts] and asked.gib == 4
    if whole and not report.write_page(ROOT / "docs" / "benchmarks.md", report.as_markdown(rows, conditions)):
        print(f"docs/benchmarks.md has no {report.BEGIN} ... {report.END}: the table was not written there")
    return 1 if any(row.ok is False for row in rows) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--gib", type=int, default=4, help="size of the disk; only 4 is written into docs/benchmarks.md")
    parser.add_argument("--only", default="", help=f"some of {PARTS}; not written into docs/benchmarks.md")
    return parser.parse_args()


def _check_space(work: Path, needed: int) -> None:
    have = shutil.disk_usage(work).free + sum(path.lstat().st_blocks * 512 for path in work.rglob("*"))
    if have < needed:
        sys.exit(f"{work}: {needed >> 30} GiB are needed, {have >> 30} GiB are free; set PHD_BENCH_DIR to a folder with more room")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ContenderFailed as failed:
        sys.exit(str(failed))
