"""Replication: rules that ask for nothing, lines that are no rules, replicas that are gone, backups from the future."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator

from phd_daemon.doctor.finding import Finding
from phd_daemon.replication.pass_record import Findings
from restore_core.catalog import CatalogEntry
from restore_core.naming import printable
from restore_core.replication.selection import Decision, Verdict

AHEAD = dt.timedelta(hours=1)
"""A stamp takes the next free minute when its own is taken; an hour ahead is a wrong clock or a wrong time zone."""
_SHOWN = 3


def findings(look: Findings, *, rules: str, ledger: str) -> Iterator[Finding]:
    """What one look at rules and ledger says; `rules` and `ledger` name the files."""
    for note in look.notes:
        yield _bad_rules(note, rules)
    for problem in look.problems:
        yield _bad_rules(str(problem), rules)
    for bad in look.bad_lines:
        yield Finding(
            check="ledger-line-bad",
            what=f"line {bad.number}: {bad.why}",
            where=ledger,
            why="That restore counts as not made, and is made again.",
            mend="Remove the line once you have seen what it was; a torn last line is what a power cut leaves.",
        )
    for decision in look.decisions:
        yield from _of_rule(decision, rules)


def unseen(look: Findings) -> tuple[str, ...]:
    """Replicas of which nothing could be known, and why."""
    return tuple(f"{printable(str(one.rule.destination))}: {one.unseen}" for one in look.decisions if one.unseen)


def _bad_rules(what: str, where: str) -> Finding:
    return Finding(
        check="rule-bad",
        what=what,
        where=where,
        why="The line does nothing: its disk is not replicated.",
        mend="Correct the line; 'phd rules check' shows what each line means now.",
    )


def _of_rule(decision: Decision, rules: str) -> Iterator[Finding]:
    where = f"{rules}, line {decision.rule.line}"
    match decision.verdict:
        case Verdict.NO_BACKUP:
            yield Finding(
                check="rule-matches-nothing",
                what=f"{decision.rule}: no backup on any target fits",
                where=where,
                why="The disk it should keep a copy of has none here.",
                mend="'phd backups' shows how VMs and disks are called; names must agree to the letter.",
            )
        case Verdict.AMBIGUOUS:
            yield Finding(
                check="rule-ambiguous",
                what=f"{decision.rule}: {decision.reason}",
                where=where,
                why="Which disk is meant cannot be known, so none is restored.",
                mend="Write the UUID and the SCSI id into the rule.",
            )
        case Verdict.GONE:
            yield Finding(
                check="replica-gone",
                what=f"{printable(str(decision.rule.destination))} is in the ledger, but not on the datastore any more",
                where=where,
                why="A replica that is gone is never made anew by itself: somebody may have removed or moved it on purpose.",
                mend="Delete its lines in restored.log to have it made anew, or remove the rule. Is the datastore mounted?",
            )
        case Verdict.OLDER | Verdict.AHEAD:
            yield _older(decision, where)
        case Verdict.DIVERGED if not decision.unseen:
            yield Finding(
                check="replica-diverged",
                what=f"{printable(str(decision.rule.destination))}: {decision.reason}",
                where=where,
                why="It is not refreshed any more: what was written there may be the only copy of somebody's work.",
                mend="When it may go, restore once by hand with overwrite = true.",
            )
        case _:
            return


def _older(decision: Decision, where: str) -> Finding:
    """The replica is not the backup that its rule asks for, and stays as it is."""
    what = f"{printable(str(decision.rule.destination))}: {decision.reason}"
    if decision.verdict is Verdict.AHEAD:
        return Finding(
            check="replica-ahead",
            what=what,
            where=where,
            why="It is no copy of the past as its rule asks for, until then: a replica never goes back by itself.",
            mend="Wait, or restore the older backup by hand with overwrite, or change the days of the rule.",
        )
    return Finding(
        check="replica-older",
        what=what,
        where=where,
        why="A replica never goes back by itself: it stays as it is until a backup comes that is newer than all before.",
        mend="Has a target lost backups ('phd targets')? To go back on purpose, restore by hand with overwrite.",
    )


def from_the_future(entries: Iterable[CatalogEntry], now: dt.datetime) -> Iterator[Finding]:
    """One finding a target that holds backups dated later than now."""
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
            why="They are not restored until that time has come, or are taken for newer than they are.",
            mend=f"Compare the clocks of the machines, and targets.{target}.timezone in phd.toml: stamps are read in that zone.",
        )
