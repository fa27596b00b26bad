"""Finds the Full of a Delta by content: where its name says, then next to the Delta, then any file of the right size. Proves it."""

from __future__ import annotations

import contextlib
import os
import time
import urllib.parse
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Protocol, TypeAlias

from restore_core import naming
from restore_core.archive.delta_reader import DeltaReader
from restore_core.archive.full_reader import FullReader
from restore_core.archive.header import utc
from restore_core.errors import ArchiveAbsent, BadArchive, NotThisFull, PhdError, Stopped, TargetRefused, TargetUnavailable
from restore_core.restore.fulls.copies import fastest_first, tell, try_all
from restore_core.restore.request import Reporter
from restore_core.targets import TargetSet
from restore_core.targets.base import LOCAL, ArchiveRef, ListedFile, Target, TargetSpec, never_stop
from restore_core.targets.kinds import make_target
from restore_core.targets.local import LocalTarget

CopiesOfSize: TypeAlias = Callable[[int], Sequence[ArchiveRef]]
"""Returns the files of exactly this many bytes that the catalog knows of."""


class CatalogUse(Protocol):
    """A request that may look into the catalog for copies of a Full; the fields are those of `RestoreRequest`."""

    @property
    def catalog(self) -> Path | None:
        """Folder of the catalog's cache; None: the catalog is not used."""

    @property
    def catalog_max_age(self) -> float:
        """Seconds after which the catalog is refreshed."""


def no_copies(size: int) -> Sequence[ArchiveRef]:
    """Returns no copies: there is no catalog."""
    del size
    return ()


def copies_in_catalog(request: CatalogUse, targets: TargetSet, reporter: Reporter) -> CopiesOfSize:
    """Returns a lazy lookup for `proven_copies`: size -> copies of a Full that the catalog knows of.

    It costs nothing until it is called: a restore that needs no Full looks at no target. Listings that are too old are read anew.
    """
    folder = request.catalog
    if folder is None:
        return no_copies

    def known(size: int) -> Sequence[ArchiveRef]:
        from restore_core.catalog.index import Catalog

        catalog = Catalog(folder, tuple(targets.specs.values()))
        # A target that failed within the age is not asked now: its last listing is used, and it is asked again if all else fails.
        old = catalog.old(max_age=request.catalog_max_age, now=time.time(), left_alone=request.catalog_max_age)
        try:
            if old:
                catalog.index(lambda spec: make_target(spec, targets.limits, targets.stop), names=old)
            return [ref for ref, _ in catalog.of_size(size)]
        except PermissionError:  # a person's own restore, where the cache is the daemon's
            return ()
        except OSError as error:
            reporter.note(f"the catalog cannot be used: {error.strerror}; the targets are asked one after another")
            return ()

    return known


@contextmanager
def proven_full(
    delta: DeltaReader,
    asked: ArchiveRef | None,
    targets: TargetSet,
    reporter: Reporter,
    *,
    blocks: int,
    known: CopiesOfSize = no_copies,
) -> Iterator[FullReader | None]:
    """Opens and proves the Full of a Delta. None, without a look at any target, when no block is wanted from it."""
    if blocks == 0:
        reporter.note("the Full is not needed: no block comes from it")
        yield None
        return
    with contextlib.closing(proven_copies(delta, asked, targets, reporter, known=known)) as copies, next(copies) as full:
        yield full


def proven_copies(
    delta: DeltaReader, asked: ArchiveRef | None, targets: TargetSet, reporter: Reporter, *, known: CopiesOfSize = no_copies
) -> Generator[FullReader]:
    """Yields the Full that `delta` needs, opened, one copy after another; the caller closes each.

    With `asked` only that one is tried, and its error is raised. Otherwise copies that the catalog knows of on several targets
    are proven side by side and come fastest first; after that the targets are searched, each only when the copies before it failed.
    Notes every candidate that fails its proof. Without any copy it raises `TargetUnavailable` if a target that may hold it did not
    answer, `BadArchive` if it was found damaged or another file has its name, `ArchiveAbsent` if there is none.
    """
    if asked is not None:
        full = prove(delta, asked, targets)
        _note(delta, full, reporter)
        yield full
        return
    search = _Search(delta=delta, targets=targets, reporter=reporter)
    yield from search.side_by_side(known(delta.header.full_size))
    yield from search.one_by_one()
    if not search.found:
        raise _not_found(delta, search.silent, search.refused)


