"""Writes Fulls and Deltas from FORMAT.md alone: no line of the product is used, but the script that stands in each head."""

from __future__ import annotations

import gzip
import hashlib
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import blake3

BLOCK, FRAME, SEGMENT, HEAD = 256 << 10, 1 << 20, 16 << 20, 65536
FULL_ID = "ab" * 16
SCRIPT = Path(__file__).resolve().parents[3] / "restore_core" / "archive" / "stub.sh"


def member(data: bytes, extra: bytes = b"", flags: int = 0, names: bytes = b"") -> bytes:
    """One gzip member (RFC 1952); with the flag 2 it has the CRC of its head."""
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    body = packer.compress(data) + packer.flush()
    flags |= 4 if extra else 0
    field_ = struct.pack("<H", len(extra)) + extra if extra else b""
    head = b"\x1f\x8b\x08" + bytes([flags]) + bytes(4) + b"\0\xff" + field_ + names
    head += struct.pack("<H", zlib.crc32(head) & 0xFFFF) if flags & 2 else b""
    return head + body + struct.pack("<II", zlib.crc32(data), len(data))


def framed_full(disk: bytes) -> tuple[bytes, list[int]]:
    """A Full with one member a frame, and the lengths of its members."""
    members = []
    for at in range(0, max(len(disk), 1), FRAME):
        identity = b"PI" + struct.pack("<HB", 29, 1) + bytes.fromhex(FULL_ID) + struct.pack("<QI", len(disk), FRAME)
        rest = identity if at == 0 else b""
        empty = member(disk[at : at + FRAME], b"PF\x04\0" + bytes(4) + rest)
        members.append(member(disk[at : at + FRAME], b"PF\x04\0" + struct.pack("<I", len(empty)) + rest))
    return b"".join(members), [len(one) for one in members]


def lines(*texts: str) -> bytes:
    """A list for the shell."""
    return gzip.compress("".join(f"{text}\n" for text in texts).encode(), mtime=0)


@dataclass
class Delta:
    """The parts of a Delta, which a case changes before they are put together."""

    fields: list[tuple[str, str]]
    sections: dict[str, bytes]
    script: bytes
    extra_lines: list[str] = field(default_factory=list)
    edit_lines: list[tuple[str, str]] = field(default_factory=list)
    file_tail: bytes = b""
    cut: int = 0
    seal: bool = True

    def set(self, key: str, value: str | None) -> None:
        """Give a key another value; None takes it away."""
        self.fields = [(k, value if k == key else v) for k, v in self.fields if k != key or value is not None]  # type: ignore[misc]

    def get(self, key: str) -> str:
        return dict(self.fields)[key]

    def pack(self) -> bytes:
        """The file. The layout, the size and the digests are those of the parts, unless `edit_lines` changes them."""
        at, table, body = HEAD, [], b""
        for name, data in self.sections.items():
            table.append(f"#: section {name} {at} {len(data)} {hashlib.sha256(data).hexdigest()}")
            at, body = at + len(data), body + data
        rows = [f"#: {key}={at if value == 'FILE-SIZE' else value}" for key, value in self.fields]
        text = "\n".join(["#!/bin/sh", "# phd Delta backup, format 1.0.", *rows, *table, *self.extra_lines, "#: end", ""])
        for old, new in self.edit_lines:
            assert old in text, old
            text = text.replace(old, new, 1)
        head = (text.encode("utf-8", "surrogateescape") + self.script).ljust(HEAD - 75, b"#")
        assert len(head) == HEAD - 75
        digest = hashlib.sha256(head if self.seal else b"").hexdigest()
        whole = head + f"#= sha256 {digest}\n".encode() + body + self.file_tail
        return whole[: len(whole) - self.cut]


def digest_of(name: str, data: bytes) -> bytes:
    return blake3.blake3(data).digest() if name == "blake3" else hashlib.sha256(data).digest()


def make_delta(old: bytes, new: bytes, full: bytes, frames: list[int], *, digest: str = "blake3") -> Delta:
    """The Delta of `new` on a Full of `old`. `frames` is empty for a foreign Full."""
    count = -(-len(new) // BLOCK)
    kinds, digests, members, lengths = bytearray(), b"", b"", []
    runs: list[str] = []
    for number in range(count):
        block = new[number * BLOCK : (number + 1) * BLOCK]
        was = old[number * BLOCK : (number + 1) * BLOCK]
        kind = 0 if not any(block) else 1 if block == was[: len(block)] and len(was) >= len(block) else 2
        kinds.append(kind)
        digests += digest_of(digest, block) if kind else b""
        if kind == 2:
            members += member(block)
            lengths.append(len(member(block)))
        if kind == 2 or (kind == 0 and any(was)):
            runs.append(f"{number * BLOCK} {len(block)} {'delta' if kind == 2 else 'zero'}")
    page = bytes(kinds) + digests + struct.pack(f"<{len(lengths)}I", *lengths) if any(kinds) else b""
    counts = [kinds.count(kind) for kind in (0, 1, 2)]
    seal = digest_of(digest, page) if page else bytes(32)
    pages = struct.pack("<QIIIIQQ32s", 0, len(page), *counts, 0, 0, seal) if count else b""
    segments = [
        f"{at // SEGMENT} {hashlib.sha256(new[at : at + SEGMENT]).hexdigest()}"
        for at in range(0, len(new), SEGMENT)
        if any(new[at : at + SEGMENT])
    ]
    fields = {
        "format": "1.0",
        "requires": "",
        "id": "cd" * 16,
        "full-id": FULL_ID if frames else "",
        "full-sha256": hashlib.sha256(full).hexdigest(),
        "full-size": len(full),
        "full-name": "full.gz",
        "full-disk-size": len(old),
        "frame-size": FRAME if frames else 0,
        "vm": "CRM",
        "uuid": "",
        "scsi": "00",
        "vmdk": "CRM.vmdk",
        "disk-size": len(new),
        "block-size": BLOCK,
        "time": 2,
        "full-time": 1,
        "blocks-zero": counts[0],
        "blocks-full": counts[1],
        "blocks-delta": counts[2],
        "segment-size": SEGMENT,
        "block-digest": digest,
        "segment-digest": "sha256",
        "file-size": "FILE-SIZE",
        "signature-scheme": "none",
        "signature": "",
        "made-by": "a page",
    }
    sections = {
        "frames": members,
        "map": page,
        "pages": pages,
        "segments": lines(*segments),
        "full-frames": struct.pack(f"<{len(frames)}I", *frames),
        "runs": lines(*runs),
        "stub": b'# Disk DescriptorFile\nversion=1\ncreateType="vmfs"\nRW 1 VMFS "x-flat.vmdk"\n',
    }
    return Delta([(key, str(value)) for key, value in fields.items()], sections, SCRIPT.read_bytes())
