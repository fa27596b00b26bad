"""`phd rules check`, `edit` and `load`: shows, edits and extends the rules of replication."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from phd_daemon.cli.commands.replicate import show_troubles
from phd_daemon.cli.options import NounGroup, config_option, json_option
from phd_daemon.operations.installation import read_config, spool_of
from phd_daemon.operations.rules import edit_file
from phd_daemon.replication import one_pass as passes
from phd_daemon.replication.rules_edit import CheckedRules, CopyAnswer, preload_rules
from phd_daemon.replication.rules_edit import edit as edit_rules
from phd_daemon.show import output
from phd_daemon.show.output import counted
from phd_daemon.show.rules import LINE_TITLES, edited, line_rows, no_rules
from restore_core.errors import ExitCode
from restore_core.naming import printable


@click.group(cls=NounGroup)
def rules() -> None:
    """Check or edit the rules of replication (vmdks.auto), or add to them."""


@rules.command()
@json_option
@config_option
def check(*, as_json: bool, config: Path | None) -> int:
    """Show what each rule matches now, and would restore. Also how far its replica lags behind.

    Exit code 65 if a line is wrong: line and column are shown. The other lines are followed.
    """
    settings = read_config(config)
    spool_of(settings)
    done = passes.dry_run(settings, list_all=False)
    if as_json:
        output.as_json(done.document())
        return passes.exit_code(done)
    rows = line_rows(done.findings.decisions, done.findings.problems, done.refused, dry_run=True, silent=done.findings.silent)
    if rows:
        output.table(LINE_TITLES, rows)
    else:
        output.say(no_rules(settings.replication.rules))
    show_troubles(done, problems=False)
    return passes.exit_code(done)


@rules.command()
@config_option
def edit(*, config: Path | None) -> int:
    """Edit the rules with $VISUAL, $EDITOR, nano or vi; they are checked before they take effect.

    You edit a copy. Bad lines are shown with line and column, and you decide; without a terminal they change nothing.
    Exit code 65 if bad lines were found in the end.
    """
    settings = read_config(config)
    done = edit_rules(settings, editor=edit_file, decide=_decide)
    checked = done.checked
    output.say(edited(settings.replication.rules, checked.rules, len(checked.problems), installed=done.installed))
    return ExitCode.BAD_DATA if checked.problems else ExitCode.DONE


def _decide(checked: CheckedRules) -> CopyAnswer:
    for problem in checked.problems:
        output.complain(problem)
    if not sys.stdin.isatty():
        return CopyAnswer.THROW_AWAY
    letters = {answer.value[0]: answer for answer in checked.answers}
    output.say(", ".join(f"({letter}) {answer.value}" for letter, answer in letters.items()))
    try:
        return letters[click.prompt("What now?", type=click.Choice(list(letters)), default="e")]
    except click.Abort:  # what click makes of ^C
        raise KeyboardInterrupt from None


@rules.command()
@click.option("--active", is_flag=True, help="Append live rules; without it they are commented out, to be edited.")
@config_option
def load(*, active: bool, config: Path | None) -> int:
    """Append a rule for every VMDK that has none yet. Its destination is in default_datastore."""
    settings = read_config(config)
    done = preload_rules(settings, active=active)
    how = "" if active or not done.added else ", commented out: remove the # of those you want"
    output.say(f"{printable(str(settings.replication.rules))}: {counted(done.added, 'VMDK')} added{how}")
    if not done.added:
        output.complain("no disk on the targets lacks a rule: 'phd backups' shows the disks, 'phd index' looks for new ones")
    for problem in done.silent:
        output.complain(f"{problem}: its VMDKs are those of its last listing")
    return ExitCode.UNAVAILABLE if done.silent else ExitCode.DONE
