"""`phd rules check` and `phd rules load`: the rules of replication, looked at and extended."""

from __future__ import annotations

import time
from pathlib import Path

import click

from phd_daemon.cli import show
from phd_daemon.cli.options import config_option, json_option, read_config
from phd_daemon.known import fresh_catalog
from restore_core import durable
from restore_core.errors import ExitCode
from restore_core.naming import ArchiveType, printable
from restore_core.replication.loading import new_lines


@click.group()
def rules() -> None:
    """Check the rules of replication (vmdks.auto), or add to them."""


@rules.command()
@json_option
@config_option
def check(*, as_json: bool, config: Path | None) -> int:
    """Show what each rule matches now, and would restore. Also how far its replica lags behind.

    Exit code 65 if a line is wrong: it is named with line and column, and disables itself only.
    """
    from phd_daemon import replicate as passes
    from phd_daemon.cli.replicate import TITLES, row, show_troubles
    from phd_daemon.pass_record import Pass

    settings = read_config(config)
    began = time.monotonic()
    with fresh_catalog(settings) as catalog:
        findings = passes.look(settings, catalog, keep=False)
    refused = passes.refusals(settings, findings)
    done = Pass(findings=findings, seconds=time.monotonic() - began, dry_run=True, jobs={}, refused=refused)
    if as_json:
        show.as_json(done.document())
        return passes.exit_code(done)
    rows: list[tuple[int, tuple[str, ...]]] = [(one.rule.line, ("valid", *row(done, one))) for one in findings.decisions]
    for wrong in findings.problems:
        empty = [""] * (len(TITLES) - 2)
        rows.append((wrong.line, (f"not valid, column {wrong.column}", str(wrong.line), *empty, wrong.message)))
    if rows:
        show.table(("RULE", *TITLES), [cells for _, cells in sorted(rows)])
    elif settings.replication.rules.exists():
        show.say(f"{printable(str(settings.replication.rules))} holds no rule")
    else:
        show.say(f"{printable(str(settings.replication.rules))} is not there: no rules. 'phd rules load' begins one")
    show_troubles(done, problems=False)
    return passes.exit_code(done)


@rules.command()
@click.option("--active", is_flag=True, help="Append live rules; without it they are commented out, to be edited.")
@config_option
def load(*, active: bool, config: Path | None) -> int:
    """Append a rule for every VMDK that has none yet. Its destination is in default_datastore."""
    settings = read_config(config)
    path = settings.replication.rules
    with fresh_catalog(settings, look=None) as catalog:
        found = [entry for entry in catalog.entries() if entry.name.type is ArchiveType.DELTA]
        silent = [one for one in catalog.known() if one.problem]
    text = path.read_bytes() if path.exists() else b""
    lines = new_lines(text, found, datastore=settings.replication.default_datastore, active=active)
    if lines:
        durable.append_line(path, "\n".join(lines).encode())
    how = "" if active else ", commented out: remove the # of those you want"
    show.say(f"{printable(str(path))}: {len(lines)} VMDKs added{how if lines else ''}")
    for one in silent:
        show.complain(f"{one.problem}: its VMDKs are those of its last listing")
    return ExitCode.UNAVAILABLE if silent else ExitCode.DONE
