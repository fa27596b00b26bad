"""R12: archives made to harm. Each ends soon, in little memory, in a typed error or, where the lie is harmless, the exact disk."""

from __future__ import annotations

import gzip
import os
import random
import re
import resource
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from restore_core.archive.frames import Effort, FullIdentity, full_member
from restore_core.archive.header import HEAD_BYTES
from restore_core.archive.index_map import DELTA, FULL, ZERO
from restore_core.errors import PhdError
from restore_core.restore.full import restore_full
from restore_core.restore.preview import plan_delta
from restore_core.restore.request import Provision, RestoreOptions, RestoreRequest, VmxChoice
from restore_core.restore.run import restore_delta
from restore_core.targets.base import ArchiveRef
from tests.lab import BLOCK, Lab, go_on
from tests.proof.forge import Forged, bomb, recompressed, taken_apart
from tests.proof.scoreboard import Figure, NotRun, Round, Row

MOST_SECONDS = 1.0
MOST_BYTES = 64 << 20
GIB = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One archive. `harmless`: what is changed is a label or nothing a restore uses, so that the exact disk is right as well.

    `alone`: the Full is restored by itself, without its Delta. `verified`: `verify` must refuse it.
    """

    make: Callable[[Forged, Ground], None]
    harmless: bool = False
    alone: bool = False
    verified: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """A genuine pair, kept aside to begin each case with, and other Fulls to put in its place."""

    lab: Lab
    delta: ArchiveRef
    full: ArchiveRef
    aside: dict[Path, bytes]
    data: bytes
    older: bytes
    other: bytes

    @property
    def genuine(self) -> bytes:
        """The bytes of the right Full."""
        return self.aside[self.lab.path(self.full)]


def entry(**values: int | bytes) -> Callable[[Forged, Ground], None]:
    """A page table whose first entry says something else."""
    return lambda f, _: f.page(lambda e: replace(e, **values))  # type: ignore[arg-type]  # fields by name


def says(old: str, new: str) -> Callable[[Forged, Ground], None]:
    """A head in which one thing stands in the place of another; `old` is a pattern."""

    def change(f: Forged, _: Ground) -> None:
        head = f.delta.read_bytes()[:HEAD_BYTES].decode("utf-8", "surrogateescape")
        found = re.search(old, head)
        if found is None:
            raise AssertionError(f"{old} is not in the head")
        f.say(found[0], found.expand(new) if "\\" in new else new)

    return change


def fact(**values: object) -> Callable[[Forged, Ground], None]:
    """A header with other facts."""
    return lambda f, _: f.set(**values)


def section(name: str, data: bytes | Callable[[], bytes] | None) -> Callable[[Forged, Ground], None]:
    """A section with other bytes, or none. Bytes that are long to make come from a function: each row imports this module."""

    def change(f: Forged, _: Ground) -> None:
        f.sections.pop(name, None)
        if data is not None:
            f.sections[name] = data() if callable(data) else data

    return change


def full(data: Callable[[bytes, Ground], bytes], *, told: bool = False, foreign: bool = False) -> Callable[[Forged, Ground], None]:
    """Another file under the Full's name."""
    return lambda f, g: f.another_full(data(g.genuine, g), told=told, foreign=foreign)


def frame(member: Callable[[bytes], bytes]) -> Callable[[Forged, Ground], None]:
    """The Delta's first frame, made of the plain block that belongs there."""
    return lambda f, g: f.frame(member(g.data[BLOCK : 2 * BLOCK]))


def identity(disk_size: int, *, frame_size: int = 1 << 20) -> FullIdentity:
    return FullIdentity(archive_id=bytes(16), disk_size=disk_size, frame_size=frame_size)


def sections_out_of_order(f: Forged, _: Ground) -> None:
    names = list(f.sections)
    f.sections = {name: f.sections[name] for name in (*names[1:], names[0])}
    first = re.escape(names[1])
    f.lines += [(f"section {first} 65536 ".encode(), f"section {first} 65537 ".encode())]


def empty_page_with_counts(f: Forged, _: Ground) -> None:
    """All blocks would be taken for zeros, whatever the counts say."""
    f.sections["map"] = b""
    f.page(lambda e: replace(e, length=0, digest=bytes(32)))


