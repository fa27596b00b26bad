"""The place where a disk is written: an open folder and the names in it, so that nothing can be swapped beneath a restore.

    CRM.vmdk                 descriptor      dump.img             raw image
    CRM-flat.vmdk            disk                                 disk
    CRM-flat.vmdk.phd-new    part            dump.img.phd-new     part
    CRM-flat.vmdk.phd-part   part of a script in a Delta (`sh DELTA`); .phd-replaced is its old disk: never ours, never touched

`confinement` opens the folder. Every later step works on names in that open folder, so a folder that is renamed or replaced
by a link meanwhile changes nothing; before and after a disk gets its name the path is walked again, to see that it still leads
there. What is there already must be exactly the pair of files that would be written, or nothing. docs/disk.md lists all names
that a disk can have beside it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat as stat_module
import unicodedata
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from restore_core import durable
from restore_core.disk import confinement, vmdk
from restore_core.disk.hold import HOLD_SUFFIX
from restore_core.disk.known_datastores import DatastoreRecord, refuse_walk
from restore_core.errors import BadData, DestinationError, DestinationMoved, DestinationOutside, PhdError, from_os_error
from restore_core.naming import MAX_NAME_BYTES, printable, searchable

PART_SUFFIX = ".phd-new"
SCRIPT_PART_SUFFIX = ".phd-part"
SCRIPT_OLD_SUFFIX = ".phd-replaced"
"""A script keeps the old disk, and the old descriptor, under this name while it replaces them."""
REDO_SUFFIX = ".phd-redo"
STAGED_SUFFIX = ".phd-redo-part"
HIDDEN_SUFFIX = ".phd-applying"
PRIVATE_SUFFIX = ".swap"
"""The end of private names; each begins with `.phd-`."""
_LONGEST_SUFFIX = max(
    map(len, (PART_SUFFIX, SCRIPT_PART_SUFFIX, SCRIPT_OLD_SUFFIX, REDO_SUFFIX, STAGED_SUFFIX, HIDDEN_SUFFIX, HOLD_SUFFIX))
)


@dataclass(slots=True, kw_only=True)
class Destination:
    """An open destination. `disk_name` is the flat or raw file, `descriptor_name` None for a raw image.

    `key` is the same for every path to one disk (device and inode of the folder, and the disk's name in one case);
    `datastore` is the path of the datastore, without roots that of the mount point. `roots` are those it was opened with.
    """

    path: Path
    folder_fd: int
    disk_name: str
    descriptor_name: str | None
    key: tuple[int, int, str]
    datastore: str
    roots: tuple[Path, ...] | None
    folder: str = ""
    """The kernel's path of the folder when it was opened: the same for every path to it, also when it is moved meanwhile."""
    lets_go: bool = False  # whether `close` takes away folders that were made for disks and hold nothing

    @property
    def where(self) -> str:
        """The path, printable."""
        return printable(str(self.path))

    @property
    def raw(self) -> bool:
        """Whether it is a raw image, which has no descriptor."""
        return self.descriptor_name is None

    @property
    def part_name(self) -> str:
        """The disk's name while it is not finished."""
        return self.disk_name + PART_SUFFIX

    @property
    def vmx_name(self) -> str:
        """The VMX beside the disk, if one is asked for."""
        return f"{Path(self.descriptor_name or self.disk_name).stem}.vmx"

    @property
    def small_parts(self) -> tuple[str, ...]:
        """Descriptor and VMX while they are not finished."""
        return tuple(name + PART_SUFFIX for name in (self.descriptor_name, self.vmx_name) if name)

    @property
    def _private_prefix(self) -> str:
        return f".phd-{hashlib.sha256(os.fsencode(self.disk_name)).hexdigest()[:12]}-"

    def private_name(self) -> str:
        """Returns a new name that nobody else knows, for a file that is about to get its final name. All have the same length."""
        return f"{self._private_prefix}{secrets.token_hex(8)}{PRIVATE_SUFFIX}"

    def names_of_ours(self) -> list[str]:
        """Returns the names of files that a restore left or is using beside the disk, sorted. Raises `OSError`."""
        own = {self.disk_name + suffix for suffix in (PART_SUFFIX, REDO_SUFFIX, STAGED_SUFFIX, HIDDEN_SUFFIX)}
        own |= {name + suffix for name in (self.descriptor_name, self.vmx_name) if name for suffix in (PART_SUFFIX, HIDDEN_SUFFIX)}
        return [name for name in sorted(os.listdir(self.folder_fd)) if name in own or self.is_private(name)]

    def private_names(self) -> list[str]:
        """Returns the private names that a crash left. Raises `OSError`."""
        return [name for name in sorted(os.listdir(self.folder_fd)) if self.is_private(name)]

    def is_private(self, name: str) -> bool:
        """Whether `name` is a private name of this disk."""
        return "/" not in name and name.startswith(self._private_prefix) and name.endswith(PRIVATE_SUFFIX)

    def leads_to(self, name: str, fd: int) -> bool:
        """Whether a name in the folder leads to the open file."""
        there = self._stat(name)
        return there is not None and os.path.samestat(there, os.fstat(fd))

    def has(self, name: str) -> bool:
        """Whether there is anything under this name in the folder. Raises `OSError`."""
        with contextlib.suppress(FileNotFoundError):
            os.stat(name, dir_fd=self.folder_fd, follow_symlinks=False)
            return True
        return False

    def open(self, name: str, access: int = os.O_RDONLY) -> int:
        """Open a file of the folder; a link is not followed, a FIFO not waited for. Raises `OSError`."""
        return os.open(name, access | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self.folder_fd)

    def holds(self, name: str, data: bytes) -> bool:
        """Whether the file of this name can be read and has exactly these bytes."""
        try:
            fd = self.open(name)
        except OSError:
            return False
        with open(fd, "rb") as file:
            return file.read(len(data) + 1) == data

    def move(self, name: str, to: str, *, replace: bool = False, sync: bool = True) -> None:
        """Rename a file within the folder, durably if `sync`. Raises `FileExistsError` unless it may `replace`, and `OSError`."""
        folder = self.folder_fd
        durable.move(name, to, replace=replace, durable=sync, source_dir_fd=folder, to_dir_fd=folder)

    def remove(self, name: str) -> None:
        """Delete a file of the folder if it is there; a power cut may bring it back. Raises `OSError`."""
        durable.remove(name, dir_fd=self.folder_fd, durable=False)

    def refuse_if_moved(self) -> None:
        """Raise `DestinationMoved` unless the path, walked anew, leads to the open folder."""
        walk = None
        with contextlib.suppress(PhdError, OSError):
            walk = confinement.walk_to(self.path.parent, self.roots)
        try:
            if walk is not None and not walk.missing and os.path.samestat(os.fstat(walk.fd), os.fstat(self.folder_fd)):
                return
        finally:
            if walk is not None:
                os.close(walk.fd)
        raise DestinationMoved(
            f"{self.where}: its folder was moved, replaced or unmounted while the disk was written",
            remedy="Make sure that the path leads to the right folder; a queued job is tried again.",
        )

    def stat_disk(self) -> os.stat_result | None:
        """Returns the facts of the flat or raw file that is there now, None if there is none. A link is not followed."""
        return self._stat(self.disk_name)

    def stat_descriptor(self) -> os.stat_result | None:
        """Returns the facts of the descriptor that is there now, None if there is none or the disk is raw."""
        return None if self.descriptor_name is None else self._stat(self.descriptor_name)

    def close(self) -> None:
        """Close the folder. Harmless when repeated."""
        if self.folder_fd >= 0:
            if self.lets_go:  # a folder that was moved meanwhile is somebody's
                confinement.let_go(self.folder_fd, used=_name_of(self.folder_fd, self.path.parent) != self.folder)
            os.close(self.folder_fd)
            self.folder_fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _stat(self, name: str) -> os.stat_result | None:
        try:
            return os.stat(name, dir_fd=self.folder_fd, follow_symlinks=False)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise from_os_error(error, doing=f"looking at {printable(name)}", where=self.where) from error


def open_destination(
    path: Path, *, roots: tuple[Path, ...] | None, make_folders: bool, datastores: DatastoreRecord | None = None
) -> Destination:
    """Open the folder of a disk that is to be written to `path`, which must be absolute.

    `roots` confines it to the datastores below them, None confines nothing. Raises `DestinationOutside` for a path that
    leaves its datastore, `DestinationError` for a name or an existing file that cannot become this disk, and the error of
    `from_os_error`. With `make_folders` it raises `WrongDatastore` as `refuse_unless_known`, before it makes one. An existing flat
    disk is accepted: `refusals` decides whether it may be replaced.
    """
    disk_name, descriptor_name = names_for(path, confined=roots is not None)
    where = printable(str(path))
    try:
        walk = confinement.walk_to(path.parent, roots)
        if make_folders:
            refuse_walk(walk, path, datastores)
        fd = walk.make_missing() if make_folders else walk.refuse_missing()
        facts = os.fstat(fd)
    except OSError as error:
        raise from_os_error(error, doing="opening its folder", where=where) from error
    destination = Destination(
        path=path,
        folder_fd=fd,
        disk_name=disk_name,
        descriptor_name=descriptor_name,
        key=(facts.st_dev, facts.st_ino, searchable(disk_name)),
        datastore=walk.datastore,
        roots=roots,
        folder=_name_of(fd, path.parent),
        lets_go=make_folders,
    )
    try:
        _refuse_what_lies_there(destination)
    except BaseException:
        destination.close()
        raise
    return destination


def destination_key(path: Path, roots: tuple[Path, ...] | None) -> tuple[int, int, str] | None:
    """Returns the `key` of a destination, without making anything; None if it cannot be a destination now.

    While folders are missing it is made from the nearest existing one and the rest of the path. So only keys that were
    taken at the same moment can be compared.
    """
    try:
        disk_name, _descriptor = names_for(path, confined=roots is not None)
        walk = confinement.walk_to(path.parent, roots)
    except (PhdError, OSError):
        return None
    try:
        facts = os.fstat(walk.fd)
        return facts.st_dev, facts.st_ino, searchable("/".join((*walk.missing, disk_name)))
    finally:
        os.close(walk.fd)


def disk_key(path: Path, roots: tuple[Path, ...]) -> Hashable:
    """Returns a value that is equal for two paths to one disk; the path itself where it cannot be a destination now."""
    try:
        return destination_key(path, roots) or path
    except OSError:
        return path


def is_unfinished(name: str) -> bool:
    """Whether a restore gives such a name to a file that is not a disk yet, or not at the moment."""
    return confinement.UNFINISHED.search(name) is not None


def half_applied(flat: Path) -> str | None:
    """Returns what to say of a flat file whose refresh was interrupted; None for any other."""
    if not os.path.lexists(flat.with_name(flat.name + REDO_SUFFIX)):
        return None
    return f"{printable(str(flat))}: a refresh of it was interrupted; it is half old and half new"


def names_for(path: Path, *, confined: bool) -> tuple[str, str | None]:
    """Returns the names of disk and descriptor for a path. Pure. Raises `DestinationError` for a path that cannot be one."""
    where, name = printable(str(path)), path.name
    if not path.is_absolute() or "\0" in str(path):
        raise DestinationError(f"{where}: not an absolute path", remedy="Write the whole path, from / on.")
    if ".." in path.parts:
        kind = DestinationOutside if confined else DestinationError
        raise kind(f"{where}: a destination cannot contain '..'", remedy="Write the path without it.")
    if not name or any(unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in name):
        raise DestinationError(f"{where}: not a name for a disk", remedy="Use a name without control characters, in UTF-8.")
    if vmdk.is_flat_name(name):
        text = f"{where}: this names the data file of a VMDK"
        raise DestinationError(text, remedy=f"Name its descriptor instead: {printable(vmdk.descriptor_name_for(name))}.")
    if is_unfinished(name):
        raise DestinationError(f"{where}: this suffix is kept for unfinished files", remedy="Choose another name.")
    descriptor_name = name if vmdk.is_vmdk_name(name) else None
    disk_name = vmdk.flat_name_for(name) if descriptor_name else name
    if descriptor_name:
        if not name[:-5]:
            raise DestinationError(f"{where}: a VMDK needs a name before its suffix", remedy="Write NAME.vmdk.")
        vmdk.check_extent_name(disk_name)
    longest = max(len(each.encode()) for each in (disk_name, name)) + _LONGEST_SUFFIX
    if longest > MAX_NAME_BYTES:
        text = f"{where}: the name is {longest - MAX_NAME_BYTES} bytes too long, counting the suffixes of its unfinished files"
        raise DestinationError(text, remedy="Choose a shorter name.")
    return disk_name, descriptor_name


def _name_of(folder_fd: int, path: Path) -> str:
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/self/fd/{folder_fd}")
    return os.fspath(path)


def _refuse_what_lies_there(destination: Destination) -> None:
    for name in filter(None, (destination.disk_name, destination.descriptor_name)):
        facts = destination.stat_disk() if name == destination.disk_name else destination.stat_descriptor()
        if facts is not None and not stat_module.S_ISREG(facts.st_mode):
            text = f"{destination.where}: {printable(name)} is {_kind(facts.st_mode)}, not a plain file"
            raise DestinationError(
                text, remedy="A disk is written to a plain file: choose another path, or name what the link leads to."
            )
    if destination.stat_descriptor() is not None:
        _refuse_other_vmdk(destination)


def _refuse_other_vmdk(destination: Destination) -> None:
    """An existing VMDK may be replaced only if it is exactly the pair of files that would be written."""
    where = destination.where
    remedy = "Choose another name, or move that disk away first."
    try:
        fd = destination.open(destination.descriptor_name or "")
        try:
            found = vmdk.load_descriptor(fd, where, lambda name: name == destination.disk_name)
        finally:
            os.close(fd)
    except BadData as error:
        raise DestinationError(f"what is there is no flat disk: {error.message}", remedy=remedy) from error
    except OSError as error:
        raise from_os_error(error, doing="reading the descriptor that is there", where=where) from error
    reason = vmdk.why_not_flat(found)
    if reason is None and found.extents[0].file != destination.disk_name:
        reason = f"a disk with its data in {printable(found.extents[0].file or '')}, not in {printable(destination.disk_name)}"
    if reason is not None:
        raise DestinationError(f"{where}: what is there is no flat disk that can be replaced: {reason}", remedy=remedy)


def _kind(mode: int) -> str:
    kinds = {
        stat_module.S_IFLNK: "a link",
        stat_module.S_IFDIR: "a folder",
        stat_module.S_IFIFO: "a fifo",
        stat_module.S_IFSOCK: "a socket",
    }
    return kinds.get(stat_module.S_IFMT(mode), "a device")
