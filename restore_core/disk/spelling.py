"""Finds the place of a disk whose accents are stored in another way than they were written (NFC and NFD look the same).

Else a disk would be restored beside the one that is meant, under a name that nobody can tell from it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection
from pathlib import Path

from restore_core.naming import comparable, is_below


def as_there(path: Path) -> Path:
    """Returns the path in the spelling that its accents have, folder by folder, in as far as it is there."""
    return _spelled(Path(path.anchor), path.parts[1:])


def as_there_below(path: Path, roots: Collection[Path]) -> Path:
    """Returns the same for a path below one of these folders, which may be spelled otherwise, too; any other path as it is.

    Nothing above the roots is looked at, and nothing behind a link below a datastore, through which no disk is written: whoever
    wrote the path may have named a file system that does not answer.
    """
    for root in sorted(roots, key=lambda one: -len(one.parts)):
        if is_below(path, (root,)):
            names = path.parts[len(root.parts) :]
            return _spelled(_spelled(root, names[:1]), names[1:], links=False)
    return path


def is_within(path: Path, folders: Collection[Path]) -> bool:
    """Returns whether the path lies below one of these folders, in whichever spelling, unless it lies below another such folder.

    Where two folders lie side by side whose names look the same, the one that was written is meant, and no other.
    """
    return any(is_below(path, (each,)) and not _others(Path(*path.parts[: len(each.parts)]), each) for each in folders)


def _others(one: Path, other: Path) -> bool:
    with contextlib.suppress(OSError):
        return one != other and not os.path.samestat(os.lstat(one), os.lstat(other))
    return False


def _spelled(found: Path, names: tuple[str, ...], *, links: bool = True) -> Path:
    for count, name in enumerate(names):
        if count and not links and not "".join(names[count:]).isascii() and os.path.islink(found):
            return found.joinpath(*names[count:])
        there = name
        if not name.isascii() and not os.path.lexists(found / name):
            with contextlib.suppress(OSError):
                there = next((other for other in sorted(os.listdir(found)) if comparable(other) == comparable(name)), name)
        found /= there
    return found
