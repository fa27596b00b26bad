"""Mount points: which ones an administrator has named, and which of those are not mounted now.

    named       /etc/fstab (also `noauto` lines and bind mounts, no swap); `Where=` in /etc/systemd/system/*.mount
    mounted     /proc/self/mountinfo of this process; an autofs mount counts, since every access below it mounts or fails

A folder below a mount point that is not mounted is a folder of the file system above it: what is written there fills that
one, and is hidden as soon as the mount comes back. Nothing here opens the folders themselves except to follow links.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

FSTAB = Path("/etc/fstab")
UNIT_FOLDERS = (Path("/etc/systemd/system"),)
MOUNTINFO = Path("/proc/self/mountinfo")
Mounts = Mapping[tuple[str | None, str], str]
"""(id of the mount below, mount point) -> id of the mount. The mount below is None where this process cannot see it."""
_OCTAL = re.compile(rb"\\([0-7]{3})")
_NO_MOUNTS = frozenset({"swap", "ignore"})


def unmounted_mount_point(
    path: Path, *, fstab: Path = FSTAB, units: Sequence[Path] = UNIT_FOLDERS, mountinfo: Path = MOUNTINFO
) -> str | None:
    """The mount point at or above `path` that is named but not mounted now; None if there is none. The outermost one.

    `path` need not exist. It is looked at as it is written and with its links followed. Files that cannot be read name nothing.
    """
    above = [*_at_and_above(os.path.abspath(path)), *_at_and_above(os.path.realpath(path))]
    named = named_mount_points(fstab=fstab, units=units)
    suspects = [point for point in above if point in named]
    if not suspects:
        return None
    now = mounted(mountinfo)
    return next((point for point in suspects if not is_mounted(point, now)), None)


def named_mount_points(*, fstab: Path = FSTAB, units: Sequence[Path] = UNIT_FOLDERS) -> dict[str, Path]:
    """Every mount point that an administrator has named, links followed, and the file that names it. `/` is left out."""
    found: dict[str, Path] = {}
    for folder in units:
        for unit in sorted(folder.glob("*.mount")):
            for point in _unit_points(_lines(unit)):
                found[os.path.realpath(point)] = unit
    for point in _fstab_points(_lines(fstab)):
        found[os.path.realpath(point)] = fstab
    found.pop("/", None)
    return found


def mounted(mountinfo: Path = MOUNTINFO) -> Mounts:
    """The mounts of this process now."""
    rows = [line.split(" ")[:5] for line in _lines(mountinfo)]
    whole = [(row[0], row[1], _plain(row[4])) for row in rows if len(row) == 5]
    ids = {own for own, _, _ in whole}
    return {(parent if parent in ids and parent != own else None, point): own for own, parent, point in whole}


def is_mounted(point: str, now: Mounts) -> bool:
    """Whether the path `point` leads to the root of a mount. One that is hidden by a later mount above it does not count."""
    top: str | None = None
    reached = False
    for path in _at_and_above(point):
        reached = False
        while (mount := now.get((top, path))) is not None:
            top, reached = mount, True
    return reached


def _at_and_above(path: str) -> list[str]:
    """`/`, `/a`, `/a/b` for `/a/b`."""
    parts = [part for part in path.split("/") if part]
    return ["/" + "/".join(parts[:count]) for count in range(len(parts) + 1)]


def _fstab_points(lines: list[str]) -> Iterator[str]:
    for line in lines:
        fields = line.split()
        if len(fields) < 3 or fields[0].startswith("#") or fields[2] in _NO_MOUNTS:
            continue
        if fields[1].startswith("/"):
            yield _plain(fields[1])


def _unit_points(lines: list[str]) -> Iterator[str]:
    """`Where=` of a mount unit. A masked unit is empty, and names nothing."""
    section = ""
    for line in lines:
        text = line.strip()
        if text.startswith("["):
            section = text
        key, sign, value = text.partition("=")
        if section == "[Mount]" and sign and key.strip() == "Where" and value.strip().startswith("/"):
            yield value.strip().replace("%%", "%")


def _plain(name: str) -> str:
    """A name as it is, from the form with octal escapes in which fstab and the kernel write a space."""
    raw = name.encode("utf-8", "surrogateescape")
    return _OCTAL.sub(lambda found: bytes([int(found[1], 8) & 0xFF]), raw).decode("utf-8", "surrogateescape")


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape").split("\n")
    except OSError:
        return []
