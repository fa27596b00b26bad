"""What the configuration means for one job: who may submit what, and the order its worker gets."""

from __future__ import annotations

import os
from collections.abc import Hashable
from pathlib import Path

from phd_daemon.config.model import Config, SubmitterLimits
from phd_daemon.daemon.reserved_space import set_aside
from phd_daemon.spool.admit import Claim
from phd_daemon.spool.control_file import OURS, ControlFile, check_policy, parse_control_file
from phd_daemon.spool.intake import groups_of
from phd_daemon.spool.keeper import Policy
from phd_daemon.spool.layout import Spool
from phd_daemon.spool.record import JobRecord
from phd_daemon.worker.order import WorkOrder
from restore_core import durable
from restore_core.disk.destination import STAGED_SUFFIX, Destination, destination_key, open_destination
from restore_core.errors import PhdError
from restore_core.replication.names import from_rule
from restore_core.restore.part import held_destination, remove_small_parts


def door_policy(config: Config) -> Policy:
    """How the door judges under this configuration."""
    names = tuple(spec.name for spec in config.targets)

    def judge(text: bytes, submitter: str) -> ControlFile:
        control = parse_control_file(text)
        limits = _limits(config, submitter)
        check_policy(control, roots=config.datastores.roots, target_names=names, submitter=submitter, limits=limits)
        return control

    return Policy(judge=judge, submitters=config.queue.submitters, open=config.queue.enabled)


def work_order(config: Config, spool: Spool, claim: Claim) -> WorkOrder:
    """Everything the worker of a claimed job needs."""
    record, control = claim.record, claim.record.control
    if control is None:
        raise AssertionError(f"{record.stem}: claimed without having been accepted")
    return WorkOrder(
        job=record.stem,
        attempt=record.attempt,
        spool=os.fspath(spool.folder),
        lock_fd=claim.lock_fd,
        delta=str(control.delta),
        restore_to=os.fspath(control.restore_to),
        full=str(control.full) if control.full else None,
        overwrite=control.overwrite is not False,
        only_ours=control.overwrite == OURS,
        provision=control.provision.value,
        vmx=control.vmx.value,
        readback=control.readback,
        roots=tuple(os.fspath(root) for root in config.datastores.roots),
        mode=config.datastores.mode,
        reserved=set_aside(spool, record.stem, control.restore_to, config.datastores.roots),
        records=os.fspath(spool.receipts),
        datastores=os.fspath(spool.datastores),
        catalog=os.fspath(config.catalog_folder),
        catalog_max_age=config.index.max_age,
        targets=config.targets,
        decided_at=record.mtime_ns / 1e9 if from_rule(record.stem) else 0.0,
    )


def disk_key(path: Path, roots: tuple[Path, ...]) -> Hashable:
    """Equal for two paths to one disk. Where the folder is not there yet, or may not be looked at, the path itself."""
    try:
        return destination_key(path, roots) or path
    except (OSError, PhdError):
        return path  # the worker will say what is wrong with it


def drop_part(record: JobRecord, roots: tuple[Path, ...]) -> bool:
    """Remove what attempts of a job that has ended left unfinished at its destination.

    The worker does that itself when it lives to see the end; this is for jobs that were cancelled while they waited,
    or whose workers died, or could not remove it. The part file of a disk that is held just now stays.
    True if one was removed.
    """
    if record.control is None or record.attempt == 0:
        return False
    try:
        with open_destination(record.control.restore_to, roots=roots, make_folders=False) as destination:
            names = {destination.part_name, *destination.small_parts, *_pieces(destination)}
            if not names & set(os.listdir(destination.folder_fd)):
                return False  # and not even a lock file is made: perhaps this is an empty mount point
        with held_destination(record.control.restore_to, roots=roots, make_folders=False) as (destination, hold):
            if hold.record() is not None:
                return False  # a replacement was interrupted: the next restore has to look at it
            name, folder = destination.part_name, destination.folder_fd
            for piece in _pieces(destination):
                durable.remove(piece, dir_fd=folder, durable=False)
            fd = durable.take_part(name, dir_fd=folder, keep=True)  # nor one whose lock file somebody removed
            try:
                remove_small_parts(destination)
                return durable.remove(name, dir_fd=folder)
            finally:
                os.close(fd)
    except (OSError, PhdError):
        return False  # no folder, no datastore, or it is in use: then there is nothing to tidy up


def _pieces(destination: Destination) -> list[str]:
    """What was staged for a change in place, and files that were about to get their name: without a record nothing needs them."""
    return [destination.disk_name + STAGED_SUFFIX, *destination.private_names()]


def _limits(config: Config, submitter: str) -> SubmitterLimits | None:
    """Those of the user, else those of the first of his groups that has some."""
    limits = config.queue.submitter_limits
    if submitter in limits:
        return limits[submitter]
    mine = groups_of(submitter)
    return next((limit for name, limit in limits.items() if name.startswith("@") and name[1:] in mine), None)
