"""How an installation stands, as the lines of `phd status` and of the console; out of what `phd status --json` prints."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from phd_daemon.show import output
from phd_daemon.show.output import counted
from phd_daemon.show.progress import clock
from phd_daemon.show.rules import in_words
from phd_daemon.show.times import age, minute
from restore_core.errors import in_one_line

_MOST_JOBS = 5
_Facts = Mapping[str, Any]


def status_lines(found: _Facts, now: float) -> list[str]:
    """Returns the lines; `now` is in seconds since the epoch."""
    parts = {
        "settings": [in_one_line(found["problem"])] if found["problem"] else [],
        "daemon": [_daemon(found)],
        "queue": [_queue(found, now), *map(_running, found["running"][:_MOST_JOBS])],
        "rules": [_rules(found["last_pass"])],
        "targets": _each(found["targets"], _target),
        "datastores": _each(found["datastores"], _datastore),
        "drills": [_drill(found["last_drill"])] if found["last_drill"] else [],
    }
    lines = [f"{'' if at else title:<12}{text}" for title, texts in parts.items() for at, text in enumerate(texts)]
    lines += [f"not looked at: {in_one_line(what)}" for what in found["unseen"]]
    needs = found["needs"]
    other = "nothing else" if found["problem"] else "nothing"
    lines.append(f"{counted(len(needs), 'thing')} for a person" if needs else f"{other} needs a person in what is seen")
    for need in needs:
        lines += [f"  {in_one_line(need['what'])}", f"    {in_one_line(need['type'])}"]
    return lines


def _each(facts: Iterable[_Facts] | None, text: Callable[[_Facts], str]) -> list[str]:
    return ["not known"] if facts is None else [text(one) for one in facts] or ["none"]


def _daemon(found: _Facts) -> str:
    daemon, ours = found["daemon"], f"this is phd {found['phd']}"
    if daemon is None:
        return f"not known; {ours}"
    if daemon["pid"] is None:
        return f"does not run; {ours}"
    since = f", since {minute(daemon['since'])}" if daemon["since"] else ""
    hangs = f"; hangs: {daemon['hangs']}" if daemon["hangs"] else ""
    return f"runs, pid {daemon['pid'] or 'not known'}{since}; {ours}{hangs}"


def _queue(found: _Facts, now: float) -> str:
    if found["queue"] is None:
        return "not known"
    return ", ".join(_counts(found, now)) or "empty"


def _counts(found: _Facts, now: float) -> Iterator[str]:
    yield from (f"{count} {state}" for state, count in found["queue"].items() if count)
    if found["waiting_since"] is not None:
        yield f"the oldest waits for {age(now - found['waiting_since'])}"
    if found["failed_since"] is not None:
        yield f"failed since {minute(found['failed_since'])}"


def _running(job: _Facts) -> str:
    left = f", {clock(job['remaining'])} left" if job["remaining"] is not None else ""
    return f"{job['job']}: {job['percent']:.0f} %{left}"


def _rules(one: _Facts | None) -> str:
    if one is None:
        return "no pass is recorded"
    verdicts = ", ".join(f"{count} {in_words(verdict)}" for verdict, count in one["verdicts"].items())
    lag = f"; worst lag {age(one['worst_lag'])}" if one["worst_lag"] else ""
    when = minute(dt.datetime.fromisoformat(one["time"]).timestamp())
    return f"{one['rules']}{f' ({verdicts})' if verdicts else ''}{lag}; last pass {when}"


def _target(one: _Facts) -> str:
    listed = one["listed"] is not None
    seen = f"{one['archives']} archives, listed {minute(one['listed'])}" if listed else "never listed ('phd index' lists it)"
    return f"{one['name']}: {seen}{'; in trouble' if one['problem'] else ''}"


def _datastore(one: _Facts) -> str:
    return f"{one['path']}: {one['state']}" + (f", {output.size(one['free'])} free" if one["free"] is not None else "")


def _drill(one: _Facts) -> str:
    return f"last: {one['vm']}, {minute(dt.datetime.fromisoformat(one['time']).timestamp())}: {one['verdict']}"
