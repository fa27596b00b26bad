"""The backup targets: whether each answers, whose server it is, and whether it may be empty."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from phd_daemon.config.model import Config
from phd_daemon.host.catalog import catalog_of, fresh_catalog
from phd_daemon.operations.installation import known_target
from restore_core import catalog
from restore_core.capabilities import Capabilities
from restore_core.catalog.index import Catalog, Indexed, refuse_emptied
from restore_core.errors import (
    ListingPartial,
    PhdError,
    TargetEmptied,
    TargetNotTrusted,
    TargetRefused,
    TargetUnavailable,
    from_os_error,
)
from restore_core.naming import printable
from restore_core.targets.base import Stop, Target, TargetSpec
from restore_core.targets.gaps import Gap, refuse_partial, shown
from restore_core.targets.kinds import idle_options, make_target, server_identity
from restore_core.targets.remote.connection import TooManyConnections

if TYPE_CHECKING:
    from restore_core.targets.remote.trust import ServerIdentity

_PROBE_BYTES = 16 << 20
_PROBE_SECONDS = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """What a check of one target found; `problem` is empty if it answered and listed all that it holds.

    `state` says that in a few words; `passed_over` names what cannot be listed and hides no backup.
    `can` is what it is able to do. `idle` names options of phd.toml that do nothing for its kind.
    `bytes_per_second` is the speed of a short read, None if there is nothing to read; `indexed` is when the catalog was made.
    """

    name: str
    url: str
    answers: bool
    archives: int
    bytes_per_second: float | None
    indexed: float | None
    problem: str
    remedy: str
    seconds: float
    state: str
    passed_over: str
    can: Capabilities
    idle: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Emptied:
    """How many archives a target held when it was last believed, and how many it holds now."""

    spec: TargetSpec
    held: int
    holds: int

    @property
    def suspicious(self) -> bool:
        """Whether a person has to accept that the archives are gone."""
        return bool(self.held) and not self.holds


def spec_of(settings: Config, name: str) -> TargetSpec:
    """Returns the target of this name. Raises `UsageError` if none has it."""
    specs = {spec.name: spec for spec in settings.targets}
    return specs[known_target(name, specs)]


def reach_all(settings: Config) -> list[Reached]:
    """Lists all targets at the same time and measures their speed; the catalog is not changed."""
    cache = catalog_of(settings)
    indexed = {known.target: known.head.finished for known in cache.known() if known.head}
    with ThreadPoolExecutor(max(1, min(8, len(settings.targets)))) as pool:
        return list(pool.map(lambda spec: _reach(spec, indexed.get(spec.name), cache), settings.targets))


def index_all(settings: Config, stop: Stop | None = None) -> tuple[Indexed, ...]:
    """Lists all targets at the same time into the catalog. Returns what is known of each; `stop` may raise to give up."""
    with fresh_catalog(settings, look=None, stop=stop) as catalog:
        return tuple(catalog.known())


def identity_of(settings: Config, name: str) -> tuple[TargetSpec, ServerIdentity]:
    """Asks the server of a target who it is. Raises `UsageError` for an unknown name, and as `server_identity`."""
    spec = spec_of(settings, name)
    return spec, server_identity(spec)


def trust(shown: ServerIdentity) -> None:
    """Records that a person trusts what a server showed, in the place of what was trusted of it before. Raises `PhdError`."""
    from restore_core.targets.remote.trust import record  # loaded here: most commands ask no server who it is

    try:
        record(shown)
    except OSError as error:
        raise from_os_error(error, doing="recording whose server it is", where=printable(shown.file)) from error


def look_for_archives(settings: Config, name: str) -> Emptied:
    """Counts the archives on a target. Raises `UsageError` if none has that name, and the error of the target."""
    spec = spec_of(settings, name)
    target = make_target(spec)
    try:
        holds = sum(1 for _ in catalog.entries(target))
    finally:
        target.close()
    return Emptied(spec=spec, held=catalog_of(settings).held(spec), holds=holds)


def accept(settings: Config, spec: TargetSpec) -> Indexed:
    """Records that the archives on a target are gone, and lists it anew. Raises `TargetUnavailable`, `PhdError`."""
    cache = catalog_of(settings)
    try:
        known = cache.accept(make_target, spec)
    except OSError as error:
        where = printable(os.fsdecode(error.filename or cache.folder))
        raise from_os_error(error, doing="this cannot be recorded", where=where) from error
    if known.problem:
        raise TargetUnavailable(known.problem, remedy="'phd targets' shows what answers.")
    return known


def _reach(spec: TargetSpec, indexed: float | None, cache: Catalog) -> Reached:
    """Lists one target and reads a little of it; its error becomes the finding. `cache` knows what it held before."""
    began, archives, speed, listed = time.monotonic(), 0, None, None
    gaps: list[Gap] = []
    held: set[str] = set()
    error: PhdError | None = None
    target, can = None, Capabilities()
    try:
        target = make_target(spec)
        largest: tuple[int, str] = (0, "")
        for entry in catalog.entries(target, gaps):
            archives += 1
            largest = max(largest, (entry.stat.size, entry.ref.path))
        listed = time.monotonic() - began
        held = cache.held_folders(spec) if gaps else held
        if not archives and not any(gap.counts(held) for gap in gaps):
            refuse_emptied(spec, cache.held(spec))
        can = target.capabilities()
        speed = _probe(target, *largest)
        refuse_partial(spec.name, gaps, held)
    except PhdError as caught:
        error = caught
    finally:
        if target is not None:
            target.close()
    return Reached(
        name=spec.name,
        url=spec.url,
        answers=listed is not None and not isinstance(error, TargetEmptied),
        archives=archives,
        bytes_per_second=speed,
        indexed=indexed,
        problem=error.message if error else "",
        remedy=error.remedy if error else "",
        seconds=listed if listed is not None else time.monotonic() - began,
        state=_state(error, listed),
        passed_over=shown([gap for gap in gaps if not gap.counts(held)]) if listed is not None else "",
        can=can,
        idle=tuple(idle_options(spec)),
    )


def _state(error: PhdError | None, listed: float | None) -> str:
    match error:
        case TargetEmptied():
            return "held archives, holds none"
        case None | ListingPartial() if listed is not None:
            return f"answers{' in part,' if error else ''} in {listed:.2f} s"
        case TooManyConnections():
            return "lets in no more now"
        case TargetNotTrusted():
            return "is not trusted"
        case TargetRefused():
            return "refuses"
        case _ if listed is not None:
            return "answers, cannot be read"
        case _:
            return "does not answer"


def _probe(target: Target, size: int, path: str) -> float | None:
    """Reads a little of the largest archive. Returns the bytes per second; None if there is no archive."""
    if not size:
        return None
    moved, began = 0, time.monotonic()
    with target.open(path) as source:
        for data in source.stream(0, min(size, _PROBE_BYTES), chunk=256 << 10):
            moved += len(data)
            if time.monotonic() - began > _PROBE_SECONDS:
                break
    return moved / max(1e-6, time.monotonic() - began)
