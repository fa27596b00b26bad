"""Archives that phd and `sh` accept and refuse alike: one list, made by a writer that was written from FORMAT.md alone."""

from __future__ import annotations

import copy
import functools
import gzip
import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from restore_core.errors import PhdError
from restore_core.restore.run import restore_delta
from restore_core.restore.verify import verify_archive
from restore_core.targets import TargetSet
from restore_core.targets.base import LOCAL, ArchiveRef
from tests.lab import Witness, go_on, request_for
from tests.restore_core.archive.from_the_page import BLOCK, Delta, digest_of, framed_full, lines, make_delta, member
from tests.restore_core.archive.stub_shell import sh

OLD = b"".join(bytes(BLOCK) if n % 3 == 0 else bytes([n]) * BLOCK for n in range(9)) + b"t" * 512
NEW = (
    OLD[: 2 * BLOCK]
    + b"new".ljust(BLOCK, b"n")
    + OLD[3 * BLOCK : 4 * BLOCK]
    + bytes(BLOCK)
    + OLD[5 * BLOCK :]
    + b"grown"
    + bytes(507)
)
"""Blocks: zero, Full, Delta, zero, zero in spite of the Full, Full, zero, Full, Full, Delta."""


@dataclass
class Pair:
    """A disk, its Full and its Delta, before a case changes them."""

    full: bytes
    delta: Delta
    disk: bytes
    name: str = "full.gz"


Change = Callable[[Pair], None]
ACCEPT = "accept"
PROGRAMS = ("phd verify", "phd restore", "sh verify", "sh restore")


@dataclass(frozen=True)
class Case:
    change: Change
    right: str
    """`accept`, or refuse."""
    except_for: tuple[str, ...] = ()
    """Programs that do not use what is wrong, and give the right disk: `MAP_ONLY` and `NOT_ALL_READ` say why."""

    def accepts(self, program: str) -> bool:
        return (self.right == ACCEPT) != (program in self.except_for)


@functools.cache
def made_once(old: bytes, new: bytes, foreign: Callable[[bytes], bytes] | None, digest: str) -> Pair:
    full, frames = (foreign(old), []) if foreign else framed_full(old)
    return Pair(full, make_delta(old, new, full, frames, digest=digest), new)


def pair(old: bytes = OLD, new: bytes = NEW, *, foreign: Callable[[bytes], bytes] | None = None, digest: str = "blake3") -> Pair:
    """One that its caller may change."""
    return copy.deepcopy(made_once(old, new, foreign, digest))


def another(old: bytes, new: bytes, foreign: Callable[[bytes], bytes] | None = None, digest: str = "blake3") -> Change:
    def change(p: Pair) -> None:
        p.__dict__.update(pair(old, new, foreign=foreign, digest=digest).__dict__)

    return change


def put(key: str, value: str | None) -> Change:
    return lambda p: p.delta.set(key, value)


def section(name: str, data: bytes | None) -> Change:
    def change(p: Pair) -> None:
        if data is None:
            del p.delta.sections[name]
        else:
            p.delta.sections[name] = data

    return change


def edited(old: str, new: str) -> Change:
    return lambda p: p.delta.edit_lines.append((old, new))


def also(line: str) -> Change:
    return lambda p: p.delta.extra_lines.append(line)


def attribute(name: str, value: object) -> Change:
    return lambda p: setattr(p.delta, name, value)


def reorder(p: Pair) -> None:
    p.delta.fields.reverse()


def format_last(p: Pair) -> None:
    p.delta.fields.sort(key=lambda one: one[0] == "format")


def format_far(p: Pair) -> None:
    p.delta.set("vm", "v" * 5000)
    format_last(p)


def damage(name: str) -> Change:
    """A byte differs, and the digest in the header stays."""

    def change(p: Pair) -> None:
        data = p.delta.sections[name]
        good = hashlib.sha256(data).hexdigest()
        p.delta.sections[name] = data[:-1] + bytes([data[-1] ^ 1])
        p.delta.edit_lines.append((hashlib.sha256(p.delta.sections[name]).hexdigest(), good))

    return change


def counts_swapped(p: Pair) -> None:
    p.delta.set("blocks-full", "2")
    p.delta.set("blocks-delta", "4")


def swap(p: Pair) -> None:
    items = list(p.delta.sections.items())
    p.delta.sections = dict([items[1], items[0], *items[2:]])


