"""Restores a Full alone, in the foreground: streams any gzip and checks its CRCs; there is no map.

The first member of a Full that we made says the size of its disk, so the disk is allocated first and its length is checked; of any
other gzip the size is known only at the end.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field

from restore_core import durable
from restore_core.archive.full_reader import FullReader
from restore_core.disk.allocation import refuse_if_no_space, set_size, size_part
from restore_core.disk.destination import Destination
from restore_core.disk.foreign import only_plain
from restore_core.disk.hold import Hold
from restore_core.disk.scan import is_zero
from restore_core.errors import BadArchive, TryAgainLater
from restore_core.restore.existing import ChangedMeanwhile, ExistingDisk
from restore_core.restore.part import held_destination, held_part
from restore_core.restore.publish import descriptor_text, prepare_descriptor, show_descriptor
from restore_core.restore.recovery import recover
from restore_core.restore.refusals import refuse_beside_a_script, refuse_existing, refuse_unable, refuse_unwritable
from restore_core.restore.replace import publish_new, remove_old_disk, replace
from restore_core.restore.request import Phase, PlanSummary, Progress, Provision, Reporter, RestoreOutcome, RestoreRequest
from restore_core.targets import TargetSet
from restore_core.targets.base import Stop


def restore_full(request: RestoreRequest, targets: TargetSet, *, reporter: Reporter, stop: Stop) -> RestoreOutcome:
    """Restore the Full that `request.delta` names. After an error, which is a `PhdError`, nothing new has the final name."""
    with (
        targets.open(request.delta) as source,
        held_destination(request.destination, roots=request.roots, make_folders=True, datastores=request.datastores) as (
            destination,
            hold,
        ),
    ):
        for note in recover(destination, hold, request.records, stop):
            reporter.note(note)
        refuse_existing(destination, request, None, None)
        refuse_beside_a_script(destination)
        refuse_unwritable(destination)
        full = FullReader(source)
        refuse_unable(destination, full.identity.disk_size if full.identity else None)
        with held_part(destination, mode=request.mode, keep_part=lambda _error: False) as part:
            return _FullRestore(request=request, reporter=reporter, stop=stop, full=full).run(destination, hold, part)


@dataclass(frozen=True, slots=True, kw_only=True)
class _FullRestore:
    """One Full, opened."""

    request: RestoreRequest
    reporter: Reporter
    stop: Stop
    full: FullReader
    started: float = field(default_factory=time.monotonic)

    @property
    def _known(self) -> int | None:
        """Returns the size of the disk, if the Full says it."""
        return self.full.identity.disk_size if self.full.identity else None

    def run(self, destination: Destination, hold: Hold, part: int) -> RestoreOutcome:
        request, known = self.request, self._known
        if known is not None:
            descriptor_text(destination, request, known, None)
        needed = known if known is not None else self.full.source.size
        thin = request.options.provision is Provision.THIN
        refuse_if_no_space(destination, needed=needed, reserved=request.reserved, thin=thin)
        note = size_part(destination, part, size=known or 0, thick=request.options.provision is Provision.THICK)
        if note:
            self.reporter.note(note)
        size = self._copy(part, vmdk=destination.descriptor_name is not None)
        # Of a foreign gzip the size is known only now: one that no VMDK can have is refused before the old disk is touched.
        prepare_descriptor(destination, descriptor_text(destination, request, size, None), request.mode)
        durable.sync_file(part)
        self._publish(destination, hold, part)
        return RestoreOutcome(
            destination=request.destination,
            disk_size=size,
            plan=PlanSummary(block_size=0, disk_size=size, full_bytes=size),
            seconds=time.monotonic() - self.started,
            way="Full, as a plain file: checked by its own CRCs only",
            full=self.full.source.ref,
            vmx=None,
        )

    def _publish(self, destination: Destination, hold: Hold, part: int) -> None:
        if destination.stat_disk() is None:
            publish_new(destination, hold, part)
            show_descriptor(destination, replace=bool(self.request.options.overwrite))
            hold.clear_record()
            return
        try:
            with ExistingDisk.opened(destination) as old:
                durable.copy_owner_and_mode(part, os.fstat(old.fd))
                text = descriptor_text(destination, self.request, os.fstat(part).st_size, None)
                left, _ctime = replace(destination, hold, part, old, descriptor=text)
                show_descriptor(destination, replace=True)
                remove_old_disk(destination, hold, left, old)
        except ChangedMeanwhile as error:
            raise TryAgainLater(
                f"{destination.where}: the disk that is there was used while this one was written: {error}",
                remedy="It was left as it is. Power off the VM that uses it, then restore again.",
            ) from error

    def _copy(self, part: int, *, vmdk: bool) -> int:
        """Decode into the part file; returns the number of bytes. A VMDK gets only the plain bytes of a disk."""
        known, where, done = self._known, self.full.where, 0
        plain = self.full.plain()
        for data in only_plain(plain, where) if vmdk and known is None else plain:
            if known is not None and done + len(data) > known:
                raise BadArchive(f"{where}: holds more than the {known} bytes it promises", remedy="Use another copy.")
            if self.request.options.provision is Provision.THICK or not is_zero(data):
                durable.write_all_at(part, data, done)
            done += len(data)
            self._report(done)
        if known is not None and done != known:
            raise BadArchive(f"{where}: ends at {done} of {known} bytes", remedy="The file is truncated; use another copy.")
        set_size(part, done)
        return done

    def _report(self, done: int) -> None:
        self.stop()
        total = self._known if self._known is not None else done
        self.reporter.progress(Progress.of_stream(Phase.RESTORE, done=done, total=total, started=self.started))
