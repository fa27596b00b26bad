"""Deltas whose every digest fits, made by somebody who lies about names and lengths."""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path

import pytest

from restore_core.archive.delta_reader import DeltaReader
from restore_core.archive.digests import BlockDigest
from restore_core.archive.header import HEAD_BYTES, Section, parse_head
from restore_core.errors import ArchiveAbsent, BadArchive
from restore_core.targets.base import LOCAL, ArchiveRef
from tests.lab import BLOCK, Lab

_TAIL = 75
_ENTRY = struct.Struct("<QIIIIQQ32s")


@pytest.fixture
def changed(lab: Lab) -> ArchiveRef:
    """A Delta with one block of its own, and blocks from its Full."""
    first = os.urandom(8 * BLOCK)
    lab.backup(first)
    return lab.backup(first[:BLOCK] + os.urandom(BLOCK) + first[2 * BLOCK :]).delta


def lie(path: Path, *, sections: dict[str, bytes] | None = None, **values: str) -> None:
    """Write the Delta again with other sections and header values; all digests fit. A frames section stands last and is a hole."""
    data, new = path.read_bytes(), sections or {}
    head, rest = data[:HEAD_BYTES].split(b"\n#: end\n", 1)
    known = {s.name: new.get(s.name, data[s.offset : s.offset + s.length]) for s in parse_head(data[:HEAD_BYTES], "x").sections}
    made, end = [], HEAD_BYTES
    for name, body in known.items():
        made.append(Section(name=name, offset=end, length=len(body), sha256=hashlib.sha256(body).hexdigest()))
        end += len(body)
    lines = [line for line in head.decode().split("\n") if not line.startswith("#: section ")]
    changed = {**{key.replace("_", "-"): value for key, value in values.items()}, "file-size": str(end)}
    for key, value in changed.items():
        lines = [f"#: {key}={value}" if line.startswith(f"#: {key}=") else line for line in lines]
    lines += [f"#: section {s.name} {s.offset} {s.length} {s.sha256}" for s in made]
    text = ("\n".join(lines) + "\n#: end\n").encode() + rest
    text = text[: HEAD_BYTES - _TAIL].ljust(HEAD_BYTES - _TAIL, b"#")
    path.write_bytes(text + f"#= sha256 {hashlib.sha256(text).hexdigest()}\n".encode() + b"".join(known.values()))


def section(lab: Lab, ref: ArchiveRef, name: str) -> bytes:
    delta = lab.reader(ref)
    with delta.source:
        found = delta.header.section(name)
        assert found is not None
        return delta.source.read_at(found.offset, found.length)


def test_a_lie_that_says_the_truth_is_restored(lab: Lab, changed: ArchiveRef) -> None:
    lie(lab.path(changed))
    assert lab.restored(changed) == lab.disk.read_bytes()


@pytest.mark.parametrize("name", ["", ".", "..", "/etc/passwd", "../x", "a/b", "a%00b"])
def test_a_full_with_a_name_that_is_none_is_still_found_by_its_content(lab: Lab, changed: ArchiveRef, name: str) -> None:
    lie(lab.path(changed), full_name=name)
    assert lab.restored(changed) == lab.disk.read_bytes()


@pytest.mark.parametrize("name", ["", "a%00b", "../x"])
def test_the_same_of_a_local_delta_without_its_full(lab: Lab, changed: ArchiveRef, name: str, tmp_path: Path) -> None:
    lie(lab.path(changed), full_name=name)
    alone = tmp_path / "alone"
    alone.mkdir()
    moved = lab.path(changed).rename(alone / "delta")
    for full in lab.store.glob("*/*.gz-*"):
        full.unlink()
    with pytest.raises(ArchiveAbsent):
        lab.restore(ArchiveRef(target=LOCAL, path=str(moved)))


