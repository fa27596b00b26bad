"""Bugs for R16 and R17: a name is taken for a file, a ring for the truth."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from phd_daemon.spool import intake, keeper, reconcile


def whatever_appears_is_complete() -> None:
    """Nobody waits for a file to be still, nor for its writer to close it."""
    setattr(reconcile, "SETTLE_SECONDS", 0.0)  # noqa: B010  mypy forbids the plain form
    setattr(reconcile, "EMPTY_SECONDS", 0.0)  # noqa: B010  the same
    setattr(intake, "has_writer", lambda _fd: False)  # noqa: B010  the same


def events_are_the_truth() -> None:
    """Only what rang is looked at."""
    real: Any = keeper.Keeper.round

    def rung(self: Any, policy: Any, *, renamed_in: Collection[str] = ()) -> Any:
        scan = self._reader.scan
        stems = {name.rpartition(".")[0] for name in list(renamed_in)[:500]}
        self._reader.scan = lambda: {stem: files for stem, files in scan().items() if stem in stems}
        try:
            return real(self, policy, renamed_in=renamed_in)
        finally:
            self._reader.scan = scan

    setattr(keeper.Keeper, "round", rung)  # noqa: B010  the same
