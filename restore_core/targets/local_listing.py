"""Lists a folder of this machine as a target. Each folder of it is listed for itself: one that cannot be read hides no other."""

from __future__ import annotations

import errno
import os
import shlex
import urllib.parse
from collections.abc import Iterator

from restore_core.errors import TargetRefused, TargetUnavailable, remedy_for
from restore_core.naming import printable
from restore_core.targets.base import NEW_FILE_SUFFIX, FileStat, ListedFile, TargetSpec
from restore_core.targets.gaps import Gap, GapKind, link_gap, may_be_backups, refuse_partial

_GONE = {errno.ENOENT, errno.ENOTDIR}
_OF_ONE_FOLDER = {errno.EACCES, errno.EPERM, errno.EIO, errno.EUCLEAN, errno.ELOOP, errno.ENAMETOOLONG, errno.EBADMSG}
"""Errors of one folder, or of its blocks on the disk. Any other error is taken for one of the whole file system."""

_NEEDS_A_PERSON = {errno.EACCES, errno.EPERM, errno.EROFS}


def list_folders(spec: TargetSpec, root: str, gaps: list[Gap] | None) -> Iterator[ListedFile]:
    """Yields the files in `root` and in its folders; `gaps` as in `Target.listing`."""
    found: list[Gap] = [] if gaps is None else gaps
    try:
        with os.scandir(root) as entries:
            top = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise unreachable(spec, error) from error
    yield from _files(spec, "", top, found)
    for entry in top:
        if not entry.name.startswith(".") and _may_be_folder(entry):
            yield from _files(spec, entry.name, _scan(spec, root, entry.name, found), found)
    if gaps is None:
        refuse_partial(spec.name, found)


def _scan(spec: TargetSpec, root: str, folder: str, gaps: list[Gap]) -> list[os.DirEntry[str]]:
    found: list[os.DirEntry[str]] = []
    try:
        with os.scandir(os.path.join(root, folder)) as entries:
            found.extend(entries)
    except OSError as error:
        if error.errno not in _GONE:  # deleted since its parent was read: those backups are gone
            gaps.append(_gap(spec, folder, error))
    return sorted(found, key=lambda entry: entry.name)


def _files(spec: TargetSpec, folder: str, entries: list[os.DirEntry[str]], gaps: list[Gap]) -> Iterator[ListedFile]:
    for entry in entries:
        path = f"{folder}/{entry.name}" if folder else entry.name
        try:
            if entry.is_file(follow_symlinks=False) and not entry.name.endswith(NEW_FILE_SUFFIX):
                facts = entry.stat(follow_symlinks=False)
                yield ListedFile(path=path, stat=FileStat(size=facts.st_size, mtime=facts.st_mtime))
            elif entry.is_symlink() and may_be_backups(folder, entry.name):
                gaps.append(link_gap(folder, entry.name))
        except OSError as error:
            if error.errno not in _GONE:
                gaps.append(_gap(spec, path, error))


def _gap(spec: TargetSpec, path: str, error: OSError) -> Gap:
    """Returns the gap that an error makes; raises if the error is not about one folder."""
    if error.errno not in _OF_ONE_FOLDER:
        raise unreachable(spec, error, path) from error
    return Gap(path=path, kind=GapKind.UNREADABLE, why=error.strerror or str(error))


def _may_be_folder(entry: os.DirEntry[str]) -> bool:
    """Whether a name may be that of a folder. One that cannot be looked at is opened as one, and that error is reported."""
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return True


def unreachable(spec: TargetSpec, error: OSError, path: str = "") -> TargetUnavailable:
    """Returns the error for a folder that cannot be looked at; it says nothing of what the folder holds."""
    where = f"{printable(path)}: " if path else ""
    remedy = remedy_for(error)
    if error.errno in _GONE:
        remedy = "Is its file system mounted, and the path right?"
        if not path:
            remedy += f" If it is a new folder: mkdir -p {shlex.quote(printable(root_of(spec)))}"
    return as_refused(error)(f"target {spec.name} ({printable(spec.url)}): {where}{error.strerror}", remedy=remedy)


def as_refused(error: OSError) -> type[TargetUnavailable]:
    """Returns the kind of an error of the system: what rights or mounts forbid is refused, as by a server, and not tried again."""
    return TargetRefused if error.errno in _NEEDS_A_PERSON else TargetUnavailable


def root_of(spec: TargetSpec) -> str:
    """Returns the folder of a `file://` target."""
    return urllib.parse.unquote(urllib.parse.urlsplit(spec.url).path, errors="surrogateescape")