def lines_swapped(p: Pair) -> None:
    data = p.delta.pack()[:65536].decode()
    one, two = [line for line in data.split("\n") if line.startswith("#: section ")][:2]
    p.delta.edit_lines.append((f"{one}\n{two}", f"{two}\n{one}"))


def overlap(p: Pair) -> None:
    line = next(x for x in p.delta.pack()[:65536].decode().split("\n") if x.startswith("#: section map "))
    words = line.split(" ")
    p.delta.edit_lines.append((line, " ".join([*words[:3], str(int(words[3]) - 1), str(int(words[4]) + 1), words[5]])))


def twice(p: Pair) -> None:
    p.delta.extra_lines.append(
        f"#: section map {65536 + sum(map(len, p.delta.sections.values()))} 0 {hashlib.sha256().hexdigest()}"
    )


def names_full(name: str, escaped: str) -> Change:
    def change(p: Pair) -> None:
        p.name = name
        p.delta.set("full-name", escaped)

    return change


def runs(*texts: str) -> Change:
    return section("runs", lines(*texts))


def foreign_and(change: Change) -> Change:
    """The change, to a pair with a Full that something else wrote."""

    def both(p: Pair) -> None:
        another(OLD, NEW, whole)(p)
        change(p)

    return both


def zeros_and(change: Change) -> Change:
    """The change, to a disk of zeros."""

    def both(p: Pair) -> None:
        another(OLD, bytes(len(OLD)))(p)
        change(p)

    return both


def new_members(make: Callable[[bytes], bytes]) -> Change:
    """The frames are made so; the map says their lengths, and all digests are right."""

    def change(p: Pair) -> None:
        members = [make(NEW[2 * BLOCK : 3 * BLOCK]), make(NEW[9 * BLOCK :])]
        page = p.delta.sections["map"][:-8] + struct.pack("<2I", *map(len, members))
        p.delta.sections["frames"], p.delta.sections["map"] = b"".join(members), page
        p.delta.sections["pages"] = p.delta.sections["pages"][:40] + digest_of("blake3", page)

    return change


def segments(*texts: str) -> Change:
    return section("segments", lines(*texts))


