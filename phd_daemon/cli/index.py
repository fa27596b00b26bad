"""`phd index`: look at all targets now, side by side, and keep what they hold."""

from __future__ import annotations

import time
from pathlib import Path

import click

from phd_daemon.cli import show
from phd_daemon.cli.interrupt import interruptible
from phd_daemon.cli.options import config_option, json_option, read_config
from phd_daemon.known import fresh_catalog
from phd_daemon.words import counted
from restore_core.catalog.index import Indexed
from restore_core.errors import ExitCode


@click.command()
@json_option
@config_option
def index(*, as_json: bool, config: Path | None) -> int:
    """Index all targets again. Exit code 69 if one does not answer: its last listing is kept."""
    settings = read_config(config)
    began = time.monotonic()
    with interruptible() as stop, fresh_catalog(settings, look=None, stop=stop) as catalog:
        known = catalog.known()
    seconds = time.monotonic() - began
    if as_json:
        show.as_json([_data(one) for one in known])
    elif not known:
        show.say("no targets: add [targets.NAME] to the settings (--config FILE, else $PHD_CONFIG, else /etc/phd/phd.toml)")
    else:
        show.table(("TARGET", "STATE", "ARCHIVES", "FILES"), [_row(one) for one in known])
        show.say(f"{counted(sum(one.archives for one in known), 'archive')} on {counted(len(known), 'target')}, in {seconds:.1f} s")
    return ExitCode.UNAVAILABLE if any(one.problem for one in known) else ExitCode.DONE


def _row(one: Indexed) -> tuple[str, ...]:
    files = str(one.head.files) if one.head else "-"
    if not one.problem:
        return one.target, "indexed", str(one.archives), files
    since = time.strftime("%Y-%m-%d %H:%M", time.localtime(one.stale_since or time.time()))
    return one.target, f"stale since {since}: {one.problem}", str(one.archives), files


def _data(one: Indexed) -> dict[str, object]:
    return {
        "target": one.target,
        "archives": one.archives,
        "files": one.head.files if one.head else None,
        "listed": one.head.began if one.head else None,
        "stale_since": one.stale_since,
        "problem": one.problem,
    }
