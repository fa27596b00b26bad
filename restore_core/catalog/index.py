"""All targets side by side into the cache, and what the cache says of each. One that fails takes nothing from the others.

for every target, in a thread of its own: listing > cache file, published when complete; or its trouble is noted
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from restore_core.catalog import listing
from restore_core.catalog.entry import CatalogEntry
from restore_core.catalog.listing import Head, Line, ListingWriter
from restore_core.catalog.query import EVERYTHING, Query, cached_entries, files_of_size
from restore_core.catalog.young import Young
from restore_core.errors import PhdError, Stopped, TargetUnavailable
from restore_core.targets.base import ArchiveRef, FileStat, Target, TargetSpec

MOST_FILES = 5_000_000
_SIDE_BY_SIDE = 8
_WAIT_FOR_OTHER = 600.0
_QUICK = 0.05
LEFT_ALONE = 60.0
_LOOKS_OURS = re.compile(r"[^/]+/[a-z]{0,4}\d{2,4}-.+\.(?:gz|delta-\d{4}\.\d\d\.\d\d-\d{4})-\d{6}-\d{4}\.phd\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Indexed:
    """What the cache knows of one target. `head` None: never listed. `problem` is why the last look at it failed."""

    target: str
    head: Head | None
    stale_since: float | None = None
    problem: str = ""

    @property
    def archives(self) -> int:
        """How many archives its last good listing has."""
        return self.head.archives if self.head else 0


class Catalog:
    """The cache in one folder for the configured targets. The folder is made when something is first written there."""

    def __init__(self, folder: Path, specs: Sequence[TargetSpec]) -> None:
        self.folder = folder
        self.specs = tuple(specs)

    def known(self) -> tuple[Indexed, ...]:
        """Every target, as the cache has it."""
        return tuple(self._known(spec) for spec in self.specs)

    def entries(self, query: Query = EVERYTHING, *, targets: Collection[str] | None = None) -> Iterator[CatalogEntry]:
        """The chosen archives of all targets, those of stale listings too."""
        for spec in self.specs:
            if targets is None or spec.name in targets:
                yield from cached_entries(self.folder, spec, query)

    def of_size(self, size: int) -> Iterator[tuple[ArchiveRef, FileStat]]:
        """Files of exactly this many bytes on all targets, those of stale listings too."""
        for spec in self.specs:
            for listed in files_of_size(self.folder, spec, size):
                yield ArchiveRef(target=spec.name, path=listed.path), listed.stat

    def old(self, *, max_age: float, now: float, left_alone: float = LEFT_ALONE) -> list[str]:
        """Targets to look at before their listing is believed: older than `max_age` seconds, from the future, or not there.

        Also one that we wrote to since, and one so quick to list that its listing need never be old. A target that has just
        failed is left alone for `left_alone` seconds, so that a dead server does not make every question wait for its timeout.
        """
        return [spec.name for spec in self.specs if not self._is_fresh(spec, max_age, now, left_alone)]

    def index(self, open_target: Callable[[TargetSpec], Target], *, names: Collection[str] | None = None) -> tuple[Indexed, ...]:
        """Look at all targets, or at those named, at once; what is known of every target then.

        Raises `OSError` for the cache, and `Stopped` where the targets heed a stop.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        chosen = [spec for spec in self.specs if names is None or spec.name in names]
        if chosen:
            with ThreadPoolExecutor(min(len(chosen), _SIDE_BY_SIDE), thread_name_prefix="index") as pool:
                list(pool.map(lambda spec: self._index_one(spec, open_target), chosen))
        return self.known()

    def _known(self, spec: TargetSpec) -> Indexed:
        trouble = listing.read_trouble(self.folder, spec)
        return Indexed(
            target=spec.name,
            head=listing.read_head(self.folder, spec),
            stale_since=trouble.since if trouble else None,
            problem=trouble.problem if trouble else "",
        )

    def _is_fresh(self, spec: TargetSpec, max_age: float, now: float, left_alone: float) -> bool:
        failed = listing.failed_at(self.folder, spec)
        if failed is not None:
            return 0 <= now - failed < left_alone
        head = listing.read_head(self.folder, spec)
        if head is None or head.finished - head.began < _QUICK:
            return False
        return 0 <= now - head.began <= max_age and head.began > listing.changed_at(self.folder, spec.name)

    def _index_one(self, spec: TargetSpec, open_target: Callable[[TargetSpec], Target]) -> None:
        asked = time.time()
        try:
            self._list_unless_done(spec, open_target, asked)
        except Stopped:
            raise  # no trouble of the target
        except PhdError as error:
            listing.write_trouble(self.folder, spec, error.message, now=asked)
        except Exception as error:  # noqa: BLE001 - a bug met on one target must not hide what the others hold
            what = f"target {spec.name}: {type(error).__name__}: {error}"
            listing.write_trouble(self.folder, spec, what, now=asked)
        else:
            listing.clear_trouble(self.folder, spec.name)

    def _list_unless_done(self, spec: TargetSpec, open_target: Callable[[TargetSpec], Target], asked: float) -> None:
        """List it; where another process is at it, wait, and take its listing if that began after we asked."""
        end = time.monotonic() + _WAIT_FOR_OTHER
        while time.monotonic() < end:
            head = listing.read_head(self.folder, spec)
            if head is not None and asked <= head.began <= time.time():
                return
            try:
                with ListingWriter(self.folder, spec, began=time.time()) as writer:
                    _list(open_target(spec), writer, Young(self.folder, spec, began=time.time()))
                return
            except BlockingIOError:
                time.sleep(0.1)
        raise TargetUnavailable(
            f"target {spec.name}: another process has been indexing it for {_WAIT_FOR_OTHER:.0f} s",
            remedy="Look for a 'phd' that hangs; the last listing is used meanwhile.",
        )


def _list(target: Target, writer: ListingWriter, young: Young) -> None:
    archives = 0
    try:
        for number, listed in enumerate(target.listing()):
            if number >= MOST_FILES:
                raise TargetUnavailable(
                    f"target {target.spec.name}: more than {MOST_FILES} files: its listing is not believed",
                    remedy="Let the target's URL name the folder that holds the backups, and nothing else.",
                )
            if not listing.storable(listed.path):
                continue
            path = listing.escaped(listed.path)
            archives += _LOOKS_OURS.match(path) is not None
            line = Line(listed.stat.size, listed.stat.mtime, listing.OLD, path)
            if not young.hold_back(line):
                writer.add(line)
        for line in young.settle(target):
            writer.add(line)
        writer.publish(archives=archives, finished=time.time())
    finally:
        target.close()
