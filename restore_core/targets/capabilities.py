"""What a target can do, as far as it is known without writing to it: facts for people, and for choosing a way before the work.

Each fact is yes, no, or None where nobody knows without trying. A target answers from what its server announces and what the
kernel says of a file system; a backup target may be read-only, so nothing is written to find out.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from restore_core.mounts import mounted

_FOUR_GIB = (4 << 30) - 1
_FAT = frozenset({"vfat", "msdos"})
_NO_LINKS = _FAT | {"exfat"}
_FOLDING = _NO_LINKS | {"ntfs", "ntfs3", "cifs", "smb3"}
_KNOWN = frozenset({"ext4", "xfs", "btrfs", "tmpfs", "overlay"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """The facts about one target. None means not known; sizes are bytes.

    `resume` reads from the middle of a file (FTP: REST). `exact_listing` has sizes and times as facts (MLSD). `exact_times` asks
    for the time of one file (MDTM). `no_replace` renames without replacing, `hard_links` is the other way to the same end.
    `folds_case` takes `A` and `a` for one name. `writable` is False for what is mounted or exported read-only.
    """

    file_system: str = ""
    resume: bool | None = None
    exact_listing: bool | None = None
    exact_times: bool | None = None
    no_replace: bool | None = None
    hard_links: bool | None = None
    symlinks: bool | None = None
    folds_case: bool | None = None
    normalises_names: bool | None = None
    syncs: bool | None = None
    writable: bool | None = None
    free: int | None = None
    largest_file: int | None = None

    def remarks(self) -> Iterator[str]:
        """Yields in words what is missing, and what it means. What is not known is not spoken of."""
        if self.writable is False:
            yield "read-only: backups cannot be made to it"
        if self.resume is False:
            yield "no REST: reads from the start, slower"
        if self.exact_listing is False:
            yield "no MLSD: sizes and times are read from a listing for people"
        if self.exact_times is False:
            yield "no MDTM: the times of files are rough"
        if self.no_replace is False and self.hard_links is False:
            yield "no rename without replacing and no hard links: a new name is taken first, then replaced"
        if self.folds_case:
            yield "capital and small letters are the same name"
        if self.normalises_names:
            yield "names may come back in another Unicode form"
        if self.syncs is False:
            yield "no fsync: after a power cut a new archive may be gone"
        if self.largest_file is not None:
            yield f"a file has at most {self.largest_file + 1 >> 30} GiB"


def of_folder(path: str) -> Capabilities:
    """Returns what is known of a folder of this machine: from its mount and its file system; nothing is written."""
    free, writable = None, None
    with contextlib.suppress(OSError):
        facts = os.statvfs(path)
        free = facts.f_bavail * facts.f_frsize
        writable = not facts.f_flag & os.ST_RDONLY and os.access(path, os.W_OK | os.X_OK)
    kind = _file_system(path)
    known = kind in _KNOWN
    return Capabilities(
        file_system=kind,
        resume=True,
        exact_listing=True,
        exact_times=True,
        no_replace=True if known or kind in _FAT else None,
        hard_links=True if known else False if kind in _NO_LINKS else None,
        symlinks=True if known else False if kind in _NO_LINKS else None,
        folds_case=True if kind in _FOLDING else False if known else None,
        normalises_names=False if known else None,
        syncs=None if kind == "tmpfs" else True if known else None,
        writable=writable,
        free=free,
        largest_file=_FOUR_GIB if kind in _FAT else None,
    )


def _file_system(path: str) -> str:
    """Returns the type of the file system that `path` is on, "" if it cannot be found."""
    with contextlib.suppress(OSError):
        device = os.stat(path).st_dev
        number = f"{os.major(device)}:{os.minor(device)}"
        whole = Path(os.path.realpath(path))
        found = [mount for mount in mounted() if whole.is_relative_to(mount.point)]
        best = max(found, key=lambda mount: (mount.device == number, len(mount.point)), default=None)
        return best.type if best else ""
    return ""
