"""What is known of a chosen backup before anything is restored: the summary, its header, and for a Delta the Fulls there are."""

from __future__ import annotations

import urllib.parse
from dataclasses import dataclass

from phd_daemon.console.face import Face
from phd_daemon.console.holdings import VERSION_2
from phd_daemon.console.menus import waited
from phd_daemon.console.session import Session
from phd_daemon.show import output
from restore_core.archive.delta_reader import DeltaReader
from restore_core.archive.frames import GZIP_MAGIC
from restore_core.archive.full_reader import FullReader
from restore_core.archive.header import DeltaHeader
from restore_core.catalog import CatalogEntry
from restore_core.naming import ArchiveType, printable, scsi_colon
from restore_core.targets import TargetSet


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A backup whose header was read and is right. `header` is None for a Full, which has none; `disk_size` may be unknown then."""

    entry: CatalogEntry
    header: DeltaHeader | None
    disk_size: int | None

    @property
    def is_full(self) -> bool:
        """A Full, by what it holds."""
        return self.header is None

    @property
    def disk_name(self) -> str:
        """The name to suggest for the VMDK: a Delta knows it, that of a Full is only what its file says."""
        return self.header.disk if self.header else self.entry.name.disk

    @property
    def has_vmx(self) -> bool:
        """Whether a VMX can be restored from it."""
        return self.header is not None and self.header.section("vmx") is not None


def summary(entry: CatalogEntry, targets: TargetSet) -> list[str]:
    """What was chosen, where it lies, and where that target is."""
    kind = "Full" if entry.name.type is ArchiveType.FULL else "empty Delta" if entry.name.empty_delta else "Delta"
    target = targets.specs[entry.ref.target]
    url = urllib.parse.urlsplit(target.url)
    folder = urllib.parse.unquote(url.path, errors="surrogateescape").rstrip("/")
    place = "" if url.scheme == "file" else f"{url.hostname}:"
    return [
        f"Virtual machine : {printable(entry.folder.vm)} ({printable(entry.folder.uuid or VERSION_2)})",
        f"Disk            : {printable(entry.name.disk)}, SCSI {scsi_colon(entry.name.scsi)}",
        f"Backup          : {kind} of {entry.time:%Y-%m-%d %H:%M} UTC, {output.size(entry.stat.size)}",
        f"Target          : {target.name}, {printable(target.url)}",
        f"Full path       : {place}{printable(f'{folder}/{entry.ref.path}')}",
    ]


def check(entry: CatalogEntry, face: Face, session: Session) -> Checked | None:
    """Read the header through the connection that the restore will use. None: the person did not wait for it."""

    def work() -> Checked:
        with session.targets.open(entry.ref) as source:
            if source.read_at(0, min(2, source.size)) != GZIP_MAGIC:
                header = DeltaReader(source).header
                return Checked(entry=entry, header=header, disk_size=header.disk_size)
            identity = FullReader(source).identity
            return Checked(entry=entry, header=None, disk_size=identity.disk_size if identity else None)

    return waited(f"Connecting to {entry.ref.target} and checking the header of the backup", work, face, session)
