"""`phd doctor`: what is wrong with this installation, and how to mend it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from phd_daemon.cli.options import command, config_option, json_option
from phd_daemon.doctor.finding import Report
from phd_daemon.show import output
from phd_daemon.show.output import counted
from restore_core.errors import ExitCode


@command(stays_done=False)
@json_option
@config_option
def doctor(*, as_json: bool, config: Path | None) -> int:
    """Look for what is wrong with this installation. Exit code 1 if there is anything to mend."""
    from phd_daemon.doctor.examination import examine

    report = examine(config)
    if as_json:
        output.as_json(asdict(report))
    else:
        _print(report)
    return ExitCode.FINDINGS if report.findings else ExitCode.DONE


def _print(report: Report) -> None:
    for one in report.findings:
        output.say(f"{one.where}: {one.what}  [{one.check}]\n  why   {one.why}\n  mend  {one.mend}\n")
    for fact in report.facts:
        output.say(f"ok: {fact}")
    for what in report.unseen:
        output.say(f"not looked at: {what}")
    count = len(report.findings)
    where = " in what could be looked at" if report.unseen else ""
    output.say(f"{counted(count, 'thing')} to mend" if count else f"nothing to mend was found{where}")
