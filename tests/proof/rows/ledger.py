"""R23: the ledger cut at every byte, with flipped bits, and written by four at once: it never says "restored" of what was not."""

from __future__ import annotations

import datetime as dt
import os
import random
from pathlib import Path

from restore_core.replication import ledger
from restore_core.replication.ledger import LedgerLine, parse_ledger, read_ledger, render
from restore_core.targets.base import ArchiveRef
from tests.proof.scoreboard import Figure, Round, Row

WRITERS, LINES_EACH = 4, 50
AT = dt.datetime(2026, 11, 22, 3, 0, tzinfo=dt.UTC)


def line(number: int, dice: random.Random) -> LedgerLine:
    """One of many: names with bars, newlines and letters of other alphabets too."""
    vm = dice.choice(["CRM", "a|b", "Büro", "x\ny", "per%cent"])
    return LedgerLine(
        time=AT + dt.timedelta(seconds=number),
        archive=ArchiveRef(target="nas", path=f"2026.11.22-CRM.564d122a-0ed7-3b92-2f46-aee9456b2074/00-d{number}.phd"),
        destination=Path(f"/vmfs/volumes/ds/{vm}/{number}.vmdk"),
        job=f"auto-{number}",
    )


def false_or_lost(data: bytes, real: list[LedgerLine], *, kept: int) -> str:
    """Why this is no honest reading of a damaged ledger: a line nobody wrote, or fewer than `kept` of those that were."""
    found = parse_ledger(data)
    if invented := set(found.lines) - set(real):
        return f"a line nobody wrote: {next(iter(invented))}"
    return f"{len(found.lines)} lines of {kept}" if len(found.lines) < kept else ""


def cuts(path: Path, lines: list[LedgerLine]) -> list[str]:
    """Every cut of the file, also continued afterwards: only the torn line is lost, and what comes after it is whole."""
    whole = "".join(f"{render(each)}\n" for each in lines).encode()
    more = line(1_000_000, random.Random(0))
    wrong = []
    for end in range(len(whole) + 1):
        kept = whole[:end].count(b"\n")
        said = false_or_lost(whole[:end], lines, kept=kept)
        path.write_bytes(whole[:end])
        ledger.append_restore(path, more)
        said = said or false_or_lost(path.read_bytes(), [*lines, more], kept=kept + 1)
        wrong += [f"cut at {end}: {said}"] if said else []
    return wrong


def flips(lines: list[LedgerLine], dice: random.Random, count: int) -> list[str]:
    """One flipped bit loses at most the two lines that it may join."""
    whole = "".join(f"{render(each)}\n" for each in lines).encode()
    wrong = []
    for _ in range(count):
        data, bit = bytearray(whole), dice.randrange(len(whole) * 8)
        data[bit // 8] ^= 1 << bit % 8
        said = false_or_lost(bytes(data), lines, kept=len(lines) - 2)
        found = parse_ledger(bytes(data))
        said = said or ("" if found.bad or len(found.lines) == len(lines) else "a lost line that nobody hears of")
        wrong += [f"bit {bit}: {said}"] if said else []
    return wrong


def at_once(path: Path, each: int) -> list[str]:
    """Four processes append; all lines are there, whole."""
    children = []
    for writer in range(WRITERS):
        pid = os.fork()
        if pid == 0:
            for number in range(each):
                ledger.append_restore(path, line(writer * each + number, random.Random(writer)))
            os._exit(0)
        children.append(pid)
    ended = [os.waitpid(pid, 0)[1] for pid in children]
    found = read_ledger(path)
    jobs = {each.job for each in found.lines}
    if any(ended) or found.bad or len(jobs) != WRITERS * each or len(found.lines) != WRITERS * each:
        return [f"{len(jobs)} of {WRITERS * each} lines by {WRITERS} at once, {len(found.bad)} bad, ended {ended}"]
    return []


def run(asked: Round) -> Figure:
    dice = asked.dice()
    lines = [line(number, dice) for number in range(asked.times(20))]
    count, each = asked.times(2000), asked.times(LINES_EACH)
    size = sum(len(render(one).encode()) + 1 for one in lines)
    wrong = [
        *cuts(asked.folder / "cut.log", lines),
        *flips(lines, dice, count),
        *at_once(asked.folder / "shared.log", each),
    ]
    of = size + 1 + count + WRITERS * each
    note = f"{size + 1} cuts, {count} flips, {WRITERS}x{each} lines at once"
    return Figure(held=of - len(wrong), of=of, note="; ".join([note, *wrong[:1]]))


ROWS = (
    Row(
        id="R23",
        what="ledger cut at every byte and continued, 2,000 flips, four writers at once",
        target='0 false "restored", only the torn line lost',
        run=run,
        mutants=("ledger:no_checksum", "ledger:torn_lines_are_not_closed"),
        mutant_share=0.3,
        short=0.1,
    ),
)
