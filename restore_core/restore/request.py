"""The records of a restore: the request, its options, its progress and its outcome. Data only."""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, Protocol, Self, TypeVar

from restore_core.disk.known_datastores import DatastoreRecord
from restore_core.disk.session_record import SessionClaim
from restore_core.targets.base import ArchiveRef

OURS: Final = "ours"


class Provision(enum.Enum):
    """How the disk is allocated. Thick: all blocks before the first is written. Thin: zero blocks stay holes."""

    THICK = "thick"
    THIN = "thin"


class VmxChoice(enum.Enum):
    """Whether the VMX in the Delta is written beside the disk, unedited."""

    NONE = "none"
    AS_IS = "as-is"


_Choice = TypeVar("_Choice", Provision, VmxChoice)


def _parse_flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")  # noqa: TRY004  a ValueError is one finding of many
    return value


def _parse_overwrite(value: object) -> bool | Literal["ours"]:
    if isinstance(value, bool):
        return value
    if value == OURS:
        return OURS
    raise ValueError('must be true or false, or "ours" for a disk that only we have written')


def _parse_choice(choices: type[_Choice], value: object) -> _Choice:
    try:
        return choices(value)
    except ValueError:
        raise ValueError("must be " + " or ".join(f'"{choice.value}"' for choice in choices)) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreOptions:
    """How a disk is restored. Each field is a key of the control file; work order and request hold this record, too.

    `overwrite`: a disk that exists may be changed; "ours": only if a restore of ours wrote it last.
    `readback`: the finished disk is read again before it gets its name.
    """

    overwrite: bool | Literal["ours"] = field(default=False, metadata={"parse": _parse_overwrite})
    vmx: VmxChoice = field(default=VmxChoice.NONE, metadata={"parse": partial(_parse_choice, VmxChoice)})
    provision: Provision = field(default=Provision.THICK, metadata={"parse": partial(_parse_choice, Provision)})
    readback: bool = field(default=False, metadata={"parse": _parse_flag})

    @property
    def only_ours(self) -> bool:
        """Whether a disk that somebody else wrote to is left alone."""
        return self.overwrite == OURS

    @classmethod
    def parse(cls, values: Mapping[str, object]) -> Self:
        """Returns the options of these keys. Raises `ValueError` for a value that is not allowed, `KeyError` for an unknown key."""
        parsed: dict[str, Any] = {key: OPTION_PARSERS[key](value) for key, value in values.items()}
        return cls(**parsed)

    def chosen(self) -> dict[str, object]:
        """Returns the options that differ from their defaults, as values of TOML and JSON. `parse` reads them."""
        values = [(option, getattr(self, option.name)) for option in fields(self)]
        chosen = {option.name: value for option, value in values if value != option.default}
        return {key: value.value if isinstance(value, enum.Enum) else value for key, value in chosen.items()}


OPTION_PARSERS: Mapping[str, Callable[[object], object]] = {
    option.name: option.metadata["parse"] for option in fields(RestoreOptions)
}
"""The keys of the control file that are options of the restore, each with the function that checks its value."""


class Phase(enum.Enum):
    """What a restore does now; the names are shown to people."""

    RESTORE = "restoring"
    FLUSH = "making it durable"
    APPLY = "changing the disk in place"
    READBACK = "reading it back"
    PUBLISH = "publishing"
    VERIFY = "verifying"


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreRequest:
    """One Delta to one disk.

    roots            folders in which the destination must lie; None: anywhere, for a restore that a person runs
    mode             permission bits of a new disk; a disk that is replaced keeps its owner and mode
    reserved         bytes that other queued jobs will still need on the same datastore
    records          folder of the receipts; None: no receipts are kept
    datastores       which file system each datastore is; None: only mount points are checked
    again            an attempt before this one may have finished without reporting it
    catalog          folder of the catalog's cache; None: the catalog is not used
    catalog_max_age  seconds after which the catalog is refreshed
    decided_at       when a replication pass asked for this restore, in seconds since the epoch; 0: a person asked.
                     A newer backup that was restored there since then is kept.
    session          the instant session whose job this is; None: an ordinary restore
    """

    delta: ArchiveRef
    destination: Path
    full: ArchiveRef | None = None
    roots: tuple[Path, ...] | None = None
    options: RestoreOptions = RestoreOptions()
    mode: int = 0o600
    reserved: int = 0
    records: Path | None = None
    datastores: DatastoreRecord | None = None
    again: bool = False
    catalog: Path | None = None
    catalog_max_age: float = 5 * 3600.0
    decided_at: float = 0.0
    session: SessionClaim | None = None


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
        """Returns the plan in one line."""
        total = self.keep_blocks + self.zero_blocks + self.full_blocks + self.delta_blocks
        return (
            f"{total} blocks of {self.block_size} bytes: {self.full_blocks} from the Full, {self.delta_blocks} from the Delta, "
            f"{self.zero_blocks} zero, {self.keep_blocks} kept"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a restore is, in bytes of the finished disk. Kept and zero blocks count as done, but not in the rate."""

    phase: Phase
    disk_size: int
    done: int
    moved: int
    delta_done: int = 0
    delta_total: int = 0
    full_done: int
    full_total: int
    started: float = field(default_factory=time.monotonic)

    @classmethod
    def of_stream(cls, phase: Phase, *, done: int, total: int, started: float) -> Self:
        """Returns the progress of a Full that is read from start to end, without a map."""
        return cls(phase=phase, disk_size=total, done=done, moved=done, full_done=done, full_total=total, started=started)

    @property
    def to_move(self) -> int:
        """The bytes that are decoded and written in all."""
        return self.delta_total + self.full_total


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreOutcome:
    """The outcome of a finished restore: the disk is verified, durable, and has its final name."""

    destination: Path
    disk_size: int
    plan: PlanSummary
    seconds: float
    way: str
    """How the disk was written, and why so: for example "new disk" or "replaced"."""
    full: ArchiveRef | None
    vmx: Path | None


KeepPart = Callable[[BaseException], bool]
"""Returns whether the part file is kept after this error, for a later attempt."""


class Reporter(Protocol):
    """Receives the progress of a restore. Called from one thread, `progress` a few times a second; must return quickly."""

    def note(self, text: str) -> None:
        """Takes one line for the log: what was decided or found."""

    def planned(self, plan: PlanSummary) -> None:
        """Takes the plan, once, before the first write."""

    def progress(self, progress: Progress) -> None:
        """Takes how far the restore is."""
