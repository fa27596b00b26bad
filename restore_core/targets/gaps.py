"""Gaps: what is missing of a listing, and why. A listing is complete, or partial, or it failed.

    complete   no gap
    partial    one or more gaps. Files behind a gap may exist or not; the rest is as the listing says
    failed     the listing raised

A gap counts if backups may lie behind it: in the target's own folder, in a folder with a name of the form `DATE-VM.UUID`, or in a
folder that held archives when it was last seen. Any other gap (a root-only `lost+found`, a link `latest`) is a note.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from restore_core import naming
from restore_core.errors import ListingPartial
from restore_core.naming import printable

_SHOWN = 3


class GapKind(enum.Enum):
    """Why something is missing."""

    UNREADABLE = "unreadable"
    LIMITED = "limited"
    UNKNOWN = "unknown"
    LINK = "link"

    @property
    def mend(self) -> str:
        """What a person can do about it."""
        return _MEND[self]


_MEND = {
    GapKind.UNREADABLE: "Give this user the right to read and to enter it, or move it out of the target's folder.",
    GapKind.LIMITED: "Raise the server's limit for listings (pure-ftpd: LimitRecursion), or spread the backups over more targets.",
    GapKind.UNKNOWN: "Rename what stands there; or use sftp://, or a server with MLSD, whose listings have one form.",
    GapKind.LINK: "Put the files themselves there (a bind mount does): links on a target are not followed.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """One thing that is missing of a listing.

    `path` is relative to the target's URL. Empty means the target's own folder: any name in it may be missing. A folder means
    that any file in it may be missing; `FOLDER/FILE` means that file. `why` is the reason in a few words, printable.
    """

    path: str
    kind: GapKind
    why: str

    @property
    def folder(self) -> str:
        """The folder of the target in which something is missing; empty for the target's own."""
        return self.path.partition("/")[0]

    def counts(self, held: Collection[str] = ()) -> bool:
        """Whether backups may lie behind it. `held` are the folders that held archives when they were last seen."""
        return not self.path or naming.parse_folder(self.folder).uuid is not None or self.folder in held

    def covers(self, path: str, listed: Collection[str]) -> bool:
        """Whether it may be the reason why this file was not listed. `listed` are the folders in the listing."""
        folder, _, _ = path.rpartition("/")
        return self.path in (path, folder) if self.path else not folder or folder not in listed

    def may_hide(self, vm: str, uuid: str | None = None) -> bool:
        """Whether backups of this VM may lie behind it. The name of a folder says whose backups it holds."""
        if not self.path:
            return True
        folder = naming.parse_folder(self.folder)
        same_vm = naming.comparable(folder.vm) == naming.comparable(vm)
        return same_vm and (not (folder.uuid and uuid) or folder.uuid.lower() == uuid.lower())

    def __str__(self) -> str:
        return f"{printable(self.path) or 'its own folder'}: {self.why}"


def may_be_backups(folder: str, name: str) -> bool:
    """Whether a link of this name may lead to backups: to a folder of them, or, inside a folder, to an archive."""
    return naming.parse_archive(name) is not None if folder else not name.startswith(".")


def link_gap(folder: str, name: str) -> Gap:
    """Returns the gap for a link."""
    return Gap(path=f"{folder}/{name}" if folder else name, kind=GapKind.LINK, why="a link, which is not followed")


def shown(gaps: Sequence[Gap]) -> str:
    """Returns the first few gaps in one line, and how many more there are."""
    more = f"; and {len(gaps) - _SHOWN} more" if len(gaps) > _SHOWN else ""
    return "; ".join(map(str, gaps[:_SHOWN])) + more


def partial_text(target: str, gaps: Sequence[Gap]) -> str:
    """Returns the text for a partial listing."""
    return f"target {target}: its listing is partial: {shown(gaps)}"


def refuse_partial(target: str, gaps: Sequence[Gap], held: Collection[str] = ()) -> None:
    """Raises `ListingPartial` if any of these gaps counts."""
    counting = [gap for gap in gaps if gap.counts(held)]
    if counting:
        raise ListingPartial(partial_text(target, counting), remedy=counting[0].kind.mend)
