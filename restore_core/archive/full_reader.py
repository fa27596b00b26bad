"""Reads a Full, and proves that it is the one a Delta needs before the first byte of the disk is written.

The proof compares content, so that a Full may be renamed or moved: its id, its size, and some of its frames against the
digests in the index map. A Full that something else wrote has no id; its size and its first blocks are compared. In both cases
every block is checked again when it is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager

from restore_core.archive.delta_reader import DeltaReader
from restore_core.archive.digests import Buffer
from restore_core.archive.frames import GZIP_MAGIC, MAX_MEMBER_HEAD, FullIdentity, decode, parse_identity, plain_stream
from restore_core.archive.index_map import FULL, MapPage
from restore_core.errors import BadArchive, BlockMismatch, NotThisFull
from restore_core.naming import comparable, parse_folder, printable
from restore_core.targets.base import ByteSource

_PROBE_BLOCKS = 8
_RECOMPRESSED = (
    "A Full that was compressed again holds the same disk in other bytes, and its Delta cannot use it. Bring the original back, "
    "or make a new empty Delta for this one with 'phd adopt'."
)
_CUT_SHORT = "The file is truncated, still being copied, or has something appended. Bring it again, or use another copy."


class FullReader(AbstractContextManager["FullReader"]):
    """An opened gzip. `identity` is None when something else than phd wrote it."""

    def __init__(self, source: ByteSource) -> None:
        self.source = source
        self.where = str(source.ref)
        head = source.read_at(0, min(MAX_MEMBER_HEAD, source.size))
        if head[:2] != GZIP_MAGIC:
            raise BadArchive(
                f"{self.where}: not a gzip file", remedy="A Full is a gzip of the flat disk; 'phd backups' lists them."
            )
        self.identity: FullIdentity | None = parse_identity(head)

    def __exit__(self, *_: object) -> None:
        self.source.close()

    def plain(self) -> Iterator[bytes]:
        """Yields the bytes of the disk from the first to the last, as the gzip holds them."""
        return plain_stream(self.source.stream(chunk=256 << 10), self.source.ref)

    def disk(self, size: int) -> Iterator[bytes]:
        """Yields what `plain` does. Raises `BadArchive` unless that is `size` bytes, which a Delta says."""
        held = 0
        for data in self.plain():
            held += len(data)
            if held > size:
                break
            yield data
        if held != size:
            raise BadArchive(
                f"{self.where}: holds {'more than' if held > size else f'{held} of'} the {size} bytes of disk that the Delta says",
                remedy="One of the two is damaged, or they do not belong together. Use another copy of both.",
            )

    def prove(self, delta: DeltaReader) -> None:
        """Raises `NotThisFull` or `BadArchive` with the reason unless this is the Full that `delta` was made against."""
        header = delta.header
        found = self.identity.archive_id.hex() if self.identity else ""
        if found != header.full_id:
            remedy = _RECOMPRESSED if not found else "Restore with the Full of that id; 'phd backups' lists what the targets hold."
            text = f"{self.where}: not the Full of this Delta: id {found or 'none'}, needed {header.full_id or 'none'}"
            raise NotThisFull(text + self._of_another_vm(delta), remedy=remedy)
        if self.source.size != header.full_size:
            raise NotThisFull(
                f"{self.where}: not the Full of this Delta: {self.source.size} bytes, needed {header.full_size}"
                f"{self._of_another_vm(delta)}",
                remedy=_CUT_SHORT if found else _RECOMPRESSED,
            )
        said, needed = self.identity, (header.full_disk_size, header.frame_size)
        if said and (said.disk_size, said.frame_size) != needed:
            raise NotThisFull(
                f"{self.where}: says a disk of {said.disk_size} bytes in frames of {said.frame_size}, the Delta says "
                f"{needed[0]} and {needed[1]}",
                remedy="One of the two is damaged. Use another copy of both.",
            )
        if header.frame_size:
            self._probe_frames(delta)
        else:
            self._probe_start(delta)

    def _of_another_vm(self, delta: DeltaReader) -> str:
        """Returns whose Full it is, if the folder names another VM than the Delta: clones have disks with the same names."""
        folder = parse_folder(self.source.ref.folder)
        if folder.uuid is None or comparable(folder.vm) == comparable(delta.header.vm):
            return ""
        text = f"; it is of the VM {printable(folder.vm)}, the Delta of the VM {printable(delta.header.vm)}"
        return text + (", which has the same UUID" if folder.uuid.lower() == delta.header.uuid.lower() else "")

    def _probe_frames(self, delta: DeltaReader) -> None:
        """Decodes the first frame in use of the first, the middle and the last page, and checks their blocks."""
        for index in sorted({0, delta.pages // 2, delta.pages - 1} if delta.pages else set()):
            page = delta.page(index)
            block = page.kinds.find(FULL)
            if block < 0:
                continue
            offsets, lengths = delta.full_frames(index)
            per_frame = delta.header.frame_size // delta.header.block_size
            frame = block // per_frame
            check_frame(delta, page, frame, self.frame(offsets, lengths, frame), self.where)

    def frame(self, offsets: list[int], lengths: list[int], frame: int) -> bytes:
        """Returns the compressed bytes of a frame, by the frame table of its page."""
        if frame >= len(offsets):
            raise BadArchive(
                f"{self.where}: frame {frame} is not in the frame table", remedy="The Delta is damaged; use another copy."
            )
        return self.source.read_at(offsets[frame], lengths[frame])

    def _probe_start(self, delta: DeltaReader) -> None:
        """Checks the first blocks in use of a foreign Full, within the first 64 MiB."""
        size, wanted, block, held = delta.header.block_size, _PROBE_BLOCKS, 0, bytearray()
        page = delta.page(0) if delta.pages else None
        for data in self.plain():
            held += data
            while page and len(held) >= size and block < len(page.kinds):
                if page.kinds[block] == FULL:
                    check_block(delta, page, block, memoryview(held)[:size].tobytes(), self.where)
                    wanted -= 1
                del held[:size]
                block += 1
            if not wanted or block * size >= 64 << 20:
                return


def frame_plain_size(delta: DeltaReader, frame: int) -> int:
    """Returns the bytes of disk in frame number `frame` of the whole Full."""
    header = delta.header
    return max(0, min(header.frame_size, header.full_disk_size - frame * header.frame_size))


def check_frame(delta: DeltaReader, page: MapPage, frame: int, member: bytes, where: str) -> None:
    """Decodes frame number `frame` of the page, and checks all blocks that come from it."""
    per_frame = delta.header.frame_size // delta.header.block_size
    first = page.first_block // per_frame + frame
    plain = memoryview(decode(member, frame_plain_size(delta, first), f"{where}: frame {first}"))
    for slot in range(per_frame):
        index = frame * per_frame + slot
        if index < len(page.kinds) and page.kinds[index] == FULL:
            check_block(delta, page, index, plain[slot * delta.header.block_size : (slot + 1) * delta.header.block_size], where)


def check_block(delta: DeltaReader, page: MapPage, index: int, data: Buffer, where: str) -> None:
    """Raises `BlockMismatch` unless `data` is the block at `index` of the page, `BadArchive` if it is too short."""
    header = delta.header
    length = block_length(header.disk_size, header.block_size, page.first_block + index)
    data = data[:length]
    if len(data) != length:
        raise BadArchive(
            f"{where}: holds {len(data)} of the {length} bytes of block {page.first_block + index}",
            remedy="The archive is damaged, or this is not its Full. Run 'phd verify' on it, and restore from another copy.",
        )
    found, expected, block = header.block_digest.of(data), page.digest(index), page.first_block + index
    if found != expected:
        raise BlockMismatch(block=block, offset=block * header.block_size, where=where, expected=expected.hex(), found=found.hex())


def block_length(disk_size: int, block_size: int, block: int) -> int:
    """Returns the bytes in a block: the last one may be shorter than the others."""
    return min(block_size, disk_size - block * block_size)
