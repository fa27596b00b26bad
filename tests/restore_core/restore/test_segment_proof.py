"""The proof of segments holds few of them at once, also where the Full is one stream beside the frames of the Delta."""

from __future__ import annotations

from pathlib import Path

import pytest

from restore_core.errors import BadArchive, Stopped
from restore_core.restore.segment_proof import SegmentProof
from tests.lab import BLOCK, Lab

SEGMENT = 16 << 20


def over() -> None:
    raise Stopped("it waits")


def test_who_is_far_ahead_waits_for_the_first_open_segment(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    piece = b"x" * BLOCK
    disk = (piece + bytes(SEGMENT - BLOCK)) * 6
    proof = SegmentProof(lab.reader(lab.backup(disk).delta))
    proof.refuse_if_over = over
    proof.write(piece, 3 * SEGMENT)
    with pytest.raises(Stopped, match="it waits"):
        proof.write(piece, 4 * SEGMENT)
    proof.write(piece, 0)
    proof.write(piece, 4 * SEGMENT)
    with pytest.raises(Stopped, match="it waits"):
        proof.write(piece, 5 * SEGMENT)
    for number in (1, 2, 5):
        proof.write(piece, number * SEGMENT)
    proof.finish()


def test_bytes_that_the_list_does_not_know_are_refused(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    proof = SegmentProof(lab.reader(lab.backup(b"x" * BLOCK + bytes(BLOCK)).delta))
    with pytest.raises(BadArchive, match="segment 0 has SHA-256"):
        proof.write(b"y" * BLOCK, 0)
