"""`python -m tests.proof`: the scoreboard, one line a row, and the planted bugs that each row must catch (R0)."""

from __future__ import annotations

import argparse
import platform
import sys
import time
from pathlib import Path

from tests.proof.scoreboard import ROOT, Result, Row, all_rows, caught, child_main, in_child

TABLE = ROOT / "docs" / "scoreboard.md"
LEFT_OUT = (
    "Not tested here: real VMFS and real ESX locks, a disk's write cache that lies below the file system, EIO of real hardware, "
    "writes reordered by the device mapper, NFS datastores, systemd newer than this machine's."
)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.proof")
    parser.add_argument("--only", default="", help="rows, as R1,R5")
    parser.add_argument("--seed", type=int, default=20261122)
    parser.add_argument("--share", type=float, default=1.0, help="how much of each row to do, 0 to 1")
    parser.add_argument("--no-mutants", action="store_true", help="do not plant bugs")
    parser.add_argument("--row", default="", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def line(row: Row, result: Result, seed: int, bugs: tuple[int, int]) -> list[str]:
    """The cells of one row of the table."""
    if result.figure is None:
        figure, count = (f"not run: {result.not_run}" if result.not_run else f"RED: {result.broke}"), "0"
    else:
        colour = "" if result.green else "RED: "
        note = f", {result.figure.note}" if result.figure.note else ""
        figure, count = f"{colour}{result.figure.held}/{result.figure.of}{note}", str(result.figure.of)
    return [row.id, row.what, figure, row.target, count, f"{result.seconds:.0f}", str(seed), f"{bugs[0]}/{bugs[1]}"]


def run(rows: list[Row], options: argparse.Namespace) -> tuple[list[list[str]], bool]:
    lines, good = [], True
    for row in rows:
        result = in_child(row, seed=options.seed, share=options.share)
        found = {} if options.no_mutants or result.not_run else dict(caught(row, seed=options.seed))
        missed = [name for name, seen in found.items() if seen.green or seen.not_run]
        bugs = (len(found) - len(missed), len(row.mutants))
        lines.append(line(row, result, options.seed, bugs))
        print(" · ".join(lines[-1]), flush=True)
        for name in missed:
            print(f"    NOT CAUGHT: {name}", flush=True)
        good = good and (result.green or bool(result.not_run)) and not missed
    return lines, good


def write_table(lines: list[list[str]], summary: str) -> None:
    head = ["row", "what", "figure", "target", "n", "seconds", "seed", "mutants caught"]
    table = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in cells] for cells in lines)]
    text = "\n".join("| " + " | ".join(cells) + " |" for cells in table)
    where = (
        f"Written by `make proof` on {time.strftime('%Y-%m-%d')}, Linux {platform.release()}, Python {platform.python_version()}."
    )
    TABLE.write_text(f"# The scoreboard\n\n{where}\n{summary}\n\n{text}\n\n{LEFT_OUT}\n")


def main() -> int:
    options = arguments()
    if options.row:
        return child_main(options.row, seed=options.seed, share=options.share, folder=options.folder)
    wanted = set(options.only.split(",")) - {""}
    rows = [row for row in all_rows() if not wanted or row.id in wanted]
    lines, good = run(rows, options)
    not_run = sum("not run" in cells[2] for cells in lines)
    caught_all, planted = (sum(int(cells[7].split("/")[n]) for cells in lines) for n in (0, 1))
    colour = "green" if good else "NOT ALL GREEN"
    summary = f"R0: mutants caught {caught_all}/{planted}. Rows: {len(lines)}, not run here: {not_run}, all others {colour}."
    print(summary)
    if not wanted and options.share == 1.0 and not options.no_mutants:
        write_table(lines, summary)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
