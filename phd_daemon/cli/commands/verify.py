"""`phd verify ARCHIVE`: proves every byte of an archive, and of the Full it needs, without restoring."""

from __future__ import annotations

from pathlib import Path

import click

from phd_daemon.cli.complete import files
from phd_daemon.cli.interrupt import interruptible
from phd_daemon.cli.options import command, config_option, full_option, json_option, open_targets
from phd_daemon.host.process import forbid_core_dumps, tune_malloc
from phd_daemon.operations.installation import archive_ref, read_config
from phd_daemon.show import output
from phd_daemon.show.live import LiveReport
from restore_core.restore.verify import verify_archive


@command(stays_done=False)
@click.argument("archive", shell_complete=files)
@full_option
@json_option
@config_option
def verify(archive: str, full: str | None, as_json: bool, config: Path | None) -> None:
    """Prove every byte of ARCHIVE, a Delta or a Full. Exit code 0, or 65 and what is wrong."""
    targets = open_targets(read_config(config))
    forbid_core_dumps()
    tune_malloc()
    report = _Quiet() if as_json else LiveReport()
    with interruptible() as stop:
        targets.stop = stop
        try:
            found = verify_archive(
                archive_ref(archive, targets.specs),
                targets,
                full=archive_ref(full, targets.specs) if full else None,
                reporter=report,
                stop=stop,
            )
        finally:
            report.close()
    if as_json:
        output.as_json(
            {
                "archive": str(found.archive),
                "full": str(found.full) if found.full else None,
                "by": found.by,
                "bytes_checked": found.bytes_checked,
                "disk_size": found.disk_size,
            }
        )
        return
    needs = f", with its Full {found.full}" if found.full and found.full != found.archive else ""
    output.say(f"{found.archive}: good{needs} ({found.bytes_checked} bytes checked, by {found.by})")


class _Quiet(LiveReport):
    """Standard output belongs to the JSON document."""

    def note(self, text: str) -> None:
        output.complain(text)

    def close(self) -> None:
        pass
