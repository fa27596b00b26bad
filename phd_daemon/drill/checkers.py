"""The checkers of file systems: which program checks what, and what its exit code means. Pure.

Each works on a throw-away overlay, so a journal may be replayed first, as the guest's own boot would: without that, every disk
of a VM that ran when it was backed up would look broken. None is asked to repair more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from phd_daemon.drill.verdict import DrillOutcome

Judged: TypeAlias = tuple[DrillOutcome, str]
_SHOWN = 300
_UNREAD = re.compile(r"Input/output error|short read")
"""What is bad in the backup is found by the step `read`; a target that was lost is no fault of the file system."""
_IN_USE = re.compile(r"unclean|hibernat|dirty|fast restart", re.IGNORECASE)
_NO_SUPERBLOCK = re.compile(r"superblock could not be read or does not describe|Bad magic number in super-block")
_FAT_HARMLESS = re.compile(
    r"fsck\.fat |Dirty bit is set|.*Automatically removing dirty bit|Leaving filesystem unchanged|.*: \d+ files, \d+/\d+ clusters"
    r"|There are differences between boot sector and its backup|This is mostly harmless|(?:,? ?\d+:[0-9a-fA-F]{2}/[0-9a-fA-F]{2})+"
    r"|.*Not automatically fixing this"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checker:
    """How a kind of file system is checked: by these programs, one after the other; each has its options, and the file at the end.

    `judge` gets the exit code and the printable output of each that ran.
    """

    commands: tuple[tuple[str, ...], ...]
    package: str
    judge: Callable[[int, str], Judged]


def _ext(code: int, said: str) -> Judged:
    if code & 4 or (code == 8 and _NO_SUPERBLOCK.search(said)):
        return DrillOutcome.FAILED, _told("e2fsck finds errors", said)
    if code & 8 or code & ~0x0F:
        return DrillOutcome.NOT_PROVEN, _told("e2fsck could not work", said)
    return DrillOutcome.PASSED, "clean" + (" after its journal was replayed" if "recovering journal" in said else "")


def _xfs(code: int, said: str) -> Judged:
    if code == 0:
        return DrillOutcome.PASSED, "clean"
    if "valuable metadata changes in a log" in said or "dirty log" in said:
        return (
            DrillOutcome.NOT_PROVEN,
            "it was in use: its log has changes that only a mount replays",
        )
    return DrillOutcome.FAILED if code == 1 else DrillOutcome.NOT_PROVEN, _told("xfs_repair finds errors", said)


def _ntfs(code: int, said: str) -> Judged:
    if code == 0:
        return DrillOutcome.PASSED, "opens, and ntfsfix finds nothing (it is no chkdsk)"
    if _IN_USE.search(said):
        return DrillOutcome.NOT_PROVEN, "it was in use: Windows replays its journal, ntfsfix does not"
    return DrillOutcome.FAILED, _told("ntfsfix finds errors", said)


def _fat(code: int, said: str) -> Judged:
    wrong = [line for line in said.splitlines() if not _FAT_HARMLESS.match(line)]
    if code == 0 or (code == 1 and not wrong):
        return DrillOutcome.PASSED, "clean" if code == 0 else "clean; it was in use"
    return DrillOutcome.FAILED if code == 1 else DrillOutcome.NOT_PROVEN, _told("fsck.fat finds errors", "\n".join(wrong))


_OF_EXT = Checker(commands=(("e2fsck", "-p"), ("e2fsck", "-f", "-n")), package="e2fsprogs", judge=_ext)
_OF_FAT = Checker(commands=(("fsck.fat", "-n"),), package="dosfstools", judge=_fat)
CHECKERS: Mapping[str, Checker] = {
    **dict.fromkeys(("ext2", "ext3", "ext4"), _OF_EXT),
    **dict.fromkeys(("FAT", "FAT12", "FAT16", "FAT32"), _OF_FAT),
    "XFS": Checker(commands=(("xfs_repair", "-n", "-f"),), package="xfsprogs", judge=_xfs),
    "NTFS": Checker(commands=(("ntfsfix", "-n"),), package="ntfs-3g", judge=_ntfs),
}
"""By the names that `restore_core.serve.partitions` gives to file systems."""


def judge(checker: Checker, code: int | None, said: str, *, seconds: float) -> Judged:
    """Returns what the end of a program means; None: it was stopped after so many seconds."""
    if code is None:
        return DrillOutcome.NOT_PROVEN, f"the check was not finished after {seconds:.0f} s"
    if code < 0:
        return DrillOutcome.NOT_PROVEN, _told(f"the check ended by signal {-code} (a limit, or a crash)", said)
    if code >= 126:
        return DrillOutcome.NOT_PROVEN, _told("the check could not be started", said)
    found = checker.judge(code, said)
    if found[0] is DrillOutcome.FAILED and _UNREAD.search(said) and checker is not CHECKERS["NTFS"]:
        return DrillOutcome.NOT_PROVEN, _told("not all of it could be read", said)
    return found


def _told(what: str, said: str) -> str:
    line = "; ".join(said.splitlines()[-6:])
    return f"{what}: {line[:_SHOWN]}" if line else what
