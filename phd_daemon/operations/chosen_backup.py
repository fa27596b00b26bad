"""What is known of one backup before anything is restored: its header, and for a Delta the Fulls that there are."""

from __future__ import annotations

from dataclasses import dataclass

from phd_daemon.config.model import Config
from phd_daemon.host.catalog import fresh_catalog
from restore_core.archive.delta_reader import DeltaReader
from restore_core.archive.frames import GZIP_MAGIC
from restore_core.archive.full_reader import FullReader
from restore_core.archive.header import DeltaHeader
from restore_core.catalog import CatalogEntry
from restore_core.restore.fulls.candidates import Candidate, candidates
from restore_core.targets import TargetSet


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupFacts:
    """A backup whose header was read and is right. `header` is None for a Full, which has none; `disk_size` may be unknown then."""

    entry: CatalogEntry
    header: DeltaHeader | None
    disk_size: int | None

    @property
    def is_full(self) -> bool:
        """Whether it holds a whole disk. The content decides, not the name."""
        return self.header is None

    @property
    def needs_full(self) -> bool:
        """Whether some of its blocks are only in a Full."""
        return self.header is not None and self.header.blocks_full > 0

    @property
    def disk_name(self) -> str:
        """The name to propose for the VMDK: a Delta knows it, that of a Full is only what its file says."""
        return self.header.disk if self.header else self.entry.name.disk

    @property
    def has_vmx(self) -> bool:
        """Whether a VMX can be restored from it."""
        return self.header is not None and self.header.section("vmx") is not None


def read_facts(entry: CatalogEntry, targets: TargetSet) -> BackupFacts:
    """Reads the header through the connection that the restore will use."""
    with targets.open(entry.ref) as source:
        if source.read_at(0, min(2, source.size)) != GZIP_MAGIC:
            header = DeltaReader(source).header
            return BackupFacts(entry=entry, header=header, disk_size=header.disk_size)
        identity = FullReader(source).identity
        return BackupFacts(entry=entry, header=None, disk_size=identity.disk_size if identity else None)


def fulls_of(backup: BackupFacts, config: Config, targets: TargetSet) -> list[Candidate]:
    """Returns the Fulls of a Delta, proven ones first."""
    with targets.open(backup.entry.ref) as source, fresh_catalog(config) as catalog:
        return candidates(DeltaReader(source), catalog, targets)
