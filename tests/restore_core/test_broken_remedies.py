"""What a person is told to do about an archive must be what helps."""

from __future__ import annotations

import os

import pytest

from restore_core.errors import BadArchive, TryAgainLater
from tests.lab import BLOCK, Lab


@pytest.mark.parametrize("change", [-1, 1])
def test_a_full_cut_short_or_grown_is_not_called_recompressed(lab: Lab, change: int) -> None:
    made = lab.backup(os.urandom(2 * BLOCK))
    assert made.full is not None
    full = lab.path(made.full)
    os.truncate(full, full.stat().st_size + change)
    with pytest.raises(BadArchive, match="bytes, needed") as caught:
        lab.restore(made.delta)
    assert caught.value.remedy.startswith("The file is truncated, still being copied, or has something appended")


def test_a_folder_of_records_that_is_gone_is_to_be_made_again(lab: Lab) -> None:
    made = lab.backup(os.urandom(2 * BLOCK))
    with pytest.raises(TryAgainLater, match="record of the finished disk") as caught:
        lab.restore(made.delta, records=lab.folder / "removed")
    assert "make it again" in caught.value.remedy
    assert "Free space" not in caught.value.remedy


def test_a_backup_whose_base_is_damaged_says_how_to_go_on(lab: Lab) -> None:
    first = lab.backup(os.urandom(2 * BLOCK))
    with lab.path(first.delta).open("r+b") as file:
        file.seek(70000)
        file.write(b"damaged")
    with pytest.raises(BadArchive, match=r"delta-2026\.03\.01") as caught:
        lab.backup(b"x" * BLOCK)
    assert "--full" in caught.value.remedy
