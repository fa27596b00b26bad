"""What is asked of a restore, what it tells while it runs, and what came of it. Data only."""

from __future__ import annotations

import enum
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

from restore_core.disk.known_datastores import DatastoreRecord
from restore_core.targets.base import ArchiveRef


class Provision(enum.Enum):
    """Thick: every block is allocated before the first is written. Thin: zero blocks stay holes."""

    THICK = "thick"
    THIN = "thin"


class VmxChoice(enum.Enum):
    """Whether the VMX in the Delta is put beside the disk, unedited."""

    NONE = "none"
    AS_IS = "as-is"


class Phase(enum.Enum):
    """What a restore is doing; the names are shown to people."""

    PREPARE = "preparing"
    RESTORE = "restoring"
    FLUSH = "making it durable"
    APPLY = "changing the disk in place"
    READBACK = "reading it back"
    PUBLISH = "publishing"
    VERIFY = "verifying"


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreRequest:
    """One Delta to one disk. `roots` confines the destination (None: a person's own restore, not confined).

    `mode` is the permission of a new disk; a replaced disk keeps owner and mode. `reserved` is how many bytes other
    queued jobs will still take on the same datastore. With `only_ours` an existing disk is touched only if the last
    restore wrote it and nobody has since. `records` is the folder of receipts (None: none are kept), `again` says that an
    attempt before this one may have come to its end without saying so. `catalog` is the folder of the catalog's cache (None:
    it is not asked), which is looked at anew when older than `catalog_max_age` seconds. `datastores` is the record of which disk
    each datastore is (None: only mount points are asked about). `decided_at` is when a replication pass asked for this (seconds
    since the epoch, 0: a person did): a newer backup that was restored there since is kept.
    """

    delta: ArchiveRef
    destination: Path
    full: ArchiveRef | None = None
    roots: tuple[Path, ...] | None = None
    overwrite: bool = False
    provision: Provision = Provision.THICK
    vmx: VmxChoice = VmxChoice.NONE
    readback: bool = False
    mode: int = 0o600
    reserved: int = 0
    only_ours: bool = False
    records: Path | None = None
    datastores: DatastoreRecord | None = None
    again: bool = False
    catalog: Path | None = None
    catalog_max_age: float = 5 * 3600.0
    decided_at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSummary:
    """Blocks and bytes by where they come from. `bytes_*` are bytes of the finished disk."""

    block_size: int
    disk_size: int
    keep_blocks: int = 0
    zero_blocks: int = 0
    full_blocks: int = 0
    delta_blocks: int = 0
    keep_bytes: int = 0
    zero_bytes: int = 0
    full_bytes: int = 0
    delta_bytes: int = 0

    def describe(self) -> str:
        """The plan in one line."""
        total = self.keep_blocks + self.zero_blocks + self.full_blocks + self.delta_blocks
        return (
            f"{total} blocks of {self.block_size} bytes: {self.full_blocks} from the Full, {self.delta_blocks} from the Delta, "
            f"{self.zero_blocks} zero, {self.keep_blocks} kept"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a restore is, in bytes of the finished disk. Kept and zero blocks count as done, never into the rate."""

    phase: Phase
    disk_size: int
    done: int
    moved: int
    delta_done: int
    delta_total: int
    full_done: int
    full_total: int
    started: float = field(default_factory=time.monotonic)

    @classmethod
    def of_stream(cls, phase: Phase, *, done: int, total: int, started: float) -> Self:
        """Of a Full that is read from its first byte to its last, without a map."""
        return cls(
            phase=phase,
            disk_size=total,
            done=done,
            moved=done,
            delta_done=0,
            delta_total=0,
            full_done=done,
            full_total=total,
            started=started,
        )

    @property
    def to_move(self) -> int:
        """Bytes that have to be decoded and written in all."""
        return self.delta_total + self.full_total


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreOutcome:
    """A restore that is done: verified, durable, and under its final name."""

    destination: Path
    disk_size: int
    plan: PlanSummary
    seconds: float
    way: str
    """Which way was taken and why, e.g. "new disk" or "replaced"."""
    full: ArchiveRef | None
    vmx: Path | None


KeepPart = Callable[[BaseException], bool]
"""Whether the part file stays after this error, for an attempt that will come."""


class Reporter(Protocol):
    """Who is told while a restore runs. Called from one thread; must return quickly; `progress` a few times a second."""

    def note(self, text: str) -> None:
        """One line of what was decided or met, for the log."""

    def planned(self, plan: PlanSummary) -> None:
        """The plan, once, before the first write."""

    def progress(self, progress: Progress) -> None:
        """How far it is."""


class Stop(Protocol):
    """Asked between blocks. `keep_part` of the restore decides about leftovers."""

    def __call__(self) -> None:
        """Return to go on; raise `Stopped` when the restore must end."""
