"""Bugs for R27: a part of a listing is taken for the whole, or the alarm rings for nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from restore_core.backup import run
from restore_core.catalog import index
from restore_core.catalog.listing import ListingLine
from restore_core.targets import local, local_listing
from restore_core.targets.ftp import connection, listing
from restore_core.targets.gaps import Gap
from restore_core.targets.remote import target


def _nothing(*_: object, **__: object) -> Iterator[Any]:
    return iter(())


def a_code_says_all() -> None:
    """226 is success, whatever stands behind it."""
    setattr(connection, "not_all_by", lambda _: False)  # noqa: B010  mypy forbids the plain form


def strange_lines_are_passed_over() -> None:
    """Only lines that are understood count."""
    setattr(listing.Parsed, "unknown", property(lambda _: [], lambda *_: None))  # noqa: B010  the same


def a_server_that_says_no_has_no_such_folder() -> None:
    """What a server does not open is not there."""
    setattr(target, "_gaps", _nothing)  # noqa: B010  the same


def a_folder_that_cannot_be_read_is_empty() -> None:
    """On this machine."""

    class Forgetful(list[Gap]):
        def append(self, _: Gap) -> None:
            """Nobody remembers it."""

    real = local_listing.list_folders

    def forgetful(spec: Any, root: str, gaps: Any) -> Any:
        del gaps
        return real(spec, root, Forgetful())

    setattr(local, "list_folders", forgetful)  # noqa: B010  the same


def what_is_not_told_is_gone() -> None:
    """A new listing takes the place of the old one, whole or not."""
    setattr(index, "_kept", _nothing)  # noqa: B010  the same


def what_is_not_told_was_seen() -> None:
    """It is kept, and looks like all the rest."""
    setattr(ListingLine, "stale", property(lambda _: False))  # noqa: B010  the same


def empty_is_empty() -> None:
    """A target that holds nothing holds nothing."""
    for module in (index, run):
        setattr(module, "refuse_emptied", lambda *_: None)  # noqa: B010  the same


def a_backup_looks_at_what_it_sees() -> None:
    """What it cannot see holds no Full."""
    setattr(Gap, "may_hide", lambda *_: False)  # noqa: B010  the same


def every_gap_rings() -> None:
    """Whatever cannot be read is missed."""
    setattr(Gap, "counts", lambda *_: True)  # noqa: B010  the same
