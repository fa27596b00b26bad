"""`phd index`: lists all targets now, at the same time, and keeps what they hold in the catalog."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from phd_daemon.cli.interrupt import interruptible
from phd_daemon.cli.options import NO_TARGETS, command, config_option, json_option, quiet_option
from phd_daemon.operations.installation import read_config
from phd_daemon.operations.targets import index_all
from phd_daemon.show import output
from phd_daemon.show.output import counted
from phd_daemon.show.times import minute
from restore_core.catalog.index import Indexed
from restore_core.catalog.listing import KnownGap
from restore_core.errors import ExitCode
from restore_core.naming import printable
from restore_core.targets.gaps import shown


@command(stays_done=False)
@json_option
@quiet_option
@config_option
def index(*, as_json: bool, config: Path | None) -> int:
    """Index all targets again. Exit code 69 if one does not answer, or in part: what was known of the rest is kept."""
    settings = read_config(config)
    began = time.monotonic()
    with interruptible() as stop:
        known = index_all(settings, stop)
    seconds = time.monotonic() - began
    if as_json:
        output.as_json([_data(one) for one in known])
    elif output.is_quiet():
        for one in known:
            if one.trouble:
                output.complain(": ".join(_row(one)[:2]))
    elif not known:
        output.say(NO_TARGETS)
    else:
        output.table(("TARGET", "STATE", "ARCHIVES", "FILES"), [_row(one) for one in known])
        for line in notes(known):
            output.say(line)
        output.say(
            f"{counted(sum(one.archives for one in known), 'archive')} on {counted(len(known), 'target')}, in {seconds:.1f} s"
        )
    return ExitCode.UNAVAILABLE if any(one.trouble for one in known) else ExitCode.DONE


def notes(known: Iterable[Indexed]) -> Iterator[str]:
    """Yields one line for each target on which something cannot be listed that hides no backup."""
    for one in known:
        if one.head and one.head.notes:
            yield f"{one.target}: passed over: {shown([note.gap for note in one.head.notes])}"


def _row(one: Indexed) -> tuple[str, ...]:
    files = str(one.head.files) if one.head else "-"
    if not one.trouble:
        return one.target, "indexed", str(one.archives), files
    if one.problem:
        return one.target, f"stale since {minute(one.stale_since or time.time())}: {one.problem}", str(one.archives), files
    since = minute(min(gap.since for gap in one.gaps))
    return one.target, f"in part since {since}: {shown([gap.gap for gap in one.gaps])}", str(one.archives), files


def _data(one: Indexed) -> dict[str, object]:
    return {
        "target": one.target,
        "archives": one.archives,
        "files": one.head.files if one.head else None,
        "listed": one.head.began if one.head else None,
        "stale_since": one.stale_since,
        "problem": one.trouble,
        "gaps": [_gap(gap) for gap in one.gaps],
        "stale_files": one.head.stale if one.head else None,
        "passed_over": [_gap(note) for note in one.head.notes] if one.head else [],
    }


def _gap(one: KnownGap) -> dict[str, object]:
    return {"path": printable(one.gap.path), "kind": one.gap.kind.value, "why": one.gap.why, "since": one.since}
