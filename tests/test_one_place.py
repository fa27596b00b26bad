"""What a newcomer may want to change is changed in one place: each test makes the change in a copy and uses it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("restore_core", "phd_daemon")


def copy_packages(to: Path) -> Path:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, to / package, ignore=shutil.ignore_patterns("__pycache__"))
    return to


def edit(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert text.count(before) == 1, f"{path}: {before!r} stands there {text.count(before)} times"
    path.write_text(text.replace(before, after))


def run_in(copy: Path, program: str) -> str:
    """What a Python program prints that imports the copy."""
    ran = subprocess.run([sys.executable, "-c", program], cwd=copy, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


RETRIES = """
from phd_daemon.spool.layout import State
from phd_daemon.spool.reconcile import Again, Facts, reconcile
from phd_daemon.spool.record import JobRecord
from phd_daemon.spool.scan import FileFacts, Kind
from phd_daemon.spool.status_file import Outcome, Result
from restore_core.disk.identity import Identity

here = Identity(inode=1, generation=1)
file = FileFacts(identity=here, kind=Kind.REGULAR, size=1, mtime_ns=0, ctime_ns=0, links=1)
record = JobRecord(
    stem="crm", state=State.RUNNING, identity=here, size=1, mtime_ns=0, not_before_ns=0, arrived_ns=0,
    accepted_at=0.0, uid=0, submitter="root", attempt=1,
)
outcome = Outcome(attempt=1, result=Result.TRY_AGAIN, exit_code=69, reason="asleep", finished_at=0.0)


def waits(outcome, how):
    now, found = record, []
    facts = dict(files={State.RUNNING: file}, outcome=outcome, how_ended=how)
    while isinstance(action := reconcile(Facts(record=now, **facts)), Again):
        found.append(action.next_try)
        now = now.with_(tries=action.tries, deaths=action.deaths)
    return [*found, action.state.value]


print(waits(outcome, ""), waits(None, "was killed"))
"""


def test_another_retry_schedule(tmp_path: Path) -> None:
    """The two tables say how often a job is tried, and how often its worker may die: there is no count beside them."""
    copy = copy_packages(tmp_path)
    edit(copy / "phd_daemon/spool/reconcile.py", "(60.0, 300.0, 900.0, 3600.0)", "(1.0, 2.0, 3.0, 4.0, 5.0, 6.0)")
    edit(copy / "phd_daemon/spool/reconcile.py", "DEATH_PAUSES = (2.0, 60.0)", "DEATH_PAUSES = (7.0,)")
    assert run_in(copy, RETRIES) == "[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 'failed'] [7.0, 'failed']\n"
