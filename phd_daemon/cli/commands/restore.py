"""`phd restore ARCHIVE --to PATH`: a Delta or a Full, in the foreground, with live progress."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from phd_daemon.cli.complete import files
from phd_daemon.cli.interrupt import Interrupt, interruptible
from phd_daemon.cli.options import command, config_option, open_targets, restore_options
from phd_daemon.host.datastores import readable_record
from phd_daemon.host.process import forbid_core_dumps, tune_malloc
from phd_daemon.operations.installation import archive_ref, destination, read_config, receipts_folder
from phd_daemon.show import output
from phd_daemon.show.live import FullLine, LiveReport, delta_line, done_line, header_block
from restore_core.archive.delta_reader import DeltaReader
from restore_core.archive.frames import GZIP_MAGIC
from restore_core.errors import UsageError
from restore_core.naming import printable
from restore_core.restore.extras import restore_vmx
from restore_core.restore.full import restore_full
from restore_core.restore.request import RestoreOptions, RestoreOutcome, RestoreRequest, VmxChoice
from restore_core.restore.run import restore_delta
from restore_core.targets import TargetSet
from restore_core.targets.base import ArchiveRef


@command(stays_done=True)
@click.argument("archive", shell_complete=files)
@restore_options
@config_option
def restore(
    *,
    archive: str,
    to: str,
    full: str | None,
    options: RestoreOptions,
    config: Path | None,
) -> None:
    """Restore ARCHIVE now, and show how far it is.

    ARCHIVE is a Delta or a Full: NAME:folder/file on a target, or a local file. A Delta is verified block by block; a
    Full alone is checked by its own CRCs only, so a Delta is the better choice. ^C stops and cleans up.
    """
    settings = read_config(config)
    targets = open_targets(settings)
    request = RestoreRequest(
        delta=archive_ref(archive, targets.specs),
        destination=destination(to),
        full=archive_ref(full, targets.specs) if full else None,
        options=options,
        mode=settings.datastores.mode,
        records=receipts_folder(settings),
        datastores=readable_record(settings),
        catalog=settings.catalog_folder,
        catalog_max_age=settings.index.max_age,
    )
    forbid_core_dumps()
    tune_malloc()
    with interruptible() as stop:
        targets.stop = stop
        is_full, has_vmx = _look(request.delta, targets)
        _refuse_what_a_full_has_not(is_full, request)
        output.say("\n".join(header_block(request, targets.specs, is_full=is_full)))
        outcome = _run(request, targets, stop, is_full=is_full)
    output.say(done_line(outcome, is_full=is_full))
    if has_vmx and request.options.vmx is VmxChoice.NONE and sys.stdin.isatty() and output.on_a_terminal():
        _offer_vmx(request, targets)


def _run(request: RestoreRequest, targets: TargetSet, stop: Interrupt, *, is_full: bool) -> RestoreOutcome:
    report = LiveReport(FullLine() if is_full else delta_line)
    stop.must_go_on = report.must_go_on
    try:
        if is_full:
            return restore_full(request, targets, reporter=report, stop=stop)
        return restore_delta(request, targets, reporter=report, stop=stop)
    finally:
        report.close()


def _look(ref: ArchiveRef, targets: TargetSet) -> tuple[bool, bool]:
    """(is it a Full, does it hold a VMX)."""
    with targets.open(ref) as source:
        if source.read_at(0, min(2, source.size)) == GZIP_MAGIC:
            return True, False
        return False, DeltaReader(source).header.section("vmx") is not None


def _refuse_what_a_full_has_not(is_full: bool, request: RestoreRequest) -> None:
    if not is_full:
        return
    asked = {
        "--full": request.full is not None,
        "--vmx as-is": request.options.vmx is VmxChoice.AS_IS,
        "--readback": request.options.readback,
    }
    if wrong := [option for option, given in asked.items() if given]:
        remedy = "A Full is a gzip and nothing else. Restore its empty Delta to have these."
        raise UsageError(f"{request.delta} is a Full: {', '.join(wrong)} cannot be done", remedy=remedy)


def _offer_vmx(request: RestoreRequest, targets: TargetSet) -> None:
    """Seed: after a Delta restore you are asked about the VMX. It is the copy from the backup, and is not edited."""
    folder = request.destination.parent
    if click.confirm(f"Restore the VMX file also, unedited, to {printable(str(folder))}?", default=False):
        written = restore_vmx(request.delta, targets, folder, request.datastores)
        output.say(f"{printable(str(written))}: check its paths and settings before you use it")
