"""`phd targets`: which targets answer, how fast, and what they hold.

phd targets trust NAME     whose server it is
phd targets accept NAME    that it holds nothing, and that this is right
"""

from __future__ import annotations

import os
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from phd_daemon.cli.complete import target_names
from phd_daemon.cli.options import config_option, json_option
from phd_daemon.host.catalog import catalog_of
from phd_daemon.operations.installation import known_target, read_config
from phd_daemon.show import output
from phd_daemon.show.times import age
from phd_daemon.show.words import counted
from restore_core import catalog
from restore_core.catalog.index import Catalog, refuse_emptied
from restore_core.errors import (
    ExitCode,
    ListingPartial,
    PhdError,
    Stopped,
    TargetEmptied,
    TargetUnavailable,
    UsageError,
    from_os_error,
)
from restore_core.naming import printable
from restore_core.targets.base import Target, TargetSpec
from restore_core.targets.gaps import Gap, refuse_partial, shown
from restore_core.targets.kinds import KINDS, identity_of, make_target

_PROBE_BYTES = 16 << 20
_PROBE_SECONDS = 3.0
_CLEAR_TEXT = "clear text: whoever listens reads the backups and the password; ftps:// or sftp:// if the server has it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """What a look at one target found; `problem` is empty when it answered, with all that it holds.

    `state` is that in a few words; `passed_over` is what could not be seen and hides no backup.
    `bytes_per_second` is that of a short read, None where there was nothing to read; `indexed` is when the catalog was made.
    """

    name: str
    url: str
    answers: bool
    archives: int
    bytes_per_second: float | None
    indexed: float | None
    problem: str
    remedy: str
    seconds: float
    state: str
    passed_over: str


@click.group(invoke_without_command=True)
@json_option
@config_option
@click.pass_context
def targets(context: click.Context, as_json: bool, config: Path | None) -> int | None:
    """Look at every target. Does it answer, how fast, how many archives are on it.

    Exit code 69 if one does not answer, tells only a part of what it holds, or holds nothing although it did.
    """
    if context.invoked_subcommand is not None:
        context.obj = config
        return None
    settings = read_config(config)
    cache = catalog_of(settings)
    indexed = {known.target: known.head.finished for known in cache.known() if known.head}
    with ThreadPoolExecutor(max(1, min(8, len(settings.targets)))) as pool:
        found = list(pool.map(lambda spec: reach(spec, indexed.get(spec.name), cache), settings.targets))
    if as_json:
        output.as_json([asdict(one) for one in found])
    elif not found:
        output.say("no targets: add [targets.NAME] to the settings (--config FILE, else $PHD_CONFIG, else /etc/phd/phd.toml)")
    else:
        _print(found)
    return ExitCode.UNAVAILABLE if any(one.problem for one in found) else ExitCode.DONE


@targets.command()
@click.argument("name", shell_complete=target_names)
@click.option("--yes", is_flag=True, help="Record it without a question; only where the fingerprint was compared before.")
@config_option
@click.pass_context
def trust(context: click.Context, name: str, yes: bool, config: Path | None) -> None:
    """Show whose server target NAME is, and trust it. It shows the fingerprint, and asks."""
    from restore_core.targets.remote.trust import record

    specs = {spec.name: spec for spec in read_config(config or context.obj).targets}
    spec = specs[known_target(name, specs)]
    shown = identity_of(spec)
    output.say(f"{printable(spec.url)} shows the {shown.kind}\n  {shown.fingerprint}")
    if shown.trusted:
        output.say(f"which is the one in {printable(shown.file)}: nothing to do")
        return
    if shown.known:
        output.say(f"BUT {printable(shown.file)} HAS ANOTHER ONE FOR IT:\n  {', '.join(shown.known)}")
        output.say("Either the server was set up anew, or somebody stands between you and it. Ask whoever runs it.")
    else:
        output.say(
            f"and {printable(shown.file)} has none for it yet. Compare it with what the server itself says of its {shown.kind}."
        )
    if not yes and not _agreed("Trust it from now on?", "compare the fingerprint"):
        raise Stopped(f"{printable(name)}: not trusted; nothing was recorded")
    record(shown)
    output.say(f"recorded in {printable(shown.file)}")


@targets.command()
@click.argument("name", shell_complete=target_names)
@click.option("--yes", is_flag=True, help="Record it without a question; only where somebody has looked before.")
@config_option
@click.pass_context
def accept(context: click.Context, name: str, yes: bool, config: Path | None) -> int:
    """Say that target NAME may hold no archive, though it did: it was emptied, or another disk is in its place.

    Until then it is not believed, since a disk that is not mounted looks the same. It shows what is there, and asks.
    """
    settings = read_config(config or context.obj)
    specs = {spec.name: spec for spec in settings.targets}
    spec = specs[known_target(name, specs)]
    cache = catalog_of(settings)
    target = make_target(spec)
    try:
        holds = sum(1 for _ in catalog.entries(target))
    finally:
        target.close()
    held = cache.held(spec)
    output.say(f"target {spec.name} ({printable(spec.url)}) held {counted(held, 'archive')}, and holds {holds or 'none'}")
    if holds or not held:
        output.say("nothing to accept: it is believed as it is")
        return ExitCode.DONE
    if not yes and not _agreed("Is it right that they are gone?", "look at the target"):
        raise Stopped(f"{spec.name}: not accepted; what it held is kept in the catalog")
    try:
        known = cache.accept(make_target, spec)
    except OSError as error:
        raise from_os_error(
            error, doing="this cannot be recorded", where=printable(os.fsdecode(error.filename or cache.folder))
        ) from error
    if known.problem:
        raise TargetUnavailable(known.problem, remedy="'phd targets' shows what answers.")
    output.say(f"recorded: {spec.name} holds {counted(known.archives, 'archive')} now, and backups may be made to it")
    return ExitCode.DONE


def _agreed(question: str, before: str) -> bool:
    try:
        return click.confirm(question, default=False)
    except click.Abort as error:
        if not isinstance(error.__context__, EOFError):  # ^C, of which click makes the same
            raise
        raise UsageError(
            "standard input has ended, so nobody can answer: nothing was recorded",
            remedy=f"Run it on a terminal; or {before}, and give --yes.",
        ) from None


def reach(spec: TargetSpec, indexed: float | None, cache: Catalog) -> Reached:
    """List one target and read a little of it; any error of it is the finding. `cache` knows what it held before."""
    began, archives, speed, listed = time.monotonic(), 0, None, None
    gaps: list[Gap] = []
    held: set[str] = set()
    error: PhdError | None = None
    target = None
    try:
        target = make_target(spec)
        largest: tuple[int, str] = (0, "")
        for entry in catalog.entries(target, gaps):
            archives += 1
            largest = max(largest, (entry.stat.size, entry.ref.path))
        listed = time.monotonic() - began
        held = cache.held_folders(spec) if gaps else held
        if not archives and not any(gap.counts(held) for gap in gaps):
            refuse_emptied(spec, cache.held(spec))
        speed = _probe(target, *largest)
        refuse_partial(spec.name, gaps, held)
    except PhdError as caught:
        error = caught
    finally:
        if target is not None:
            target.close()
    return Reached(
        name=spec.name,
        url=spec.url,
        answers=listed is not None and not isinstance(error, TargetEmptied),
        archives=archives,
        bytes_per_second=speed,
        indexed=indexed,
        problem=error.message if error else "",
        remedy=error.remedy if error else "",
        seconds=listed if listed is not None else time.monotonic() - began,
        state=_state(error, listed),
        passed_over=shown([gap for gap in gaps if not gap.counts(held)]) if listed is not None else "",
    )


def _state(error: PhdError | None, listed: float | None) -> str:
    match error:
        case TargetEmptied():
            return "held archives, holds none"
        case None | ListingPartial() if listed is not None:
            return f"answers{' in part,' if error else ''} in {listed:.2f} s"
        case _:
            return "does not answer"


def _probe(target: Target, size: int, path: str) -> float | None:
    """Bytes a second of a short read of the largest archive, None where there is none."""
    if not size:
        return None
    moved, began = 0, time.monotonic()
    with target.open(path) as source:
        for data in source.stream(0, min(size, _PROBE_BYTES), chunk=256 << 10):
            moved += len(data)
            if time.monotonic() - began > _PROBE_SECONDS:
                break
    return moved / max(1e-6, time.monotonic() - began)


def _print(found: list[Reached]) -> None:
    rows = []
    for one in found:
        speed = f"{output.size(one.bytes_per_second)}/s" if one.bytes_per_second else "-"
        indexed = f"{age(time.time() - one.indexed)} ago" if one.indexed else "never"
        rows.append((one.name, one.state, str(one.archives) if one.answers else "-", speed, indexed, printable(one.url)))
    output.table(("TARGET", "STATE", "ARCHIVES", "SPEED", "INDEXED", "URL"), rows)
    for one in found:
        if one.problem:
            output.say(f"\n{one.name}: {one.problem}\n  {one.remedy}")
        elif KINDS[urllib.parse.urlsplit(one.url).scheme].clear_text:
            output.say(f"\n{one.name}: {_CLEAR_TEXT}")
        if one.passed_over:
            output.say(f"\n{one.name}: passed over, and no backup is behind it: {one.passed_over}")
