"""Bugs for R26: a disk is changed or replaced though somebody uses it, or a neighbour's change goes unseen."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import Any

from restore_core import durable
from restore_core.disk import alone, hold, locks
from restore_core.disk.destination import Destination
from restore_core.disk.identity import Stamps
from restore_core.restore import decide, writer
from restore_core.restore.existing import ExistingDisk
from restore_core.restore.receipt import Receipt
from tests.proof.mutants.exclusion import _NoLocks


def _everywhere(honest: Callable[..., Any], planted: Callable[..., Any]) -> None:
    """Modules that import it by name, too."""
    planted = functools.wraps(honest)(planted)
    for module in [module for name, module in sys.modules.items() if name.startswith("restore_core.")]:
        for name, value in list(vars(module).items()):
            if value is honest:
                setattr(module, name, planted)


def no_lease_is_asked() -> None:
    setattr(alone, "_ask", lambda _fd: alone.Alone.UNKNOWN)  # noqa: B010  mypy forbids the plain form


def no_image_is_locked() -> None:
    _everywhere(alone.lock_image, lambda *_: None)
    _everywhere(alone.image_is_locked, lambda *_: False)
    _everywhere(locks.refuse_if_in_use, lambda *_, **__: None)


def times_are_not_compared() -> None:
    setattr(Stamps, "same", lambda *_: True)  # noqa: B010  mypy forbids the plain form
    setattr(Stamps, "same_content", lambda *_: True)  # noqa: B010  the same


def names_are_not_looked_at_again() -> None:
    setattr(Destination, "leads_to", lambda *_: True)  # noqa: B010  mypy forbids the plain form


def the_folder_may_be_anywhere() -> None:
    def refuse_if_moved(self: Destination) -> None:
        del self

    setattr(Destination, "refuse_if_moved", refuse_if_moved)  # noqa: B010  mypy forbids the plain form


def a_disk_is_renamed_over() -> None:
    def renamed(
        destination: Destination, held: hold.Hold, part: int, old: ExistingDisk, *, descriptor: str | None
    ) -> tuple[str, int]:
        del held, descriptor
        old.prove()
        folder = destination.folder_fd
        durable.move(destination.part_name, destination.disk_name, replace=True, source_dir_fd=folder, to_dir_fd=folder)
        return destination.part_name, os.fstat(part).st_ctime_ns

    setattr(writer, "replace", renamed)  # noqa: B010  mypy forbids the plain form


def links_are_not_asked_about() -> None:
    setattr(decide, "_why_not_in_place", lambda _disk: "")  # noqa: B010  mypy forbids the plain form


def another_boot_is_believed() -> None:
    setattr(Receipt, "of_this_boot", lambda _self: True)  # noqa: B010  mypy forbids the plain form


def nobody_holds_the_disk() -> None:
    setattr(hold, "fcntl", _NoLocks())  # noqa: B010  mypy forbids the plain form
