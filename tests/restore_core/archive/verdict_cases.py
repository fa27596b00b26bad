"""Archives that phd and `sh` accept and refuse alike: one list, made by a writer that was written from FORMAT.md alone."""

from __future__ import annotations

import copy
import functools
import gzip
import hashlib
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from restore_core.errors import PhdError
from restore_core.restore.run import restore_delta
from restore_core.restore.verify import verify_archive
from restore_core.targets import TargetSet
from restore_core.targets.base import LOCAL, ArchiveRef
from tests.lab import Witness, go_on, request_for
from tests.restore_core.archive.from_the_page import BLOCK, FRAME, Delta, digest_of, framed_full, lines, make_delta, member
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
    long: bool = False
    """Whether `make proof` alone tries it."""

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


def unneeded_and(change: Change) -> Change:
    """The change, to a pair with a foreign Full that no block comes from."""

    def both(p: Pair) -> None:
        another(OLD, b"x" * len(OLD), whole)(p)
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


def refit(make: Callable[[bytes], bytes], *, framed: bool = False) -> Change:
    """The Full is made into another file, of which the header says the right size and digest."""

    def change(p: Pair) -> None:
        if not framed:
            another(OLD, NEW, whole)(p)
        p.full = make(p.full)
        p.delta.set("full-size", str(len(p.full)))
        p.delta.set("full-sha256", hashlib.sha256(p.full).hexdigest())

    return change


def flip(at: int) -> Callable[[bytes], bytes]:
    """One byte differs, counted from the end: -6 lies in the CRC-32 of the last member, -3 in its ISIZE."""
    return lambda data: data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]


def behind(more: bytes) -> Callable[[bytes], bytes]:
    return lambda data: data + more


def before_trailer(one: bytes) -> bytes:
    return one[:-8] + b"junk" + one[-8:]


def head_crc(one: bytes, *, right: bool) -> bytes:
    """A member without one gets the CRC of its head."""
    at = 12 + struct.unpack_from("<H", one, 10)[0] if one[3] & 4 else 10
    head = one[:3] + bytes([one[3] | 2]) + one[4:at]
    return head + struct.pack("<H", zlib.crc32(head) & 0xFFFF ^ (0 if right else 1)) + one[at:]


def frames_of(full: bytes, table: bytes) -> list[bytes]:
    lengths = [length for (length,) in struct.iter_unpack("<I", table)]
    return [full[sum(lengths[:n]) : sum(lengths[: n + 1])] for n in range(len(lengths))]


def full_frames(number: int, make: Callable[[bytes], bytes], base: Change = lambda _: None) -> Change:
    """One member of the Full differs; the table of frames, size and digest are right."""

    def change(p: Pair) -> None:
        base(p)
        made = frames_of(p.full, p.delta.sections["full-frames"])
        made[number] = make(made[number])
        p.delta.sections["full-frames"] = struct.pack(f"<{len(made)}I", *map(len, made))
        refit(lambda _: b"".join(made), framed=True)(p)

    return change


def table(change_it: Callable[[bytes], bytes]) -> Change:
    return lambda p: section("full-frames", change_it(p.delta.sections["full-frames"]))(p)


def bytewise(data: bytes) -> bytes:
    return b"".join(whole(data[n : n + 1]) for n in range(500)) + whole(data[500:])


def halves(data: bytes, extra: bytes = b"") -> bytes:
    return member(data[:1000], extra) + member(data[1000:])


def in_identity(at: int) -> Callable[[bytes], bytes]:
    """A byte of `PI` in the first member differs."""
    return lambda one: flip(one.index(b"PI") + at)(one)


def far_identity(one: bytes) -> bytes:
    length = struct.unpack_from("<H", one, 10)[0]
    more = b"XX" + struct.pack("<H", 40) + bytes(40)
    return one[:10] + struct.pack("<H", length + len(more)) + more + one[12:]