def swapped_kinds(f: Forged, _: Ground) -> None:
    def change(kinds: bytearray) -> None:
        a, b = kinds.index(FULL), kinds.index(DELTA)
        kinds[a], kinds[b] = kinds[b], kinds[a]

    f.kinds(change)


def swapped_digests(f: Forged, _: Ground) -> None:
    data, at = bytearray(f.sections["map"]), f.header.blocks
    data[at : at + 32], data[at + 32 : at + 64] = data[at + 32 : at + 64], data[at : at + 32]
    f.map(bytes(data))


def not_sealed(f: Forged, _: Ground) -> None:
    f.say("#: vm=CRM", "#: vm=CRN")
    f.seal = False


def same_frame_twice(f: Forged, _: Ground) -> None:
    frames = f.sections["frames"]
    f.lengths(lambda lengths: lengths.__setitem__(slice(None), [len(frames), 0]))


def huge_frames(f: Forged, _: Ground) -> None:
    """They are really there: holes of a sparse file."""
    os.truncate(f.full, 400 << 20)
    f.set(full_size=400 << 20)
    f.frame_table(lambda lengths: [300 << 20] * len(lengths))


def lines(text: str) -> bytes:
    return gzip.compress(text.encode(), mtime=0)


def many_segments() -> bytes:
    """Segments of a disk of petabytes, in 100 KB: rising numbers, each with a digest."""
    return lines("".join(f"{n} {'0' * 64}\n" for n in range(300_000)))


