"""What a person should mend after a pass of replication."""

from __future__ import annotations

from collections.abc import Iterator

from phd_daemon.replication.pass_record import Pass


def troubles(done: Pass, *, problems: bool = True) -> Iterator[str]:
    """Yields one message for each thing that a person should mend; with `problems` also those of single lines of the rules."""
    found = done.findings
    yield from found.notes
    yield from (f"rules, {problem}" for problem in found.problems if problems)
    yield from (f"ledger, line {bad.number}: {bad.why}: it is not taken for a restore" for bad in found.bad_lines)
    yield from (f"{target.problem}: its last listing is used" for target in found.targets if target.problem)
    yield from (f"{target.partial}: what it held there before is used" for target in found.targets if target.partial)
    for one in found.decisions:
        yield from (f"rules, line {one.rule.line}: {warning}" for warning in one.warnings)
