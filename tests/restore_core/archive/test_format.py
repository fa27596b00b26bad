"""FORMAT.md is enough: a reader written from that page alone, with nothing of ours, gives the disk back."""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
import subprocess
from pathlib import Path

import blake3
import pytest

from tests.lab import BLOCK, FRAME, Lab


def read_parts(raw: bytes) -> tuple[dict[str, str], dict[str, bytes]]:
    """Fields of the header, bytes of the sections."""
    head = raw[:65536]
    assert head[-75:] == b"#= sha256 " + hashlib.sha256(head[:-75]).hexdigest().encode() + b"\n"
    fields: dict[str, str] = {}
    sections: dict[str, bytes] = {}
    for line in head.decode().split("\n"):
        if line == "#: end":
            break
        if line.startswith("#: section "):
            _, _, name, offset, length, sha = line.split(" ")
            sections[name] = raw[int(offset) : int(offset) + int(length)]
            assert hashlib.sha256(sections[name]).hexdigest() == sha
        elif line.startswith("#: "):
            key, value = line[3:].split("=", 1)
            fields[key] = value
    assert int(fields["file-size"]) == len(raw)
    return fields, sections


def read_disk(delta_path: Path, full_path: Path) -> bytes:
    """The disk, by FORMAT.md."""
    fields, sections = read_parts(delta_path.read_bytes())
    size, block_size, frame_size = (int(fields[key]) for key in ("disk-size", "block-size", "frame-size"))
    full = full_path.read_bytes()
    assert hashlib.sha256(full).hexdigest() == fields["full-sha256"]
    members = struct.unpack(f"<{len(sections['full-frames']) // 4}I", sections["full-frames"])
    disk = bytearray(size)
    for page_number, entry in enumerate(struct.iter_unpack("<QIIIIQQ32s", sections["pages"])):
        offset, length, _zero, _full, _delta, delta_at, full_at, digest = entry
        page = sections["map"][offset : offset + length]
        if not page:
            continue
        assert blake3.blake3(page).digest() == digest
        blocks = min(4096, -(-size // block_size) - page_number * 4096)
        kinds, rest = page[:blocks], page[blocks:]
        stored = blocks - kinds.count(0)
        digests = [rest[at * 32 : at * 32 + 32] for at in range(stored)]
        lengths = list(struct.unpack(f"<{kinds.count(2)}I", rest[stored * 32 :]))
        for index, kind in enumerate(kinds):
            start = (page_number * 4096 + index) * block_size
            end = min(start + block_size, size)
            if kind == 0:
                continue
            if kind == 2:
                member_length = lengths.pop(0)
                data = gzip.decompress(sections["frames"][delta_at : delta_at + member_length])
                delta_at += member_length
            else:
                first = page_number * 4096 * block_size // frame_size
                frame = start // frame_size
                at = full_at + sum(members[first:frame])
                plain = gzip.decompress(full[at : at + members[frame]])
                data = plain[start - frame * frame_size :][: end - start]
            assert blake3.blake3(data).digest() == digests.pop(0)
            disk[start:end] = data
    return bytes(disk)


def test_a_reader_written_from_the_page(lab: Lab) -> None:
    old = os.urandom(FRAME + BLOCK) + bytes(3 * BLOCK) + os.urandom(2 * FRAME) + b"end"
    full = lab.backup(old)
    new = old[:BLOCK] + b"changed" + old[BLOCK + 7 : 6 * BLOCK] + bytes(BLOCK) + old[7 * BLOCK :] + b"grown"
    delta = lab.backup(new)
    assert full.full is not None
    assert read_disk(lab.path(full.delta), lab.path(full.full)) == old
    assert read_disk(lab.path(delta.delta), lab.path(full.full)) == new


def test_the_tools_everybody_has(lab: Lab) -> None:
    data = os.urandom(FRAME) + bytes(2 * FRAME) + b"tail"
    made = lab.backup(data)
    assert made.full is not None
    path = lab.path(made.full)
    with path.open("rb") as file:
        subprocess.run(["gzip", "-t"], stdin=file, check=True)
    assert subprocess.run(["zcat"], input=path.read_bytes(), capture_output=True, check=True).stdout == data


def test_members_tell_their_length(lab: Lab) -> None:
    made = lab.backup(os.urandom(3 * FRAME + 5))
    assert made.full is not None
    raw, at, plain = lab.path(made.full).read_bytes(), 0, b""
    while at < len(raw):
        assert raw[at + 12 : at + 14] == b"PF"
        (length,) = struct.unpack_from("<I", raw, at + 16)
        plain += gzip.decompress(raw[at : at + length])
        at += length
    assert plain == lab.disk.read_bytes()


@pytest.mark.parametrize("empty", [False, True])
def test_the_steps_the_script_prints(lab: Lab, empty: bool) -> None:
    """`sh DELTA --help` prints commands; run as printed, they give the disk."""
    old = os.urandom(3 * BLOCK) + bytes(BLOCK)
    full = lab.backup(old)
    new = old[:100] + b"x" + old[101 : 2 * BLOCK] + bytes(BLOCK) + os.urandom(2 * BLOCK) + b"odd end"
    delta = lab.backup(new)
    new, delta = (old, full) if empty else (new, delta)
    assert full.full is not None
    folder = lab.path(delta.delta).parent
    printed = subprocess.run(["sh", lab.path(delta.delta), "--help"], capture_output=True, check=True, text=True).stdout
    start, end = printed.index("  1. ") + 5, printed.index("  5. each")
    script = printed[start:end].replace("THIS_FILE", delta.delta.name).replace("FULL", full.full.name)
    lines = [line for line in script.splitlines() if not line.strip().startswith(("3. the", "4. where"))]
    text = "\n".join(line.strip().removeprefix("2. ") for line in lines)
    subprocess.run(["bash", "-ec", text], cwd=folder, check=True, capture_output=True)
    assert (folder / "DISK-flat.vmdk").read_bytes() == new
    digests = subprocess.run(
        ["bash", "-c", printed[end:].splitlines()[1].replace("THIS_FILE", delta.delta.name)],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert digests == f"0 {hashlib.sha256(new).hexdigest()}\n"
