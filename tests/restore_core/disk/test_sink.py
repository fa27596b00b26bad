from __future__ import annotations

import errno
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from restore_core import durable
from restore_core.disk.sink import ALIGNMENT, BufferedFile, DirectFile


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "disk", os.O_RDWR | os.O_CREAT)
    os.posix_fallocate(fd, 0, 4 << 20)
    yield fd
    os.close(fd)


PIECES = [(0, 4096), (4096, 100), (8192, 5000), (12345, 8192), ((1 << 20) + 4096, (1 << 20) + 4096 + 17), (3 << 20, 1 << 20)]


@pytest.mark.parametrize("kind", [BufferedFile, DirectFile])
def test_every_alignment(fd: int, kind: type[BufferedFile | DirectFile]) -> None:
    sink, expected = kind(fd), bytearray(4 << 20)
    for offset, length in PIECES:
        data = random.Random(length).randbytes(length)
        expected[offset : offset + length] = data
        sink.write(memoryview(data), offset)
    sink.close()
    sink.close()
    assert os.pread(fd, 4 << 20, 0) == expected


def test_aligned_bytes_go_past_the_cache(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = DirectFile(fd)
    if not sink.waits:
        pytest.skip("the file system of the test's folder cannot do direct writes")
    seen: list[tuple[bool, int]] = []
    honest = durable.write_all_at

    def watched(target: int, data: memoryview, offset: int) -> None:
        seen.append((target != fd, len(data)))
        honest(target, data, offset)

    monkeypatch.setattr(durable, "write_all_at", watched)
    sink.write(bytes(2 * ALIGNMENT + 10), 0)
    sink.close()
    assert seen == [(True, 2 * ALIGNMENT), (False, 10)]


def test_a_file_system_that_changes_its_mind(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """EINVAL at the first write: everything goes the ordinary way from then on, and nothing is lost."""
    sink = DirectFile(fd)
    honest = durable.write_all_at

    def refuses(target: int, data: memoryview, offset: int) -> None:
        if target != fd:
            raise OSError(errno.EINVAL, "Invalid argument")
        honest(target, data, offset)

    monkeypatch.setattr(durable, "write_all_at", refuses)
    data = random.Random(1).randbytes(3 << 20)
    sink.write(data, 4096)
    assert not sink.waits
    assert os.pread(fd, len(data), 4096) == data


def test_no_space_is_not_swallowed(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = DirectFile(fd)

    def full(_target: int, _data: memoryview, _offset: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(durable, "write_all_at", full)
    with pytest.raises(OSError, match="No space"):
        sink.write(bytes(4096), 0)
    sink.close()