DELTAS: dict[str, Callable[[Forged, Ground], None]] = {
    # the head
    "disk of 2^56 + 1 bytes": fact(disk_size=(1 << 56) + 1),
    "disk of 2^56 bytes": fact(disk_size=1 << 56),
    "disk of 10^18 bytes": says(r"disk-size=\d+", "disk-size=999999999999999999"),
    "disk of 2^63 bytes": says(r"disk-size=\d+", f"disk-size={1 << 63}"),
    "disk one byte longer": lambda f, _: f.set(disk_size=f.header.disk_size + 1),
    "disk one block longer": lambda f, _: f.set(disk_size=f.header.disk_size + BLOCK, blocks_zero=f.header.blocks_zero + 1),
    "disk of no bytes": fact(disk_size=0),
    "negative size": says(r"disk-size=", "disk-size=-"),
    "digits of another script": says(r"disk-size=\d+", "disk-size=٣٤٥"),
    "size in words": says(r"disk-size=\d+", "disk-size=much"),
    "blocks of nothing": fact(block_size=0),
    "odd blocks": fact(block_size=BLOCK - 1),
    "blocks of 2^57": fact(block_size=1 << 57),
    "smaller blocks": fact(block_size=BLOCK // 2),
    "segments of nothing": fact(segment_size=0),
    "segments that cut blocks": fact(segment_size=BLOCK + 512),
    "frames of a gibibyte": fact(frame_size=GIB),
    "frames smaller than blocks": fact(frame_size=BLOCK // 2),
    "frames twice as large": fact(frame_size=2 << 20),
    "zero blocks that are not there": lambda f, _: f.set(blocks_zero=f.header.blocks_zero + 1),
    "counts that lie and add up": lambda f, _: f.set(blocks_zero=f.header.blocks_zero + 1, blocks_full=f.header.blocks_full - 1),
    "2^62 zero blocks": says(r"blocks-zero=\d+", f"blocks-zero={1 << 62}"),
    "a Full of another id": fact(full_id="0" * 32),
    "a Full without an id": fact(full_id=""),
    "a Full of another size": lambda f, _: f.set(full_size=f.header.full_size + 1),
    "a Full of 2^55 bytes": fact(full_size=1 << 55),
    "a Full's disk of no bytes": fact(full_disk_size=0),
    "a Full's disk of 2^55 bytes": fact(full_disk_size=1 << 55),
    "version 2": says(r"#: format=1\.0", "#: format=2.0"),
    "version of nobody": says(r"#: format=1\.0", "#: format=x" + "9" * 300),
    "no version": says(r"#: format=1\.0\n", ""),
    "version twice": says(r"#: format=1\.0\n", "#: format=1.0\n#: format=1.0\n"),
    "size twice": says(r"#: disk-size=(\d+)\n", "#: disk-size=\\1\n#: disk-size=512\n"),
    "an unknown feature": says(r"#: requires=", "#: requires=encryption"),
    "an unknown digest": says(r"block-digest=blake3", "block-digest=md5"),
    "another digest": says(r"block-digest=blake3", "block-digest=sha256"),
    "a missing key": says(r"#: scsi=", "#: iscs="),
    "a head without an end": says(r"#: end\n", "#: enb\n"),
    "a head that was not sealed": not_sealed,
    # the sections
    "a section of 2^63 bytes": says(r"section map (\d+) \d+", f"section map \\g<1> {1 << 63}"),
    "a section at 2^63": says(r"section map \d+", f"section map {1 << 63}"),
    "a section at -1": says(r"section map \d+", "section map -1"),
    "a section that is the head": says(r"section map \d+", "section map 0"),
    "a section that is another": says(r"section map \d+", "section map 65536"),
    "a section beyond the end": says(r"section runs (\d+) \d+", "section runs \\g<1> 999999999"),
    "sections that overlap": says(r"section frames 65536 (\d+)", "section frames 65536 65536"),
    "sections out of order": sections_out_of_order,
    "a section twice": says(r"section runs", "section frames"),
    "a file longer than its sections": says(r"file-size=(\d+)", "file-size=99999999"),
    "a digest of 63 digits": says(r"(section map \d+ \d+ [0-9a-f]{63})[0-9a-f]", "\\1"),
    "no map": section("map", None),
    "no pages": section("pages", None),
    "no frames": section("frames", None),
    "no table of the Full": section("full-frames", None),
    "trailing data": lambda f, _: setattr(f, "after", b"\0" * 512),
    # the page table and the map
    "a page table of nothing": section("pages", b""),
    "a page table with a page too many": lambda f, _: f.sections.update(pages=f.sections["pages"] * 2),
    "a page at 2^63": entry(offset=1 << 63),
    "a page of 2^32 - 1 bytes": entry(length=(1 << 32) - 1),
    "a page whose counts lie": entry(zero=0, full=0),
    "a page whose counts overflow": entry(zero=(1 << 32) - 1),
    "a page with frames at 2^63": entry(delta_base=1 << 63),
    "a page with frames at 1": entry(delta_base=1),
    "a page at 2^63 in the Full": entry(full_base=(1 << 63) + 5),
    "a page one byte off in the Full": entry(full_base=1),
    "a page of another digest": entry(digest=bytes(32)),
    "an empty page with counts": empty_page_with_counts,
    "a kind that is none": lambda f, _: f.kinds(lambda kinds: kinds.__setitem__(0, 3)),
    "kinds that are swapped": swapped_kinds,
    "a zero block that says Full": lambda f, _: f.kinds(lambda kinds: kinds.__setitem__(kinds.index(ZERO), FULL)),
    "digests that are swapped": swapped_digests,
    "a frame of 4 GiB": lambda f, _: f.lengths(lambda lengths: lengths.__setitem__(0, (1 << 32) - 1)),
    "a frame of nothing": lambda f, _: f.lengths(lambda lengths: lengths.__setitem__(0, 0)),
    "one frame for two blocks": same_frame_twice,
    "a table of the Full that ends early": lambda f, _: f.frame_table(lambda lengths: lengths[:-1]),
    "a table of the Full with half an entry": lambda f, _: f.sections.update({"full-frames": f.sections["full-frames"][:-2]}),
    "frames of 4 GiB in the Full": lambda f, _: f.frame_table(lambda lengths: [(1 << 32) - 1] * len(lengths)),
    "frames of 300 MiB in a sparse Full": huge_frames,
    "frames of nothing in the Full": lambda f, _: f.frame_table(lambda lengths: [0] * len(lengths)),
    "frames of the Full that overlap": lambda f, _: f.frame_table(lambda lengths: [lengths[0]] * len(lengths)),
    "frames of the Full that are swapped": lambda f, _: f.frame_table(lambda lengths: lengths[::-1]),
    # the frames
    "a bomb of 1 GiB in a frame": frame(lambda _: bomb(400 << 20)),
    "a bomb in a bomb": frame(lambda _: gzip.compress(bomb(256 << 20), mtime=0)),
    "a block that is too short": frame(lambda plain: gzip.compress(plain[:-1], mtime=0)),
    "a block that is too long": frame(lambda plain: gzip.compress(plain + b"x", mtime=0)),
    "a block of two members": frame(lambda plain: gzip.compress(plain[:9], mtime=0) + gzip.compress(plain[9:], mtime=0)),
    "a block of another disk": frame(lambda plain: gzip.compress(bytes(len(plain)), mtime=0)),
    "a frame that is no gzip": frame(lambda plain: plain[:5000]),
    "a frame with a name without an end": frame(lambda _: b"\x1f\x8b\x08\x08" + b"a" * 5000),
    "a frame with an endless extra field": frame(lambda _: b"\x1f\x8b\x08\x04" + bytes(6) + b"\xff\xff" + b"a" * 5000),
    # the Full
    "an older Full under its name": full(lambda _, g: g.older),
    "the Full of another disk under its name": full(lambda _, g: g.other),
    "another Full with its id": full(lambda good, g: good[:60] + g.other[60:], told=True),
    "a Full that was compressed again": full(lambda good, _: recompressed(good)),
    "a Full with trailing data": full(lambda good, _: good + b"x"),
    "a Full with trailing zeros": full(lambda good, _: good + bytes(4096)),
    "a Full with a second member": full(lambda good, _: good + gzip.compress(b"more", mtime=0)),
    "a Full of nothing": full(lambda _good, _: b""),
    "a Full that is no gzip": full(lambda _good, _: b"PK\3\4" * 999),
    "a Full without its tail": full(lambda good, _: good[:-9], told=True),
    "a bomb for a Full": full(lambda _good, _: bomb(GIB), told=True, foreign=True),
    "a bomb of many members for a Full": full(lambda _good, _: bomb(1 << 20) * 1000, told=True, foreign=True),
    "a Full with an endless extra field": full(
        lambda _good, _: b"\x1f\x8b\x08\x04" + bytes(6) + b"\xff\xff", told=True, foreign=True
    ),
}

HARMLESS: dict[str, Callable[[Forged, Ground], None]] = {
    "a Full named as a path": fact(full_name="../../../etc/passwd"),
    "a Full named from the root": fact(full_name="/etc/passwd"),
    "a Full named .": fact(full_name="."),
    "a Full named with NUL and newline": fact(full_name="a\0b\nrm -rf"),
    "a Full of a very long name": fact(full_name="n" * 9000),
    "a VM named as a path": fact(vm="../../../etc"),
    "a disk named as a path": fact(disk="../../etc/passwd", uuid="../../..", scsi="../.."),
    "a disk named as a program": fact(disk="$(reboot)`reboot`;reboot\n#: end\nreboot", vm="\x1b[2J\x9b31m\u202e"),
    "a time without end": fact(time=10**17, full_time=10**17),
    "a section named as a path": section("../../../../etc/cron.d/phd", b"* * * * * root reboot\n"),
    "400 sections of nothing": lambda f, _: f.sections.update({f"s{number}": b"" for number in range(400)}),
    "a descriptor with other files": section(
        "descriptor", b'RW 9999999 FLAT "../../../etc/passwd" 0\nparentFileNameHint="/etc/shadow"\n'
    ),
    "a descriptor of 5 MiB": section("descriptor", b"#" * (5 << 20)),
    "a VMX of 5 MiB": section("vmx", b"#" * (5 << 20)),
    "a VMX that says more than it should": section("vmx", b'scsi0:0.fileName = "/etc/shadow"\nserial0.fileName = "|reboot"\n'),
    "runs that are a bomb": section("runs", lambda: bomb(64 << 20, byte=b"a")),
    "a minor version of the future": says(r"#: format=1\.0", "#: format=1.99"),
    "no frames in a Full that has them": fact(frame_size=0),
    "a Full with trailing data, told": full(lambda good, _: good + b"x" * 9, told=True),
    "an unknown key": says(r"#: end\n", "#: colour=blue\n#: end\n"),
}
"""Labels, and what no restore of ours uses: the disk is exact, or it is refused."""

VERIFIED: dict[str, Callable[[Forged, Ground], None]] = {
    "no segments": section("segments", None),
    "another SHA-256 of the Full": fact(full_sha256="0" * 64),
    "segments that are no gzip": section("segments", b"0 " + b"0" * 64),
    "segments that fall": section("segments", lines(f"1 {'0' * 64}\n0 {'0' * 64}\n")),
    "segments beyond the disk": section("segments", lines(f"{1 << 40} {'0' * 64}\n")),
    "segments without end": section("segments", many_segments),
    "segments in one endless line": section("segments", lambda: bomb(256 << 20, byte=b"1")),
    "segments that are a bomb of newlines": section("segments", lambda: bomb(256 << 20, byte=b"\n")),
}
"""What a restore by blocks does not use: `verify` refuses it."""

ALONE: dict[str, Callable[[Forged, Ground], None]] = {
    "a Full of 2^55 bytes alone": full(lambda _good, _: full_member(b"x", Effort.FAST, identity(1 << 55))),
    "a Full of 2^63 bytes alone": full(lambda _good, _: full_member(b"x", Effort.FAST, identity((1 << 64) - 1))),
    "a Full that holds more than it says": full(lambda _good, _: full_member(bytes(1 << 20), Effort.FAST, identity(5)) + bomb(GIB)),
    "a Full that holds less than it says": full(lambda _good, _: full_member(b"xyz", Effort.FAST, identity(5))),
    "a Full alone with trailing data": full(lambda good, _: good + b"x"),
    "a Full alone without its tail": full(lambda good, _: good[:-3]),
    "a Full alone with a wrong CRC": full(lambda good, _: good[:-8] + b"abcd" + good[-4:]),
    "a Full alone with a wrong length": full(lambda good, _: good[:-4] + struct.pack("<I", 7)),
    "a Full alone that ends after its head": full(lambda good, _: good[:20]),
}

CASES: dict[str, Case] = (
    {name: Case(make=make) for name, make in DELTAS.items()}
    | {name: Case(make=make, harmless=True, verified=False) for name, make in HARMLESS.items()}
    | {name: Case(make=make, harmless=True) for name, make in VERIFIED.items()}
    | {name: Case(make=make, alone=True) for name, make in ALONE.items()}
)


def ground(folder: Path, dice: random.Random) -> Ground:
    """A disk of nine blocks and an odd end, twice backed up, and two Fulls that are not its own."""
    lab = Lab(folder)
    old = b"".join(bytes(BLOCK) if n % 4 == 0 else dice.randbytes(4096) * (BLOCK // 4096) for n in range(9)) + b"tail" * 128
    older = lab.backup(dice.randbytes(4096) + old[4096:], full=True)
    good = lab.backup(old, full=True)
    changed = lab.backup(old[:BLOCK] + dice.randbytes(4096) * 64 + dice.randbytes(4096) * 64 + old[3 * BLOCK :])
    data = lab.disk.read_bytes()
    other = Lab(folder / "other").backup(dice.randbytes(len(old)))
    if older.full is None or good.full is None or other.full is None:
        raise AssertionError("a Full was asked for")
    older_path, other_path = lab.path(older.full), folder / "other" / "target" / other.full.path
    texts = older_path.read_bytes(), other_path.read_bytes()
    for path in (older_path, lab.path(older.delta), lab.path(good.delta)):
        path.unlink()
    shutil.rmtree(folder / "other")
    with_vmx = taken_apart(lab.path(changed.delta), lab.path(good.full))
    with_vmx.sections["vmx"] = b'displayName = "CRM"\n'
    with_vmx.write()
    aside = {lab.path(ref): lab.path(ref).read_bytes() for ref in (changed.delta, good.full)}
    return Ground(lab=lab, delta=changed.delta, full=good.full, aside=aside, data=data, older=texts[0], other=texts[1])


def attempt(work: Callable[[], object]) -> str:
    """`done`, the class of the typed error, or what else came, which is never right."""
    try:
        work()
    except PhdError as error:
        return type(error).__name__
    except BaseException as error:  # noqa: BLE001  anything else is what this row is looking for
        return f"untyped {error!r}"
    return "done"


def peak() -> int:
    """Bytes of memory this process held at most since `rest`."""
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) << 10  # type: ignore[index]  # Linux always says it


def rest() -> int:
    """Forget the peak; the bytes that are held now."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError as error:
        raise NotRun(f"this kernel does not measure peaks of memory: {error}") from error
    return peak()


def spent() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def judged(g: Ground, case: Case) -> str:
    """Everything that is done with such an archive, and what is wrong with it; "" if nothing is."""
    lab, out = g.lab, g.lab.folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    before = sorted(path for path in lab.folder.rglob("*") if out not in path.parents)
    right = {"d.vmdk", "d-flat.vmdk", "d.vmx"}
    if case.alone:
        request = RestoreRequest(delta=g.full, destination=out / "d.img", options=RestoreOptions(provision=Provision.THIN))
        said = [attempt(lambda: restore_full(request, lab.targets, reporter=lab.witness, stop=go_on))]
    else:
        request = RestoreRequest(delta=g.delta, destination=out / "d.vmdk", options=RestoreOptions(vmx=VmxChoice.AS_IS))
        said = [attempt(lambda: restore_delta(request, lab.targets, reporter=lab.witness, stop=go_on))]
        said.append(attempt(lambda: plan_delta(request, lab.targets, reporter=lab.witness)))
    verified = attempt(lambda: lab.verify(g.full if case.alone else g.delta))
    there = {path.name for path in out.iterdir()}
    exact = there and there <= right and (out / "d-flat.vmdk").read_bytes() == g.data
    text = (out / "d.vmdk").read_text() if (out / "d.vmdk").exists() else "d-flat.vmdk"
    if any(word.startswith("untyped") for word in (*said, verified)):
        return f"{said} {verified}"
    if said[0] == "done" and not (case.harmless and exact and "d-flat.vmdk" in text and "etc" not in text):
        return f"restored: {sorted(there)}"
    if said[0] != "done" and there:
        return f"refused as {said[0]}, and left {sorted(there)}"
    if case.verified and verified == "done":
        return "verify found nothing"
    after = sorted(path for path in lab.folder.rglob("*") if out not in path.parents)
    return "" if before == after else f"made {set(after) ^ set(before)}"


def disk_is_there(g: Ground) -> bool:
    return (g.lab.folder / "out" / "d-flat.vmdk").exists()


def hostile(asked: Round) -> Figure:
    g = ground(asked.folder, asked.dice())
    names = list(CASES)
    if asked.share < 1:
        names = sorted(asked.dice().sample(names, asked.times(len(names))))
    wrong, most_seconds, most_bytes = [], 0.0, 0
    if why := judged(g, Case(make=lambda _f, _g: None, harmless=True, verified=False)) or ("" if disk_is_there(g) else "refused"):
        return Figure(held=0, of=1, note=f"the genuine pair: {why}")
    for name in names:
        case = CASES[name]
        forged = taken_apart(g.lab.path(g.delta), g.lab.path(g.full))
        case.make(forged, g)
        forged.write()
        del forged
        base, began = rest(), spent()
        why = judged(g, case)
        seconds, more = spent() - began, peak() - base
        most_seconds, most_bytes = max(most_seconds, seconds), max(most_bytes, more)
        why = why or (f"took {seconds:.1f} s" if seconds > MOST_SECONDS else "")
        why = why or (f"took {more >> 20} MiB" if more > MOST_BYTES else "")
        wrong += [f"{name}: {why}"] if why else []
        for path, data in g.aside.items():
            path.write_bytes(data)
    figures = f"at most {most_seconds:.2f} s of processor and {most_bytes >> 20} MiB a case"
    return Figure(held=len(names) - len(wrong), of=len(names), note="; ".join([figures, *wrong[:30]]))


ROWS = (
    Row(
        id="R12",
        what="hostile archives: bombs, lies, overlaps, 2^63, paths, wrong Fulls",
        target="each a typed error or the exact disk, < 64 MiB over base, < 1 s of processor",
        run=hostile,
        mutants=("hostile:a_frame_is_as_long_as_it_likes", "hostile:counts_are_believed", "hostile:a_bomb_is_expanded"),
        mutant_share=1.0,
        short=0.25,
    ),
)
