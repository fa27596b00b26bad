"""The rules of replication as text: one row for each, with what a pass does with it and why."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from phd_daemon.show.output import counted
from restore_core.catalog import CatalogEntry
from restore_core.naming import printable, time_text
from restore_core.replication.decision import RuleDecision, Verdict
from restore_core.replication.rules import Problem

TITLES = ("LINE", "DISK", "TO", "DAYS", "MATCHES (UTC)", "WHAT", "LAG", "WHY")
_WORDS = {
    Verdict.RESTORE.value: "to be restored",
    Verdict.QUEUED.value: "in the queue already",
    Verdict.AHEAD.value: "asks for an OLDER one",
    Verdict.GONE.value: "replica is gone",
    Verdict.AMBIGUOUS.value: "fits several disks",
}
LINE_TITLES = ("RULE", *TITLES)


def line_rows(
    decisions: Iterable[RuleDecision],
    problems: Iterable[Problem],
    refused: Mapping[int, str],
    *,
    dry_run: bool,
    silent: Collection[str] = (),
) -> list[tuple[str, ...]]:
    """Returns the row of each line that is a rule or should be one, in the order of the file, for `LINE_TITLES`."""
    rows = [(one.rule.line, ("valid", *rule_row(one, refused, dry_run=dry_run, silent=silent))) for one in decisions]
    for wrong in problems:
        empty = [""] * (len(TITLES) - 2)
        rows.append((wrong.line, (f"not valid, column {wrong.column}", str(wrong.line), *empty, wrong.message)))
    return [cells for _, cells in sorted(rows)]


def rule_row(one: RuleDecision, refused: Mapping[int, str], *, dry_run: bool, silent: Collection[str] = ()) -> tuple[str, ...]:
    """Returns the row of one rule, for `TITLES`. `refused` says by line why a control file was not queued.

    `silent` are the targets that did not answer: a backup on them is known from their last listing alone.
    """
    line, known = one.rule.line, one.entry
    seen = " (not seen now)" if known and not_seen(known, silent) else ""
    return (
        str(line),
        f"{printable(one.rule.vm)}/{printable(one.rule.vmdk)}",
        printable(str(one.rule.destination)),
        f"-{one.rule.days}" if one.rule.days else "0",
        f"{time_text(known.time)} on {known.ref.target}{seen}" if known else "-",
        "refused" if line in refused else _done(one, dry_run=dry_run),
        _lag(one),
        refused.get(line, one.reason),
    )


def not_seen(entry: CatalogEntry, silent: Collection[str]) -> bool:
    """Whether a backup is known from an earlier listing alone, so that it may be gone."""
    return entry.stale or entry.ref.target in silent


def _done(one: RuleDecision, *, dry_run: bool) -> str:
    if one.verdict is not Verdict.RESTORE:
        return in_words(one.verdict)
    return ("would be queued" if dry_run else "queued") + (", held" if one.held else "")


def _lag(one: RuleDecision) -> str:
    """Returns how far the replica is behind the backup that the rule asks for, in days and hours."""
    if one.lag is None:
        return "-"
    hours, minutes = divmod(int(one.lag.total_seconds()) // 60, 60)
    if hours >= 48:
        return f"{hours // 24}d {hours % 24}h"
    return f"{hours}h {minutes:02d}m" if one.lag else "none"


def in_words(verdict: Verdict | str) -> str:
    """Returns a verdict for people: "queued" alone would read as done by this pass, "gone" as a backup that is gone."""
    value = verdict.value if isinstance(verdict, Verdict) else verdict
    return _WORDS.get(value, value)


def no_rules(path: Path) -> str:
    """Returns why there is no row."""
    where = printable(str(path))
    return f"{where} holds no rule" if path.exists() else f"{where} is not there: no rules. 'phd rules load' begins one"


def edited(path: Path, rules: int, bad_lines: int, *, installed: bool) -> str:
    """Returns what came of an edit: how much the file holds now, `vmdks.auto: 3 rules, 1 bad line`, or that nothing was changed."""
    holds = counted(rules, "rule") + (f", {counted(bad_lines, 'bad line')}" if bad_lines else "")
    return f"{printable(str(path))}: {holds if installed else 'nothing was changed'}"
