"""What the doctor reports: a finding is something to mend, a fact is something to know, `unseen` is what it could not look at."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong. `check` is its short name for programs; the others are sentences for people.

    `what` is wrong, `where` (a path, a target, a line), `why` it matters, and how to `mend` it.
    """

    check: str
    what: str
    where: str
    why: str
    mend: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a check found. `unseen` is what could not be looked at, and why."""

    findings: tuple[Finding, ...] = ()
    facts: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()

    def __add__(self, other: Report) -> Report:
        return Report(findings=self.findings + other.findings, facts=self.facts + other.facts, unseen=self.unseen + other.unseen)
