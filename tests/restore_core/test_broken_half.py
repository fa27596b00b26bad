"""A disk that is half old and half new is neither backed up nor given a descriptor."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from restore_core.backup.source import open_disk
from restore_core.errors import DestinationError, SourceRefused
from restore_core.restore.extras import write_stub


@pytest.fixture
def half(tmp_path: Path) -> Path:
    """As a crash leaves a VMDK in the middle of a refresh."""
    for name in ("r-flat.vmdk", "r-flat.vmdk.phd-redo", "r-flat.vmdk.phd-part", "r.vmdk.phd-applying"):
        (tmp_path / name).write_bytes(bytes(1 << 20))
    return tmp_path / "r-flat.vmdk"


def test_it_gets_no_descriptor(half: Path) -> None:
    before = sorted(os.listdir(half.parent))
    with pytest.raises(DestinationError, match="half old and half new"):
        write_stub(half)
    assert sorted(os.listdir(half.parent)) == before


def test_it_is_not_backed_up(half: Path) -> None:
    with pytest.raises(SourceRefused, match="half old and half new"):
        open_disk(half, live=False)


@pytest.mark.parametrize("suffix", [".phd-part", ".phd-redo", ".phd-redo-part", ".phd-applying"])
def test_nor_is_anything_unfinished(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"r.img{suffix}"
    path.write_bytes(bytes(1 << 20))
    with pytest.raises(SourceRefused, match="unfinished"):
        open_disk(path, live=False)


def test_without_a_redo_file_both_go_on(half: Path) -> None:
    half.with_name("r-flat.vmdk.phd-redo").unlink()
    open_disk(half, live=False).close()
    assert write_stub(half).name == "r.vmdk"
