"""Where the blocks of a file are, on real file systems: the one of the tests, tmpfs, and XFS with shared blocks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from restore_core.disk.allocation import clone, holes, shares_blocks
from tests.restore_core.restore.test_reflink import xfs

__all__ = ["xfs"]
BLOCK = 64 << 10


def sparse(path: Path, data: set[int], blocks: int) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, blocks * BLOCK)
    for block in data:
        os.pwrite(fd, b"x" * BLOCK, block * BLOCK)
    return fd


@pytest.fixture(params=["disk", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    if request.param == "disk":
        yield tmp_path / "d"
        return
    shm = Path("/dev/shm")
    if not os.access(shm, os.W_OK):
        pytest.skip("no tmpfs at /dev/shm")
    path = shm / f"phd-test-{os.getpid()}-{tmp_path.name}"
    yield path
    path.unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("ranges", "expected"),
    [
        ([(0, 8)], [(0, 1), (2, 2), (5, 3)]),
        ([(1, 1)], []),
        ([(2, 1), (3, 1)], [(2, 2)]),
        ([(0, 2), (5, 9)], [(0, 1), (5, 3)]),
        ([(8, 2)], []),
        ([], []),
    ],
)
def test_holes(place: Path, ranges: list[tuple[int, int]], expected: list[tuple[int, int]]) -> None:
    fd = sparse(place, {1, 4}, 8)
    try:
        found = holes(fd, [(first * BLOCK, count * BLOCK) for first, count in ranges])
        assert found == [(first * BLOCK, count * BLOCK) for first, count in expected]
    finally:
        os.close(fd)


def test_many_holes(tmp_path: Path) -> None:
    """More extents than one question returns."""
    fd = os.open(tmp_path / "d", os.O_RDWR | os.O_CREAT)
    try:
        os.ftruncate(fd, 4000 * 4096)
        for page in range(0, 4000, 2):
            os.pwrite(fd, b"x" * 4096, page * 4096)
        assert holes(fd, [(0, 4000 * 4096)]) == [(page * 4096, 4096) for page in range(1, 4000, 2)]
    finally:
        os.close(fd)


def test_what_is_allocated_is_no_hole(tmp_path: Path) -> None:
    fd = sparse(tmp_path / "d", set(), 4)
    try:
        os.posix_fallocate(fd, BLOCK, BLOCK)
        assert holes(fd, [(0, 4 * BLOCK)]) == [(0, BLOCK), (2 * BLOCK, 2 * BLOCK)]
    finally:
        os.close(fd)


def test_shared_blocks(xfs: Path) -> None:
    one, other = sparse(xfs / "one", {1}, 4), sparse(xfs / "other", set(), 0)
    try:
        assert not shares_blocks(one)
        assert clone(one, other)
        assert shares_blocks(one)
        os.ftruncate(other, 0)
        os.fsync(other)
        assert not shares_blocks(one)
    finally:
        os.close(one)
        os.close(other)


def test_an_empty_file(tmp_path: Path) -> None:
    fd = sparse(tmp_path / "d", set(), 0)
    try:
        assert not shares_blocks(fd)
        assert holes(fd, [(0, BLOCK)]) == []
    finally:
        os.close(fd)
