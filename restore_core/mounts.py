"""Finds the mount points that an administrator has named, and says which of them are not mounted now.

    named       /etc/fstab (also `noauto` lines and bind mounts, no swap); `Where=` in /etc/systemd/system/*.mount
    mounted     /proc/self/mountinfo of this process; an autofs mount counts, since every access below it mounts or fails

A folder below a mount point that is not mounted belongs to the file system above it: files that are written there fill that
one, and are hidden when the mount comes back. Nothing here opens these folders except to follow links.

A mount that shows exactly what would be there without it does not count. systemd makes such mounts for a service, one for
each path in ReadWritePaths=, and an empty mount point would look mounted to the daemon.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from restore_core.errors import is_no_answer

FSTAB = Path("/etc/fstab")
UNIT_FOLDERS = (Path("/etc/systemd/system"),)
MOUNTINFO = Path("/proc/self/mountinfo")
_OCTAL = re.compile(rb"\\([0-7]{3})")
_NO_MOUNTS = frozenset({"swap", "ignore"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One line of mountinfo. `parent` is the id of the mount it is on, None where this process cannot see that.

    `root` is the folder of the file system `device` that is shown at `point`; `source` is what was mounted.
    """

    id: str
    parent: str | None
    device: str
    root: str
    point: str
    type: str
    source: str


def unmounted_mount_point(
    path: Path, *, fstab: Path | None = None, units: Sequence[Path] | None = None, mountinfo: Path | None = None
) -> str | None:
    """Returns the outermost mount point at or above `path` that is named but not mounted now; None if there is none.

    `path` need not exist. It is checked as it is written and with its links followed. Files that cannot be read name nothing.
    """
    above = [*_at_and_above(os.path.abspath(path)), *_at_and_above(os.path.realpath(path))]
    named = named_mount_points(fstab=fstab, units=units)
    suspects = [point for point in above if point in named]
    if not suspects:
        return None
    now = mounted(mountinfo)
    return next((point for point in suspects if not is_mounted(point, now)), None)


def named_mount_points(*, fstab: Path | None = None, units: Sequence[Path] | None = None) -> dict[str, Path]:
    """Returns all mount points that an administrator has named but `/`, links followed, each with the file that names it."""
    folders = UNIT_FOLDERS if units is None else units
    named = [(point, unit) for folder in folders for unit in sorted(folder.glob("*.mount")) for point in _unit_points(_lines(unit))]
    table = fstab or FSTAB
    named += [(point, table) for point in _fstab_points(_lines(table))]
    found = {os.path.realpath(point): file for point, file in named}
    found.pop("/", None)
    return found


def mounted(mountinfo: Path | None = None) -> tuple[Mount, ...]:
    """Returns the mounts of this process now."""
    found = []
    lines = [line.partition(" - ") for line in _lines(mountinfo or MOUNTINFO)]
    split = [(left.split(" "), right.split(" ")) for left, sign, right in lines if sign]
    ids = {left[0] for left, _ in split}
    for left, right in split:
        if len(left) >= 5 and len(right) >= 2:
            parent = left[1] if left[1] in ids and left[1] != left[0] else None
            root, point, source = _plain(left[3]), _plain(left[4]), _plain(right[1])
            found.append(Mount(id=left[0], parent=parent, device=left[2], root=root, point=point, type=right[0], source=source))
    return tuple(found)


def mount_of(fd: int) -> Mount | None:
    """Returns the mount that an open folder or file is on, None where /proc does not tell it."""
    try:
        text = Path(f"/proc/self/fdinfo/{fd}").read_text()
    except OSError as error:
        if is_no_answer(error):
            raise
        return None
    number = next((line.split()[1] for line in text.splitlines() if line.startswith("mnt_id:")), None)
    return next((mount for mount in mounted() if mount.id == number), None)


def is_mounted(point: str, now: Sequence[Mount]) -> bool:
    """Returns whether the path `point` leads to the root of a mount. One that a later mount above it hides does not count."""
    below: Mapping[tuple[str | None, str], Mount] = {(mount.parent, mount.point): mount for mount in now}
    top: Mount | None = None
    reached = False
    for path in _at_and_above(point):
        reached = False
        while (mount := below.get((top.id if top else None, path))) is not None:
            reached = reached or not _shows_the_same(mount, top)
            top = mount
    return reached


def folder_in(mount: Mount, path: str) -> str:
    """Returns a path below a mount as its file system has it: `/srv/data/a` for `/mnt/a` if `/srv/data` is mounted at `/mnt`."""
    inner = os.path.relpath(path, mount.point)
    return mount.root if inner == "." else os.path.join(mount.root, inner)


def _shows_the_same(mount: Mount, parent: Mount | None) -> bool:
    """Returns whether a folder is mounted on itself."""
    return parent is not None and mount.device == parent.device and mount.root == folder_in(parent, mount.point)


def _at_and_above(path: str) -> list[str]:
    """Returns `/`, `/a`, `/a/b` for `/a/b`."""
    parts = [part for part in path.split("/") if part]
    return ["/" + "/".join(parts[:count]) for count in range(len(parts) + 1)]


def _fstab_points(lines: list[str]) -> Iterator[str]:
    for line in lines:
        fields = line.split()
        if len(fields) < 3 or fields[0].startswith("#") or fields[2] in _NO_MOUNTS:
            continue
        source, point = _plain(fields[0]), _plain(fields[1])
        on_itself = source.startswith("/") and os.path.realpath(source) == os.path.realpath(point)
        if point.startswith("/") and not on_itself:
            yield point


def _unit_points(lines: list[str]) -> Iterator[str]:
    """Yields `Where=` of a mount unit. A masked unit is empty, and names nothing."""
    section = ""
    for line in lines:
        text = line.strip()
        if text.startswith("["):
            section = text
        key, sign, value = text.partition("=")
        if section == "[Mount]" and sign and key.strip() == "Where" and value.strip().startswith("/"):
            yield value.strip().replace("%%", "%")


def _plain(name: str) -> str:
    """Returns a name without the octal escapes with which fstab and the kernel write a space."""
    raw = name.encode("utf-8", "surrogateescape")
    return _OCTAL.sub(lambda found: bytes([int(found[1], 8) & 0xFF]), raw).decode("utf-8", "surrogateescape")


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape").split("\n")
    except OSError as error:
        if is_no_answer(error):
            raise  # with no line read, no mount point would be named, and an empty one would be written to
        return []
