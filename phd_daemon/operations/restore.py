"""Restores in the foreground: what an archive holds, the request as this installation makes it, and the restore itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from phd_daemon.host.datastores import readable_record
from phd_daemon.operations.installation import made_receipts_folder, prepare_process, receipts_folder
from restore_core.archive.delta_reader import DeltaReader
from restore_core.archive.frames import GZIP_MAGIC
from restore_core.archive.full_reader import FullReader
from restore_core.archive.header import DeltaHeader
from restore_core.errors import UsageError
from restore_core.naming import restored_name
from restore_core.restore.full import restore_full
from restore_core.restore.request import Reporter, RestoreOptions, RestoreOutcome, RestoreRequest, VmxChoice
from restore_core.restore.run import open_delta, restore_delta
from restore_core.targets import TargetSet
from restore_core.targets.base import ArchiveRef, ByteSource, Stop

if TYPE_CHECKING:
    from phd_daemon.config.model import Config
    from restore_core.catalog import CatalogEntry
    from restore_core.restore.fulls.candidates import Candidate
    from restore_core.restore.preview import Preview
    from restore_core.restore.redo_file import Side


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a restore would do: the Delta's header, its Fulls (proven ones first), and whether a disk is there already."""

    header: DeltaHeader
    fulls: list[Candidate]
    preview: Preview
    needs_overwrite: bool


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
        return restored_name(self.header.disk if self.header else self.entry.name.disk)

    @property
    def has_vmx(self) -> bool:
        """Whether a VMX can be restored from it."""
        return self.header is not None and self.header.section("vmx") is not None


def request_for(
    settings: Config,
    *,
    delta: ArchiveRef,
    destination: Path,
    full: ArchiveRef | None = None,
    options: RestoreOptions | None = None,
) -> RestoreRequest:
    """Returns the request for a restore that a person runs: it may write anywhere, and is recorded if this user may."""
    return RestoreRequest(
        delta=delta,
        destination=destination,
        full=full,
        options=options or RestoreOptions(),
        mode=settings.datastores.mode,
        records=receipts_folder(settings),
        datastores=readable_record(settings),
        catalog=settings.catalog_folder,
        catalog_max_age=settings.index.max_age,
    )


def read_facts(entry: CatalogEntry, targets: TargetSet) -> BackupFacts:
    """Reads the header through the connection that the restore will use."""
    with targets.open(entry.ref) as source:
        header = _delta_header(source)
        if header is not None:
            return BackupFacts(entry=entry, header=header, disk_size=header.disk_size)
        identity = FullReader(source).identity
        return BackupFacts(entry=entry, header=None, disk_size=identity.disk_size if identity else None)


def look_into(request: RestoreRequest, targets: TargetSet) -> tuple[bool, bool]:
    """Returns whether the archive is a Full, and whether it holds a VMX. Raises `UsageError` for options no Full can have."""
    with targets.open(request.delta) as source:
        header = _delta_header(source)
    if header is not None:
        return False, header.section("vmx") is not None
    options = request.options
    asked = {"--full": request.full, "--vmx as-is": options.vmx is VmxChoice.AS_IS, "--readback": options.readback}
    if wrong := [option for option, given in asked.items() if given]:
        remedy = "A Full is a gzip and nothing else. Restore its empty Delta to have these."
        raise UsageError(f"{request.delta} is a Full: {', '.join(wrong)} cannot be done", remedy=remedy)
    return True, False


def restore(
    settings: Config, request: RestoreRequest, targets: TargetSet, *, is_full: bool, reporter: Reporter, stop: Stop
) -> RestoreOutcome:
    """Restores a Full or a Delta in this process. Raises the typed errors of both, `Stopped` when `stop` does.

    That of a Delta is recorded, whether a daemon has run before or not.
    """
    prepare_process()
    if is_full:
        return restore_full(request, targets, reporter=reporter, stop=stop)
    records, why_none = made_receipts_folder(settings)
    if why_none:
        reporter.note(why_none)
    return restore_delta(replace(request, records=records), targets, reporter=reporter, stop=stop)


def plan(settings: Config, request: RestoreRequest, targets: TargetSet, *, reporter: Reporter, stop: Stop) -> Plan:
    """Returns what a restore of a Delta would do; both archives are checked as a restore checks them. No disk is written."""
    # Loaded here, as in `fulls_of`: a restore starts without the catalog.
    from phd_daemon.host.catalog import fresh_catalog
    from restore_core.restore.fulls.candidates import candidates
    from restore_core.restore.preview import plan_delta

    with open_delta(request, targets) as opened, fresh_catalog(settings, stop=stop) as catalog:
        header = opened.header
        fulls = candidates(opened, catalog, targets) if header.blocks_full else []
    preview = plan_delta(request, targets, reporter=reporter, stop=stop)
    return Plan(header=header, fulls=fulls, preview=preview, needs_overwrite=preview.exists)


def fulls_of(backup: BackupFacts, config: Config, targets: TargetSet) -> list[Candidate]:
    """Returns the Fulls of a Delta, proven ones first."""
    from phd_daemon.host.catalog import fresh_catalog
    from restore_core.restore.fulls.candidates import candidates

    with targets.open(backup.entry.ref) as source, fresh_catalog(config) as catalog:
        return candidates(DeltaReader(source), catalog, targets)


def _delta_header(source: ByteSource) -> DeltaHeader | None:
    """Returns the header of a Delta, None for a Full. The content decides, not the name."""
    return None if source.read_at(0, min(2, source.size)) == GZIP_MAGIC else DeltaReader(source).header


def vmx_into(settings: Config, targets: TargetSet, delta: ArchiveRef, folder: Path) -> Path:
    """Writes the VMX in a Delta into an existing folder, unedited and never over a file that is there. Returns its path."""
    from restore_core.restore.extras import restore_vmx

    return restore_vmx(delta, targets, folder, readable_record(settings))


def stub_for(flat: Path) -> Path:
    """Writes the descriptor (stub) of a flat file beside it, never over one that is there. Returns its path."""
    from restore_core.restore.extras import write_stub

    return write_stub(flat.absolute())


def end_interrupted(settings: Config, disk: Path, side: Side | None, stop: Stop) -> list[str]:
    """Brings a disk whose change was interrupted to one side, or (None) shows it as it lies. Returns notes of what was done."""
    from restore_core.restore.extras import recover_disk

    return recover_disk(disk, side, receipts_folder(settings), stop)
