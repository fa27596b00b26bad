"""Where a disk may be restored to: the datastores of this host, and the disks with its name that are on them already.

A disk is looked for in a datastore, in its folders, and in their folders: virtual machines are kept there. No link below a
datastore is followed. What is found is true for this moment only; the restore looks again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from restore_core.disk.destination import names_for, open_destination
from restore_core.disk.locks import holder_of
from restore_core.disk.session_guard import refuse_in_session
from restore_core.disk.spelling import as_there
from restore_core.disk.vmdk import descriptor_name_for, is_flat_name
from restore_core.errors import PhdError, from_os_error
from restore_core.naming import printable

_SUFFIXES = (".vmdk", ".img", ".raw", ".bin", ".dd")
_LEVELS = 2
_MOST_FOLDERS = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class Datastore:
    """A folder directly below a root. Sizes are bytes; both are 0 if the file system does not tell them."""

    path: Path
    free: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A disk that is there already. `refused` says why it cannot be overwritten, and who uses it; empty if it can."""

    path: Path
    store: Datastore
    size: int
    refused: str


def datastore_choices(roots: Iterable[Path]) -> list[Datastore]:
    """Returns all datastores below the roots, by name; none for a root that cannot be read."""
    found = [_datastore(path) for root in roots for path in _children(root, links=True)]
    return sorted(found, key=lambda store: store.path)


def folders(datastore: Path) -> list[str]:
    """Returns the names of the folders directly on a datastore."""
    return sorted(path.name for path in _children(datastore, links=False))


def folder_for(datastore: Path, vm: str, uuid: str | None, disk: str) -> str:
    """Returns the folder to propose: the name of the machine; with its UUID where another disk of this name is in that folder."""
    name = vm.replace("/", "_").lstrip(".") or "restored"
    own = f"{name}-{uuid[:8]}" if uuid else f"{name}-2"
    taken = disk and _is_there(datastore / name / disk)
    return own if taken or (datastore / own).is_dir() else name


def existing(stores: Iterable[Datastore], name: str, roots: tuple[Path, ...]) -> list[Place]:
    """Returns the disks with this name on the datastores."""
    every = ((store, as_there(folder / name)) for store in stores for folder in _walk(store.path))
    return [_place(path, store, roots) for store, path in every if _is_there(path)]


def flats_alone(roots: Iterable[Path]) -> list[tuple[Path, int]]:
    """Returns the flat files on the datastores that have no descriptor, with their sizes in bytes."""
    found = []
    for store in datastore_choices(roots):
        for folder in _walk(store.path):
            found += [
                (path, size) for path, size in _flats(folder) if not os.path.lexists(path.with_name(descriptor_name_for(path.name)))
            ]
    return found


def is_there(path: Path) -> bool:
    """Returns whether a disk is there: its descriptor, or the data file beside it."""
    disk, descriptor = names_for(path, confined=False)
    return any(os.path.lexists(path.with_name(name)) for name in (disk, descriptor) if name)


def wrong_name(folder: Path, name: str, *, confined: bool) -> str | None:
    """Returns why a disk in `folder` cannot have this name; None if it can. Creates and deletes a file to see."""
    if "/" in name:
        return f"{printable(name)}: a '/' cannot stand in a name"
    if "|" in name:
        return f"{printable(name)}: a '|' cannot stand in a name, it separates the fields of vmdks.auto"
    try:
        names_for(folder / name, confined=confined)
    except PhdError as error:
        return str(error)
    return _refused_by_file_system(folder, name)


def wrong_folder(parent: Path, name: str) -> str | None:
    """Returns why a folder in `parent` cannot have this name; None if it can, or is there."""
    if "/" in name or name in (".", ".."):
        return f"{printable(name)}: give the name of one folder"
    if "|" in name:
        return f"{printable(name)}: a '|' cannot stand in a name, it separates the fields of vmdks.auto"
    if not name.isprintable():
        return f"{printable(name)}: a name has no control characters"
    return None if (parent / name).is_dir() else _refused_by_file_system(parent, name)


def wrong_path(text: str) -> str | None:
    """Returns why this is not the whole path of a folder; None if it is."""
    whole = text.startswith("/") and ".." not in Path(text).parts
    return None if whole else "Write the whole path, from / on, without '..'."


def ends_like_a_disk(path: Path) -> bool:
    """Returns whether the suffix is one of a disk. Any but .vmdk makes a raw image without a descriptor."""
    return path.suffix.lower() in _SUFFIXES


def in_use(path: Path) -> str | None:
    """Returns who uses a disk, so that it cannot be written; None if nobody does."""
    try:
        holder = holder_of(path)
    except PhdError as error:
        return str(error)
    return f"{printable(path.name)} is in use: {holder}" if holder else None


def _refused_by_file_system(folder: Path, name: str) -> str | None:
    """Returns why the file system refuses this name. A folder that is missing is tried in the nearest one that is there."""
    while not folder.is_dir():
        folder = folder.parent
    path = folder / f"{name}.phd-try"
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return None
    except OSError as error:
        return str(from_os_error(error, doing="a file of this name cannot be made there", where=printable(str(folder / name))))
    path.unlink(missing_ok=True)
    return None


def _place(path: Path, store: Datastore, roots: tuple[Path, ...]) -> Place:
    size, refused = 0, ""
    try:
        with open_destination(path, roots=roots, make_folders=False) as destination:
            facts = destination.stat_disk()
            size = facts.st_size if facts else 0
            holder = holder_of(path, dir_fd=destination.folder_fd)
            refused = f"in use: {holder}" if holder else ""
            refuse_in_session(destination)
    except PhdError as error:
        refused = error.message
    return Place(path=path, store=store, size=size, refused=refused)


def _is_there(path: Path) -> bool:
    try:
        return is_there(path)
    except PhdError:
        return False


def _walk(datastore: Path) -> Iterator[Path]:
    """Yields the datastore, its folders, and their folders, up to a limit."""
    level, seen = [datastore], 1
    yield datastore
    for _ in range(_LEVELS):
        below = []
        for folder in level:
            for path in _children(folder, links=False):
                seen += 1
                if seen > _MOST_FOLDERS:
                    return
                below.append(path)
                yield path
        level = below


def _flats(folder: Path) -> list[tuple[Path, int]]:
    try:
        with os.scandir(folder) as entries:
            files = [entry for entry in entries if is_flat_name(entry.name) and entry.is_file(follow_symlinks=False)]
            return sorted((folder / entry.name, entry.stat(follow_symlinks=False).st_size) for entry in files)
    except OSError:
        return []


def _children(folder: Path, *, links: bool) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            found = [entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=links)]
    except OSError:
        return []
    return [folder / name for name in sorted(found)]


def _datastore(path: Path) -> Datastore:
    try:
        facts = os.statvfs(path)
    except OSError:
        return Datastore(path=path, free=0, size=0)
    return Datastore(path=path, free=facts.f_bavail * facts.f_frsize, size=facts.f_blocks * facts.f_frsize)
