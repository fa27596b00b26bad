"""The head of a Delta: its first 64 KiB, a sh script whose leading comments are the readable header.

    #!/bin/sh
    # phd Delta backup, format 1.0. To restore: phd restore THIS_FILE --to DISK.vmdk, or: sh THIS_FILE
    #: format=1.0
    #: id=...                                    one `key=value` a line, values escaped as `%HH` where needed
    #: section map 65536 1234 <sha256>           name, offset, length, SHA-256
    #: end
    ...script, padding...
    #= sha256 <64 hex digits>                    of all bytes of the head before this line

The shell takes a header line for a comment and never runs it; a value holds no newline, so it cannot begin another line.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from typing import Any, Final

from restore_core.archive.digests import BlockDigest, sha256
from restore_core.archive.frames import GZIP_MAGIC
from restore_core.archive.index_map import BLOCKS_PER_PAGE
from restore_core.archive.shell_lists import SEGMENT_SIZE
from restore_core.errors import BadArchive
from restore_core.naming import printable, scsi_colon, unescape_name

HEAD_BYTES: Final = 64 << 10
FORMAT = "1.0"
_TAIL = re.compile(rb"#= sha256 ([0-9a-f]{64})\n\Z")
_TAIL_BYTES = len("#= sha256 ") + 64 + 1
_PADDING = b"#" + b" " * 78 + b"\n"
_KNOWN_FEATURES: frozenset[str] = frozenset()
_FORMAT = re.compile(r"[0-9]{1,18}\.[0-9]{1,18}")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,17}")
_ID, _NO_ID, _SHA256 = (re.compile(rf"[0-9a-f]{{{digits}}}") for digits in (32, 0, 64))
_SECTION_NAME = re.compile(r"[!-~]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
MAX_DISK = 1 << 51
MAX_BLOCK = 16 << 20
MAX_FRAME = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One section of a Delta: where it lies in the file, and the SHA-256 of its bytes."""

    name: str
    offset: int
    length: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaHeader:
    """The header of a Delta. Sizes are bytes, times seconds since the epoch (UTC), ids 32 hex digits.

    `full_id` is empty and `frame_size` 0 when the Full was written by something else. `source` is the path of the disk,
    and `left_out` are the disks of its VM that were not backed up with it, as a VMX writes them (`scsi0:1`); old ones say neither.
    """

    delta_id: str
    vm: str
    uuid: str
    scsi: str
    disk: str
    disk_size: int
    block_size: int
    time: int
    full_time: int
    full_id: str
    full_name: str
    full_size: int
    full_sha256: str
    full_disk_size: int
    frame_size: int
    blocks_zero: int
    blocks_full: int
    blocks_delta: int
    segment_size: int
    block_digest: BlockDigest
    file_size: int
    made_by: str
    sections: tuple[Section, ...]
    source: str = ""
    left_out: tuple[str, ...] = ()

    @property
    def blocks(self) -> int:
        """The number of blocks of the disk; the last one may be short."""
        return -(-self.disk_size // self.block_size)

    @property
    def empty(self) -> bool:
        """Whether this is the empty Delta that is made with every Full: nothing changed, and the times are equal."""
        return self.blocks_delta == 0 and self.time == self.full_time

    def describe(self) -> str:
        """Returns one line for people: which disk it restores, and of what time."""
        return (
            f"{utc(self.time)}, VM {printable(self.vm)}, UUID {printable(self.uuid) or 'none'}, "
            f"SCSI {scsi_colon(self.scsi)}, {printable(self.disk)}, {self.disk_size} bytes of disk"
        )

    @property
    def of_a_part(self) -> str:
        """Which disks of the VM its backup left out, in words; empty if none."""
        names = ", ".join(map(printable, self.left_out))
        disks = "the disk" if len(self.left_out) == 1 else "the disks"
        return f"{disks} {names} of this VM {'was' if len(self.left_out) == 1 else 'were'} left out of the backup" if names else ""

    def section(self, name: str) -> Section | None:
        """Returns a section by name, None if there is none. Nobody asks for the unknown ones."""
        return next((section for section in self.sections if section.name == name), None)


def utc(seconds: int) -> str:
    """Returns a time of a header for people. The header may hold any number."""
    try:
        return f"{dt.datetime.fromtimestamp(seconds, dt.UTC):%Y-%m-%d %H:%M:%S UTC}"
    except (OverflowError, OSError, ValueError):
        return f"{seconds} s after 1970"


_TEXT_KEYS = {"vm": "vm", "uuid": "uuid", "scsi": "scsi", "vmdk": "disk", "full-name": "full_name", "made-by": "made_by"}
_NUMBERS = (
    *("disk_size", "block_size", "time", "full_time", "full_size", "full_disk_size", "frame_size"),
    *("blocks_zero", "blocks_full", "blocks_delta", "segment_size", "file_size"),
)
_NUMBER_KEYS = {name.replace("_", "-"): name for name in _NUMBERS}
_HEX_KEYS = {"id": "delta_id", "full-id": "full_id", "full-sha256": "full_sha256"}
_HEX_FORMS = {"id": (_ID,), "full-id": (_ID, _NO_ID), "full-sha256": (_SHA256,)}
_FIXED = {"segment-digest": "sha256", "signature-scheme": "none", "signature": ""}
"""Keys that have one value in this version: a reader refuses what it cannot check."""


def render_head(header: DeltaHeader, script: str) -> bytes:
    """Returns the 64 KiB of a Delta's head. `script` is the body of the sh script, which must end with `exit`."""
    lines = [
        "#!/bin/sh",
        f"# phd Delta backup, format {FORMAT}. To restore: phd restore THIS_FILE --to DISK.vmdk, or: sh THIS_FILE",
        f"#: format={FORMAT}",
        "#: requires=",
    ]
    lines += [f"#: {key}={getattr(header, name)}" for key, name in _HEX_KEYS.items()]
    lines += [f"#: {key}={printable(getattr(header, name))}" for key, name in _TEXT_KEYS.items()]
    lines += [f"#: source={printable(header.source)}"] if header.source else []
    lines += [f"#: left-out={printable(' '.join(header.left_out))}"] if header.left_out else []
    lines += [f"#: {key}={getattr(header, name)}" for key, name in _NUMBER_KEYS.items()]
    lines += [f"#: block-digest={header.block_digest.value}"]
    lines += [f"#: {key}={value}" for key, value in _FIXED.items()]
    lines += [f"#: section {s.name} {s.offset} {s.length} {s.sha256}" for s in header.sections]
    lines += ["#: end", script]
    text = "\n".join(lines).encode("utf-8", "surrogateescape")
    room = HEAD_BYTES - _TAIL_BYTES - len(text)
    if room < 0:
        raise BadArchive(f"the head of a Delta takes {len(text)} bytes, {HEAD_BYTES} is the limit", remedy="Use shorter names.")
    text += (_PADDING * (room // len(_PADDING) + 1))[-room:] if room else b""
    return text + f"#= sha256 {sha256(text).hex()}\n".encode()


def parse_head(head: bytes, where: str) -> DeltaHeader:
    """Returns the header in the first 64 KiB of a file. Raises `BadArchive`, with what is wrong, for anything but a sound one."""
    fields, section_lines = _lines(head, where)
    _check_version(fields, where)
    tail = _TAIL.search(head[-_TAIL_BYTES:]) if len(head) == HEAD_BYTES else None
    if tail is None or sha256(head[:-_TAIL_BYTES]).hex().encode() != tail[1]:
        raise BadArchive(f"{where}: the head is damaged: its SHA-256 differs", remedy="Use another copy of this Delta.")
    try:
        values: dict[str, Any] = {name: unescape_name(fields[key]) for key, name in _TEXT_KEYS.items()}
        values |= {"source": unescape_name(fields.get("source", ""))}
        values |= {"left_out": tuple(map(unescape_name, fields.get("left-out", "").split()))}
        values |= {name: _number(fields[key]) for key, name in _NUMBER_KEYS.items()}
        values |= {name: _hex(key, fields[key]) for key, name in _HEX_KEYS.items()}
        sections = tuple(_section(line) for line in section_lines)
        header = DeltaHeader(**values, block_digest=BlockDigest(fields["block-digest"]), sections=sections)
    except (KeyError, ValueError) as error:
        raise BadArchive(f"{where}: the header is not readable: {printable(str(error))}", remedy="Use another copy.") from error
    _check_sense(header, where)
    return header


def looks_like_delta(head: bytes) -> bool:
    """Whether these first bytes are of a Delta that phd made, of any version."""
    return b"\n#: format=" in head[:HEAD_BYTES]


def _lines(head: bytes, where: str) -> tuple[dict[str, str], list[str]]:
    if not looks_like_delta(head):
        hint = "It starts like a shell script: a Delta of 2007 restores itself with 'sh'." if head.startswith(b"#!") else ""
        if head.startswith(GZIP_MAGIC):
            hint = "It is a gzip, perhaps a Full: name its empty Delta ('phd backups'), or make one with 'phd adopt'."
        raise BadArchive(f"{where}: not a Delta of this product", remedy=hint or "Name the .delta- file; 'phd backups' lists them.")
    text = head.decode("utf-8", "surrogateescape")
    fields: dict[str, str] = {}
    section_lines: list[str] = []
    for line in text.split("\n"):
        if line == "#: end":
            return fields, section_lines
        if line.startswith("#: section "):
            section_lines.append(line.removeprefix("#: section "))
        elif line.startswith("#: ") and line != "#: ":
            key, _, value = line.removeprefix("#: ").partition("=")
            if key in fields:  # two readers could each use another one
                raise BadArchive(f"{where}: the header says {printable(key)} twice", remedy="Use another copy of this Delta.")
            if _CONTROL.search(value):
                raise BadArchive(f"{where}: the value of {printable(key)} holds a control character", remedy="Use another copy.")
            fields[key] = value
    raise BadArchive(f"{where}: the header has no end", remedy="The file is truncated; use another copy.")


def _check_version(fields: dict[str, str], where: str) -> None:
    major = fields.get("format", "").partition(".")[0]
    if major != FORMAT.partition(".")[0] or not _FORMAT.fullmatch(fields["format"]):
        raise BadArchive(
            f"{where}: format {printable(fields.get('format', '?'))}; this version reads {FORMAT}",
            remedy="Restore with a newer phd.",
        )
    unknown = set(fields.get("requires", "").split()) - _KNOWN_FEATURES
    if unknown:
        raise BadArchive(f"{where}: needs {printable(', '.join(sorted(unknown)))}", remedy="Restore with a newer phd.")
    for key, value in {"requires": "", **_FIXED}.items():
        if fields.get(key) is None or fields[key] != value:
            raise BadArchive(
                f"{where}: {key} is {printable(fields.get(key, 'absent'))}; this version reads '{value or ''}' only",
                remedy="Restore with a newer phd, or use another copy of this Delta.",
            )


def _check_sense(header: DeltaHeader, where: str) -> None:
    """Checks every number against the others before it is used as a size or an offset. Raises `BadArchive`."""
    block, frame = header.block_size, header.frame_size
    sound = (
        max(header.disk_size, header.full_disk_size) <= MAX_DISK
        and 512 <= block <= MAX_BLOCK
        and block & (block - 1) == 0
        and header.segment_size == SEGMENT_SIZE
        and (frame == 0 or (block <= frame <= MAX_FRAME and frame % block == 0 and BLOCKS_PER_PAGE * block % frame == 0))
        and (frame == 0) == (header.full_id == "")
        and header.blocks_zero + header.blocks_full + header.blocks_delta == header.blocks
    )
    if not sound:
        raise BadArchive(f"{where}: the sizes in the header contradict each other", remedy="Use another copy of this Delta.")
    end = HEAD_BYTES
    for section in header.sections:
        if section.offset != end:
            raise BadArchive(
                f"{where}: section {printable(section.name)} starts at {section.offset}, not at {end}: out of range or overlapping",
                remedy="Use another copy of this Delta.",
            )
        end += section.length
    if end != header.file_size or len({section.name for section in header.sections}) != len(header.sections):
        raise BadArchive(f"{where}: the sections do not fill the file's {header.file_size} bytes", remedy="Use another copy.")


def _section(line: str) -> Section:
    name, offset, length, digest = line.split(" ")
    if not _SECTION_NAME.fullmatch(name) or not _SHA256.fullmatch(digest):
        raise ValueError(f"section {name}")
    return Section(name=name, offset=_number(offset), length=_number(length), sha256=digest)


def _number(text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"not a number: {text[:40]!r}")
    return int(text)


def _hex(key: str, text: str) -> str:
    if not any(form.fullmatch(text) for form in _HEX_FORMS[key]):
        raise ValueError(f"{key}: not the right number of hex digits: {text[:80]!r}")
    return text
