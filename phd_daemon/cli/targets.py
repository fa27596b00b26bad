"""`phd targets`: the configured targets, and which of them answer."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import click

from phd_daemon.cli import show
from phd_daemon.cli.options import config_option, json_option, read_config
from restore_core import catalog
from restore_core.errors import ExitCode, PhdError
from restore_core.naming import printable
from restore_core.targets import make_target
from restore_core.targets.base import TargetSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """What a look at one target found; `problem` is empty when it answered."""

    name: str
    url: str
    archives: int
    seconds: float
    problem: str


@click.command()
@json_option
@config_option
def targets(as_json: bool, config: Path | None) -> int:
    """Look at every target: does it answer, and how many archives does it hold. Exit code 69 if one does not."""
    found = [reach(spec) for spec in read_config(config).targets]
    if as_json:
        show.as_json(
            [
                {"name": one.name, "url": one.url, "answers": not one.problem, "archives": one.archives, "problem": one.problem}
                for one in found
            ]
        )
    elif not found:
        show.say("no targets: add [targets.NAME] to phd.toml")
    else:
        rows = [
            (one.name, one.problem or f"answers in {one.seconds:.2f} s", str(one.archives), printable(one.url)) for one in found
        ]
        show.table(("TARGET", "STATE", "ARCHIVES", "URL"), rows)
    return ExitCode.UNAVAILABLE if any(one.problem for one in found) else ExitCode.DONE


def reach(spec: TargetSpec) -> Reached:
    """List one target; any error of it is the finding."""
    began, archives, problem = time.monotonic(), 0, ""
    try:
        archives = sum(1 for _ in catalog.entries(make_target(spec)))
    except PhdError as error:
        problem = error.message
    return Reached(name=spec.name, url=spec.url, archives=archives, seconds=time.monotonic() - began, problem=problem)
