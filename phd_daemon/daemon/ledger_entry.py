"""A job that came from a rule is entered into `restored.log` when it is done, before it is called done.

The order makes it exactly once: outcome durable, ledger line durable, control file renamed to .done. A crash in between
comes back here with the same outcome, and the line is there already. While the ledger cannot be written the job stays
.running, so that no pass queues it again; a line that somebody deletes later is never written a second time.
"""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

from phd_daemon.spool.record import JobRecord
from restore_core.replication import ledger
from restore_core.replication.ledger import LedgerLine
from restore_core.replication.names import from_rule


def enter(record: JobRecord, finished: float, path: Path) -> None:
    """Enter a done job of a rule; `finished` is when, in seconds since the epoch. Raises `OSError`."""
    if record.control is None or not from_rule(record.stem) or record.uid not in (0, os.geteuid()):
        return  # whoever may drop jobs may call one so, but the passes of the daemon and of root alone speak for the rules
    time = dt.datetime.fromtimestamp(int(finished), dt.UTC)
    line = LedgerLine(time=time, archive=record.control.delta, destination=record.control.restore_to, job=record.stem)
    ledger.append(path, line)