def whole(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def members(data: bytes) -> bytes:
    return b"".join(whole(data[at : at + 100_000]) for at in range(0, len(data), 100_000))


def flags(number: int, extra: bytes = b"", names: bytes = b"") -> Callable[[bytes], bytes]:
    return lambda data: member(data, extra, number, names)


def bad_page(at: int) -> Change:
    """The map differs in a byte; the digests of page and section are right again."""

    def change(p: Pair) -> None:
        page = bytearray(p.delta.sections["map"])
        page[at] ^= 1
        p.delta.sections["map"] = bytes(page)
        p.delta.sections["pages"] = p.delta.sections["pages"][:40] + digest_of("blake3", bytes(page))

    return change


def entry(offset: int, form: str, value: int) -> Change:
    def change(p: Pair) -> None:
        data = bytearray(p.delta.sections["pages"])
        struct.pack_into(form, data, offset, value)
        p.delta.sections["pages"] = bytes(data)

    return change


def two_members(name: str) -> Change:
    def change(p: Pair) -> None:
        plain = gzip.decompress(p.delta.sections[name])
        p.delta.sections[name] = whole(plain[:20]) + whole(plain[20:])

    return change


@functools.cache
def long_line() -> bytes:
    return gzip.compress(b"1" * 200_000_000, 1, mtime=0)


def a_long_line(name: str) -> Change:
    def change(p: Pair) -> None:
        p.delta.sections[name] = long_line()

    return change


REFUSE = "refuse"
RUNS = (f"{2 * BLOCK} {BLOCK} delta", f"{4 * BLOCK} {BLOCK} zero", f"{9 * BLOCK} 1024 delta")
SEGMENT_0 = f"0 {hashlib.sha256(NEW).hexdigest()}"
MAP_ONLY = ("sh verify", "sh restore")
"""The shell has no BLAKE3. It proves the disk by its segments; map, pages and full-frames only tell others where a block is."""
NOT_ALL_READ = ("phd restore",)
"""It reads the frames that it needs and proves each block: to prove a file or a segment as a whole is for `phd verify`."""

KEYS = [key for key, _ in pair().delta.fields]
FREE = {"vm", "uuid", "scsi", "vmdk", "made-by"}
NUMBERS = [
    *("full-size", "full-disk-size", "frame-size", "disk-size", "block-size", "time", "full-time"),
    *("blocks-zero", "blocks-full", "blocks-delta", "segment-size", "file-size"),
]
CASES: dict[str, Case] = {"nothing is changed": Case(lambda _: None, ACCEPT)}
CASES |= {f"{key} is absent": Case(put(key, None), REFUSE) for key in KEYS}
CASES |= {f"{key} is there twice": Case(also(f"#: {key}=1"), REFUSE) for key in KEYS}
CASES |= {f"{key} is empty": Case(put(key, ""), REFUSE) for key in NUMBERS}
CASES |= {f"{key} is empty": Case(put(key, ""), REFUSE) for key in ("id", "full-id", "full-sha256", "format")}
CASES |= {f"{key} is empty": Case(put(key, ""), ACCEPT) for key in sorted(FREE)}
for _key in ("time", "disk-size", "full-size"):
    _value = pair().delta.get(_key)
    for _what, _new in {
        "with a leading zero": f"0{_value}",
        "with a plus": f"+{_value}",
        "negative": f"-{_value}",
        "with a space": f" {_value}",
        "with 19 digits": "1" * 19,
        "in hex": hex(int(_value)),
        "with an exponent": f"{_value}e0",
        "a fraction": f"{_value}.0",
        "with a carriage return": f"{_value}\r",
    }.items():
        CASES[f"{_key} {_what}"] = Case(put(_key, _new), REFUSE)
CASES |= {
    "id in capitals": Case(put("id", "CD" * 16), REFUSE),
    "full-id in capitals": Case(put("full-id", "AB" * 16), REFUSE),
    "id too short": Case(put("id", "cd" * 15), REFUSE),
    "full-sha256 too short": Case(put("full-sha256", "cd" * 31), REFUSE),
    "full-sha256 of another file": Case(put("full-sha256", "cd" * 32), REFUSE, NOT_ALL_READ),
    "keys the other way round": Case(reorder, ACCEPT),
    "format last": Case(format_last, ACCEPT),
    "format far down": Case(format_far, ACCEPT),
    "an unknown key": Case(also("#: colour=blue"), ACCEPT),
    "300 unknown keys": Case(lambda p: p.delta.extra_lines.extend(f"#: k{n}=" for n in range(300)), ACCEPT),
    "a line that only begins like the end": Case(also("#: endless=1"), ACCEPT),
    "requires an unknown feature": Case(put("requires", "encryption"), REFUSE),
    "requires two unknown features": Case(put("requires", "a b"), REFUSE),
    "another minor": Case(put("format", "1.7"), ACCEPT),
    "a minor of two digits": Case(put("format", "1.10"), ACCEPT),
    "another major": Case(put("format", "2.0"), REFUSE),
    "major 10": Case(put("format", "10.0"), REFUSE),
    "format without a minor": Case(put("format", "1"), REFUSE),
    "format with letters": Case(put("format", "1.x"), REFUSE),
    "segment-digest=md5": Case(put("segment-digest", "md5"), REFUSE),
    "signature-scheme=ed25519": Case(put("signature-scheme", "ed25519"), REFUSE),
    "a signature without a scheme": Case(put("signature", "abcd"), REFUSE),
    "block-digest=md5": Case(put("block-digest", "md5"), REFUSE),
    "block-digest=sha256": Case(another(OLD, NEW, digest="sha256"), ACCEPT),
    "block-digest is another than was used": Case(put("block-digest", "sha256"), REFUSE, MAP_ONLY),
    "segment-size of 1 MiB": Case(put("segment-size", "1048576"), REFUSE),
    "block-size no power of two": Case(put("block-size", "262143"), REFUSE),
    "block-size 0": Case(put("block-size", "0"), REFUSE),
    "frame-size below the block": Case(put("frame-size", "65536"), REFUSE),
    "frame-size of no whole blocks": Case(put("frame-size", "300000"), REFUSE),
    "frame-size with no whole frames a page": Case(put("frame-size", str(3 * BLOCK)), REFUSE),
    "frame-size 0 with an id": Case(put("frame-size", "0"), REFUSE),
    "full-id empty with frames": Case(put("full-id", ""), REFUSE),
    "a disk of 2^56 bytes": Case(put("disk-size", str(1 << 56)), REFUSE),
    "a disk of 2^52 bytes": Case(put("disk-size", str(1 << 52)), REFUSE),
    "blocks-zero is one too many": Case(put("blocks-zero", "5"), REFUSE),
    "blocks-full and blocks-delta changed places": Case(counts_swapped, REFUSE),
    "vm with an escape": Case(put("vm", "a%0Ab"), ACCEPT),
    "vm with bytes that are no UTF-8": Case(put("vm", "B\udcfcro"), ACCEPT),
    "vm with shell in it": Case(put("vm", "$(touch /tmp/x)`id`'\""), ACCEPT),
    "vm with a tab": Case(put("vm", "a\tb"), REFUSE),
    "vm with a NUL": Case(put("vm", "a\0b"), REFUSE),
    "full-name with an escape": Case(names_full("a%b.gz", "a%25b.gz"), ACCEPT),
    "full-name with an escape in small letters": Case(names_full("a\nb.gz", "a%0ab.gz"), ACCEPT),
    "full-name is a path": Case(put("full-name", "../../etc/passwd"), ACCEPT),
    "the Full has another name": Case(names_full("other", "full.gz"), ACCEPT),
    "the head's digest is wrong": Case(attribute("seal", False), REFUSE),
    "bytes after the end": Case(attribute("file_tail", b"x"), REFUSE),
    "zeros after the end": Case(attribute("file_tail", bytes(512)), REFUSE),
    "cut by one byte": Case(attribute("cut", 1), REFUSE),
    "sections overlap": Case(overlap, REFUSE),
    "section lines changed places": Case(lines_swapped, REFUSE),
    "map before frames": Case(swap, ACCEPT),
    "a section twice": Case(twice, REFUSE),
    "an unknown section": Case(section("colour", b"blue"), ACCEPT),
    "an unknown section is damaged": Case(lambda p: (section("colour", b"blue")(p), damage("colour")(p))[0], REFUSE),
    "a section line with two spaces": Case(edited("section map ", "section map  "), REFUSE),
    "a section line with a word more": Case(also("#: section a 1 2 3 4"), REFUSE),
    "no stub": Case(section("stub", None), ACCEPT),
    "an empty stub": Case(section("stub", b""), ACCEPT),
}
CASES |= {f"no {name}": Case(section(name, None), REFUSE) for name in ("frames", "map", "pages", "segments", "full-frames", "runs")}
CASES |= {f"{name} damaged": Case(damage(name), REFUSE) for name in ("map", "pages", "segments", "full-frames", "runs", "stub")}
CASES |= {
    "frames damaged": Case(damage("frames"), REFUSE),
    "pages too long": Case(lambda p: section("pages", p.delta.sections["pages"] * 2)(p), REFUSE),
    "runs shifted": Case(runs(f"{3 * BLOCK} {BLOCK} delta", *RUNS[1:]), REFUSE),
    "runs of no line": Case(runs(), REFUSE),
    "runs of no byte": Case(section("runs", b""), REFUSE),
    "runs no gzip": Case(section("runs", b"0 0 delta\n"), REFUSE),
    "runs twice": Case(runs(RUNS[0], *RUNS), REFUSE),
    "runs unsorted": Case(runs(RUNS[1], RUNS[0], RUNS[2]), REFUSE),
    "runs beyond the disk": Case(runs(*RUNS[:2], f"{9 * BLOCK} {BLOCK} delta"), REFUSE),
    "runs within a block": Case(runs(f"{2 * BLOCK + 1} {BLOCK - 1} delta", *RUNS[1:]), REFUSE),
    "a run of nothing": Case(runs(f"{BLOCK} 0 zero", *RUNS), REFUSE),
    "a run of another kind": Case(runs(*RUNS[:1], RUNS[1].replace("zero", "none"), RUNS[2]), REFUSE),
    "a run with a leading zero": Case(runs(f"0{RUNS[0]}", *RUNS[1:]), REFUSE),
    "a zero run over a block of the Full": Case(runs(f"{BLOCK} {BLOCK} zero", *RUNS), REFUSE),
    "a zero run over a block that is zero anyway": Case(runs(f"0 {BLOCK} zero", *RUNS), ACCEPT),
    "a zero run is missing": Case(runs(RUNS[0], RUNS[2]), REFUSE, NOT_ALL_READ),
    "a foreign Full, a zero run is missing": Case(foreign_and(runs(RUNS[0], RUNS[2])), REFUSE, NOT_ALL_READ),
    "a member of frames is padded": Case(new_members(lambda data: member(data) + bytes(7)), REFUSE),
    "a member of frames has a reserved flag": Case(new_members(lambda data: member(data, b"", 0x20)), REFUSE),
    "a member of frames has FEXTRA": Case(new_members(lambda data: member(data, b"XX\x02\0ab")), ACCEPT),
    "a member of frames has another CRC": Case(new_members(lambda data: member(data)[:-8] + b"1234" + member(data)[-4:]), REFUSE),
    "runs with a reserved flag": Case(section("runs", member("\n".join([*RUNS, ""]).encode(), b"", 0x20)), REFUSE),
    "requires is a space": Case(put("requires", " "), REFUSE),
    "two empty header lines": Case(lambda p: p.delta.extra_lines.extend(["#: ", "#: "]), ACCEPT),
    "a minor of 19 digits": Case(put("format", "1." + "1" * 19), REFUSE),
    "a stub of 5 MiB": Case(section("stub", b"x" * (5 << 20)), REFUSE),
    "a segment of zeros is listed wrong": Case(zeros_and(segments("0 " + "12" * 32)), REFUSE, NOT_ALL_READ),
    "a run in two lines": Case(runs(f"0 {BLOCK} zero", RUNS[0], f"{3 * BLOCK} {BLOCK} zero", *RUNS[1:]), ACCEPT),
    "runs without the last newline": Case(section("runs", whole("\n".join(RUNS).encode())), REFUSE),
    "runs in two members": Case(two_members("runs"), ACCEPT),
    "segments in two members": Case(two_members("segments"), ACCEPT),
    "segments wrong": Case(segments("0 " + "12" * 32), REFUSE, NOT_ALL_READ),
    "segments of no line": Case(segments(), REFUSE, NOT_ALL_READ),
    "segments of no byte": Case(section("segments", b""), REFUSE),
    "segments beyond the disk": Case(segments(SEGMENT_0, "1 " + "12" * 32), REFUSE),
    "segments twice": Case(segments(SEGMENT_0, SEGMENT_0), REFUSE),
    "segments in capitals": Case(segments(SEGMENT_0.upper()), REFUSE),
    "segments with a leading zero": Case(segments("0" + SEGMENT_0), REFUSE),
    "a segment's digest too short": Case(segments(SEGMENT_0[:-1]), REFUSE),
    "a line of 200 MB in segments": Case(a_long_line("segments"), REFUSE),
    "a line of 200 MB in runs": Case(a_long_line("runs"), REFUSE),
    "gzip and garbage in runs": Case(lambda p: section("runs", p.delta.sections["runs"] + b"garbage")(p), REFUSE),
    "a map kind that is unknown": Case(bad_page(0), REFUSE, MAP_ONLY),
    "a block digest that is wrong": Case(bad_page(11), REFUSE, MAP_ONLY),
    "a page's digest that is wrong": Case(entry(40, "<B", 1), REFUSE, MAP_ONLY),
    "a page's counts that are wrong": Case(entry(12, "<I", 7), REFUSE, MAP_ONLY),
    "a page's length that is wrong": Case(entry(8, "<I", 7), REFUSE, MAP_ONLY),
    "a page's offset that is wrong": Case(entry(0, "<Q", 7), REFUSE, MAP_ONLY),
    "full_base that is wrong": Case(entry(32, "<Q", 7), REFUSE, MAP_ONLY),
    "a frame of the Full of another length": Case(
        lambda p: section("full-frames", struct.pack("<I", 5) + p.delta.sections["full-frames"][4:])(p), REFUSE, MAP_ONLY
    ),
    "a foreign Full of gzip": Case(another(OLD, NEW, whole), ACCEPT),
    "a foreign Full, segments wrong": Case(foreign_and(segments("0 " + "12" * 32)), REFUSE, NOT_ALL_READ),
    "a foreign Full, segments of no line": Case(foreign_and(segments()), REFUSE, NOT_ALL_READ),
    "a foreign Full, runs shifted": Case(foreign_and(runs(f"{3 * BLOCK} {BLOCK} delta", *RUNS[1:])), REFUSE),
    "a foreign Full of many members": Case(another(OLD, NEW, members), ACCEPT),
    "a foreign Full with zeros at its end": Case(another(OLD, NEW, lambda data: whole(data) + bytes(1024)), ACCEPT),
    "a foreign Full with FEXTRA": Case(another(OLD, NEW, flags(0, b"XX\x02\0ab")), ACCEPT),
    "a foreign Full with FNAME": Case(another(OLD, NEW, flags(8, names=b"disk\0")), ACCEPT),
    "a foreign Full with FCOMMENT": Case(another(OLD, NEW, flags(16, names=b"note\0")), ACCEPT),
    "a foreign Full with all of them": Case(another(OLD, NEW, flags(24, b"XX\x02\0ab", b"disk\0note\0")), ACCEPT),
    "an empty Delta": Case(another(OLD, OLD), ACCEPT),
    "an empty Delta of a foreign Full": Case(another(OLD, OLD, whole), ACCEPT),
    "no block of the Full": Case(another(OLD, b"x" * len(OLD)), ACCEPT),
    "no block of the Delta, a shorter disk": Case(another(OLD, OLD[: 3 * BLOCK]), ACCEPT),
    "a disk of zeros": Case(another(OLD, bytes(len(OLD))), ACCEPT),
    "a disk of zeros on a Full of zeros": Case(another(bytes(BLOCK), bytes(BLOCK)), ACCEPT),
    "a disk of 0 bytes": Case(another(b"", b""), ACCEPT),
    "a disk of 1 byte": Case(another(b"a", b"b"), ACCEPT),
    "an empty Delta of 1 byte": Case(another(b"a", b"a"), ACCEPT),
    "a disk of one block": Case(another(b"a" * BLOCK, b"b" * BLOCK), ACCEPT),
    "a disk of one block and a byte": Case(another(b"a" * BLOCK, b"a" * BLOCK + b"b"), ACCEPT),
    "a disk that grew from nothing": Case(another(b"", b"b" * BLOCK), ACCEPT),
    "a disk of two segments": Case(another(OLD, NEW + bytes(BLOCK * 64) + b"end"), ACCEPT),
    "the Full of another disk": Case(lambda p: setattr(p, "full", framed_full(b"z" * len(OLD))[0]), REFUSE),
    "the Full is cut": Case(lambda p: setattr(p, "full", p.full[:-1]), REFUSE),
    "the Full is no gzip": Case(lambda p: setattr(p, "full", bytes(len(p.full))), REFUSE),
}


@dataclass(frozen=True)
class Files:
    delta: Path
    out: Path
    disk: bytes


def files(case: Case, folder: Path) -> Files:
    """The two archives of a case, and the name of the disk to be restored."""
    made = pair()
    case.change(made)
    for name in ("target", "out"):
        (folder / name).mkdir()
    (folder / "target" / made.name).write_bytes(made.full)
    (folder / "target" / "d.phd").write_bytes(made.delta.pack())
    return Files(folder / "target" / "d.phd", folder / "out" / "disk.img", made.disk)


def check_phd(case: Case, made: Files) -> None:
    """`phd verify` and `phd restore` say what the case says, and the disk is right or not there."""
    targets, ref = TargetSet(()), ArchiveRef(target=LOCAL, path=str(made.delta))
    verified = said(lambda: verify_archive(ref, targets, reporter=Witness(), stop=go_on))
    assert verified[0] == case.accepts("phd verify"), ("verify", verified[1])
    request = request_for(delta=ref, destination=made.out)
    restored = said(lambda: restore_delta(request, targets, reporter=Witness(), stop=go_on))
    assert restored[0] == case.accepts("phd restore"), ("restore", restored[1])
    check_disk(made, there=restored[0])


def said(step: Callable[[], object]) -> tuple[bool, str]:
    try:
        step()
    except PhdError as error:
        return False, str(error)
    return True, ""


def check_disk(made: Files, *, there: bool) -> None:
    assert made.out.exists() == there
    if there:
        assert made.out.read_bytes() == made.disk
        made.out.unlink()


def check_sh_verify(case: Case, made: Files, shell: tuple[str, ...]) -> str:
    """`sh verify` says what the case says; its words."""
    ran = sh(made.delta, "verify", shell=shell)
    assert (ran.returncode == 0) == case.accepts("sh verify"), ("verify", ran.stderr)
    assert ran.returncode in {0, 2, 65, 69}, ran.stderr
    return ran.stderr


def check_sh_restore(case: Case, made: Files, shell: tuple[str, ...]) -> None:
    """`sh restore` says what the case says, and the disk is right or not there."""
    ran = sh(made.delta, "restore", "--to", made.out, shell=shell)
    assert (ran.returncode == 0) == case.accepts("sh restore"), ("restore", ran.stderr)
    assert ran.returncode in {0, 2, 65, 69}, ran.stderr
    check_disk(made, there=ran.returncode == 0)