@dataclass(slots=True, kw_only=True)
class _Search:
    """One search for the Full of one Delta: what was found, and why other files were not taken."""

    delta: DeltaReader
    targets: TargetSet
    reporter: Reporter
    silent: list[TargetUnavailable] = field(default_factory=list)
    refused: list[BadArchive] = field(default_factory=list)
    tried: set[ArchiveRef] = field(default_factory=set)
    found: bool = False

    def side_by_side(self, known: Sequence[ArchiveRef]) -> Generator[FullReader]:
        """Yields copies that are known on more than one target, fastest first."""
        header = self.delta.header
        beside = [self.delta.source.ref.beside(header.full_name)] if _is_name(header.full_name) else []
        refs = [ref for ref in dict.fromkeys([*beside, *known]) if self._can_open(ref)]
        if not known or len({ref.target for ref in refs}) < 2:
            return
        answered = try_all(refs, lambda ref: prove(self.delta, ref, self.targets), self.targets.stop or never_stop)
        self.tried.update(one.ref for one in answered)
        chosen = fastest_first(answered, own=self.delta.source.ref.target)
        try:
            for one in answered:
                if one.error is not None:
                    self._not_taken(one.ref, one.error)
            tell(chosen, self.reporter)
            while chosen and (full := chosen.pop(0).full) is not None:
                self.found = True
                _note(self.delta, full, self.reporter)
                yield full
        finally:
            for left in chosen:
                if left.full is not None:
                    left.full.source.close()

    def one_by_one(self) -> Generator[FullReader]:
        """Yields every other candidate that is proven, the likely ones first; a target is listed only when those before failed."""
        for ref in _candidates(self.delta, self.targets, self.silent):
            if ref in self.tried:
                continue
            self.tried.add(ref)
            try:
                full = prove(self.delta, ref, self.targets)
            except PhdError as error:
                self._not_taken(ref, error)
                continue
            _note(self.delta, full, self.reporter)
            self.found = True
            yield full

    def _can_open(self, ref: ArchiveRef) -> bool:
        """Whether the target can be made. It is made here, because the set of targets is for one thread."""
        try:
            return ref.target == LOCAL or self.targets[ref.target] is not None
        except PhdError as error:
            self.silent.append(_as_silence(error))
            return False

    def _not_taken(self, ref: ArchiveRef, error: BaseException) -> None:
        """Remember why a candidate was not proven, for the error at the end of the search. Raises what must end it."""
        match error:
            case Stopped():
                raise error
            case ArchiveAbsent():
                pass
            case TargetUnavailable():
                self.silent.append(error)
            case BadArchive():
                self.reporter.note(f"not taken: {error.message}")
                if ref.name == self.delta.header.full_name or not isinstance(error, NotThisFull):
                    self.refused.append(error)
            case PhdError():
                self.silent.append(_as_silence(error))
            case _:
                raise error


def _not_found(delta: DeltaReader, silent: list[TargetUnavailable], refused: list[BadArchive]) -> PhdError:
    header = delta.header
    wanted = f"the Full {naming.printable(header.full_name)} ({header.full_size} bytes, id {header.full_id or 'none'})"
    if silent:
        # One that may answer later is worth another attempt; one that refuses us is not: that would only lock the account.
        first = next((error for error in silent if error.try_again), silent[0])
        kind = TargetUnavailable if first.try_again else TargetRefused
        return kind(f"{wanted} was not found, and not every target answers: {first.message}", remedy=first.remedy)
    if refused:
        return BadArchive(f"{refused[0].message}; no other copy of it was found", remedy=refused[0].remedy)
    return ArchiveAbsent(
        f"{wanted} of {delta.where} is on no target", remedy='Bring it back to a target, or name it: full = "NAME:path" (--full).'
    )