def parted(at: int) -> Change:
    """The changed bytes are parted into two members there, or all in the first one; the map says these lengths."""

    def change(p: Pair) -> None:
        both = NEW[2 * BLOCK : 3 * BLOCK] + NEW[9 * BLOCK :]
        made = [member(both[:at]), member(both[at:]) if both[at:] else b""]
        page = p.delta.sections["map"][:-8] + struct.pack("<2I", *map(len, made))
        p.delta.sections["frames"], p.delta.sections["map"] = b"".join(made), page
        p.delta.sections["pages"] = p.delta.sections["pages"][:40] + digest_of("blake3", page)

    return change


def frames_and(more: bytes, base: Change = lambda _: None) -> Change:
    def change(p: Pair) -> None:
        base(p)
        p.delta.sections["frames"] += more

    return change


def relist(name: str, make: Callable[[bytes], bytes]) -> Change:
    """A list for the shell is packed anew from its plain text."""
    return lambda p: section(name, make(gzip.decompress(p.delta.sections[name])))(p)


SHRUNK = another(OLD, OLD[: 3 * BLOCK])
FRAME_0_UNUSED = another(OLD, b"x" * FRAME + OLD[FRAME:])
CASES |= {
    f"a foreign Full, {what}": Case(change, right)
    for what, (change, right) in {
        "its CRC-32 wrong": (refit(flip(-6)), REFUSE),
        "its ISIZE wrong": (refit(flip(-3)), REFUSE),
        "the CRC-32 of its first member wrong": (another(OLD, NEW, lambda d: flip(-6)(whole(d[:99])) + whole(d[99:])), REFUSE),
        "the ISIZE of its first member wrong": (another(OLD, NEW, lambda d: flip(-3)(whole(d[:99])) + whole(d[99:])), REFUSE),
        "the CRC-32 of an empty member at its end wrong": (refit(behind(flip(-6)(whole(b"")))), REFUSE),
        "cut within its trailer": (refit(lambda data: data[:-4]), REFUSE),
        "garbage at its end": (refit(behind(b"garbage")), REFUSE),
        "one byte at its end": (refit(behind(b"x")), REFUSE),
        "half a head at its end": (refit(behind(b"\x1f\x8b")), REFUSE),
        "zeros and garbage at its end": (refit(behind(bytes(100) + b"x")), REFUSE),
        "zeros and a member at its end": (refit(behind(bytes(100) + whole(b""))), REFUSE),
        "one zero at its end": (refit(behind(b"\0")), ACCEPT),
        "an empty member at its end": (refit(behind(whole(b""))), ACCEPT),
        "an empty member at its start": (refit(lambda data: whole(b"") + data), ACCEPT),
        "a member more": (refit(behind(whole(b"more"))), REFUSE),
        "longer than the header says": (another(OLD, NEW, lambda data: whole(data + b"z")), REFUSE),
        "shorter than the header says": (another(OLD, NEW, lambda data: whole(data[:-1])), REFUSE),
        "the CRC of its head": (another(OLD, NEW, flags(2)), ACCEPT),
        "the CRC of its head behind all else": (another(OLD, NEW, flags(27, b"XX\x02\0ab", b"disk\0note\0")), ACCEPT),
        "a wrong CRC of its head": (another(OLD, NEW, lambda data: head_crc(whole(data), right=False)), REFUSE),
        "a wrong CRC of its second head": (
            another(OLD, NEW, lambda d: whole(d[:99]) + head_crc(whole(d[99:]), right=False)),
            REFUSE,
        ),
        "a reserved flag in its second head": (another(OLD, NEW, lambda d: whole(d[:99]) + member(d[99:], b"", 0x40)), REFUSE),
        "of another method": (refit(lambda data: data[:2] + b"\7" + data[3:]), REFUSE),
        "a long FNAME": (another(OLD, NEW, flags(8, names=b"n" * 70_000 + b"\0")), ACCEPT),
        "the longest FEXTRA": (another(OLD, NEW, flags(0, b"XX" + struct.pack("<H", 65531) + b"a" * 65531)), ACCEPT),
        "FEXTRA without subfields": (another(OLD, NEW, flags(0, b"XX\xff\xffab")), ACCEPT),
        "FEXTRA of no byte": (another(OLD, NEW, lambda data: member(data, b"", 4, b"\0\0")), ACCEPT),
        "FTEXT": (another(OLD, NEW, flags(1)), ACCEPT),
        "stored blocks": (another(OLD, NEW, lambda data: gzip.compress(data, 0, mtime=0)), ACCEPT),
        "members of one byte": (another(OLD, NEW, bytewise), ACCEPT),
    }.items()
}
CASES |= {
    "the CRC-32 of a frame of the Full wrong": Case(full_frames(2, flip(-6)), REFUSE),
    "the ISIZE of a frame of the Full wrong": Case(full_frames(2, flip(-3)), REFUSE),
    "the Full has CRCs of heads": Case(full_frames(0, lambda one: head_crc(one, right=True)), ACCEPT),
    "the Full has a wrong CRC of a head": Case(full_frames(2, lambda one: head_crc(one, right=False)), REFUSE),
    "a frame of the Full without PF": Case(full_frames(1, lambda _: member(OLD[FRAME : 2 * FRAME])), ACCEPT),
    "a frame of the Full in two members": Case(full_frames(1, lambda _: halves(OLD[FRAME : 2 * FRAME])), ACCEPT),
    "an empty member behind a frame of the Full": Case(full_frames(1, behind(member(b""))), ACCEPT),
    "bytes before the trailer of a frame of the Full": Case(full_frames(2, before_trailer), REFUSE),
    "bytes before the trailer of a frame": Case(new_members(lambda data: before_trailer(member(data))), REFUSE),
    "zeros behind a frame of the Full": Case(full_frames(1, behind(bytes(9))), REFUSE),
    "the Full has zeros at its end": Case(refit(behind(bytes(9)), framed=True), ACCEPT),
    "the Full has zeros in its last frame": Case(full_frames(2, behind(bytes(9))), REFUSE, MAP_ONLY),
    "the Full has an empty member at its end": Case(refit(behind(member(b"")), framed=True), ACCEPT),
    "the Full has garbage at its end": Case(refit(behind(b"garbage"), framed=True), REFUSE, NOT_ALL_READ),
    "the Full has a member more": Case(refit(behind(member(b"more")), framed=True), REFUSE, NOT_ALL_READ),
    "a frame that is not needed is damaged": Case(full_frames(0, flip(-6), FRAME_0_UNUSED), REFUSE, NOT_ALL_READ),
    "a frame beyond the disk is damaged": Case(full_frames(2, flip(-6), SHRUNK), REFUSE, NOT_ALL_READ),
    "full-frames has an entry more": Case(table(behind(struct.pack("<I", 20))), REFUSE),
    "full-frames has an entry less": Case(table(lambda data: data[:-4]), REFUSE),
    "full-frames ends within an entry": Case(table(behind(b"ab")), REFUSE),
    "a foreign Full, full-frames has an entry": Case(foreign_and(table(behind(bytes(4)))), REFUSE),
    "the disk size in PI differs": Case(full_frames(0, in_identity(21)), REFUSE),
    "the frame size in PI differs": Case(full_frames(0, in_identity(29)), REFUSE),
    "PI has another length": Case(full_frames(0, in_identity(2)), REFUSE),
    "PI is another version": Case(full_frames(0, in_identity(4)), REFUSE),
    "PI lies behind another subfield": Case(full_frames(0, far_identity), REFUSE),
    "frame-size twice as long": Case(put("frame-size", str(2 * FRAME)), REFUSE),
    "frame-size half as long": Case(put("frame-size", str(FRAME // 2)), REFUSE),
    "no block of the Full, full-disk-size 2^52": Case(unneeded_and(put("full-disk-size", str(1 << 52))), REFUSE),
}
for _what, _size in {"one more": len(OLD) + 1, "one less": len(OLD) - 1, "0": 0, "twice": 2 * len(OLD), "2^51": 1 << 51}.items():
    CASES[f"full-disk-size is {_what}"] = Case(put("full-disk-size", str(_size)), REFUSE)
    CASES[f"a foreign Full, full-disk-size is {_what}"] = Case(foreign_and(put("full-disk-size", str(_size))), REFUSE)
CASES |= {
    "a block in two members": Case(new_members(halves), ACCEPT),
    "a block in one member and an empty one": Case(new_members(lambda data: member(data) + member(b"")), ACCEPT),
    "a block in an empty member and another": Case(new_members(lambda data: member(b"") + member(data)), ACCEPT),
    "a member of frames has the CRC of its head": Case(new_members(flags(2)), ACCEPT),
    "a member of frames has a wrong CRC of its head": Case(new_members(lambda data: head_crc(member(data), right=False)), REFUSE),
    "a member of frames has FNAME": Case(new_members(flags(8, names=b"disk\0")), ACCEPT),
    "a member of frames has FCOMMENT": Case(new_members(flags(16, names=b"note\0")), ACCEPT),
    "a member of frames has another ISIZE": Case(new_members(lambda data: flip(-3)(member(data))), REFUSE),
    "a member of frames is shorter than its block": Case(new_members(lambda data: member(data[:-1])), REFUSE),
    "a member of frames is longer than its block": Case(new_members(lambda data: member(data + b"x")), REFUSE),
    "frames has garbage at its end": Case(frames_and(b"garbage"), REFUSE),
    "frames has a member more": Case(frames_and(member(b"more")), REFUSE),
    "frames has zeros at its end": Case(frames_and(bytes(9)), REFUSE, MAP_ONLY),
    "frames has an empty member at its end": Case(frames_and(member(b"")), REFUSE, MAP_ONLY),
    "blocks are parted elsewhere": Case(parted(BLOCK + 10), REFUSE, MAP_ONLY),
    "all blocks in one member": Case(parted(2 * BLOCK), REFUSE, MAP_ONLY),
    "an empty Delta with an empty member": Case(frames_and(member(b""), another(OLD, OLD)), REFUSE),
    "an empty Delta with garbage in frames": Case(frames_and(b"garbage", another(OLD, OLD)), REFUSE),
    "an empty Delta with zeros in frames": Case(frames_and(bytes(9), another(OLD, OLD)), REFUSE),
}
for _name in ("runs", "segments"):
    _lists: dict[str, tuple[Callable[[bytes], bytes], str]] = {
        "with the CRC of its head": (flags(2), ACCEPT),
        "with a wrong CRC of its head": (lambda text: head_crc(whole(text), right=False), REFUSE),
        "with FNAME": (flags(8, names=b"list\0"), ACCEPT),
        "with another CRC-32": (lambda text: flip(-6)(whole(text)), REFUSE),
        "with another ISIZE": (lambda text: flip(-3)(whole(text)), REFUSE),
        "with an empty member at its start": (lambda text: whole(b"") + whole(text), ACCEPT),
        "with an empty member at its end": (lambda text: whole(text) + whole(b""), ACCEPT),
        "with zeros at its end": (lambda text: whole(text) + bytes(9), ACCEPT),
        "with a NUL": (lambda text: whole(b"\0" + text), REFUSE),
        "with carriage returns": (lambda text: whole(text.replace(b"\n", b"\r\n")), REFUSE),
        "with an empty line": (lambda text: whole(text + b"\n"), REFUSE),
        "with a line that says end": (lambda text: whole(text + b"end\n"), REFUSE),
        "with tabs": (lambda text: whole(text.replace(b" ", b"\t")), REFUSE),
    }
    CASES |= {f"{_name} {_what}": Case(relist(_name, _make), _right, long=True) for _what, (_make, _right) in _lists.items()}


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
