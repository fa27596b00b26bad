"""Submits restores: writes control files into the spool, each complete and durable before it gets its name.

It does nothing that a person could not do with an editor and `mv`: the daemon validates each file again.
"""

from __future__ import annotations

import datetime as dt
import itertools
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from phd_daemon.config.model import Config
from phd_daemon.operations.follow import state_of
from phd_daemon.operations.installation import spool_of
from phd_daemon.spool.control_file import ControlFile, check_policy, parse_control_file, render_control_file
from phd_daemon.spool.layout import MAX_STEM_BYTES, Spool, as_stored, too_long
from phd_daemon.spool.requests import drop
from restore_core.errors import BadControlFile, UsageError
from restore_core.naming import printable
from restore_core.restore.request import VmxChoice


def submit(
    settings: Config, controls: Sequence[ControlFile], *, name: str | None = None, not_before: dt.datetime | None = None
) -> list[str]:
    """Queues a job for each control file and returns the names of the jobs; all are checked before the first is queued.

    Without `name` a job is named after its disk. Raises what the daemon would reject a file with, `UsageError` for a name that
    cannot be used or belongs to a waiting job, `OSError`.
    """
    spool = spool_of(settings)
    texts = [checked_text(settings, control) for control in _one_vmx(controls)]
    start = not_before.timestamp() if not_before else None
    jobs = []
    for text, control in zip(texts, controls, strict=True):
        names = [as_stored(spool.folder, _checked_name(name))] if name else _unused(spool, control.restore_to)
        job = drop(spool, text, names=names, not_before=start)
        if job is None:
            remedy = "Choose another --name, or cancel that job."
            raise UsageError(f"a job '{printable(name or '')}' is waiting already", remedy=remedy)
        jobs.append(job)
    return jobs


def _one_vmx(controls: Sequence[ControlFile]) -> list[ControlFile]:
    """Takes the VMX from all disks of a VM but the first of each folder: it is one file of the VM."""
    found: list[ControlFile] = []
    folders: set[Path] = set()
    for control in controls:
        wanted, folder = control.options.vmx is VmxChoice.AS_IS, control.restore_to.parent
        second = wanted and folder in folders
        found.append(replace(control, options=replace(control.options, vmx=VmxChoice.NONE)) if second else control)
        folders |= {folder} if wanted else set()
    return found


def checked_text(settings: Config, control: ControlFile) -> bytes:
    """Returns the text of the control file. Raises what the daemon would reject it with; only the daemon checks who may do what."""
    text = render_control_file(control).encode()
    names = [spec.name for spec in settings.targets]
    try:
        parsed = parse_control_file(text)
    except BadControlFile as error:  # of a file that nobody wrote: no line, and nothing to rename
        message = re.sub(r"(?m)^line \d+: ", "", error.message)
        raise BadControlFile(
            message, remedy="Name the Delta as 'phd backups' prints it, and the disk as FOLDER/NAME.vmdk."
        ) from error
    check_policy(parsed, roots=settings.datastores.roots, target_names=names, submitter="", limits=None)
    return text


def _unused(spool: Spool, disk: Path) -> Iterable[str]:
    """Yields the disk's own name and then numbered ones, without those of other jobs."""
    base = re.sub(r"[^A-Za-z0-9._-]", "_", disk.stem).lstrip(".")[:150] or "disk"
    names = itertools.chain([base], (f"{base}-{number}" for number in itertools.count(2)))
    return itertools.filterfalse(lambda name: state_of(spool, name) is not None, names)


def _checked_name(name: str) -> str:
    if too_long(name):
        text = f"the name of a job has at most {MAX_STEM_BYTES} bytes, this one has {len(os.fsencode(name))}"
        raise UsageError(text, remedy="Give a shorter --name.")
    if "/" in name or "\0" in name or name.startswith(".") or name.endswith("~"):
        raise UsageError(f"'{printable(name)}' cannot be the name of a job", remedy="Use letters, digits, '-' and '_'.")
    return name
