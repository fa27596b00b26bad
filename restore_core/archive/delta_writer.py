"""Writes a Delta: frames first, as they come; then the sections that describe them; the head last, into the space kept for it.

What grows with the disk (map, segments, runs, frame table) is collected in scratch files, never in memory. The file gets its
name only by `publish` of the `NewFile` it is written to.
"""

from __future__ import annotations

import array
import contextlib
import hashlib
import io
import tempfile
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import IO, cast

from restore_core import __version__
from restore_core.archive.digests import BlockDigest
from restore_core.archive.header import HEAD_BYTES, DeltaHeader, Section, render_head
from restore_core.archive.index_map import BLOCKS_PER_PAGE, DELTA, FULL, ZERO, PageEntry, pack_u32, totals_of
from restore_core.archive.shell_lists import SEGMENT_SIZE, GzipLines, RunLines
from restore_core.targets.base import NewFile

_IN_MEMORY = 4 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskFacts:
    """The disk of a backup. `disk` is the VMDK's name; a restore writes `vmx` and `descriptor` without a change.

    `stub` is a descriptor for the restored disk, which the script in a Delta uses; None where the disk cannot be a VMDK.
    `path` is where the disk lay; `left_out` are the disks of its VM that are not backed up with it, as a VMX writes them.
    """

    vm: str
    uuid: str
    scsi: str
    disk: str
    disk_size: int
    vmx: bytes | None = None
    descriptor: bytes | None = None
    stub: bytes | None = None
    path: str = ""
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FullFacts:
    """The Full that a Delta needs. For a gzip that something else wrote, `archive_id` is empty and `frame_size` 0."""

    archive_id: str
    name: str
    size: int
    sha256: str
    disk_size: int
    frame_size: int
    time: int


