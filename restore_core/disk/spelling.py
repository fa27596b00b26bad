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

    Nothing above the roots is looked at: whoever wrote the path may have named a file system that does not answer.
    """
    for root in sorted(roots, key=lambda one: -len(one.parts)):
        if is_below(path, (root,)):
            return _spelled(root, path.parts[len(root.parts) :])
    return path


def _spelled(found: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        there = name
        if not name.isascii() and not os.path.lexists(found / name):
            with contextlib.suppress(OSError):
                there = next((other for other in sorted(os.listdir(found)) if comparable(other) == comparable(name)), name)
        found /= there
    return found
