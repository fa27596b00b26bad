"""Restores a Full alone, in the foreground: the gzip as it is, from any writer, streamed. Its CRCs are checked, there is no map.

A Full made by us tells its disk size in its first member, so it is pre-allocated and its length is checked; of any other
gzip the size is known only at the end.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable

from restore_core import durable
from restore_core.archive.full_reader import FullReader
from restore_core.disk.allocation import create_part, refuse_if_no_space
from restore_core.disk.destination import open_destination
from restore_core.disk.scan import is_zero
from restore_core.errors import BadArchive, from_os_error
from restore_core.restore import publish
from restore_core.restore.request import Phase, PlanSummary, Progress, Provision, Reporter, RestoreOutcome, RestoreRequest, Stop
from restore_core.targets import TargetSet


def restore_full(request: RestoreRequest, targets: TargetSet, *, reporter: Reporter, stop: Stop) -> RestoreOutcome:
    """Restore the Full that `request.delta` names. Raises typed errors; nothing is left under the final name then."""
    started = time.monotonic()
    with (
        targets.open(request.delta) as source,
        open_destination(request.destination, roots=request.roots, make_folders=True) as destination,
    ):
        full = FullReader(source)
        known = full.identity.disk_size if full.identity else None
        publish.refuse_existing(destination, request)
        if known is not None:
            publish.descriptor_text(destination, request, known, None)
        refuse_if_no_space(destination, needed=known if known is not None else source.size, reserved=request.reserved)

        def report(done: int) -> None:
            stop()
            total = known if known is not None else done
            reporter.progress(
                Progress(
                    phase=Phase.RESTORE,
                    disk_size=total,
                    done=done,
                    moved=done,
                    delta_done=0,
                    delta_total=0,
                    full_done=done,
                    full_total=total,
                    started=started,
                )
            )

        thick = request.provision is Provision.THICK
        fd, note = create_part(destination, size=known or 0, thick=thick, mode=request.mode)
        if note:
            reporter.note(note)
        try:
            size = _copy(full, fd, known, request, report)
            durable.sync_file(fd)
            publish.publish(destination, request, fd, size=size, original=None)
        except BaseException as error:
            with contextlib.suppress(OSError):
                durable.remove(destination.part_name, dir_fd=destination.folder_fd)
            if isinstance(error, OSError):
                raise from_os_error(error, doing="writing", where=str(request.destination)) from error
            raise
        finally:
            os.close(fd)
        return RestoreOutcome(
            destination=request.destination,
            disk_size=size,
            plan=PlanSummary(block_size=0, disk_size=size, full_bytes=size),
            seconds=time.monotonic() - started,
            way="Full, as a plain file: checked by its own CRCs only",
            full=source.ref,
            vmx=None,
        )


def _copy(full: FullReader, fd: int, known: int | None, request: RestoreRequest, report: Callable[[int], None]) -> int:
    done = 0
    for data in full.plain():
        if known is not None and done + len(data) > known:
            raise BadArchive(f"{full.where}: holds more than the {known} bytes it promises", remedy="Use another copy.")
        if request.provision is Provision.THICK or not is_zero(data):
            durable.write_all_at(fd, data, done)
        done += len(data)
        report(done)
    if known is not None and done != known:
        raise BadArchive(f"{full.where}: ends at {done} of {known} bytes", remedy="The file is truncated; use another copy.")
    os.ftruncate(fd, done)
    return done
