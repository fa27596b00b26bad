"""Replication: rules that match nothing, lines that are no rules, replicas that are gone or too old, backups from the future."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator

from phd_daemon.doctor.finding import Finding
from phd_daemon.replication.pass_record import Findings
from restore_core.catalog import CatalogEntry
from restore_core.naming import printable
from restore_core.replication.selection import RuleDecision, Verdict

AHEAD = dt.timedelta(hours=1)
"""A stamp of a version before took the next free minute; an hour ahead is a wrong clock or a wrong time zone."""
_SHOWN = 3
_BAD_RULE = (
    "rule-bad",
    "The line does nothing: its disk is not replicated.",
    "Correct the line; 'phd rules check' shows what each line means now.",
)
_BAD_LINE = (
    "ledger-line-bad",
    "That restore counts as not made, and is made again.",
    "Remove the line after you have read it; a torn last line is what a power cut leaves.",
)
_BY_VERDICT = {
    Verdict.NO_BACKUP: (
        "rule-matches-nothing",
        "The disk that it should keep a copy of has no backup here.",
        "'phd backups' shows the names of VMs and disks; a rule must have exactly these names.",
    ),
    Verdict.AMBIGUOUS: (
        "rule-ambiguous",
        "Which disk is meant cannot be known, so none is restored.",
        "Write the UUID and the SCSI id into the rule.",
    ),
    Verdict.GONE: (
        "replica-gone",
        "A replica that is gone is never made again automatically: somebody may have removed or moved it on purpose.",
        "Delete its lines in restored.log to have it made again, or remove the rule. Is the datastore mounted?",
    ),
    Verdict.AHEAD: (
        "replica-ahead",
        "Until then it is newer than its rule asks for: a replica is never replaced by an older backup automatically.",
        "Wait, or restore the older backup by hand with overwrite, or change the days of the rule.",
    ),
    Verdict.OLDER: (
        "replica-older",
        "A replica is never replaced by an older backup automatically: it waits for one that is newer than all before.",
        "Has a target lost backups ('phd targets')? To go back on purpose, restore by hand with overwrite.",
    ),
    Verdict.DIVERGED: (
        "replica-diverged",
        "It is not refreshed any more: what was written there may be the only copy of somebody's work.",
        "When that work is not needed, restore once by hand with overwrite = true.",
    ),
}
"""Check, why, and mend of each verdict that is a finding."""


def findings(look: Findings, *, rules: str, ledger: str) -> Iterator[Finding]:
    """Yields what is wrong with rules and ledger; `rules` and `ledger` name the files."""
    for text in (*look.notes, *map(str, look.problems)):
        yield _finding(_BAD_RULE, text, rules)
    for bad in look.bad_lines:
        yield _finding(_BAD_LINE, f"line {bad.number}: {bad.why}", ledger)
    for decision in look.decisions:
        known = _BY_VERDICT.get(decision.verdict)
        if known is not None and not (decision.verdict is Verdict.DIVERGED and decision.unseen):
            yield _finding(known, _what(decision), f"{rules}, line {decision.rule.line}")


def unseen(look: Findings) -> tuple[str, ...]:
    """Returns the replicas of which nothing could be known, and why."""
    return tuple(f"{printable(str(one.rule.destination))}: {one.unseen}" for one in look.decisions if one.unseen)


def _finding(texts: tuple[str, str, str], what: str, where: str) -> Finding:
    check, why, mend = texts
    return Finding(check=check, what=what, where=where, why=why, mend=mend)


def _what(decision: RuleDecision) -> str:
    destination = printable(str(decision.rule.destination))
    match decision.verdict:
        case Verdict.NO_BACKUP:
            return f"{decision.rule}: no backup on any target fits"
        case Verdict.AMBIGUOUS:
            return f"{decision.rule}: {decision.reason}"
        case Verdict.GONE:
            return f"{destination} is in the ledger, but not on the datastore any more"
        case _:
            return f"{destination}: {decision.reason}"


def from_the_future(entries: Iterable[CatalogEntry], now: dt.datetime) -> Iterator[Finding]:
    """Yields one finding for each target that holds backups dated later than now."""
    ahead: dict[str, list[CatalogEntry]] = {}
    for entry in entries:
        if entry.time > now + AHEAD:
            ahead.setdefault(entry.ref.target, []).append(entry)
    for target, found in sorted(ahead.items()):
        names = ", ".join(str(entry.ref) for entry in found[:_SHOWN]) + (", ..." if len(found) > _SHOWN else "")
        yield Finding(
            check="clock-wrong",
            what=f"{len(found)} of its backups are dated in the future: {names}",
            where=f"targets.{target}",
            why="They are not restored before that time, or count as newer than they are.",
            mend=f"Compare the clocks of the machines, and targets.{target}.timezone in phd.toml: stamps are read in that zone.",
        )
