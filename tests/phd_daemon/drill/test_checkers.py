"""What the exit codes of the checkers of file systems mean; the texts are what they printed on real file systems."""

from __future__ import annotations

import pytest

from phd_daemon.drill.checkers import CHECKERS, judge
from phd_daemon.drill.verdict import DrillOutcome

PASSED, FAILED, NOT_PROVEN, _ = DrillOutcome
DIRTY = (
    "fsck.fat 4.2 (2021-01-31)\nDirty bit is set. Fs was not properly unmounted and some data may be corrupt.\n"
    "Automatically removing dirty bit."
)
END = "Leaving filesystem unchanged.\nfat: 0 files, 0/20431 clusters"
BOOT = (
    "There are differences between boot sector and its backup.\nThis is mostly harmless. Differences: (offset:original/backup)\n"
    "65:01/00\nNot automatically fixing this."
)


@pytest.mark.parametrize(
    ("kind", "code", "said", "outcome", "told"),
    [
        ("ext4", 0, "clean", PASSED, "clean"),
        ("ext4", 1, "p1: recovering journal\np1: clean", PASSED, "clean after its journal was replayed"),
        ("ext4", 4, "p1: UNEXPECTED INCONSISTENCY", FAILED, "UNEXPECTED INCONSISTENCY"),
        ("ext3", 12, "Error reading block 7 (Input/output error)", NOT_PROVEN, "not all of it could be read"),
        ("ext3", 4, "Error reading block 7 (Input/output error)", NOT_PROVEN, "not all of it could be read"),
        ("ext4", 8, "The superblock could not be read or does not describe a valid ext2/ext3/ext4", FAILED, "finds errors"),
        ("ext2", 16, "Usage", NOT_PROVEN, "could not work"),
        ("ext2", 127, "cannot be started", NOT_PROVEN, "could not be started"),
        ("ext2", -9, "", NOT_PROVEN, "signal 9"),
        ("ext2", None, "", NOT_PROVEN, "not finished after 60 s"),
        ("XFS", 0, "", PASSED, "clean"),
        ("XFS", 1, "bad magic number", FAILED, "bad magic number"),
        ("XFS", 1, "ALERT: The filesystem has valuable metadata changes in a log which is being", NOT_PROVEN, "in use"),
        ("XFS", 2, "xfs_repair: cannot open", NOT_PROVEN, "cannot open"),
        ("NTFS", 0, "was processed successfully.", PASSED, "no chkdsk"),
        ("NTFS", 1, "The disk contains an unclean file system (0, 0).", NOT_PROVEN, "in use"),
        ("NTFS", 1, "Failed to open $Secure: Input/output error", FAILED, "$Secure"),
        ("FAT32", 0, END, PASSED, "clean"),
        ("FAT16", 1, f"{DIRTY}\n{END}", PASSED, "it was in use"),
        ("FAT32", 1, f"{BOOT}\n{DIRTY}\n{END}", PASSED, "it was in use"),
        ("FAT12", 1, f"FATs differ but appear to be intact.\n{DIRTY}\n{END}", FAILED, "FATs differ"),
        ("FAT", 2, "", NOT_PROVEN, ""),
    ],
)
def test_an_exit_code_means(kind: str, code: int | None, said: str, outcome: DrillOutcome, told: str) -> None:
    found, reason = judge(CHECKERS[kind], code, said, seconds=60)
    assert found is outcome
    assert told in reason


def test_a_long_complaint_is_cut() -> None:
    assert len(judge(CHECKERS["ext4"], 4, "x" * 5000, seconds=60)[1]) < 400
