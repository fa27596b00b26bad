"""R10, R11: one flipped bit, one missing byte, anywhere in a Full or a Delta, ends the restore and is found by verify."""

from __future__ import annotations

import contextlib
import gzip
import random
from collections.abc import Iterator
from pathlib import Path

from restore_core.errors import PhdError
from restore_core.restore.full import restore_full
from restore_core.restore.request import RestoreRequest
from restore_core.targets.base import LOCAL, ArchiveRef
from tests.lab import BLOCK, Lab, go_on
from tests.proof.scoreboard import Figure, Round, Row


def restored_right_or_refused(lab: Lab, delta: ArchiveRef, data: bytes) -> bool:
    """The disk is exact, or is not there."""
    out = lab.folder / "out" / "x.img"
    with contextlib.suppress(PhdError):
        lab.restore(delta, "x.img")
    right = not out.exists() or out.read_bytes() == data
    out.unlink(missing_ok=True)
    return right and lab.leftovers() == []


def verify_finds(lab: Lab, delta: ArchiveRef) -> bool:
    try:
        lab.verify(delta)
    except PhdError:
        return True
    return False


def two_archives(folder: Path, dice: random.Random) -> tuple[Lab, ArchiveRef, tuple[Path, Path], bytes]:
    """A Full and a Delta of the changed disk; the Delta, both files, and what the Delta restores."""
    lab = Lab(folder)
    old = b"".join(bytes(BLOCK) if n % 4 == 0 else dice.randbytes(4096) * (BLOCK // 4096) for n in range(9)) + b"odd"
    full = lab.backup(old)
    delta = lab.backup(old[:BLOCK] + dice.randbytes(2 * BLOCK) + old[3 * BLOCK :])
    if full.full is None:
        raise AssertionError("the first backup of a disk is a Full")
    return lab, delta.delta, (lab.path(full.full), lab.path(delta.delta)), lab.disk.read_bytes()


def flips(asked: Round) -> Figure:
    dice = asked.dice()
    lab, delta, paths, data = two_archives(asked.folder, dice)
    held, first = 0, ""
    for number in range(count := asked.times(2000)):
        path = paths[number % 2]
        whole = path.read_bytes()
        bit = dice.randrange(len(whole) * 8)
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        good = restored_right_or_refused(lab, delta, data) and verify_finds(lab, delta)
        held += good
        first = first or ("" if good else f"first: bit {bit} of {path.name}")
        path.write_bytes(whole)
    return Figure(held=held, of=count, note=first)


def foreign_restored_or_refused(lab: Lab, path: Path, plain: bytes) -> bool:
    """A gzip that something else wrote, restored by its own CRCs alone: exact, or not there."""
    out = lab.folder / "out" / "f.img"
    request = RestoreRequest(delta=ArchiveRef(target=LOCAL, path=str(path)), destination=out)
    with contextlib.suppress(PhdError):
        restore_full(request, lab.targets, reporter=lab.witness, stop=go_on)
    right = not out.exists() or out.read_bytes() == plain
    out.unlink(missing_ok=True)
    return right and lab.leftovers() == []


def member_length(head: bytes) -> int:
    """The length of a member of a Full, as its first subfield says; 0 for what is none."""
    return int.from_bytes(head[16:20], "little") if head[12:16] == b"PF\4\0" else 0


def places(lab: Lab, delta: ArchiveRef, paths: tuple[Path, ...]) -> Iterator[tuple[Path, int]]:
    """Where each file is cut: every 64th byte, and one byte before, at and after everything that has a beginning."""
    ends = {0, 1, 2}
    for section in lab.reader(delta).header.sections:
        ends |= {section.offset, section.offset + section.length}
    for path in paths:
        whole, at = path.read_bytes(), 0
        marks = set(ends) if path.name == delta.name else {0, 1, 2, 10, 12, len(whole) - 8, len(whole) - 4}
        while path.name != delta.name and (length := member_length(whole[at : at + 20])):
            at += length
            marks |= {at, at - 8, at - 4, at + 10, at + 12}
        around = {mark + step for mark in marks for step in (-1, 0, 1)} | set(range(0, len(whole), 64)) | {len(whole) - 1}
        yield from ((path, end) for end in sorted(around) if 0 <= end < len(whole))
        yield path, len(whole) + 1


def cuts(asked: Round) -> Figure:
    dice = asked.dice()
    lab, delta, paths, data = two_archives(asked.folder, dice)
    plain = dice.randbytes(9000) * 9
    foreign = lab.folder / "foreign.gz"
    foreign.write_bytes(gzip.compress(plain[:40_000], mtime=0) + gzip.compress(plain[40_000:], mtime=0))
    found = list(places(lab, delta, (*paths, foreign)))
    longer = {number for number, (path, end) in enumerate(found) if end > path.stat().st_size}
    chosen = sorted(longer | set(dice.sample(range(len(found)), asked.times(len(found)))))
    held, first = 0, ""
    for path, end in (found[number] for number in chosen):
        whole = path.read_bytes()
        path.write_bytes(whole[:end] if end <= len(whole) else whole + b"\1")
        if path == foreign:
            good = foreign_restored_or_refused(lab, path, plain)
        else:
            good = restored_right_or_refused(lab, delta, data) and verify_finds(lab, delta)
        held += good
        first = first or ("" if good else f"first: {path.name} cut at {end} of {len(whole)}")
        path.write_bytes(whole)
    return Figure(held=held, of=len(chosen), note=first)


ROWS = (
    Row(
        id="R10",
        what="bit flips in Full and Delta",
        target="all found before the final name",
        run=flips,
        mutants=("bits:verify_skips_the_blocks", "bits:writes_unchecked_blocks"),
        short=0.05,
    ),
    Row(
        id="R11",
        what="truncations: every 64th byte and all boundaries, and one byte too many",
        target="all found",
        run=cuts,
        mutants=("bits:the_end_of_the_bytes_is_the_end_of_the_disk", "bits:any_length_will_do"),
        mutant_share=0.05,
        short=0.03,
    ),
)
