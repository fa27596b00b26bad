"""Lists all targets into the cache at the same time, and says what the cache knows of each.

Each target is listed in a thread of its own, into a cache file that is published at the end. A target that fails has its trouble
recorded, and does not disturb the others.

A partial listing renews all files in it, and keeps what was known of the rest, marked stale. A listing without archives of a
target that held some is not believed: its disk may not be mounted. A person may accept it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from restore_core.catalog import listing
from restore_core.catalog.arriving import Arriving
from restore_core.catalog.entry import CatalogEntry
from restore_core.catalog.held import accept_none, note_held, read_held
from restore_core.catalog.listing import GREW, STALE, Head, KnownGap, ListingLine, ListingWriter, escaped, parse_line, with_since
from restore_core.catalog.query import EVERYTHING, Query, cached_entries, files_of_size
from restore_core.errors import PhdError, Stopped, TargetEmptied, TargetUnavailable
from restore_core.naming import printable
from restore_core.targets.base import ArchiveRef, FileStat, Target, TargetSpec
from restore_core.targets.gaps import Gap, partial_text

MOST_FILES = 5_000_000
_SIDE_BY_SIDE = 8
_WAIT_FOR_OTHER = 600.0
"""Seconds to wait for another process that lists the same target."""
_QUICK = 0.05
"""A listing that took fewer seconds is never reused: a new one costs nothing."""
LEFT_ALONE = 60.0
"""Seconds for which a target that failed is not asked again."""

_Texts: TypeAlias = Callable[[], Iterable[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Indexed:
    """What the cache knows of one target. `head` None: never listed. `problem` is why the last try to list it failed."""

    target: str
    head: Head | None
    stale_since: float | None = None
    problem: str = ""

    @property
    def archives(self) -> int:
        """The number of archives in its last good listing."""
        return self.head.archives if self.head else 0

    @property
    def gaps(self) -> tuple[KnownGap, ...]:
        """What is missing of its last good listing; empty for a complete one."""
        return self.head.gaps if self.head else ()

    @property
    def partial(self) -> str:
        """What is missing of its last listing, in one line; empty for a complete one, and for a target that does not answer."""
        return partial_text(self.target, [one.gap for one in self.gaps]) if self.gaps and not self.problem else ""

    @property
    def trouble(self) -> str:
        """Why the target may hold more or less than the cache knows; empty if the cache is complete."""
        return self.problem or self.partial


class Catalog:
    """The cache of the configured targets, in one folder, which is made when something is first written there.

    `records` is the folder with the records of what each target held; None if there is none.
    """

    def __init__(self, folder: Path, specs: Sequence[TargetSpec], *, records: Path | None = None) -> None:
        self.folder, self.records = folder, records
        self.specs = tuple(specs)

    def known(self) -> tuple[Indexed, ...]:
        """Returns what the cache knows of every target."""
        return tuple(self._known(spec) for spec in self.specs)

    def entries(self, query: Query = EVERYTHING, *, targets: Collection[str] | None = None) -> Iterator[CatalogEntry]:
        """Yields the chosen archives of all targets, those of stale listings too."""
        for spec in self.specs:
            if targets is None or spec.name in targets:
                yield from cached_entries(self.folder, spec, query)

    def of_size(self, size: int) -> Iterator[tuple[ArchiveRef, FileStat]]:
        """Yields the files of exactly this size on all targets, those of stale listings too."""
        for spec in self.specs:
            yield from files_of_size(self.folder, spec, size)

    def old(self, *, max_age: float, now: float, left_alone: float = LEFT_ALONE) -> list[str]:
        """Returns the targets that must be listed again: no listing, one older than `max_age` seconds, or one from the future.

        Also targets that we wrote to since, and targets so quick to list that their listing need never be old. A target that has
        just failed is left alone for `left_alone` seconds, so that a dead server does not make every command wait for its timeout.
        """
        return [spec.name for spec in self.specs if not self._is_fresh(spec, max_age, now, left_alone)]

    def held(self, spec: TargetSpec) -> int:
        """Returns how many archives a target held when it was last seen, by the record or the cache, whichever is newer."""
        record, head = read_held(self.records, spec), listing.read_head(self.folder, spec)
        if head is not None and head.archives and (record is None or record.noted < head.began):
            return head.archives  # not every user may write the record
        return record.archives if record else 0

    def held_folders(self, spec: TargetSpec) -> set[str]:
        """Returns the folders of a target that held archives, by the cache."""
        return listing.held_folders(listing.read_texts(self.folder, spec))

    def accept(self, open_target: Callable[[TargetSpec], Target], spec: TargetSpec) -> Indexed:
        """Records that a person accepts that this target holds no archive, and lists it again. Raises `OSError`."""
        if self.records is not None:
            accept_none(self.records, spec, now=time.time())
        known = self.index(open_target, names={spec.name}, accepted={spec.name})
        return next(one for one in known if one.target == spec.name)

    def index(
        self,
        open_target: Callable[[TargetSpec], Target],
        *,
        names: Collection[str] | None = None,
        accepted: Collection[str] = (),
    ) -> tuple[Indexed, ...]:
        """Lists all targets, or those in `names`, at the same time; returns what is known of every target then.

        Targets in `accepted` may hold no archive, whatever they held before. Raises `OSError` for the cache, and `Stopped` if
        `open_target` gives the targets a stop check that raised it.
        """
        listing.make_cache(self.folder)
        chosen = [spec for spec in self.specs if names is None or spec.name in names]
        if chosen:
            with ThreadPoolExecutor(min(len(chosen), _SIDE_BY_SIDE), thread_name_prefix="index") as pool:
                list(pool.map(lambda spec: self._index_one(spec, open_target, empty=spec.name in accepted), chosen))
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
        if head.gaps:
            return 0 <= now - head.finished < left_alone
        return 0 <= now - head.began <= max_age and head.began > listing.changed_at(self.folder, spec.name)

    def _index_one(self, spec: TargetSpec, open_target: Callable[[TargetSpec], Target], *, empty: bool) -> None:
        asked = time.time()
        try:
            self._list_unless_done(spec, open_target, asked, empty=empty)
        except Stopped:
            raise  # not the target's fault
        except PhdError as error:
            listing.write_trouble(self.folder, spec, error.message, now=asked)
        except Exception as error:  # noqa: BLE001 - a bug met on one target must not hide what the others hold
            what = f"target {spec.name}: {type(error).__name__}: {error}"
            listing.write_trouble(self.folder, spec, what, now=asked)
        else:
            listing.clear_trouble(self.folder, spec.name)

    def _list_unless_done(
        self, spec: TargetSpec, open_target: Callable[[TargetSpec], Target], asked: float, *, empty: bool
    ) -> None:
        """Lists one target. If another process lists it, waits, and takes that listing if it began after we asked."""
        end = time.monotonic() + _WAIT_FOR_OTHER
        while time.monotonic() < end:
            head = listing.read_head(self.folder, spec)
            if head is not None and asked <= head.began <= time.time():
                return
            try:
                began = time.time()
                with ListingWriter(self.folder, spec, began=began) as writer:
                    self._list(spec, open_target(spec), writer, began=began, empty=empty)
                return
            except BlockingIOError:
                time.sleep(0.1)
        raise TargetUnavailable(
            f"target {spec.name}: another process has been indexing it for {_WAIT_FOR_OTHER:.0f} s",
            remedy="Look for a 'phd' that hangs; the last listing is used meanwhile.",
        )

    def _list(self, spec: TargetSpec, target: Target, writer: ListingWriter, *, began: float, empty: bool) -> None:
        gaps: list[Gap] = []
        try:
            archives = _write(target, writer, Arriving(self.folder, spec, began=began), gaps)
        finally:
            target.close()
        before = listing.read_head(self.folder, spec)
        counting = [gap for gap in gaps if gap.counts(self.held_folders(spec))] if gaps else []
        stale = 0
        for line in _kept(lambda: listing.read_texts(self.folder, spec), writer.texts, gaps, began=began) if gaps else ():
            writer.add(line)
            archives += listing.is_archive(line.path)
            stale += 1
        if not archives and not counting and not empty:
            refuse_emptied(spec, self.held(spec))
        writer.publish(
            archives=archives,
            finished=time.time(),
            stale=stale,
            gaps=with_since(counting, before.gaps if before else (), began=began),
            notes=with_since([gap for gap in gaps if gap not in counting], before.notes if before else (), began=began),
        )
        note_held(self.records, spec, archives, now=began)


def _kept(before: _Texts, now: _Texts, gaps: Sequence[Gap], *, began: float) -> Iterator[ListingLine]:
    """Yields the files of the listing before that the gaps of the new one, which began at `began`, may hide.

    They are marked stale since the first listing that did not contain them.
    """
    gaps = [replace(gap, path=escaped(gap.path)) for gap in gaps]  # as in the lines
    doubtful = {gap.folder for gap in gaps}
    folders: set[str] = set()
    seen: set[str] = set()
    for line in filter(None, map(parse_line, now())):
        folder = line.path.rpartition("/")[0]
        folders.add(folder)
        if folder in doubtful:
            seen.add(line.path)
    for line in filter(None, map(parse_line, before())):
        if line.path not in seen and any(gap.covers(line.path, folders) for gap in gaps):
            yield line if line.stale else line._replace(mark=f"{STALE}{int(began)}{'' if line.settled else GREW}")


def refuse_emptied(spec: TargetSpec, held: int) -> None:
    """Raises `TargetEmptied` for a target that `held` archives: it was just seen to hold none."""
    if held:
        raise TargetEmptied(
            f"target {spec.name} ({printable(spec.url)}): held {archives_in_words(held)}, holds none: is it mounted?",
            remedy=f"Mount it. If it was emptied, or another disk is in its place: 'phd targets accept {spec.name}'.",
        )


def archives_in_words(archives: int) -> str:
    """Returns a number of archives, in words."""
    return f"{archives} archive{'' if archives == 1 else 's'}"


def _write(target: Target, writer: ListingWriter, arriving: Arriving, gaps: list[Gap]) -> int:
    """Writes the listing of a target; returns the number of archives in it. Adds what is missing to `gaps`."""
    archives = 0
    for number, listed in enumerate(target.listing(gaps)):
        if number >= MOST_FILES:
            raise TargetUnavailable(
                f"target {target.spec.name}: more than {MOST_FILES} files: its listing is not believed",
                remedy="Let the target's URL name the folder that holds the backups, and nothing else.",
            )
        if not listing.storable(listed.path):
            continue
        path = escaped(listed.path)
        archives += listing.is_archive(path)
        line = ListingLine(listed.stat.size, listed.stat.mtime, listing.OLD, path)
        if not arriving.hold_back(line):
            writer.add(line)
    for line in arriving.settle(target):
        writer.add(line)
    return archives
