"""`phd targets`: which targets answer, how fast, and what they hold.

phd targets trust NAME     accepts the identity of its server
phd targets accept NAME    accepts that it holds no archive any more
"""

from __future__ import annotations

import time
import urllib.parse
from dataclasses import asdict
from pathlib import Path

import click

from phd_daemon.cli.complete import target_names
from phd_daemon.cli.options import NO_TARGETS, NounGroup, config_option, json_option
from phd_daemon.cli.questions import agreed, yes_option
from phd_daemon.operations.installation import read_config
from phd_daemon.operations.targets import Reached, identity_of, look_for_archives, reach_all
from phd_daemon.operations.targets import accept as accept_emptied
from phd_daemon.operations.targets import trust as record_trust
from phd_daemon.show import output
from phd_daemon.show.output import counted
from phd_daemon.show.times import age
from restore_core.errors import ExitCode, Stopped
from restore_core.naming import printable
from restore_core.targets.kinds import KINDS

_CLEAR_TEXT = "clear text: whoever listens reads the backups and the password; ftps:// or sftp:// if the server has it"


@click.group(cls=NounGroup, invoke_without_command=True)
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
    found = reach_all(read_config(config))
    if as_json:
        output.as_json([asdict(one) for one in found])
    elif not found:
        output.say(NO_TARGETS)
    else:
        _print(found)
    return ExitCode.UNAVAILABLE if any(one.problem for one in found) else ExitCode.DONE


@targets.command()
@click.argument("name", shell_complete=target_names)
@yes_option("only where the fingerprint was compared before.")
@config_option
@click.pass_context
def trust(context: click.Context, name: str, yes: bool, config: Path | None) -> None:
    """Show whose server target NAME is, and trust it. It shows the fingerprint, and asks."""
    spec, shown = identity_of(read_config(config or context.obj), name)
    output.say(f"{printable(spec.url)} shows the {shown.kind}\n  {shown.fingerprint}")
    for line in shown.about:
        output.say(f"  {line}")
    if shown.vouched:
        output.say(f"{printable(shown.file)} has the CA that signed it, and its name and dates are right: nothing to do")
        return
    if shown.trusted:
        output.say(f"{printable(shown.file)} has the same one: nothing to do")
        return
    if shown.known:
        output.say(f"BUT {printable(shown.file)} HAS ANOTHER ONE FOR IT:\n  {', '.join(shown.known)}")
        output.say("Either the server was set up anew, or somebody stands between you and it. Ask whoever runs it.")
    else:
        output.say(
            f"and {printable(shown.file)} has none for it yet. Compare it with what the server itself says of its {shown.kind}."
        )
    if shown.pins:
        output.say(f"What is trusted is {shown.pins}.")
    if not yes and not agreed("Trust it from now on?", "compare the fingerprint"):
        raise Stopped(f"{printable(name)}: not trusted; nothing was recorded")
    record_trust(shown)
    output.say(f"recorded in {printable(shown.file)}")


@targets.command()
@click.argument("name", shell_complete=target_names)
@yes_option("only where somebody has looked before.")
@config_option
@click.pass_context
def accept(context: click.Context, name: str, yes: bool, config: Path | None) -> int:
    """Say that target NAME may hold no archive, though it did: it was emptied, or another disk is in its place.

    Until then it is not believed, since a disk that is not mounted looks the same. It shows what is there, and asks.
    """
    settings = read_config(config or context.obj)
    seen = look_for_archives(settings, name)
    url, held = printable(seen.spec.url), counted(seen.held, "archive")
    output.say(f"target {name} ({url}) held {held}, and holds {seen.holds or 'none'}")
    if not seen.suspicious:
        output.say("nothing to accept: it is believed as it is")
        return ExitCode.DONE
    if not yes and not agreed("Is it right that they are gone?", "look at the target"):
        raise Stopped(f"{name}: not accepted; what it held is kept in the catalog")
    known = accept_emptied(settings, seen.spec)
    output.say(f"recorded: {name} holds {counted(known.archives, 'archive')} now, and backups may be made to it")
    return ExitCode.DONE


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
        if words := "; ".join(one.can.remarks()):
            output.say(f"\n{one.name}: {words}")
        for words in one.idle:
            output.say(f"\n{one.name}: {words}")
        if one.passed_over:
            output.say(f"\n{one.name}: passed over, since no backup can be in it: {one.passed_over}")
