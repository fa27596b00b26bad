"""The names of jobs that come from a rule: one archive to one destination has one name, whoever asks for it.

The prefix is the mark that the daemon goes by: such a job is entered into the ledger when it is done. Since the name is
decided by what is asked, two passes at once cannot queue the same restore twice: the second name is taken.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from restore_core.targets.base import ArchiveRef

_PREFIX = "auto-"


def job_name(archive: ArchiveRef, destination: Path, *, vm: str, stamp: str) -> str:
    """`auto-CRM-2007.09.21-0300-1f2e3d4c5b`: readable first, unique at the end."""
    key = f"{archive}\n{destination}".encode("utf-8", "surrogateescape")
    readable = re.sub(r"[^A-Za-z0-9._-]", "_", vm)[:80].strip(".") or "vm"
    return f"{_PREFIX}{readable}-{stamp}-{hashlib.sha256(key).hexdigest()[:10]}"


def from_rule(job: str) -> bool:
    """Whether a job of this name comes from a rule."""
    return job.startswith(_PREFIX)
