"""`phd replicate [--dry-run]`: one pass now, with or without a daemon; what it did for each rule, and why."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from phd_daemon.cli.options import config_option, json_option, read_config, spool_of
from phd_daemon.replication.pass_record import Pass, in_words
from phd_daemon.show import output
from phd_daemon.spool.snapshot import nobody_serves
from restore_core.naming import printable
from restore_core.replication.selection import Decision, Verdict

if TYPE_CHECKING:
    from phd_daemon.config.model import Config

TITLES = ("LINE", "DISK", "TO", "DAYS", "MATCHES (UTC)", "WHAT", "LAG", "WHY")


@click.command()
@click.option("--dry-run", is_flag=True, help="Show what a pass would do, per rule, and do nothing.")
@json_option
@config_option
def replicate(*, dry_run: bool, as_json: bool, config: Path | None) -> int:
    """Look at the targets now and queue what the rules ask for. Exit code 65 for bad lines, 69 for a silent target."""
    from phd_daemon.replication import one_pass as passes

    settings = read_config(config)
    spool = spool_of(settings)
    done = passes.dry_run(settings) if dry_run else _run(settings)
    if as_json:
        output.as_json(done.document())
    else:
        show_pass(done)
        if done.jobs and nobody_serves(spool.folder):
            output.complain("no daemon is running on this spool: nothing will happen until 'phd daemon' is started")
    return passes.exit_code(done)


def _run(settings: Config) -> Pass:
    """A pass of our own, after the one that may be running: its look at the targets is older than what was just asked."""
    from phd_daemon.replication import one_pass as passes

    try:
        return passes.run_pass(settings, wait=False)
    except passes.AlreadyRunning:
        output.complain("another pass is running: waiting for its end")
        return passes.run_pass(settings, wait=True)


def show_pass(done: Pass) -> None:
    """Every rule with its decision, then what is wrong, then the summary."""
    if done.findings.decisions:
        output.table(TITLES, [row(done, one) for one in done.findings.decisions])
    show_troubles(done)
    output.say(done.summary())


def show_troubles(done: Pass, *, problems: bool = True) -> None:
    """Whatever a person should mend; `problems` are those of single lines of the rules."""
    for trouble in troubles(done, problems=problems):
        output.complain(trouble)


def troubles(done: Pass, *, problems: bool = True) -> Iterator[str]:
    """The same as texts."""
    found = done.findings
    yield from found.notes
    yield from (f"rules, {problem}" for problem in found.problems if problems)
    yield from (f"ledger, line {bad.number}: {bad.why}: it is not taken for a restore" for bad in found.bad_lines)
    yield from (f"{target.problem}: its last listing is used" for target in found.targets if target.problem)
    yield from (f"{target.partial}: what it held there before is used" for target in found.targets if target.partial)
    for one in found.decisions:
        yield from (f"rules, line {one.rule.line}: {warning}" for warning in one.warnings)


def row(done: Pass, one: Decision) -> tuple[str, ...]:
    """One rule in the table."""
    line = one.rule.line
    return (
        str(line),
        f"{printable(one.rule.vm)}/{printable(one.rule.vmdk)}",
        printable(str(one.rule.destination)),
        f"-{one.rule.days}" if one.rule.days else "0",
        f"{one.entry.time:%Y-%m-%d %H:%M} on {one.entry.ref.target}" if one.entry else "-",
        _what(done, one),
        _lag(one),
        done.refused.get(line, one.reason),
    )


def _what(done: Pass, one: Decision) -> str:
    if one.rule.line in done.refused:
        return "refused"
    if one.verdict is not Verdict.RESTORE:
        return in_words(one.verdict)
    held = ", held" if one.held else ""
    return f"would be queued{held}" if done.dry_run else f"queued{held}"


def _lag(one: Decision) -> str:
    """How far the replica is behind what the rule asks for, in days and hours."""
    if one.lag is None:
        return "-"
    hours, minutes = divmod(int(one.lag.total_seconds()) // 60, 60)
    if hours >= 48:
        return f"{hours // 24}d {hours % 24}h"
    return f"{hours}h {minutes:02d}m" if one.lag else "none"
