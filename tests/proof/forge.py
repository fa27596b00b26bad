"""Archives as somebody who means harm would write them: every digest fits, what they say does not.

A `Forged` is a genuine Delta taken apart. A case changes its header, its sections or the Full beside it; `write` computes
all lengths, offsets and digests anew, so that only the lie itself is left to be found.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from restore_core.archive.delta_writer import stub_script
from restore_core.archive.digests import sha256
from restore_core.archive.header import HEAD_BYTES, DeltaHeader, Section, parse_head, render_head
from restore_core.archive.index_map import PageEntry, unpack_entries

_TAIL = 75


@dataclass(slots=True)
class Forged:
    """A Delta in parts, and its Full. `lines` changes the text of the head after all numbers were computed, before its seal."""

    header: DeltaHeader
    sections: dict[str, bytes]
    delta: Path
    full: Path
    lines: list[tuple[bytes, bytes]] = field(default_factory=list)
    after: bytes = b""
    seal: bool = True

    def set(self, **values: Any) -> None:
        """Change facts of the header."""
        self.header = replace(self.header, **values)

    def say(self, old: str, new: str) -> None:
        """Change the text of the head."""
        self.lines.append((old.encode(), new.encode("utf-8", "surrogateescape")))

    def page(self, change: Callable[[PageEntry], PageEntry], number: int = 0) -> None:
        """Change an entry of the page table."""
        entries = unpack_entries(self.sections["pages"], self.header.block_digest)
        entries[number] = change(entries[number])
        self.sections["pages"] = b"".join(entry.pack() for entry in entries)

    def map(self, data: bytes) -> None:
        """Put another map there, with its digest and length in the page table."""
        self.sections["map"] = data
        self.page(lambda entry: replace(entry, length=len(data), digest=self.header.block_digest.of(data)))

    def kinds(self, change: Callable[[bytearray], None]) -> None:
        """Change the kinds of the blocks in the map."""
        data = bytearray(self.sections["map"])
        kinds = data[: self.header.blocks]
        change(kinds)
        self.map(bytes(kinds + data[self.header.blocks :]))

    def lengths(self, change: Callable[[list[int]], None]) -> None:
        """Change the lengths of the Delta's frames in the map."""
        count, data = self.header.blocks_delta, self.sections["map"]
        lengths = list(struct.unpack(f"<{count}I", data[-4 * count :]))
        change(lengths)
        self.map(data[: -4 * count] + struct.pack(f"<{count}I", *lengths))

    def frame(self, member: bytes) -> None:
        """Put another member in the place of the Delta's first frame."""
        first = struct.unpack("<I", self.sections["map"][-4 * self.header.blocks_delta :][:4])[0]
        self.sections["frames"] = member + self.sections["frames"][first:]
        self.lengths(lambda lengths: lengths.__setitem__(0, len(member)))

    def frame_table(self, change: Callable[[list[int]], list[int]]) -> None:
        """Change the lengths of the Full's frames."""
        data = self.sections["full-frames"]
        lengths = change(list(struct.unpack(f"<{len(data) // 4}I", data)))
        self.sections["full-frames"] = struct.pack(f"<{len(lengths)}I", *lengths)

    def another_full(self, data: bytes, *, told: bool = False, foreign: bool = False) -> None:
        """Put other bytes under the Full's name; `told`: the Delta's header knows them; `foreign`: as a gzip without frames."""
        self.full.write_bytes(data)
        if told:
            self.set(full_size=len(data), full_sha256=sha256(data).hex())
        if foreign:
            self.set(full_id="", frame_size=0)
            self.sections["full-frames"] = b""

    def write(self) -> None:
        """Put the Delta back under its name."""
        sections, at = [], HEAD_BYTES
        for name, data in self.sections.items():
            sections.append(Section(name=name, offset=at, length=len(data), sha256=sha256(data).hex()))
            at += len(data)
        head = render_head(replace(self.header, sections=tuple(sections), file_size=at), stub_script())
        for old, new in self.lines:
            if old not in head:
                raise AssertionError(f"{old!r} is not in the head")
            head = head.replace(old, new, 1)
        if self.lines and self.seal:
            body = head[: head.rindex(b"#= sha256 ")]
            gap = HEAD_BYTES - _TAIL - len(body)
            body = body[:gap] if gap < 0 else body + b"\n" * gap
            head = body + b"#= sha256 " + sha256(body).hex().encode() + b"\n"
        self.delta.write_bytes(head + b"".join(self.sections.values()) + self.after)


def bomb(size: int, *, byte: bytes = b"\0") -> bytes:
    """A gzip member of `size` equal bytes, a thousandth of it long."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    piece = byte * (1 << 20)
    return b"".join(packer.compress(piece) for _ in range(size >> 20)) + packer.flush()


def recompressed(full: bytes) -> bytes:
    """The same disk, as one member."""
    return gzip.compress(gzip.decompress(full), mtime=0)


def taken_apart(delta: Path, full: Path) -> Forged:
    """A genuine Delta and the path of its Full."""
    data = delta.read_bytes()
    header = parse_head(data[:HEAD_BYTES], delta.name)
    sections = {part.name: data[part.offset : part.offset + part.length] for part in header.sections}
    return Forged(header=header, sections=sections, delta=delta, full=full)