def test_a_frame_table_that_ends_within_an_entry(lab: Lab, changed: ArchiveRef) -> None:
    lie(lab.path(changed), sections={"full-frames": section(lab, changed, "full-frames")[:-1]})
    with pytest.raises(BadArchive, match="full-frames"):
        lab.restore(changed)
    assert lab.leftovers() == []


def test_a_frame_of_the_full_that_asks_for_gigabytes(lab: Lab, changed: ArchiveRef) -> None:
    lie(lab.path(changed), sections={"full-frames": struct.pack("<2I", 3 << 30, 3 << 30)})
    with pytest.raises(BadArchive, match="full-frames"):
        lab.restore(changed)


def test_a_frame_of_the_delta_that_asks_for_gigabytes(lab: Lab, changed: ArchiveRef) -> None:
    page = section(lab, changed, "map")[:-4] + struct.pack("<I", 3 << 30)
    entry = [*_ENTRY.unpack(section(lab, changed, "pages"))[:-1], BlockDigest.BLAKE3.of(page)]
    lie(lab.path(changed), sections={"map": page, "pages": _ENTRY.pack(*entry)})
    sparse_frames_last(lab.path(changed), 3 << 30)
    with lab.targets.open(changed) as source, pytest.raises(BadArchive, match="a frame of 3221225472 bytes"):
        DeltaReader(source).page(0)


def sparse_frames_last(path: Path, length: int) -> None:
    """Put the frames section behind all others, as a hole of `length` bytes."""
    data = path.read_bytes()
    sections = parse_head(data[:HEAD_BYTES], "x").sections
    lines, end = [], HEAD_BYTES
    for s in sections:
        if s.name != "frames":
            lines.append(f"#: section {s.name} {end} {s.length} {s.sha256}")
            end += s.length
    lines.append(f"#: section frames {end} {length} {'0' * 64}")
    head, rest = data[:HEAD_BYTES].split(b"\n#: end\n", 1)
    kept = [line for line in head.decode().split("\n") if not line.startswith(("#: section ", "#: file-size="))]
    text = "\n".join([*kept, f"#: file-size={end + length}", *lines, "#: end", ""]).encode() + rest
    text = text[: HEAD_BYTES - _TAIL].ljust(HEAD_BYTES - _TAIL, b"#")
    body = b"".join(data[s.offset : s.offset + s.length] for s in sections if s.name != "frames")
    path.write_bytes(text + f"#= sha256 {hashlib.sha256(text).hexdigest()}\n".encode() + body)
    os.truncate(path, end + length)


def test_a_page_table_that_would_fill_the_memory(lab: Lab, changed: ArchiveRef) -> None:
    blocks = 1 << 40
    lie(
        lab.path(changed), disk_size=str(blocks * 512), block_size="512", blocks_zero="0", blocks_full=str(blocks), blocks_delta="0"
    )
    pages = blocks // 4096 * _ENTRY.size
    data = lab.path(changed).read_bytes()
    old = next(s for s in parse_head(data[:HEAD_BYTES], "x").sections if s.name == "pages")
    last = f"#: section pages {HEAD_BYTES} {pages} {'0' * 64}"
    head, rest = data[:HEAD_BYTES].split(b"\n#: end\n", 1)
    kept = [line for line in head.decode().split("\n") if not line.startswith(("#: section ", "#: file-size="))]
    text = "\n".join([*kept, f"#: file-size={HEAD_BYTES + pages}", last, "#: end", ""]).encode() + rest
    text = text[: HEAD_BYTES - _TAIL].ljust(HEAD_BYTES - _TAIL, b"#")
    lab.path(changed).write_bytes(text + f"#= sha256 {hashlib.sha256(text).hexdigest()}\n".encode())
    os.truncate(lab.path(changed), HEAD_BYTES + pages)
    assert old.length == _ENTRY.size
    with lab.targets.open(changed) as source, pytest.raises(BadArchive, match="section pages"):
        DeltaReader(source)
