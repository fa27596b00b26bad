"""Finds the Full of a Delta by content: where its name says, then next door, then anywhere of the right size. Proven before use."""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath

from restore_core import naming
from restore_core.archive.delta_reader import DeltaReader
from restore_core.archive.full_reader import FullReader
from restore_core.errors import ArchiveAbsent, BadArchive, NotThisFull, PhdError, TargetRefused, TargetUnavailable
from restore_core.restore.request import Reporter
from restore_core.targets import TargetSet
from restore_core.targets.base import LOCAL, ArchiveRef, ListedFile, Target, TargetSpec
from restore_core.targets.local import LocalTarget


@contextmanager
def proven_full(
    delta: DeltaReader, asked: ArchiveRef | None, targets: TargetSet, reporter: Reporter, *, blocks: int
) -> Iterator[FullReader | None]:
    """The Full of a Delta, opened and proven; None, without a look at any target, when no block is wanted from it."""
    if blocks == 0:
        reporter.note("the Full is not needed: no block comes from it")
        yield None
        return
    full = next(proven_copies(delta, asked, targets, reporter))
    with full.source:
        yield full


def proven_copies(delta: DeltaReader, asked: ArchiveRef | None, targets: TargetSet, reporter: Reporter) -> Iterator[FullReader]:
    """The Full that `delta` needs, opened, one copy after another; another is looked for only when it is asked for.

    With `asked` only that one is tried, and its error is raised. Otherwise every candidate that fails its proof is noted, and
    if there was none at all: `TargetUnavailable` if a target that may hold it did not answer, `BadArchive` if it was found
    damaged or another lies under its name, `ArchiveAbsent` if there is none.
    """
    header = delta.header
    if asked is not None:
        yield _prove(delta, asked, targets, reporter)
        return
    silent: list[TargetUnavailable] = []
    refused: list[BadArchive] = []
    found = False
    for ref in _once(_candidates(delta, targets, silent)):
        try:
            full = _prove(delta, ref, targets, reporter)
            found = True
            yield full
        except ArchiveAbsent:
            continue
        except TargetUnavailable as error:
            silent.append(error)
        except BadArchive as error:
            reporter.note(f"not taken: {error.message}")
            if ref.name == header.full_name or not isinstance(error, NotThisFull):
                refused.append(error)
    if not found:
        raise _not_found(delta, silent, refused)


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


def _prove(delta: DeltaReader, ref: ArchiveRef, targets: TargetSet, reporter: Reporter) -> FullReader:
    source = targets.open(ref)
    try:
        full = FullReader(source)
        full.prove(delta)
    except BaseException:
        source.close()
        raise
    reporter.note(f"Full: {full.where}, proven by its id, its size and some of its blocks")
    return full


def _candidates(delta: DeltaReader, targets: TargetSet, silent: list[TargetUnavailable]) -> Iterator[ArchiveRef]:
    """Beside the Delta by name; then on its own target, then on the others: by name first, by size after that."""
    ref, header = delta.source.ref, delta.header
    if _is_name(header.full_name):
        yield ref.beside(header.full_name)
    if ref.target == LOCAL:
        yield from _matching(_next_door(ref), header.full_name, header.full_size)
    names = sorted(targets.specs, key=lambda name: name != ref.target)
    for name in names:
        try:
            target = targets[name]
        except PhdError as error:
            silent.append(_as_silence(error))
            continue
        yield from _matching(_listed(target, silent), header.full_name, header.full_size)


def _is_name(text: str) -> bool:
    """Whether an archive's word for its Full is a file's name at all, and no path."""
    return text not in {"", ".", ".."} and "/" not in text and "\0" not in text


def _once(refs: Iterator[ArchiveRef]) -> Iterator[ArchiveRef]:
    """Each candidate once, lazily: a listing is asked for only when those before it did not prove."""
    seen: set[ArchiveRef] = set()
    for ref in refs:
        if ref not in seen:
            seen.add(ref)
            yield ref


def _matching(files: Iterator[tuple[ArchiveRef, int]], name: str, size: int) -> Iterator[ArchiveRef]:
    found = [ref for ref, length in files if length == size]
    yield from sorted(found, key=lambda ref: (ref.name != name, ref))


def _listed(target: Target, silent: list[TargetUnavailable]) -> Iterator[tuple[ArchiveRef, int]]:
    try:
        for listed in target.listing():
            yield ArchiveRef(target=target.spec.name, path=listed.path), listed.stat.size
    except PhdError as error:
        silent.append(_as_silence(error))


def _as_silence(error: PhdError) -> TargetUnavailable:
    """A target that cannot be looked at hides its candidates, and no others: also one whose password file cannot be read."""
    if isinstance(error, TargetUnavailable):
        return error
    return (TargetUnavailable if error.try_again else TargetRefused)(error.message, remedy=error.remedy)


def _next_door(ref: ArchiveRef) -> Iterator[tuple[ArchiveRef, int]]:
    """Files beside a local Delta, and in the folders next to its own when that is a backup folder."""
    folder = PurePosixPath(os.path.abspath(ref.path)).parent
    backup_folder = naming.parse_folder(folder.name).uuid is not None
    root = folder.parent if backup_folder else folder
    spec = TargetSpec(name=LOCAL, url="file://" + urllib.parse.quote(str(root), errors="surrogateescape"))
    for listed in LocalTarget(spec).listing():
        if backup_folder or "/" not in listed.path:
            yield _local(root, listed)


def _local(root: PurePosixPath, listed: ListedFile) -> tuple[ArchiveRef, int]:
    return ArchiveRef(target=LOCAL, path=str(root / listed.path)), listed.stat.size