def full_beside(delta: DeltaReader, targets: TargetSet, reporter: Reporter) -> FullReader | None:
    """Opens and proves the Full that lies beside a Delta under the name that this knows; no other place is looked at.

    Returns None if there is none that can be read now: `proven_copies` finds others, and says why not this one.
    """
    name = delta.header.full_name
    if not _is_name(name):
        return None
    try:
        full = prove(delta, delta.source.ref.beside(name), targets)
    except Stopped:
        raise
    except PhdError:
        return None
    _note(delta, full, reporter)
    return full


def prove(delta: DeltaReader, ref: ArchiveRef, targets: TargetSet) -> FullReader:
    """Opens the Full at `ref`. Raises `BadArchive` if it is not the one of `delta`, and whatever the target raises."""
    source = targets.open(ref)
    try:
        full = FullReader(source)
        full.prove(delta)
    except BaseException:
        source.close()
        raise
    return full


def _note(delta: DeltaReader, full: FullReader, reporter: Reporter) -> None:
    made = utc(delta.header.full_time)
    reporter.note(f"Full: {full.where}, {full.source.size} bytes, of {made}, proven by its id, its size and some of its blocks")


def _candidates(delta: DeltaReader, targets: TargetSet, silent: list[TargetUnavailable]) -> Iterator[ArchiveRef]:
    """Yields candidates: beside the Delta by name, then on its own target, then on the others; by name first, then by size."""
    ref, header = delta.source.ref, delta.header
    if _is_name(header.full_name):
        yield ref.beside(header.full_name)
    if ref.target == LOCAL:
        yield from _matching(_told(next_door(ref), silent), header.full_name, header.full_size)
    names = sorted(targets.specs, key=lambda name: name != ref.target)
    for name in names:
        try:
            target = targets[name]
        except PhdError as error:
            silent.append(_as_silence(error))
            continue
        yield from _matching(_listed(target, silent), header.full_name, header.full_size)


def _is_name(text: str) -> bool:
    """Whether what an archive calls its Full is a file name, and no path."""
    return text not in {"", ".", ".."} and "/" not in text and "\0" not in text


def _matching(files: Iterator[tuple[ArchiveRef, int]], name: str, size: int) -> Iterator[ArchiveRef]:
    found = [ref for ref, length in files if length == size]
    yield from sorted(found, key=lambda ref: (ref.name != name, ref))


def _listed(target: Target, silent: list[TargetUnavailable]) -> Iterator[tuple[ArchiveRef, int]]:
    name = target.spec.name
    yield from _told(((ArchiveRef(target=name, path=one.path), one.stat.size) for one in target.listing()), silent)


def _told(files: Iterator[tuple[ArchiveRef, int]], silent: list[TargetUnavailable]) -> Iterator[tuple[ArchiveRef, int]]:
    """Yields what could be listed; remembers an error, also of a listing that is not complete, for when nothing is found."""
    try:
        yield from files
    except Stopped:
        raise
    except PhdError as error:
        silent.append(_as_silence(error))


def _as_silence(error: PhdError) -> TargetUnavailable:
    """Returns the error as that of one target that cannot be searched, for example when its password file cannot be read."""
    if isinstance(error, TargetUnavailable):
        return error
    return (TargetUnavailable if error.try_again else TargetRefused)(error.message, remedy=error.remedy)


def next_door(ref: ArchiveRef) -> Iterator[tuple[ArchiveRef, int]]:
    """Yields files beside a local Delta, and in the folders next to its own when that is a backup folder."""
    folder = PurePosixPath(os.path.abspath(ref.path)).parent
    backup_folder = naming.parse_folder(folder.name).uuid is not None
    root = folder.parent if backup_folder else folder
    spec = TargetSpec(name=LOCAL, url="file://" + urllib.parse.quote(str(root), errors="surrogateescape"))
    for listed in LocalTarget(spec).listing():
        if backup_folder or "/" not in listed.path:
            yield _local(root, listed)


def _local(root: PurePosixPath, listed: ListedFile) -> tuple[ArchiveRef, int]:
    return ArchiveRef(target=LOCAL, path=str(root / listed.path)), listed.stat.size
