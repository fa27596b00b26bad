"""Bugs for R28: a pass that follows the targets wherever they go, and one that does not look at what it calls up to date."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from phd_daemon.replication import one_pass
from restore_core.replication import decision, history, selection
from restore_core.replication.decision import RuleDecision, Verdict

_read = history.history_of


def the_newest_that_is_there() -> None:
    """Whatever is the newest on the targets and has no line is restored."""

    def may_restore(self: Any, copies: Any) -> bool:
        return not any(entry.ref in {line.archive for line in self.lines} for entry in copies)

    setattr(history.History, "may_restore", may_restore)  # noqa: B010  mypy forbids the plain form


def the_receipt_does_not_count() -> None:
    """What a person restored by hand is gone back from."""
    _reading(lambda lines, at, times, now: replace(_read(lines, at, times, now), floor=None))


def the_receipt_counts_for_ever() -> None:
    """Lines may be deleted as one likes: nothing older than what lies there is eligible again."""

    def floored(lines: Any, at: Any, times: Any, now: dt.datetime) -> history.History:
        found = _read(lines, at, times, now)
        return replace(found, floor=found.here.time if found.here else None)

    _reading(floored)


def lines_from_the_future_count() -> None:
    """A clock that was wrong once stops the replica."""

    def marked(lines: Any, at: Any, times: Any, now: dt.datetime) -> history.History:
        found = _read(lines, at, times, now)
        return replace(found, mark=max((time for line in lines if (time := times.of(line.archive))), default=None))

    _reading(marked)


def up_to_date_by_the_ledger() -> None:
    """The newest backup was restored there once, so it is said to be there."""
    stays: Callable[..., RuleDecision] = getattr(selection, "stays")  # noqa: B009  mypy forbids the plain form

    def believing(draft: RuleDecision, copies: Any, at: Any, seen: history.History, now: dt.datetime) -> RuleDecision:
        if any(line.archive == entry.ref for line in seen.lines for entry in copies):
            return replace(draft, verdict=Verdict.CURRENT, reason="it has been restored there", entry=copies[0])
        return stays(draft, copies, at, seen, now)

    setattr(selection, "stays", believing)  # noqa: B010  the same


def older_is_not_said() -> None:
    """The replica stays, and nobody hears why."""
    other = decision._other

    def quiet(*arguments: Any) -> tuple[Verdict, str]:
        return other(*arguments)[0], "nothing newer is on the targets"

    setattr(decision, "_other", quiet)  # noqa: B010  the same


def receipts_are_not_asked() -> None:
    """What lies there is taken for the last that a rule restored: only the real passes can show it."""
    setattr(one_pass, "_restored", lambda _known: (None, None))  # noqa: B010  the same


def _reading(read: Callable[[Any, Any, Any, dt.datetime], history.History]) -> None:
    setattr(selection, "history_of", read)  # noqa: B010  the same
