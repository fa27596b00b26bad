"""`phd targets`: which targets answer, how fast, and what they hold. `phd targets trust NAME`: whose server it is."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from phd_daemon.cli import show
from phd_daemon.cli.complete import target_names
from phd_daemon.cli.options import config_option, json_option, known_target, read_config
from phd_daemon.cli.times import age
from phd_daemon.known import catalog_of
from restore_core import catalog
from restore_core.errors import ExitCode, PhdError, Stopped, UsageError
from restore_core.naming import printable
from restore_core.targets import make_target
from restore_core.targets.base import Target, TargetSpec

_PROBE_BYTES = 16 << 20
_PROBE_SECONDS = 3.0
_CLEAR_TEXT = "clear text: whoever listens reads the backups and the password; ftps:// or sftp:// if the server has it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """What a look at one target found; `problem` is empty when it answered.

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


@click.group(invoke_without_command=True)
@json_option
@config_option
@click.pass_context
def targets(context: click.Context, as_json: bool, config: Path | None) -> int | None:
    """Look at every target. Does it answer, how fast, how many archives are on it. Exit code 69 if one does not answer."""
    if context.invoked_subcommand is not None:
        context.obj = config
        return None
    settings = read_config(config)
    indexed = {known.target: known.head.finished for known in catalog_of(settings).known() if known.head}
    with ThreadPoolExecutor(max(1, min(8, len(settings.targets)))) as pool:
        found = list(pool.map(lambda spec: reach(spec, indexed.get(spec.name)), settings.targets))
    if as_json:
        show.as_json([asdict(one) for one in found])
    elif not found:
        show.say("no targets: add [targets.NAME] to the settings (--config FILE, else $PHD_CONFIG, else /etc/phd/phd.toml)")
    else:
        _print(found)
    return ExitCode.DONE if all(one.answers for one in found) else ExitCode.UNAVAILABLE


@targets.command()
@click.argument("name", shell_complete=target_names)
@click.option("--yes", is_flag=True, help="Record it without a question; only where the fingerprint was compared before.")
@config_option
@click.pass_context
def trust(context: click.Context, name: str, yes: bool, config: Path | None) -> None:
    """Show whose server target NAME is, and trust it. It shows the fingerprint, and asks."""
    from restore_core.targets.trust import offered, record

    specs = {spec.name: spec for spec in read_config(config or context.obj).targets}
    spec = specs[known_target(name, specs)]
    shown = offered(spec)
    show.say(f"{printable(spec.url)} shows the {shown.kind}\n  {shown.fingerprint}")
    if shown.trusted:
        show.say(f"which is the one in {printable(shown.file)}: nothing to do")
        return
    if shown.known:
        show.say(f"BUT {printable(shown.file)} HAS ANOTHER ONE FOR IT:\n  {', '.join(shown.known)}")
        show.say("Either the server was set up anew, or somebody stands between you and it. Ask whoever runs it.")
    else:
        show.say(
            f"and {printable(shown.file)} has none for it yet. Compare it with what the server itself says of its {shown.kind}."
        )
    if not yes and not _agreed():
        raise Stopped(f"{printable(name)}: not trusted; nothing was recorded")
    record(spec, shown)
    show.say(f"recorded in {printable(shown.file)}")


def _agreed() -> bool:
    try:
        return click.confirm("Trust it from now on?", default=False)
    except click.Abort as error:
        if not isinstance(error.__context__, EOFError):  # ^C, of which click makes the same
            raise
        raise UsageError(
            "standard input has ended, so nobody can answer: nothing was recorded",
            remedy="Run it on a terminal; or compare the fingerprint, and give --yes.",
        ) from None


def reach(spec: TargetSpec, indexed: float | None) -> Reached:
    """List one target and read a little of it; any error of it is the finding."""
    began, archives, speed, problem, remedy = time.monotonic(), 0, None, "", ""
    target = None
    try:
        target = make_target(spec)
        largest: tuple[int, str] = (0, "")
        for entry in catalog.entries(target):
            archives += 1
            largest = max(largest, (entry.stat.size, entry.ref.path))
        listed = time.monotonic() - began
        speed = _probe(target, *largest)
    except PhdError as error:
        problem, remedy, listed = error.message, error.remedy, time.monotonic() - began
    finally:
        if target is not None:
            target.close()
    return Reached(
        name=spec.name,
        url=spec.url,
        answers=not problem,
        archives=archives,
        bytes_per_second=speed,
        indexed=indexed,
        problem=problem,
        remedy=remedy,
        seconds=listed,
    )


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
        speed = f"{show.size(one.bytes_per_second)}/s" if one.bytes_per_second else "-"
        indexed = f"{age(time.time() - one.indexed)} ago" if one.indexed else "never"
        state = f"answers in {one.seconds:.2f} s" if one.answers else "does not answer"
        rows.append((one.name, state, str(one.archives) if one.answers else "-", speed, indexed, printable(one.url)))
    show.table(("TARGET", "STATE", "ARCHIVES", "SPEED", "INDEXED", "URL"), rows)
    for one in found:
        if one.problem:
            show.say(f"\n{one.name}: {one.problem}\n  {one.remedy}")
        elif one.url.startswith("ftp:"):
            show.say(f"\n{one.name}: {_CLEAR_TEXT}")
