"""A change in one place: each test makes one in a copy of the packages, and shows that nothing else has to be touched."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A checkout in which a test may change anything."""
    for top in ("restore_core", "phd_daemon", "tests"):
        shutil.copytree(ROOT / top, tmp_path / top, ignore=shutil.ignore_patterns("__pycache__", "pictures"))
    return tmp_path


def add_line(path: Path, after: str, line: str) -> None:
    """One line more, behind the first that holds `after`."""
    lines = path.read_text().splitlines()
    at = next(number for number, text in enumerate(lines) if after in text)
    indent = lines[at][: len(lines[at]) - len(lines[at].lstrip())]
    path.write_text("\n".join([*lines[: at + 1], indent + line, *lines[at + 1 :]]) + "\n")


def run(copy: Path, program: str) -> None:
    """Run a program with the changed packages; it ends with 0."""
    ran = subprocess.run([sys.executable, "-c", program], cwd=copy, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


WITH_ANOTHER_DIGEST = """
import datetime as dt
import random
from pathlib import Path

from restore_core.archive.digests import BlockDigest
from restore_core.backup.run import BackupOptions
from restore_core.backup.subject import Asked
from restore_core.errors import BadArchive
from tests.lab import BLOCK, NIGHT, UUID, Lab

Path("records").mkdir()
lab = Lab(Path("lab").absolute())
old = random.Random(2).randbytes(6 * BLOCK) + bytes(BLOCK) + b"odd"
new = old[:BLOCK] + random.Random(1).randbytes(BLOCK) + old[2 * BLOCK :]
options = BackupOptions(asked=Asked(vm="CRM", uuid=UUID), block_digest=BlockDigest.SHA512, at=NIGHT, scratch=lab.folder)
full = lab.backup(old, options=options)
delta = lab.backup(new)
header = lab.reader(delta.delta).header
assert header.block_digest.value == "sha512" and header.block_digest.size == 64
kept = {"overwrite": True, "records": Path("records").absolute()}
for ref, data in ((full.delta, old), (delta.delta, new), (full.delta, old), (delta.delta, new)):
    outcome = lab.restore(ref, **kept)  # over the last one: the redo file and the receipt hold digests, too
    assert (lab.folder / "out" / "back.img").read_bytes() == data
assert "redo file" in outcome.way and "digests are known" in outcome.way, outcome.way
lab.verify(delta.delta)

frames = header.section("frames")
for path, at in ((lab.path(delta.delta), frames.offset + frames.length // 2), (lab.path(full.full), 1000)):
    whole = bytearray(path.read_bytes())
    whole[at] ^= 1
    path.write_bytes(whole)
    for found in (lab.verify, lambda ref: lab.restore(ref, "damaged.img")):
        try:
            found(delta.delta)
        except BadArchive:
            continue
        raise SystemExit(f"a flipped bit in {path.name} was not found")
    whole[at] ^= 1
    path.write_bytes(whole)
"""


def test_a_digest_of_another_size_is_one_line(copy: Path) -> None:
    add_line(
        copy / "restore_core/archive/digests.py",
        'SHA256 = "sha256"',
        'SHA512 = "sha512", lambda data: hashlib.sha512(data).digest()',
    )
    run(copy, WITH_ANOTHER_DIGEST)


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


assert waits(outcome, "") == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, "failed"]
assert waits(None, "was killed") == [7.0, "failed"]
"""


def test_another_retry_schedule(copy: Path) -> None:
    """The two tables say how often a job is tried, and how often its worker may die: there is no count beside them."""
    reconcile = copy / "phd_daemon" / "spool" / "reconcile.py"
    text = reconcile.read_text()
    for before, after in (("(60.0, 300.0, 900.0, 3600.0)", "(1.0, 2.0, 3.0, 4.0, 5.0, 6.0)"), ("= (2.0, 60.0)", "= (7.0,)")):
        assert text.count(before) == 1
        text = text.replace(before, after)
    reconcile.write_text(text)
    run(copy, RETRIES)
