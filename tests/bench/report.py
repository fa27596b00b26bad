"""The table: one line a claim, with its target and whether it is met; on the terminal and in docs/benchmarks.md."""

from __future__ import annotations

import datetime as dt
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

BEGIN, END = "<!-- bench -->", "<!-- /bench -->"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One claim: our figure, the one it is measured against, their relation, what that has to be. `ok` None claims nothing."""

    what: str
    ours: str
    against: str = ""
    ratio: str = ""
    target: str = ""
    ok: bool | None = None


def at_most(what: str, ours: float, other: float, limit: float, against: str) -> Row:
    """Seconds that may be at most `limit` times the seconds of another."""
    return Row(
        what=what,
        ours=f"{ours:.2f} s",
        against=f"{against} {other:.2f} s",
        ratio=f"{ours / other:.2f} x",
        target=f"<= {limit:g} x",
        ok=ours <= limit * other,
    )


def told(what: str, ours: float, other: float, name: str) -> Row:
    """A ratio that is shown and has no target."""
    return Row(what=what, ours=f"{ours:.2f} s", against=f"{name} {other:.2f} s", ratio=f"{ours / other:.2f} x")


def below(what: str, ours: float, limit: float, unit: str) -> Row:
    """A figure with a limit of its own."""
    return Row(what=what, ours=f"{ours:.4g} {unit}", target=f"<= {limit:g} {unit}", ok=ours <= limit)


def as_text(rows: Sequence[Row]) -> str:
    """For the terminal."""
    cells = [["what", "ours", "against", "ratio", "target", ""], *([*_cells(row), _verdict(row)] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(6)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells)


def as_markdown(rows: Sequence[Row], conditions: str) -> str:
    """For docs/benchmarks.md."""
    lines = ["| what | ours | against | ratio | target | met |", "|---|---|---|---|---|---|"]
    lines += [f"| {' | '.join([*_cells(row), _verdict(row)])} |" for row in rows]
    return "\n".join([BEGIN, conditions, "", *lines, END])


def write_page(page: Path, table: str) -> bool:
    """Put the table between its markers; False where the page has none."""
    if not page.exists():
        return False
    old = page.read_text()
    before, begin, rest = old.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        return False
    page.write_text(before + table + after)
    return True


def conditions(rounds: int) -> str:
    """Where and when this was measured, in one sentence."""
    flags = _cpuinfo("flags").split()
    sha = "with SHA instructions" if "sha_ni" in flags else "without SHA instructions"
    today = dt.datetime.now(tz=dt.UTC).date()
    return (
        f"Measured on {today} on {os.cpu_count()} cores of {_cpuinfo('model name') or platform.machine()} ({sha}), "
        f"Linux {platform.release().split('-')[0]}, Python {platform.python_version()}. "
        f"Wall seconds, warm cache, every output synced, best of {rounds}."
    )


def _cells(row: Row) -> list[str]:
    return [row.what, row.ours, row.against, row.ratio, row.target]


def _verdict(row: Row) -> str:
    return "" if row.ok is None else ("yes" if row.ok else "**no**")


def _cpuinfo(key: str) -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return ""
