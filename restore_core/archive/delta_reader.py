"""Reads a Delta: head and page table when it is opened, everything else when it is needed. Each value is checked before its use."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
from itertools import accumulate
from typing import Final

from restore_core.archive.frames import longest_member
from restore_core.archive.header import HEAD_BYTES, DeltaHeader, Section, parse_head
from restore_core.archive.index_map import (
    BLOCKS_PER_PAGE,
    DELTA,
    ZERO,
    MapPage,
    PageEntry,
    entry_bytes,
    parse_page,
    totals_of,
    unpack_entries,
    unpack_u32,
)
from restore_core.archive.shell_lists import Run, read_runs, read_segments
from restore_core.errors import BadArchive
from restore_core.targets.base import ByteSource, Range, Stop, never_stop

MAX_TEXT_SECTION = 4 << 20
REQUIRED: Final = ("frames", "map", "pages", "segments", "full-frames", "runs")
_TEXTS = ("descriptor", "vmx", "stub")
_REMEDY = "Use another copy of this Delta."
MAX_PAGES_SECTION = 64 << 20
"""Limit for the bytes of the page table, which is kept in memory: enough for 900 TiB in blocks of 256 KiB."""


_NOT_IN_RUNS = 255


class DeltaReader:
    """An opened Delta. Its methods, and opening it, raise `BadArchive` for what is damaged or contradicts itself."""

    def __init__(self, source: ByteSource) -> None:
        self.source = source
        self.where = str(source.ref)
        self.header: DeltaHeader = parse_head(source.read_at(0, min(HEAD_BYTES, source.size)), self.where)
        if source.size != self.header.file_size:
            raise BadArchive(
                f"{self.where}: {source.size} bytes long, its header says {self.header.file_size}",
                remedy="The file is truncated, still being copied, or has something appended. Bring it again.",
            )
        self._entries = self._page_table()
        for name in REQUIRED:
            self._section(name)
        for section in self.header.sections:
            if section.name in _TEXTS and section.length > MAX_TEXT_SECTION:
                raise self._bad(f"section {section.name} is {section.length} bytes long")
        self._check_lengths()

    @property
    def pages(self) -> int:
        """The number of pages of the map."""
        return len(self._entries)

    def page(self, index: int) -> MapPage:
        """Returns one page of the map, checked against the page table."""
        entry = self._entries[index]
        first = index * BLOCKS_PER_PAGE
        page = parse_page(
            self._section_bytes("map", entry.offset, entry.length),
            entry=entry,
            first_block=first,
            blocks=min(BLOCKS_PER_PAGE, self.header.blocks - first),
            digest=self.header.block_digest,
            delta_bytes=self._delta_end(index) - entry.delta_base,
            where=self.where,
        )
        self._refuse_long_frames("map", index, page.delta_lengths, self.header.block_size)
        return page

    def full_frames(self, index: int) -> tuple[list[int], list[int]]:
        """Returns offsets (within the Full) and lengths of the frames that page `index` covers."""
        per_page = BLOCKS_PER_PAGE * self.header.block_size // self.header.frame_size
        section = self._section("full-frames")
        start = index * per_page * 4
        length = max(0, min(per_page * 4, section.length - start))
        lengths = unpack_u32(self._section_bytes("full-frames", start, length)) if length else []
        self._refuse_long_frames("full-frames", index, lengths, self.header.frame_size)
        offsets = list(accumulate(lengths, initial=self._entries[index].full_base))[:-1]
        return offsets, lengths

    def frames_range(self, offset: int, length: int) -> Range:
        """Returns where bytes of the frames section lie in the file."""
        return self._section_range("frames", offset, length)

    def segments(self) -> Iterator[tuple[int, bytes]]:
        """Yields (index, SHA-256) of each segment of the disk that is not all zero."""
        last = -(-self.header.disk_size // self.header.segment_size) - 1
        for index, digest in read_segments(self.section_stream(self._section("segments")), self.source.ref):
            if index > last:
                raise self._bad(f"section segments: segment {index} is beyond the disk")
            yield index, digest

    def runs(self) -> Iterator[Run]:
        """Yields what is written over the unpacked Full, in disk order."""
        section, header = self.section_stream(self._section("runs")), self.header
        return read_runs(section, self.source.ref, disk_size=header.disk_size, block_size=header.block_size)

    def check_lists(self) -> None:
        """Checks `segments` line by line, and `runs` against the map: `sh` and the steps by hand use them."""
        deque(self.segments(), maxlen=0)
        size = self.header.block_size
        runs = self.runs()
        run = next(runs, None)
        for index in range(self.pages):
            page = self.page(index)
            first, count = page.first_block, len(page.kinds)
            said = bytearray([_NOT_IN_RUNS]) * count
            while run is not None and run.offset < (first + count) * size:
                start, end = max(run.offset // size - first, 0), min(-(-run.end // size) - first, count)
                said[start:end] = bytes([run.kind]) * (end - start)
                if run.end > (first + count) * size:
                    break
                run = next(runs, None)
            pairs = zip(page.kinds, said, strict=True)
            if any((kind == DELTA) != (there == DELTA) or (there == ZERO and kind != ZERO) for kind, there in pairs):
                raise self._bad(f"section runs: differs from the map in the page of block {first}")

    def text(self, name: str) -> bytes | None:
        """Returns a section that becomes a file (`vmx`, `descriptor`, `stub`), checked; None where there is none."""
        section = self.header.section(name)
        if section is None:
            return None
        data = self.source.read_at(section.offset, section.length)
        _compare(section, hashlib.sha256(data), self.where)
        return data

    def descriptor(self) -> bytes | None:
        """Returns the VMDK descriptor that was backed up, else the one that the backup made: all restores use the same."""
        original = self.text("descriptor")
        return self.text("stub") if original is None else original

    def check_metadata(self) -> None:
        """Checks every section but the frames against its SHA-256, and the lists; a restore checks frames block by block."""
        for section in self.header.sections:
            if section.name != "frames":
                self.check_section(section)
        self.check_lists()

    def check_section(self, section: Section, stop: Stop = never_stop) -> None:
        """Checks one section against its SHA-256. The error names it."""
        sha = hashlib.sha256()
        for data in self.section_stream(section):
            sha.update(data)
            stop()
        _compare(section, sha, self.where)

    def section_stream(self, section: Section) -> Iterator[bytes]:
        """Yields the bytes of a section in order."""
        return self.source.stream(section.offset, section.length)

    def _refuse_long_frames(self, section: str, page: int, lengths: list[int], plain: int) -> None:
        """Raises `BadArchive` for a length that no frame can have, before a caller allocates that much memory."""
        if lengths and max(lengths) > longest_member(plain):
            raise self._bad(f"section {section}, page {page}: a frame of {max(lengths)} bytes for {plain} bytes of disk")

    def _page_table(self) -> list[PageEntry]:
        pages = -(-self.header.blocks // BLOCKS_PER_PAGE)
        section = self._section("pages")
        if section.length != pages * entry_bytes(self.header.block_digest) or section.length > MAX_PAGES_SECTION:
            raise self._bad(f"section pages: {section.length} bytes for {pages} pages")
        data = self.source.read_at(section.offset, section.length)
        _compare(section, hashlib.sha256(data), self.where)
        entries = unpack_entries(data, self.header.block_digest)
        self._check_entries(entries)
        return entries

    def _check_lengths(self) -> None:
        """Checks the lengths of the sections that hold one thing for each changed block, or for each frame of the Full."""
        header = self.header
        if (self._section("frames").length == 0) != (header.blocks_delta == 0):
            raise self._bad(f"section frames is {self._section('frames').length} bytes long for {header.blocks_delta} blocks")
        frames = -(-header.full_disk_size // header.frame_size) if header.frame_size else 0
        entries = self._section("full-frames").length / 4
        if entries != frames and not (header.frame_size and not frames and entries == 1):  # that of an empty disk may be listed
            raise self._bad(f"section full-frames has {entries:g} entries, the Full has {frames} frames")

    def _check_entries(self, entries: list[PageEntry]) -> None:
        map_end = frames_end = blocks = 0
        for index, entry in enumerate(entries):
            expected = min(BLOCKS_PER_PAGE, self.header.blocks - index * BLOCKS_PER_PAGE)
            if entry.offset != map_end or entry.delta_base < frames_end or entry.zero + entry.full + entry.delta != expected:
                raise self._bad(f"section pages: page {index} is out of range")
            if entry.length > expected * (1 + self.header.block_digest.size + 4):
                raise self._bad(f"section pages: page {index} is too long")
            map_end, frames_end, blocks = entry.offset + entry.length, entry.delta_base, blocks + expected
        totals, header = totals_of(entries), self.header
        if (
            totals != (header.blocks_zero, header.blocks_full, header.blocks_delta)
            or map_end != self._section("map").length
            or frames_end > self._section("frames").length
        ):
            raise self._bad("section pages: its totals differ from the header's")

    def _delta_end(self, index: int) -> int:
        return self._entries[index + 1].delta_base if index + 1 < self.pages else self._section("frames").length

    def _section(self, name: str) -> Section:
        section = self.header.section(name)
        if section is None:
            raise self._bad(f"section {name} is missing")
        return section

    def _section_bytes(self, name: str, offset: int, length: int) -> bytes:
        return self.source.read_at(*self._section_range(name, offset, length))

    def _section_range(self, name: str, offset: int, length: int) -> Range:
        section = self._section(name)
        if length < 0 or offset < 0 or offset + length > section.length:
            raise self._bad(f"section {name}: bytes {offset} to {offset + length} are out of range")
        return section.offset + offset, length

    def _bad(self, why: str) -> BadArchive:
        return BadArchive(f"{self.where}: {why}", remedy=_REMEDY)


def _compare(section: Section, found: hashlib._Hash, where: str) -> None:
    if found.hexdigest() != section.sha256:
        raise BadArchive(
            f"{where}: section {section.name} is damaged: SHA-256 {found.hexdigest()}, expected {section.sha256}",
            remedy="Use another copy of this archive, or another backup.",
        )
