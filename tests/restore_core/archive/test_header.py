from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restore_core.archive.digests import BlockDigest, sha256
from restore_core.archive.header import HEAD_BYTES, DeltaHeader, Section, parse_head, render_head
from restore_core.errors import BadArchive

HEADER = DeltaHeader(
    delta_id="0" * 32,
    vm="CRM",
    uuid="564d122a-0ed7-3b92-2f46-aee9456b2074",
    scsi="00",
    disk="CRM.vmdk",
    disk_size=3 << 20,
    block_size=256 << 10,
    time=1,
    full_time=1,
    full_id="1" * 32,
    full_name="00-CRM.vmdk.gz-260301-0300.phd",
    full_size=9,
    full_sha256="2" * 64,
    full_disk_size=3 << 20,
    frame_size=1 << 20,
    blocks_zero=2,
    blocks_full=10,
    blocks_delta=0,
    segment_size=16 << 20,
    block_digest=BlockDigest.BLAKE3,
    file_size=HEAD_BYTES + 30,
    made_by="test",
    sections=(
        Section(name="frames", offset=HEAD_BYTES, length=10, sha256="3" * 64),
        Section(name="map", offset=HEAD_BYTES + 10, length=20, sha256="4" * 64),
    ),
)


def test_round_trip() -> None:
    head = render_head(HEADER, "exit 0")
    assert len(head) == HEAD_BYTES
    assert parse_head(head, "x") == HEADER


@given(st.text(max_size=60), st.binary(max_size=40))
def test_any_name_stays_on_its_line(text: str, raw: bytes) -> None:
    hostile = replace(HEADER, vm=text, full_name=raw.decode("utf-8", "surrogateescape"), disk="$(reboot)\n#: end\n'\"`")
    head = render_head(hostile, "exit 0")
    assert parse_head(head, "x") == hostile
    for line in head.split(b"\n#: end\n")[0].split(b"\n"):
        assert line.startswith(b"#")


def resealed(head: bytes, old: bytes, new: bytes) -> bytes:
    """The head with something replaced, padding adjusted, and a digest that fits again: what a hostile writer would make."""
    assert old in head
    body = head[:-75].replace(old, new, 1)
    gap = len(head) - 75 - len(body)
    body = body[:gap] if gap < 0 else body + b"\n" * gap
    return body + b"#= sha256 " + sha256(body).hex().encode() + b"\n"


HOSTILE = {
    "overlap": (b"section map 65546 20", b"section map 65545 21"),
    "gap": (b"section map 65546 20", b"section map 65547 19"),
    "2^63": (b"section map 65546 20", b"section map 65546 9223372036854775808"),
    "negative": (b"section map 65546 20", b"section map 65546 -20"),
    "beyond the end": (b"section map 65546 20", b"section map 65546 200"),
    "twice": (b"section map ", b"section frames "),
    "no number": (b"disk-size=3145728", b"disk-size=lots"),
    "other digits": (b"disk-size=3145728", "disk-size=٣".encode()),
    "huge disk": (b"disk-size=3145728", b"disk-size=999999999999999999"),
    "block of nothing": (b"block-size=262144", b"block-size=0"),
    "odd block": (b"block-size=262144", b"block-size=262143"),
    "counts": (b"blocks-zero=2", b"blocks-zero=3"),
    "frame below block": (b"frame-size=1048576", b"frame-size=65536"),
    "digest unknown": (b"block-digest=blake3", b"block-digest=md5"),
    "key missing": (b"#: scsi=", b"#: iscs="),
    "a key twice": (b"#: vm=", b"#: scsi=00\n#: vm="),
    "other major": (b"#: format=1.0", b"#: format=2.0"),
    "feature": (b"#: requires=", b"#: requires=encryption"),
    "short digest": (b" " + b"3" * 64, b" " + b"3" * 63),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile(case: str) -> None:
    head = resealed(render_head(HEADER, "exit 0"), *HOSTILE[case])
    with pytest.raises(BadArchive) as caught:
        parse_head(head, "x")
    assert "SHA-256 differs" not in caught.value.message
    assert "not a Delta" not in caught.value.message


def test_another_minor_and_unknown_keys_are_read() -> None:
    head = resealed(render_head(HEADER, "exit 0"), b"#: format=1.0", b"#: format=1.7\n#: colour=blue")
    assert parse_head(head, "x") == HEADER


def test_a_delta_of_2007_is_pointed_to_sh() -> None:
    with pytest.raises(BadArchive) as caught:
        parse_head(b"#!/bin/sh\necho esXpress\n".ljust(HEAD_BYTES, b"\n"), "x")
    assert "'sh'" in caught.value.remedy


def test_every_byte_of_the_head_counts() -> None:
    head = bytearray(render_head(HEADER, "exit 0"))
    for at in range(0, HEAD_BYTES, 97):
        head[at] ^= 4
        with pytest.raises(BadArchive):
            parse_head(bytes(head), "x")
        head[at] ^= 4
