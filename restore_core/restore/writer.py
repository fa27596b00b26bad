"""Writes one disk, the way that was decided. It writes only verified bytes, and shows the disk only when it is durable."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import assert_never

from restore_core import durable
from restore_core.archive.delta_reader import DeltaReader
from restore_core.archive.full_reader import FullReader
from restore_core.disk.allocation import shares_blocks, size_part, zero_range
from restore_core.disk.destination import HIDDEN_SUFFIX, STAGED_SUFFIX, Destination
from restore_core.disk.hold import Hold
from restore_core.disk.sink import BufferedFile, DirectFile, Sink
from restore_core.errors import TryAgainLater
from restore_core.restore import publish, redo, redo_file
from restore_core.restore.decide import Decision, Way
from restore_core.restore.existing import ALLOCATING, ChangedMeanwhile, ExistingDisk, allocate_ahead, is_thick, ranges_to_allocate
from restore_core.restore.pipeline import Pipeline, ProgressReport
from restore_core.restore.publish import descriptor_text, prepare_descriptor, show_descriptor
from restore_core.restore.receipt import Receipt, Receipts
from restore_core.restore.replace import publish_new, remove_old_disk, replace
from restore_core.restore.request import Phase, Provision, Reporter, RestoreRequest
from restore_core.restore.survey import Survey
from restore_core.targets.base import Stop


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """Writes one destination, which is held. `part` is its part file, `disk` the disk that is there; the caller closes both."""

    request: RestoreRequest
    reporter: Reporter
    stop: Stop
    started: float
    destination: Destination
    hold: Hold
    delta: DeltaReader
    full: FullReader | None
    decision: Decision
    part: int
    disk: ExistingDisk | None

    def write(self) -> None:
        """Write, make durable, write the receipt, publish.

        Raises `CopyFailed` when another copy of the Full may do better, `ChangedMeanwhile` when the disk has to be surveyed anew.
        """
        way = self.decision.way
        if self.disk is not None:
            self._receipts.catch_up(os.fstat(self.disk.fd))
        if way is Way.NEW or way is Way.RESUME:
            self._new_file()
        elif way is Way.WHOLE or way is Way.CLONE:
            self._instead_of_the_old()
        elif way is Way.REDO:
            self._in_place()
        elif way is Way.NOTHING:
            self._make_sure()
        else:
            assert_never(way)
        if (self.hold.record() or {}).get("doing") == ALLOCATING:
            self.hold.clear_record()  # that of an attempt that a crash ended: the receipt is right again

    @property
    def _size(self) -> int:
        return self.decision.plan.disk_size

    @property
    def _receipts(self) -> Receipts:
        return Receipts(self.request.records, self.destination)

    @property
    def _text(self) -> str | None:
        return descriptor_text(self.destination, self.request, self._size, self.delta.descriptor())

    @property
    def _old(self) -> ExistingDisk:
        if self.disk is None:
            raise AssertionError("this way is for a disk that is there")
        return self.disk

    def _new_file(self) -> None:
        """Write a new disk: all of it, or what an earlier attempt left to do."""
        thick = self.request.options.provision is Provision.THICK
        self._size_part(thick=thick, keep=self.decision.way is Way.RESUME)
        self._fill(self.part, thick=thick)
        self._receipts.prepare(self.delta, os.fstat(self.part))
        prepare_descriptor(self.destination, self._text, self.request.mode)
        ctime = publish_new(self.destination, self.hold, self.part)
        show_descriptor(self.destination, replace=bool(self.request.options.overwrite))
        self._settle(self.part, ctime)

    def _instead_of_the_old(self) -> None:
        """Put a new file, or a clone of the disk with the changes, in the place of the disk that is there."""
        old = self._old
        durable.copy_owner_and_mode(self.part, os.fstat(old.fd))
        if self.decision.way is Way.CLONE:
            os.ftruncate(self.part, self._size)
            self._fill(self.part, thick=is_thick(os.fstat(old.fd)))
        else:
            thick = self.request.options.provision is Provision.THICK
            self._size_part(thick=thick, keep=False)
            self._fill(self.part, thick=thick)
        self._receipts.prepare(self.delta, os.fstat(self.part))
        text = self._text
        prepare_descriptor(self.destination, text, self.request.mode)
        left, ctime = replace(self.destination, self.hold, self.part, old, descriptor=text)
        show_descriptor(self.destination, replace=True)
        self._settle(self.part, ctime)
        remove_old_disk(self.destination, self.hold, left, old)

    def _in_place(self) -> None:
        """Stage, prove, hide, write. A VM may start until the disk is hidden: then the staged file is deleted."""
        survey, old, where = self.decision.survey, self._old, self.destination
        if survey is None:
            raise AssertionError("a refresh in place rests on a survey")
        report = self._progress()
        text = self._text
        staged = redo.stage(where)
        try:
            redo_file.read_ahead(old.fd, self.delta, survey)
            self._run(redo_file.StagedBlocks(staged, self.delta, survey), report)
            report.phase(Phase.FLUSH)
            durable.start_writing(staged)
            self._allocate_and_prove(old, survey)
            thick = is_thick(os.fstat(old.fd))
            redo_file.complete(staged, old.fd, self.delta, survey, before=old.stamps, thick=thick, descriptor=text)
            if not where.leads_to(where.disk_name + STAGED_SUFFIX, staged):
                text = f"{where.where}: somebody removed its redo file; nothing was changed"
                raise TryAgainLater(text, remedy="A queued job is tried again.")
            redo.seal(where)
            file = redo_file.RedoFile.opened(staged)
            if file is None:
                raise TryAgainLater(f"{where.where}: the redo file cannot be read back", remedy="Look at the kernel's log.")
            prepare_descriptor(where, text, self.request.mode)
            report.phase(Phase.APPLY)
            known, facts = self._receipts.load(), os.fstat(old.fd)
            self._hide_and_prove(old)
            self._apply(old, file, text, known if known is not None and known.ours(facts) else None, facts)
        except BaseException:
            if not redo.hidden(where):  # recovery needs the redo file of a hidden disk
                redo.discard(where)
            raise
        finally:
            os.close(staged)
        redo.discard(where)

    def _allocate_and_prove(self, old: ExistingDisk, survey: Survey) -> None:
        old.reopen_for_writing()
        old.prove()
        note = allocate_ahead(old, self.hold, self._receipts, ranges_to_allocate(old, self.delta, survey))
        if note:
            self.reporter.note(note)
        old.prove()

    def _hide_and_prove(self, old: ExistingDisk) -> None:
        """Hide descriptor and disk, and prove that nobody opened it before. If somebody did, show both again, and raise."""
        self.hold.refuse_if_lost()
        # First the receipt: recovery, which completes the change after a crash, must know that the disk is ours.
        self._receipts.prepare(self.delta, os.fstat(old.fd), mtime_ns=time.time_ns())
        try:
            redo.hide(self.destination, old)
        except FileNotFoundError as error:
            raise ChangedMeanwhile("somebody removed it", written=True) from error
        try:
            old.prove_again(self.destination.disk_name + HIDDEN_SUFFIX)
            if shares_blocks(old.fd):
                raise ChangedMeanwhile("it began to share blocks with another file", written=False)
        except BaseException:
            with redo.only_by_recovery(self.destination.where):
                redo.unhide(self.destination)
            self._receipts.forget_next()
            raise

    def _apply(
        self, old: ExistingDisk, file: redo_file.RedoFile, text: str | None, ours: Receipt | None, before: os.stat_result
    ) -> None:
        """Write, and show. `ours` is the receipt of the disk if it was ours, `before` its facts before it was hidden."""
        where, unrecorded = self.destination, None

        def taken_back() -> None:
            if ours is not None:
                self._receipts.stamp(os.fstat(old.fd), sure=ours.untouched(before))

        # The check cannot be stopped: the disk would stay hidden.
        redo.apply_or_take_back(where, old.fd, file, check=lambda: self._read_back(old.fd, lambda: None), taken_back=taken_back)
        with redo.only_by_recovery(where.where):
            try:
                self._receipts.stamp_next(os.fstat(old.fd))
            except TryAgainLater as error:
                unrecorded = error  # no reason to leave the disk hidden
                self._receipts.date_as_announced(old.fd)
            ctime = redo.show(where, old.fd, text)
        if unrecorded is not None:
            redo.discard(where)
            raise unrecorded
        self._settle(old.fd, ctime)

    def _make_sure(self) -> None:
        """Nothing differs. The survey has synced the bytes; sync their name, too: an attempt may have been killed before."""
        old = self._old
        durable.sync_folder(".", dir_fd=self.destination.folder_fd)
        self.destination.refuse_if_moved()
        if self.destination.descriptor_name and self.destination.stat_descriptor() is None:
            prepare_descriptor(self.destination, self._text, self.request.mode)
            show_descriptor(self.destination, replace=False)
        known = self._receipts.load()
        if known is None or known.delta_id != self.delta.header.delta_id or not known.untouched(os.fstat(old.fd)):
            self._receipts.prepare(self.delta, os.fstat(old.fd))
            self._settle(old.fd, old.stamps.ctime_ns)

    def _size_part(self, *, thick: bool, keep: bool) -> None:
        note = size_part(self.destination, self.part, size=self._size, thick=thick, keep=keep)
        if note:
            self.reporter.note(note)

    def _fill(self, fd: int, *, thick: bool) -> None:
        """Write every block that is wanted, verified, and make the file durable."""
        report = self._progress()
        survey = self.decision.survey
        if survey is not None:
            for offset, length in survey.cleared(self.delta):
                zero_range(fd, offset, length, thick=thick)
        # Past the cache only into allocated blocks: the layout of others is better if the file system collects writes first.
        self._run(DirectFile(fd) if thick else BufferedFile(fd), report)
        report.phase(Phase.FLUSH)
        durable.sync_file(fd)
        if self.request.options.readback:
            report.phase(Phase.READBACK)
        self._read_back(fd, self.stop)
        report.phase(Phase.PUBLISH)
        self.stop()

    def _run(self, sink: Sink, report: ProgressReport) -> None:
        where, survey = self.destination.where, self.decision.survey
        try:
            Pipeline(self.delta, self.full, sink, where=where, survey=survey).run(report.tick, self.stop)
        finally:
            sink.close()

    def _read_back(self, fd: int, stop: Stop) -> None:
        if self.request.options.readback:
            publish.read_back(self.delta, fd, self.destination.where, stop)

    def _settle(self, fd: int, ctime_ns: int) -> None:
        """Settle the receipt: the disk has its final name, and the path still leads to it."""
        self.destination.refuse_if_moved()
        self._receipts.settle(fd, ctime_ns)

    def _progress(self) -> ProgressReport:
        return ProgressReport(self.decision.plan, self.reporter, self.started)
