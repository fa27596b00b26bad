"""`phd status`: how this installation stands, on one screen."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from phd_daemon.cli.options import command, config_option, json_option
from phd_daemon.show import output
from phd_daemon.show.output import counted
from phd_daemon.show.progress import clock
from phd_daemon.show.rules import in_words
from phd_daemon.show.times import age, minute
from restore_core import __version__
from restore_core.errors import ExitCode, in_one_line
from restore_core.naming import printable

if TYPE_CHECKING:
    from phd_daemon.operations.status import Overview

_VERSION = 1
_MOST = 5


@command(stays_done=False)
@click.option("--ask", is_flag=True, help="Look at all targets first, which may take minutes; else their last listing is shown.")
@json_option
@config_option
def status(*, ask: bool, as_json: bool, config: Path | None) -> int:
    """Show how this installation stands: daemon, queue, rules, targets, datastores, and what needs a person.

    Exit code 0: all of it could be looked at, and nothing needs a person. 1: something does. 78: phd.toml is wrong.
    """
    from phd_daemon.operations import status as operation

    if ask:
        _ask(config)
    found = operation.overview(config)
    if as_json:
        output.as_json(_document(found))
    else:
        _print(found)
    if found.problem:
        return ExitCode.CONFIGURATION
    return ExitCode.FINDINGS if found.needs or found.unseen else ExitCode.DONE


def _ask(config: Path | None) -> None:
    from phd_daemon.config.load import load_what_is_right
    from phd_daemon.host.catalog import fresh_catalog

    settings, _problem = load_what_is_right(config)
    with fresh_catalog(settings, look=None):
        pass


def _print(found: Overview) -> None:
    if found.problem:
        output.say(f"settings    {in_one_line(found.problem)}")
    output.say(f"daemon      {_daemon(found)}")
    output.say(f"queue       {_queue(found)}")
    for job in [one for one in found.jobs or () if one.progress][:_MOST]:
        at = job.progress
        left = f", {clock(at.remaining)} left" if at and at.remaining is not None else ""
        output.say(f"            {printable(job.name)}: {at.percent if at else 0:.0f} %{left}")
    output.say(f"rules       {_rules(found)}")
    for title, text in (("targets", _targets(found)), ("datastores", _datastores(found))):
        output.say(f"{title:<12}{text}")
    for what in found.unseen:
        output.say(f"not looked at: {in_one_line(what)}")
    output.say(f"{counted(len(found.needs), 'thing')} for a person" if found.needs else "nothing needs a person in what is seen")
    for need in found.needs:
        output.say(f"  {in_one_line(need.what)}\n    {in_one_line(need.type)}")


def _daemon(found: Overview) -> str:
    if found.daemon is None:
        return f"not known; this is phd {__version__}"
    if found.daemon.pid is None:
        return f"does not run; this is phd {__version__}"
    since = f", since {minute(found.daemon.since)}" if found.daemon.since else ""
    hangs = f"; hangs: {found.daemon.hangs}" if found.daemon.hangs else ""
    return f"runs, pid {found.daemon.pid or 'not known'}{since}; this is phd {__version__}{hangs}"


def _queue(found: Overview) -> str:
    if found.jobs is None:
        return "not known"
    parts = [f"{count} {state}" for state, count in found.counts.items() if count]
    waiting = [job.since for job in found.jobs if job.state.meaning == "waiting"]
    parts += [f"the oldest waits for {age(time.time() - min(waiting))}"] if waiting else []
    failed = [job.since for job in found.jobs if job.state.meaning == "failed"]
    parts += [f"failed since {minute(min(failed))}"] if failed else []
    return ", ".join(parts) or "empty"


def _rules(found: Overview) -> str:
    one = found.last_pass
    if one is None:
        return "no pass is recorded"
    verdicts = ", ".join(f"{count} {in_words(verdict)}" for verdict, count in one.verdicts.items())
    lag = f"; worst lag {age(one.worst_lag)}" if one.worst_lag else ""
    return f"{one.rules}{f' ({verdicts})' if verdicts else ''}{lag}; last pass {one.time}"


def _targets(found: Overview) -> str:
    if found.targets is None:
        return "not known"
    texts = []
    for one in found.targets:
        seen = f"{one.archives} archives, listed {minute(one.head.finished)}" if one.head else "never listed ('phd index' lists it)"
        texts.append(f"{one.target}: {seen}{'; in trouble' if one.trouble else ''}")
    return "\n            ".join(texts) or "none"


def _datastores(found: Overview) -> str:
    if found.datastores is None:
        return "not known"
    texts = [
        f"{printable(str(one.path))}: {one.state.value}" + (f", {output.size(one.free)} free" if one.free is not None else "")
        for one in found.datastores
    ]
    return "\n            ".join(texts) or "none"


def _document(found: Overview) -> dict[str, Any]:
    """Returns the stable form for programs; docs/reference.md says what it holds."""
    return {
        "version": _VERSION,
        "phd": __version__,
        "spool": found.spool,
        "problem": found.problem,
        "daemon": asdict(found.daemon) if found.daemon else None,
        "queue": found.counts if found.jobs is not None else None,
        "running": [
            {"job": printable(job.name), "percent": job.progress.percent, "remaining": job.progress.remaining}
            for job in found.jobs or ()
            if job.progress
        ],
        "last_pass": asdict(found.last_pass) if found.last_pass else None,
        "targets": None
        if found.targets is None
        else [
            {"name": one.target, "archives": one.archives, "listed": one.head and one.head.finished, "problem": one.trouble}
            for one in found.targets
        ],
        "datastores": None
        if found.datastores is None
        else [{"path": printable(str(one.path)), "state": one.state.value, "free": one.free} for one in found.datastores],
        "needs": [asdict(need) for need in found.needs],
        "unseen": found.unseen,
    }