class DeltaWriter(contextlib.AbstractContextManager["DeltaWriter"]):
    """Takes blocks, segments and the Full's frames in disk order; `finish` writes the rest. The context closes scratch files."""

    def __init__(self, out: NewFile, *, block_size: int, block_digest: BlockDigest, frame_size: int, scratch: Path) -> None:
        self._out, self._block_size, self._digest = out, block_size, block_digest
        self._frames_per_page = BLOCKS_PER_PAGE * block_size // frame_size if frame_size else 0
        self._scratch_folder = scratch
        self._scratch_files = contextlib.ExitStack()
        self._map, self._frame_table = self._scratch(), self._scratch()
        self._segments, self._runs = GzipLines(self._scratch()), GzipLines(self._scratch())
        self._run_lines = RunLines(self._runs, block_size)
        self._entries: list[PageEntry] = []
        self._full_bases: list[int] = []
        self._full_frames = self._full_bytes = 0
        self._frame_bytes = 0
        self._frames_sha = hashlib.sha256()
        self._blocks = 0
        self._new_page()
        out.write(b"\0" * HEAD_BYTES)

    def __exit__(self, *_: object) -> None:
        self._scratch_files.close()

    def add_block(self, kind: int, digest: bytes = b"", *, frame: bytes = b"", length: int = 0, in_full: bool = False) -> None:
        """Adds the next block of `length` bytes. `frame` is for a `DELTA`; `in_full`: a `ZERO` that holds data in the Full."""
        self._kinds.append(kind)
        if kind != ZERO:
            self._digests += digest
        if kind == DELTA:
            self._out.write(frame)
            self._frames_sha.update(frame)
            self._lengths.append(len(frame))
            self._frame_bytes += len(frame)
        if kind == DELTA or in_full:
            self._run_lines.add(self._blocks, length, kind)
        self._blocks += 1
        if len(self._kinds) == BLOCKS_PER_PAGE:
            self._end_page()

    def add_segment(self, index: int, sha256: bytes) -> None:
        """Adds the digest of a segment that is not all zero."""
        self._segments.add(f"{index} {sha256.hex()}")

    def add_full_frames(self, lengths: list[int]) -> None:
        """Adds the lengths of the next frames of the Full."""
        for length in lengths:
            if self._full_frames % self._frames_per_page == 0:
                self._full_bases.append(self._full_bytes)
            self._full_frames += 1
            self._full_bytes += length
        self._frame_table.write(pack_u32(array.array("I", lengths)))

    def finish(self, *, delta_id: str, disk: DiskFacts, full: FullFacts, time: int) -> DeltaHeader:
        """Writes the sections and the head. The caller publishes the file."""
        if self._kinds:
            self._end_page()
        self._run_lines.finish()
        self._segments.finish()
        self._runs.finish()
        sections = self._write_sections(disk)
        zero, from_full, from_delta = totals_of(self._entries)
        header = DeltaHeader(
            delta_id=delta_id,
            vm=disk.vm,
            uuid=disk.uuid,
            scsi=disk.scsi,
            disk=disk.disk,
            disk_size=disk.disk_size,
            block_size=self._block_size,
            time=time,
            full_time=full.time,
            full_id=full.archive_id,
            full_name=full.name,
            full_size=full.size,
            full_sha256=full.sha256,
            full_disk_size=full.disk_size,
            frame_size=full.frame_size,
            blocks_zero=zero,
            blocks_full=from_full,
            blocks_delta=from_delta,
            segment_size=SEGMENT_SIZE,
            block_digest=self._digest,
            file_size=sections[-1].offset + sections[-1].length,
            made_by=f"phd-daemon {__version__}",
            sections=sections,
            source=disk.path,
            left_out=disk.left_out,
        )
        self._out.write_at(render_head(header, stub_script()), 0)
        return header

    def _write_sections(self, disk: DiskFacts) -> tuple[Section, ...]:
        frames = Section(name="frames", offset=HEAD_BYTES, length=self._frame_bytes, sha256=self._frames_sha.hexdigest())
        sections = [frames]
        # A page beyond the end of the Full has no first frame in it.
        bases = self._full_bases + [0] * len(self._entries)
        entries = [replace(entry, full_base=base) for entry, base in zip(self._entries, bases, strict=False)]
        named: dict[str, IO[bytes] | bytes | None] = {
            "map": self._map,
            "pages": b"".join(entry.pack() for entry in entries),
            "segments": self._segments.file,
            "full-frames": self._frame_table,
            "runs": self._runs.file,
            "descriptor": disk.descriptor,
            "stub": disk.stub,
            "vmx": disk.vmx,
        }
        for name, data in named.items():
            if data is not None:
                self._add_section(sections, name, data)
        return tuple(sections)

    def _add_section(self, sections: list[Section], name: str, data: IO[bytes] | bytes) -> None:
        offset = sections[-1].offset + sections[-1].length
        sha, length = hashlib.sha256(), 0
        file = io.BytesIO(data) if isinstance(data, bytes) else data
        file.seek(0)
        for piece in iter(lambda: file.read(1 << 20), b""):
            sha.update(piece)
            length += len(piece)
            self._out.write(piece)
        sections.append(Section(name=name, offset=offset, length=length, sha256=sha.hexdigest()))

    def _new_page(self) -> None:
        self._kinds, self._digests, self._lengths = bytearray(), bytearray(), array.array("I")
        self._page_base = self._frame_bytes

    def _end_page(self) -> None:
        zero, full, delta = (self._kinds.count(kind) for kind in (ZERO, FULL, DELTA))
        page = b"" if zero == len(self._kinds) else bytes(self._kinds) + bytes(self._digests) + pack_u32(self._lengths)
        offset = self._entries[-1].offset + self._entries[-1].length if self._entries else 0
        digest = self._digest.of(page) if page else bytes(self._digest.size)
        self._map.write(page)
        self._entries.append(
            PageEntry(
                offset=offset,
                length=len(page),
                zero=zero,
                full=full,
                delta=delta,
                delta_base=self._page_base,
                full_base=0,
                digest=digest,
            )
        )
        self._new_page()

    def _scratch(self) -> IO[bytes]:
        file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY, dir=str(self._scratch_folder))  # noqa: SIM115 - closed by __exit__
        return cast("IO[bytes]", self._scratch_files.enter_context(file))


def stub_script() -> str:
    """Returns the script in the head of every Delta, without the lines that only its developers need."""
    text = resources.files("restore_core.archive").joinpath("stub.sh").read_text("utf-8")
    return "".join(
        line for line in text.splitlines(keepends=True) if not line.lstrip().startswith(("# shellcheck ", "# (SC", "# ----"))
    )
