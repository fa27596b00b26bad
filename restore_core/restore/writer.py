"""Writes one disk, the way that was decided. Everything it writes was verified; nothing is shown before it is durable."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import assert_never

from restore_core import durable
from restore_core.archive.delta_reader import DeltaReader
from restore_core.archive.full_reader import FullReader
from restore_core.disk.allocation import size_part, zero_range
from restore_core.disk.destination import Destination
from restore_core.disk.sink import BufferedFile, DirectFile, Sink
from restore_core.errors import BadArchive, PhdError, TargetUnavailable, TryAgainLater
from restore_core.naming import printable
from restore_core.restore import publish, receipt, redo
from restore_core.restore.pipeline import Pipeline
from restore_core.restore.progress import ProgressReport
from restore_core.restore.request import Phase, Provision, Reporter, RestoreRequest, Stop
from restore_core.restore.staging import StagedBlocks
from restore_core.restore.ways import Decision, Way


class CopyFailed(Exception):
    """The copy of the Full that was used broke or is damaged; nothing of the disk was shown. `error` is what it said."""

    def __init__(self, error: PhdError) -> None:
        super().__init__(error.message)
        self.error = error


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """One destination, open and decided upon. `part` is its part file, held by the caller, who also removes it."""

    request: RestoreRequest
    reporter: Reporter
    stop: Stop
    started: float
    destination: Destination
    delta: DeltaReader
    full: FullReader | None
    decision: Decision
    part: int

    def write(self) -> None:
        """Write, make durable, put on record, publish. Raises `CopyFailed` when another copy of the Full may do better."""
        way = self.decision.way
        if way is Way.NEW or way is Way.RESUME or way is Way.WHOLE:
            self._new_file()
        elif way is Way.CLONE:
            self._cloned_file()
        elif way is Way.REDO:
            self._in_place()
        elif way is Way.NOTHING:
            self._make_sure()
            self._record_disk()
            if self.destination.descriptor_name and self.destination.stat_descriptor() is None:
                publish.put_descriptor(self.destination, self.request, size=self._size, original=self._original)
        else:
            assert_never(way)
        receipt.settle(self.request.records, self.destination)
        redo.remove(self.destination)

    @property
    def _size(self) -> int:
        return self.decision.plan.disk_size

    @property
    def _original(self) -> bytes | None:
        return self.delta.descriptor()

    def _new_file(self) -> None:
        thick = self.request.provision is Provision.THICK
        keep = self.decision.way is Way.RESUME
        note = size_part(self.destination, self.part, size=self._size, thick=thick, keep=keep)
        if note:
            self.reporter.note(note)
        self._fill(self.part, thick=thick)
        self._publish_part()

    def _cloned_file(self) -> None:
        facts = self.destination.stat_disk()
        os.ftruncate(self.part, self._size)
        self._fill(self.part, thick=facts is not None and redo.is_thick(facts))
        self._publish_part()

    def _in_place(self) -> None:
        """Stage, seal, apply. What was staged is thrown away on any error before the seal; after it there is only forward."""
        survey = self.decision.survey
        if survey is None:
            raise AssertionError("a refresh in place rests on a survey")
        staged = redo.stage(self.destination)
        try:
            report = self._progress()
            self._run(StagedBlocks(staged, self.delta, survey), report)
            report.phase(Phase.FLUSH)
            text = publish.descriptor_text(self.destination, self.request, self._size, self._original)
            redo.seal(self.destination, staged, self.delta, survey, descriptor=text)
        except BaseException:
            redo.discard(self.destination)
            raise
        finally:
            os.close(staged)
        report.phase(Phase.APPLY)
        unrecorded: list[TryAgainLater] = []

        def before_it_is_shown(disk: int) -> None:
            self._read_back(disk, lambda: None)  # no cancel here: the disk would stay without its name
            try:
                receipt.save(self.request.records, self.destination, self.delta, os.fstat(disk))
            except TryAgainLater as error:
                unrecorded.append(error)  # nor for this

        redo.apply_staged(self.destination, before_it_is_shown)
        if unrecorded:
            raise unrecorded[0]

    def _fill(self, fd: int, *, thick: bool) -> None:
        """Every block, verified and durable."""
        report = self._progress()
        survey = self.decision.survey
        if survey is not None:
            for offset, length in survey.cleared(self.delta):
                zero_range(fd, offset, length, thick=thick)
        # Past the cache only into allocated blocks: elsewhere the file system lays out better what it may collect first.
        self._run(DirectFile(fd) if thick else BufferedFile(fd), report)
        report.phase(Phase.FLUSH)
        durable.sync_file(fd)
        if self.request.readback:
            report.phase(Phase.READBACK)
        self._read_back(fd, self.stop)
        report.phase(Phase.PUBLISH)
        self.stop()

    def _run(self, sink: Sink, report: ProgressReport) -> None:
        try:
            survey = self.decision.survey
            Pipeline(self.delta, self.full, sink, where=self._where, survey=survey).run(report.tick, self.stop)
        except (BadArchive, TargetUnavailable, TryAgainLater) as error:
            if self.full is not None and self.full.where in error.message:
                raise CopyFailed(error) from error
            raise
        finally:
            sink.close()

    def _read_back(self, fd: int, stop: Stop) -> None:
        if self.request.readback:
            publish.read_back(self.delta, fd, self._where, stop)

    def _publish_part(self) -> None:
        if (old := self.destination.stat_disk()) is not None:
            publish.keep_owner(self.part, old)
        receipt.save(self.request.records, self.destination, self.delta, os.fstat(self.part))
        publish.publish(self.destination, self.request, size=self._size, original=self._original)

    def _make_sure(self) -> None:
        """Bytes and name that lie there already may be in memory only: the attempt that wrote them was killed too early."""
        folder = self.destination.folder_fd
        disk = os.open(self.destination.disk_name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            durable.sync_file(disk)
        finally:
            os.close(disk)
        durable.sync_folder(".", dir_fd=folder)

    def _record_disk(self) -> None:
        if (facts := self.destination.stat_disk()) is not None:
            receipt.save(self.request.records, self.destination, self.delta, facts)

    def _progress(self) -> ProgressReport:
        return ProgressReport(self.decision.plan, self.reporter, self.started)

    @property
    def _where(self) -> str:
        return printable(str(self.request.destination))
