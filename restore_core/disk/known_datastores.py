"""The record of datastores, and what it refuses: a restore never fills an empty mount point or another disk.

    recorded    by the daemon when it starts the first job for a datastore; renewed while the datastore is known by one of
                marker and file system; replaced by a person who says that it is a new disk
    refused     a datastore that is another disk than recorded, or gone; any path below a mount point that is named
                (`restore_core.mounts`) and not mounted, recorded or not

The record is one JSON file beside the daemon's other state, not in a cache: when it is lost, the next disk under the name is
recorded without a question. The marker is written before the record: after a crash between the two, the marker is recorded if the
datastore is new or known by its file system; otherwise the datastore is refused as before.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from restore_core import durable, mounts
from restore_core.disk.confinement import Walk
from restore_core.disk.datastore import (
    MARKER,
    DatastoreFacts,
    FileSystem,
    Standing,
    compare,
    datastore_of,
    facts_of_datastore,
    marker_text,
    new_marker,
)
from restore_core.errors import TryAgainLater, WrongDatastore, from_os_error
from restore_core.naming import printable

VERSION = 1
_NOT_THERE = (FileNotFoundError, NotADirectoryError)
_MAX_BYTES = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class DatastoreRecord:
    """The file of the record, and the roots whose children are datastores."""

    file: Path
    roots: tuple[Path, ...]


KnownDatastores = Mapping[str, DatastoreFacts]
"""Path of a datastore as the settings name it -> how it was."""


def refuse_unless_known(path: Path, record: DatastoreRecord | None) -> None:
    """Raises `WrongDatastore` unless the place of `path` is mounted and is the disk that it was. Reads only; takes under 1 ms.

    Without a record it checks only the mount points. A datastore that is not recorded yet is accepted. Raises the error of
    `from_os_error` for a datastore that cannot be opened, `OSError` for a record that cannot be read.
    """
    refuse_unmounted(path)
    datastore = datastore_of(path, record.roots) if record else None
    if record is None or datastore is None:
        return
    recorded = read_datastores(record.file).get(str(datastore))
    if recorded is None:
        return
    now = _look(datastore)
    if compare(recorded, now) is Standing.OTHER:
        raise _another_disk(datastore, recorded, now)


def refuse_walk(walk: Walk, path: Path, record: DatastoreRecord | None) -> None:
    """Does `refuse_unless_known` for a walk to the folder of `path`, and closes the walk when it raises.

    Raises `TryAgainLater`, too, if the path leads to another folder by now: the datastore may have been mounted meanwhile.
    """
    try:
        refuse_unless_known(path, record)
        if not _leads_to(Path(*path.parent.parts[: len(path.parent.parts) - len(walk.missing)]), walk.fd):
            text = f"{printable(str(path))}: its folder was just mounted, unmounted or moved"
            raise TryAgainLater(text, remedy="Try again.")
    except BaseException:
        os.close(walk.fd)
        raise


def _leads_to(path: Path, folder: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(folder))
    except OSError:
        return False


def refuse_unmounted(path: Path) -> None:
    """Raises `WrongDatastore` when a named mount point at or above `path` is not mounted."""
    point = mounts.unmounted_mount_point(path)
    if point is None:
        return
    where, named = printable(point), printable(str(mounts.named_mount_points().get(point, mounts.FSTAB)))
    raise WrongDatastore(
        f"{where} is not mounted: {named} names it as a mount point, and nothing is mounted there",
        remedy=f"Mount it (mount {where}). Or take it out of {named}, if it shall be a plain folder from now on, and say so with "
        "'phd datastores accept NAME' if it was known as another disk.",
    )


def learn(datastore: Path, record: DatastoreRecord) -> Standing:
    """Records a new datastore, and renews marker and record of a known one. Returns how it was known.

    If the marker cannot be written (read-only, full, no permission), the file system is recorded alone. Raises
    `WrongDatastore` when it is another disk, `TryAgainLater`, `OSError` when the record cannot be written.
    """
    if compare(read_datastores(record.file).get(str(datastore)), _look(datastore)) is Standing.BOTH:
        return Standing.BOTH
    with _alone(record.file):  # looked at again: a person may have accepted another disk meanwhile
        recorded, now = read_datastores(record.file).get(str(datastore)), _look(datastore)
        standing = compare(recorded, now)
        if recorded is not None and standing is Standing.OTHER:
            raise _another_disk(datastore, recorded, now)
        marker = now.marker
        if marker is None:
            kept = recorded.marker if recorded else None
            marker = put_marker(datastore, kept, durable_now=False) or kept
        _refuse_unrecognizable(datastore, marker, now)
        _write(
            record.file,
            {**read_datastores(record.file), str(datastore): DatastoreFacts(marker=marker, file_system=now.file_system)},
        )
    return standing


def accept(datastore: Path, record: DatastoreRecord) -> DatastoreFacts:
    """Records the disk that is there now, and gives it a new marker, so that no other disk has the same.

    Raises `WrongDatastore` when it is not mounted or not there, `OSError` when the record cannot be written.
    """
    refuse_unmounted(datastore)
    now = _look(datastore)
    with _alone(record.file):
        seen = DatastoreFacts(marker=put_marker(datastore, None, durable_now=True), file_system=now.file_system)
        _refuse_unrecognizable(datastore, seen.marker, now)
        _write(record.file, {**read_datastores(record.file), str(datastore): seen})
    return seen


def forget(datastore: Path, record: DatastoreRecord) -> bool:
    """Removes a datastore from the record; returns False if it was not in it. The datastore itself stays. Raises `OSError`."""
    with _alone(record.file):
        known = dict(read_datastores(record.file))
        found = known.pop(str(datastore), None)
        if found is not None:
            _write(record.file, known)
    return found is not None


def read_datastores(file: Path) -> KnownDatastores:
    """Returns all recorded datastores. Raises `WrongDatastore` when the file is damaged or a newer version's, `OSError`."""
    try:
        with file.open("rb") as opened:
            text = opened.read(_MAX_BYTES)
    except FileNotFoundError:
        return {}
    try:
        document = json.loads(text)
        if document["version"] != VERSION:
            raise ValueError(f"it is of version {document['version']}")
        return {path: _seen(one) for path, one in document["datastores"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WrongDatastore(
            f"{printable(str(file))}: the record of datastores cannot be read: {printable(str(error)) or 'it is damaged'}",
            remedy="Put it back from a backup. Or see that every datastore is mounted, remove it, and each is learnt anew.",
        ) from error


def put_marker(datastore: Path, name: str | None, *, durable_now: bool) -> str | None:
    """Writes the marker, with this UUID or a new one. Returns the UUID, None where it cannot be written.

    `durable_now` is False where the daemon's loop must not wait for a busy disk: a marker that is lost with the power is written
    again, because the file system is known.
    """
    name, text = (name, marker_text(name)) if name else new_marker()
    try:
        folder = os.open(datastore, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        durable.write_whole(MARKER, text, mode=0o644, dir_fd=folder, durable=durable_now)
        _readable_for_all(folder, text)
    except OSError:
        return None
    finally:
        os.close(folder)
    return name


def _readable_for_all(folder: int, text: bytes) -> None:
    """Sets mode 0644, which the umask may have narrowed. Changes only the file that we wrote, never what a link leads to."""
    with contextlib.suppress(OSError):
        fd = os.open(MARKER, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        try:
            facts = os.fstat(fd)
            ours = stat.S_ISREG(facts.st_mode) and facts.st_nlink == 1 and facts.st_uid == os.geteuid()
            if ours and os.pread(fd, len(text) + 1, 0) == text:
                os.fchmod(fd, 0o644)
        finally:
            os.close(fd)


def _refuse_unrecognizable(datastore: Path, marker: str | None, now: DatastoreFacts) -> None:
    """Refuses to record what nothing could be recognized by: every later look would call it another disk."""
    if marker is None and not now.file_system.type:
        raise TryAgainLater(
            f"{printable(str(datastore))}: its marker cannot be written, and /proc does not tell its file system",
            remedy=f"Let this user write {printable(str(datastore / MARKER))}, or mount /proc.",
        )


def _look(datastore: Path) -> DatastoreFacts:
    where = printable(str(datastore))
    try:
        return facts_of_datastore(datastore)
    except _NOT_THERE as error:
        raise WrongDatastore(
            f"{where}: there is no such folder",
            remedy=f"Mount it. If it is gone for good: phd datastores forget {printable(datastore.name)}",
        ) from error
    except OSError as error:
        raise from_os_error(error, doing="opening the datastore", where=where) from error


def _another_disk(datastore: Path, recorded: DatastoreFacts, now: DatastoreFacts) -> WrongDatastore:
    name = printable(datastore.name)
    marker = f"marker {recorded.marker or 'none'}, found {now.marker or 'none'}"
    system, folder = recorded.file_system.describe(), printable(recorded.file_system.folder)
    found, here = now.file_system.describe(), printable(now.file_system.folder)
    return WrongDatastore(
        f"{printable(str(datastore))}: this is another disk than recorded, or its own is not mounted: expected {marker}; "
        f"expected {printable(system)} ({folder}), found {printable(found)} ({here})",
        remedy=f"Mount the right one. If this is a new disk under the old path: phd datastores accept {name}",
    )


@contextlib.contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Allows one change at a time, by a kernel lock on the record's folder, which ends with its process. Never waits."""
    fd = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TryAgainLater("another process is changing the record of datastores", remedy="Try again.") from None
        yield
    finally:
        os.close(fd)


def _write(file: Path, known: KnownDatastores) -> None:
    document = {"version": VERSION, "datastores": {path: asdict(seen) for path, seen in sorted(known.items())}}
    durable.write_whole(file, json.dumps(document, indent=1).encode() + b"\n", mode=0o600)


def _seen(data: dict[str, object]) -> DatastoreFacts:
    marker, system = data["marker"], data["file_system"]
    if not isinstance(system, dict) or not isinstance(marker, str | None):
        raise TypeError("it is damaged")
    return DatastoreFacts(marker=marker, file_system=FileSystem(**system))
